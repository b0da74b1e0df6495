import * as fc from "fast-check";
import { expect, it } from "vitest";
import { createStopFilter } from "./child/stops.ts";

function run(pieces: readonly string[], stops: readonly string[]): string {
  const filter = createStopFilter(stops);
  let out = "";
  for (const piece of pieces) {
    const step = filter.push(piece);
    out += step.text;
    if (step.stopped) return out;
  }
  return out + filter.rest();
}

it.each([
  [["Hello END more"], ["END"], "Hello "],
  [["Hel", "lo E", "N", "D more"], ["END"], "Hello "],
  [["aab"], ["ab"], "a"],
  [["a", "a", "b"], ["ab"], "a"],
  [["abcab"], ["abd"], "abcab"],
  [["one\n", "\ntwo"], ["\n\n"], "one"],
  [["xyz"], ["z", "y"], "x"],
  [["never"], [], "never"],
])("%j cut at %j is %j", (pieces, stops, expected) => {
  expect(run(pieces, stops)).toBe(expected);
});

it("cuts the same however the text comes in pieces", () => {
  const letters = fc.stringMatching(/^[ab\n]{0,20}$/);
  const stop = fc.stringMatching(/^[ab\n]{1,4}$/);
  fc.assert(
    fc.property(
      letters,
      fc.array(stop, { maxLength: 3 }),
      fc.array(fc.nat(20), { maxLength: 6 }),
      (text, stops, cuts) => {
        const at = [0, ...cuts.filter((cut) => cut <= text.length).sort((a, b) => a - b), text.length];
        const pieces = at.slice(1).map((to, i) => text.slice(at[i], to));
        const found = stops.map((one) => text.indexOf(one)).filter((one) => one !== -1);
        const first = found.length === 0 ? text : text.slice(0, Math.min(...found));
        const cut = run(pieces, stops);
        // In pieces, a stop that ends earlier can be met before one that begins earlier.
        expect(text.startsWith(cut)).toBe(true);
        if (stops.length < 2) expect(cut).toBe(first);
        else expect(cut.length).toBeGreaterThanOrEqual(first.length);
      },
    ),
  );
});

it("gives nothing out that a stop could still take back", () => {
  const filter = createStopFilter(["<|end|>"]);
  expect(filter.push("text<|en").text).toBe("text");
  expect(filter.push("d|").text).toBe("");
  expect(filter.push("x").text).toBe("<|end|x");
});
