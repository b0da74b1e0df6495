import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createAnswerText } from "./answer-text.ts";
import { createCallParser } from "./tool-calls.ts";

describe("an answer's text", () => {
  test("never splits a character and loses nothing, however tokens cut it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.array(fc.nat(4)), (text, cuts) => {
        const bytes = Buffer.from(text, "utf8");
        const answer = createAnswerText([]);
        let out = "";
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          const piece = answer.push(bytes.subarray(at, at + cut)).text;
          expect(Buffer.from(piece, "utf8").toString("utf8")).toBe(piece);
          expect(piece.includes("�")).toBe(text.includes("�") && piece.includes("�"));
          out += piece;
          at += cut;
        }
        out += answer.end().text;
        expect(out).toBe(bytes.toString("utf8"));
      }),
    );
  });

  test("stops before the first stop sequence, however tokens cut it", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("a", "b", "c") }),
        fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 }), { maxLength: 3 }),
        fc.array(fc.integer({ min: 1, max: 4 })),
        (text, stops, cuts) => {
          const answer = createAnswerText(stops);
          let out = "";
          let stopped = false;
          let at = 0;
          for (const cut of [...cuts, text.length + 1]) {
            const piece = answer.push(Buffer.from(text.slice(at, at + cut)));
            out += piece.text;
            at += cut;
            stopped = piece.stopped;
            if (stopped) break;
          }
          if (!stopped) {
            const piece = answer.end();
            out += piece.text;
            stopped = piece.stopped;
          }
          const firsts = stops.map((stop) => text.indexOf(stop)).filter((found) => found >= 0);
          // A stop that is complete earlier ends the answer, even if a longer one began before it.
          expect(stopped).toBe(firsts.length > 0);
          if (!stopped) expect(out).toBe(text);
          else {
            expect(text.startsWith(out)).toBe(true);
            expect(stops.some((stop) => text.slice(out.length).startsWith(stop))).toBe(true);
            expect(stops.some((stop) => out.includes(stop))).toBe(false);
          }
        },
      ),
    );
  });

  test("bytes that are no UTF-8 become replacement characters", () => {
    const answer = createAnswerText([]);
    expect(answer.push(Uint8Array.of(0x61, 0xff)).text).toBe("a�");
    expect(answer.push(Uint8Array.of(0xe2, 0x82)).text).toBe("");
    expect(answer.end().text).toBe("�");
  });
});

describe("calls in an answer", () => {
  const whole =
    'Let me see.<tool_call>\n{"name": "get", "arguments": {"city": "a } \\" b", "n": [{}]}}\n</tool_call>\n' +
    '<tool_call>\n{"name": "put", "arguments": {}}\n</tool_call>';
  test("come out the same, however the text is cut", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 })), (cuts) => {
        const parser = createCallParser((index) => `call_${index}`);
        let content = "";
        const calls: { id: string; name: string; arguments: string }[] = [];
        let at = 0;
        const pieces = [];
        for (const cut of [...cuts, whole.length]) {
          pieces.push(parser.push(whole.slice(at, at + cut)));
          at += cut;
        }
        pieces.push(parser.end());
        for (const piece of pieces) {
          content += piece.content;
          for (const { index, id, function: called } of piece.calls) {
            if (id !== undefined) calls[index] = { id, name: called?.name ?? "", arguments: "" };
            const call = calls[index];
            if (call !== undefined) call.arguments += called?.arguments ?? "";
          }
        }
        expect(content).toBe("Let me see.");
        expect(calls).toEqual([
          { id: "call_0", name: "get", arguments: '{"city": "a } \\" b", "n": [{}]}' },
          { id: "call_1", name: "put", arguments: "{}" },
        ]);
        expect(parser.complete()).toBe(2);
      }),
    );
  });

  test("a mark that never came is text", () => {
    const parser = createCallParser(String);
    expect(parser.push("1 <tool").content).toBe("1 ");
    expect(parser.end().content).toBe("<tool");
    const broken = createCallParser(String);
    broken.push('<tool_call>\n{"name": "a", "arguments": {"x": "');
    expect(broken.end()).toEqual({ content: "", calls: [] });
    expect(broken.complete()).toBe(0);
  });
});
