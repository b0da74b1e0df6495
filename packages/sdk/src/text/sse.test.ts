import fc from "fast-check";
import { createParser } from "eventsource-parser";
import { describe, expect, test } from "vitest";
import { isAssayError, utf8ToBytes } from "@assay/core";
import { readSse, writeSse } from "./sse.ts";
import type { SseBlock } from "./sse.ts";

const bodyOf = (pieces: readonly Uint8Array[]): ReadableStream<Uint8Array> => {
  let next = 0;
  return new ReadableStream({
    pull(controller) {
      const piece = pieces[next++];
      if (piece) controller.enqueue(piece);
      else controller.close();
    },
  });
};
const read = async (
  text: string | readonly Uint8Array[],
  limits?: Parameters<typeof readSse>[2],
): Promise<SseBlock[]> => {
  const out: SseBlock[] = [];
  const pieces = typeof text === "string" ? [utf8ToBytes(text)] : text;
  for await (const block of readSse(bodyOf(pieces), {}, limits)) out.push(block);
  return out;
};
const code = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
  } catch (error) {
    return isAssayError(error) ? error.code : String(error);
  }
  return "no error";
};

describe("event streams", () => {
  test("events, names, comments, and what is cut off at the end", async () => {
    const text = ": hello\n\nevent: a\ndata: 1\ndata:2\nid: 7\nretry: 9\n\n\n\ndata\n\nevent: only\n\ndata: cut off";
    expect(await read(text)).toEqual([
      { comments: ["hello"] },
      { event: "a", data: "1\n2", comments: [] },
      { data: "", comments: [] },
    ]);
  });

  test("a byte order mark is not part of the first line", async () => {
    expect(await read("\uFEFFdata: x\n\n")).toEqual([{ data: "x", comments: [] }]);
  });

  test("any way of cutting gives the same, with each end of line, and as another parser reads it", async () => {
    const line = fc.oneof(
      fc.tuple(fc.constantFrom("data: ", "data:", "event: ", ": ", ":", "id: ", ""), fc.string({ unit: "binary" })),
      fc.constant(["", ""] as const),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line),
        fc.constantFrom("\n", "\r\n", "\r"),
        fc.array(fc.nat(400), { maxLength: 6 }),
        async (lines, end, cuts) => {
          const text = lines.map(([name, value]) => name + value.replaceAll(/[\r\n\0]/g, " ") + end).join("");
          const bytes = utf8ToBytes(text);
          const at = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
          const pieces = at.slice(1).map((to, i) => bytes.subarray(at[i], to));
          const whole = await read(text);
          expect(await read(pieces.filter(({ length }) => length > 0))).toEqual(whole);
          const others: { event?: string; data: string }[] = [];
          const parser = createParser({
            onEvent: ({ event, data }) => others.push(event === undefined ? { data } : { event, data }),
          });
          parser.feed(text);
          // The other parser waits for what follows a carriage return.
          if (end !== "\r")
            expect(
              whole.flatMap(({ event, data }) =>
                data === undefined ? [] : [event === undefined ? { data } : { event, data }],
              ),
            ).toEqual(others);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("what is written is read as it was", async () => {
    const safe = fc.string({ unit: "binary" }).map((text) => text.replaceAll(/[\r\n]/g, " "));
    await fc.assert(
      fc.asyncProperty(safe, fc.array(safe, { minLength: 1 }), fc.array(safe), async (event, data, comments) => {
        const name = event.replace(/^ +/, "");
        const block: SseBlock = { ...(name === "" ? {} : { event: name }), data: data.join("\n"), comments };
        expect(await read(writeSse(block))).toEqual([block]);
      }),
      { numRuns: 100 },
    );
  });

  test("limits of an event and of a whole are held, whether lines end or not", async () => {
    const limits = { eventBytes: 100, totalBytes: 1000 };
    const event = `data: ${"x".repeat(80)}\n\n`;
    expect(await read(event.repeat(11), limits)).toHaveLength(11);
    expect(await code(read(event.repeat(12), limits))).toBe("response_too_large");
    expect(await code(read(`data: ${"x".repeat(95)}`, limits))).toBe("response_too_large");
    expect(await code(read("data: 1234567890\n".repeat(7), limits))).toBe("response_too_large");
    expect(await code(read(`: ${"x".repeat(50)}\n`.repeat(2), limits))).toBe("response_too_large");
  });

  test("bytes that are not UTF-8 are refused", async () => {
    expect(await code(read([utf8ToBytes("data: "), new Uint8Array([0xff])]))).toBe("response_malformed");
  });

  test("a body that fails is told as a broken connection, one that is left is cancelled", async () => {
    const broken = new ReadableStream<Uint8Array>({ start: (controller) => controller.error(new TypeError("reset")) });
    const all = async (body: ReadableStream<Uint8Array>): Promise<void> => {
      for await (const _ of readSse(body));
    };
    expect(await code(all(broken))).toBe("gateway_unreachable");
    let cancelled = false;
    const open = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(utf8ToBytes("data: 1\n\n")),
      cancel() {
        cancelled = true;
      },
    });
    for await (const _ of readSse(open)) break;
    expect(cancelled).toBe(true);
    expect(await read([])).toEqual([]);
  });
});
