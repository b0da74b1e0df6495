import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addMargin,
  cropToContent,
  flattenAlpha,
  gray,
  invertIfLightBackground,
  normalizePeak,
  padToAspect,
  resizeArea,
  stretch,
} from "./image.ts";
import type { Image } from "./image.ts";
import { MAX_IMAGE_PIXELS } from "./limits.ts";

const FULL = 65_535;
const code = (value: string) => expect.objectContaining({ code: value });

/** A picture of one plane from rows of thousandths of full scale. */
function picture(...rows: number[][]): Image {
  const plane = Uint16Array.from(rows.flat(), (value) => Math.round((value * FULL) / 1000));
  return { width: rows[0]?.length ?? 0, height: rows.length, planes: [plane] };
}

const values = ({ planes }: Image) => planes.map((plane) => [...plane]);

describe("alpha", () => {
  const pixel = (red: number, green: number, blue: number, alpha: number) => ({
    width: 1,
    height: 1,
    rgba: Uint16Array.of(red, green, blue, alpha),
  });

  test.each([
    ["white", 0, FULL, 0, 0],
    ["white", 0, 0, 0, FULL],
    ["black", FULL, 0, 0, 0],
    ["black", FULL, 32_768, 0, 32_768],
    ["contrast", 1_000, 0, 0, FULL],
    ["contrast", 60_000, 0, 0, 0],
  ] as const)("%s behind %i at %i", (background, value, alpha, _, expected) => {
    const wanted = alpha === FULL ? value : expected;
    // Contrast looks at what can be seen at all, so it needs a little opacity to see the drawing's own light.
    const shown = background === "contrast" ? Math.max(alpha, 256) : alpha;
    const [red = -1] = flattenAlpha(pixel(value, value, value, shown), background).planes[0] ?? [];
    expect(Math.abs(red - wanted)).toBeLessThan(300);
  });

  test("an opaque picture stays as it is, whatever the background", () => {
    for (const background of ["white", "black", "contrast"] as const)
      expect(values(flattenAlpha(pixel(1, 2, 3, FULL), background))).toEqual([[1], [2], [3]]);
  });
});

