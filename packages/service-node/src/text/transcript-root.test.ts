import { bytesToHex, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { transcriptRoot, transcriptSalt } from "@assay/receipts";
import fc from "fast-check";
import { expect, it } from "vitest";
import { createRunningTranscript } from "./transcript-root.ts";

const master = new Uint8Array(32).fill(3);
const salt = transcriptSalt(nodeSuite, master);

function rootOf(frames: readonly string[]): string {
  const running = createRunningTranscript(nodeSuite, master);
  for (const frame of frames) running.take(frame);
  const state = running.state();
  expect(state?.frames).toBe(frames.length);
  return bytesToHex(state?.root ?? new Uint8Array());
}
const expected = (frames: readonly string[]) =>
  bytesToHex(
    transcriptRoot(
      nodeSuite,
      salt,
      frames.map((frame) => utf8ToBytes(frame)),
    ),
  );

it("has the root that the specification gives, for every number of frames", () => {
  for (let count = 1; count <= 130; count++) {
    const frames = Array.from({ length: count }, (_, i) => `{"frame":${i}}`);
    expect(rootOf(frames)).toBe(expected(frames));
  }
});

it("has it whatever the frames hold, short or long", () => {
  const frame = fc.oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    // On both sides of the buffer's end, in one, two and three bytes a unit.
    fc
      .tuple(fc.constantFrom("a", "é", "€", "😀"), fc.integer({ min: 2600, max: 5600 }))
      .map(([unit, length]) => unit.repeat(length)),
  );
  fc.assert(
    fc.property(fc.array(frame, { minLength: 1, maxLength: 5 }), (frames) => {
      expect(rootOf(frames)).toBe(expected(frames));
    }),
    { numRuns: 100 },
  );
});

it("keeps streams apart that run at the same time", () => {
  const [one, other] = [
    createRunningTranscript(nodeSuite, master),
    createRunningTranscript(nodeSuite, new Uint8Array(32)),
  ];
  for (const frame of ["a", "b", "c"]) {
    one.take(frame);
    other.take(frame);
  }
  expect(bytesToHex(one.state()?.root ?? new Uint8Array())).toBe(expected(["a", "b", "c"]));
  expect(bytesToHex(other.state()?.root ?? new Uint8Array())).not.toBe(expected(["a", "b", "c"]));
});

it("has no state before its first frame", () => {
  expect(createRunningTranscript(nodeSuite, master).state()).toBeUndefined();
});
