import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8ToBytes } from "@assay/core";
import { settlementFilter } from "./settlement-filter.ts";

/** What comes out of the filter, and what it told, for a text in pieces of these lengths. */
async function filtered(text: string, lengths: readonly number[]): Promise<{ text: string; told: string[] }> {
  const told: string[] = [];
  const bytes = utf8ToBytes(text);
  const source = new ReadableStream<Uint8Array>({
    start(controller) {
      let at = 0;
      for (const length of lengths) {
        if (at >= bytes.length) break;
        controller.enqueue(bytes.slice(at, at + length));
        at += length;
      }
      if (at < bytes.length) controller.enqueue(bytes.slice(at));
      controller.close();
    },
  });
  const out = source.pipeThrough(settlementFilter((data) => void told.push(data)));
  return { text: await new Response(out).text(), told };
}

const before = 'data: {"text":"ä"}\n\n: a comment\n\nevent: other\ndata: 1\n\n';
const event = 'event: x402-settlement\ndata: {"success":true,\ndata: "transaction":""}\n\n';
const after = "data: [DONE]\n\n";

describe("the settlement of a stream", () => {
  test("is taken out, wherever the pieces are cut", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 60 }), async (lengths) => {
        const { text, told } = await filtered(before + event + after, lengths);
        expect(text).toBe(before + after);
        expect(told).toEqual(['{"success":true,\n"transaction":""}']);
      }),
    );
  });

  test("with the line ends of another platform", async () => {
    const { text, told } = await filtered((before + event + after).replaceAll("\n", "\r\n"), []);
    expect([text, told.length]).toEqual([(before + after).replaceAll("\n", "\r\n"), 1]);
  });

  test("at the end of a stream that was cut", async () => {
    expect((await filtered(before + event.trimEnd(), [])).told).toHaveLength(1);
  });

  test("in a comment is read and left where it is", async () => {
    const comment = ': assay {"receipt_id":"00","settlement":{"success":true}}\n\n';
    const { text, told } = await filtered(before + comment, [7, 7, 7]);
    expect([text, told]).toEqual([before + comment, ['{"success":true}']]);
  });

  test.each([
    ["data that speaks of it", 'data: {"event":"x402-settlement"}\n\n'],
    ["an event of another name", "event: x402-settlements\ndata: 1\n\n"],
    ["a comment that is not JSON", ': assay {"settlement":}\n\n'],
    ["a comment without one", ': assay {"receipt_id":"settlement"}\n\n'],
    ["a stream without events", "plain text"],
    ["nothing", ""],
  ])("%s passes as it is", async (_what, text) => {
    expect(await filtered(text, [3])).toEqual({ text, told: [] });
  });

  test("an event that never ends is given up", async () => {
    await expect(filtered(`data: ${"x".repeat(16 * 1024 * 1024)}`, [])).rejects.toMatchObject({
      code: "response_too_large",
    });
  });
});
