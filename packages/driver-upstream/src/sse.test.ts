import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSseReader } from "./sse.ts";
import type { SseEvent } from "./sse.ts";

function readAll(chunks: readonly Uint8Array[], max?: number): SseEvent[] {
  const reader = createSseReader(max);
  return [...chunks.flatMap((chunk) => reader.push(chunk)), ...reader.end()];
}
const bytes = (text: string): Uint8Array => Buffer.from(text);
const dataOf = (text: string): string[] => readAll([bytes(text)]).map((event) => event.data);

describe("forms that servers use", () => {
  it.each([
    ["LF", "data: a\n\ndata: b\n\n", ["a", "b"]],
    ["CR LF", "data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]],
    ["no space after the colon", "data:a\n\n", ["a"]],
    ["two spaces, of which one is the text's", "data:  a\n\n", [" a"]],
    ["comments", ": ping\n\ndata: a\n: ping\n\n", ["a"]],
    ["other fields", "id: 1\nretry: 5\ndata: a\nfoo\n\n", ["a"]],
    ["several lines", "data: a\ndata: b\n\n", ["a\nb"]],
    ["empty data", "data:\n\ndata\n\n", ["", ""]],
    ["no blank line at the end", "data: a", ["a"]],
    ["a byte order mark", "\uFEFFdata: a\n\n", ["a"]],
    ["many blank lines", "\n\n\ndata: a\n\n\n\n", ["a"]],
    ["an event without data", "event: ping\n\ndata: a\n\n", ["a"]],
  ])("%s", (_, text, expected) => {
    expect(dataOf(text)).toEqual(expected);
  });

  it("gives events their name, for one event each", () => {
    expect(readAll([bytes("event: x\ndata: a\n\ndata: b\n\n")])).toEqual([{ event: "x", data: "a" }, { data: "b" }]);
  });
});

it("reads the same from any cutting of the bytes", () => {
  const line = fc.stringMatching(/^[^\r\n]{0,12}$/);
  const events = fc.array(fc.array(line, { minLength: 1, maxLength: 3 }), { maxLength: 6 });
  fc.assert(
    fc.property(events, fc.array(fc.nat(200), { maxLength: 12 }), fc.boolean(), (written, cuts, crlf) => {
      const end = crlf ? "\r\n" : "\n";
      const text = written.map((lines) => `${lines.map((part) => `data: ${part}`).join(end)}${end}${end}`).join("");
      const all = bytes(text);
      const at = [0, ...cuts.filter((cut) => cut < all.length).sort((a, b) => a - b), all.length];
      const chunks = at.slice(1).map((to, i) => all.subarray(at[i], to));
      expect(readAll(chunks).map((event) => event.data)).toEqual(written.map((lines) => lines.join("\n")));
    }),
  );
});

describe("refusals", () => {
  const code = (make: () => unknown): unknown => {
    try {
      make();
    } catch (error) {
      return (error as { code?: string }).code;
    }
    return "none";
  };

  it.each([
    ["a line that never ends", [bytes("data: "), bytes("x".repeat(40)), bytes("x".repeat(40))]],
    ["a line too long at once", [bytes(`data: ${"x".repeat(80)}\n\n`)]],
    ["many lines of one event", Array.from({ length: 20 }, () => bytes("data: 0123456789\n"))],
    ["a line that ends late", [bytes(`data: ${"x".repeat(50)}`), bytes(`${"x".repeat(20)}\n`)]],
  ])("%s", (_, chunks) => {
    expect(code(() => readAll(chunks, 64))).toBe("upstream_malformed");
  });

  it("bytes that are not UTF-8", () => {
    expect(code(() => readAll([Uint8Array.of(0x64, 0x61, 0x74, 0x61, 0x3a, 0xff, 0x0a, 0x0a)]))).toBe(
      "upstream_malformed",
    );
  });

  it("takes what is just below the limit, cut within a character", () => {
    const text = bytes(`data: ${"ä".repeat(20)}\n\n`);
    expect(readAll([text.subarray(0, 13), text.subarray(13)], 64).map((event) => event.data)).toEqual(["ä".repeat(20)]);
  });
});