describe("steps", () => {
  test("grey weighs by BT.601 and keeps the ends", () => {
    const of = (red: number, green: number, blue: number): Image => ({
      width: 1,
      height: 1,
      planes: [Uint16Array.of(red), Uint16Array.of(green), Uint16Array.of(blue)],
    });
    expect(values(gray(of(FULL, FULL, FULL)))).toEqual([[FULL]]);
    expect(values(gray(of(0, 0, 0)))).toEqual([[0]]);
    expect(values(gray(of(FULL, 0, 0)))).toEqual([[19_595]]);
    expect(values(gray(of(0, FULL, 0)))).toEqual([[38_469]]);
    expect(values(gray(of(0, 0, FULL)))).toEqual([[7_471]]);
    expect(values(gray(picture([500])))).toEqual(values(picture([500])));
  });

  test("a light border is turned round, a dark one is not, nor does the middle count", () => {
    const light = picture([1000, 1000, 1000], [1000, 0, 1000], [1000, 1000, 0]);
    expect(values(invertIfLightBackground(light))).toEqual(values(picture([0, 0, 0], [0, 1000, 0], [0, 0, 1000])));
    const dark = picture([0, 0, 0], [0, 1000, 0], [0, 0, 0]);
    expect(values(invertIfLightBackground(dark))).toEqual(values(dark));
  });

  test("stretching puts the background at nothing and the brightest at full", () => {
    const dull = picture([200, 200, 200], [200, 600, 400], [200, 200, 200]);
    expect(values(stretch(dull, 0, 1000, "x"))[0]?.slice(3, 6)).toEqual([0, FULL, 32_768]);
    expect(values(stretch(dull, 500, 1000, "x"))[0]?.slice(3, 6)).toEqual([0, FULL, 0]);
    expect(values(stretch(dull, 0, 500, "x"))[0]?.slice(3, 6)).toEqual([0, FULL, FULL]);
  });

  test("cropping finds the smallest box", () => {
    const found = cropToContent(picture([0, 0, 0, 0], [0, 100, 900, 0], [0, 0, 0, 400], [0, 0, 0, 0]), 300, "x");
    expect(found).toMatchObject({ width: 2, height: 2 });
    expect(values(found)).toEqual(values(picture([900, 0], [0, 400])));
  });

  test("padding centres, with the odd column to the right", () => {
    expect(padToAspect(picture([1000], [1000], [1000], [1000]), 1, 1, "x")).toEqual(
      picture([0, 1000, 0, 0], [0, 1000, 0, 0], [0, 1000, 0, 0], [0, 1000, 0, 0]),
    );
    expect(padToAspect(picture([1000, 1000]), 2, 1, "x")).toEqual(picture([1000, 1000]));
    expect(padToAspect(picture([1000, 1000, 1000]), 1, 1, "x")).toEqual(
      picture([0, 0, 0], [1000, 1000, 1000], [0, 0, 0]),
    );
  });

  test("a margin is a share of the longer side", () => {
    expect(addMargin(picture([1000, 1000]), 500, "x")).toEqual(picture([0, 0, 0, 0], [0, 1000, 1000, 0], [0, 0, 0, 0]));
  });

  test("area resizing averages exactly, also where pixels are divided", () => {
    expect(values(resizeArea(picture([0, 1000], [1000, 1000]), 1, 1))).toEqual([[49_151]]);
    // Three columns into two: the middle one is shared by halves.
    expect(values(resizeArea(picture([1000, 500, 0]), 2, 1))).toEqual([[54_613, 10_923]]);
    expect(values(resizeArea(picture([0, 1000]), 4, 1))).toEqual([[0, 0, FULL, FULL]]);
  });

  test("a resize keeps constants and stays between its darkest and brightest", () => {
    const side = fc.integer({ min: 1, max: 12 });
    fc.assert(
      fc.property(
        side,
        side,
        side,
        side,
        fc.infiniteStream(fc.nat(FULL)),
        (width, height, toWidth, toHeight, stream) => {
          const plane = Uint16Array.from(stream.take(width * height));
          const [found = new Uint16Array()] = resizeArea({ width, height, planes: [plane] }, toWidth, toHeight).planes;
          expect(found).toHaveLength(toWidth * toHeight);
          expect(Math.min(...found)).toBeGreaterThanOrEqual(Math.min(...plane));
          expect(Math.max(...found)).toBeLessThanOrEqual(Math.max(...plane));
        },
      ),
    );
  });

  test("the peak becomes full scale", () => {
    expect(values(normalizePeak(picture([0, 250, 500]), "x"))).toEqual([[0, 32_768, FULL]]);
  });
});

describe("refusals", () => {
  test("a picture of nothing but background", () => {
    const flat = picture([500, 500, 500], [500, 520, 500], [500, 500, 500]);
    expect(() => stretch(flat, 0, 1000, "x")).toThrow(code("input_blank"));
    expect(() => cropToContent(flat, 900, "x")).toThrow(code("input_blank"));
    expect(() => normalizePeak(picture([0, 0]), "x")).toThrow(code("input_blank"));
  });

  test("a preparation that would outgrow memory", () => {
    const line: Image = { width: 16_384, height: 1, planes: [new Uint16Array(16_384)] };
    expect(() => padToAspect(line, 1, 1, "x")).toThrow(code("input_too_large"));
    const full: Image = { width: 4_096, height: MAX_IMAGE_PIXELS / 4_096, planes: [new Uint16Array(MAX_IMAGE_PIXELS)] };
    expect(() => addMargin(full, 1, "x")).toThrow(code("input_too_large"));
    expect(addMargin(full, 0, "x").width).toBe(4_096);
  });
});
