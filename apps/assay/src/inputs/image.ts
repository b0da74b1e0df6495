import { inputError } from "./input-error.ts";
import { MAX_IMAGE_PIXELS } from "./limits.ts";
import type { RgbaImage } from "./png.ts";

/** One or three planes, each row-major, of values from 0 to 65535. */
export type Image = { readonly width: number; readonly height: number; readonly planes: readonly Uint16Array[] };

const FULL = 65_535;
const HALF = 32_768;
/** Share of full scale, in thousandths, that a drawing must stand out by; paper's own grain stays below. */
const LEAST_CONTRAST_PERMILLE = 40;

/** What shows through transparent pixels. `contrast` takes white behind dark drawings and black behind light ones. */
export type AlphaBackground = "white" | "black" | "contrast";

/** Red, green and blue planes of `picture` over a background, rounded to the nearest. */
export function flattenAlpha(picture: RgbaImage, background: AlphaBackground): Image {
  const { width, height, rgba } = picture;
  const behind = background === "white" || (background === "contrast" && isDark(rgba)) ? FULL : 0;
  const planes = [0, 1, 2].map((channel) => {
    const plane = new Uint16Array(width * height);
    for (let pixel = 0; pixel < plane.length; pixel++) {
      const alpha = rgba[pixel * 4 + 3] ?? 0;
      const value = rgba[pixel * 4 + channel] ?? 0;
      plane[pixel] = alpha === FULL ? value : divideRounded(value * alpha + behind * (FULL - alpha), FULL);
    }
    return plane;
  });
  return { width, height, planes };
}

/** Whether what can be seen is, weighted by how much it can be seen, darker than middle grey. */
function isDark(rgba: Uint16Array): boolean {
  let light = 0;
  let weight = 0;
  for (let at = 0; at < rgba.length; at += 4) {
    const alpha = rgba[at + 3] ?? 0;
    // Sixteen bits of luma and sixteen of alpha over 2^24 pixels would pass 2^53; eight bits of alpha do not.
    light += luma(rgba[at] ?? 0, rgba[at + 1] ?? 0, rgba[at + 2] ?? 0) * (alpha >> 8);
    weight += alpha >> 8;
  }
  return light < weight * HALF;
}

/** BT.601 luma with weights in 65536ths (0.299, 0.587, 0.114). */
function luma(red: number, green: number, blue: number): number {
  return ((red * 19_595 + green * 38_470 + blue * 7_471 + HALF) / 65_536) >>> 0;
}

/** One plane of BT.601 luma; a single plane stays as it is. */
export function gray(image: Image): Image {
  const [red, green, blue] = image.planes;
  if (red === undefined || green === undefined || blue === undefined) return image;
  return { ...image, planes: [red.map((value, pixel) => luma(value, green[pixel] ?? 0, blue[pixel] ?? 0))] };
}

/** Turns light into dark when the median of the outermost pixels is light: drawings on paper become light on dark. */
export function invertIfLightBackground(image: Image): Image {
  if (borderMedian(image) < HALF) return image;
  return { ...image, planes: image.planes.map((plane) => plane.map((value) => FULL - value)) };
}

/**
 * Contrast stretched so that 0 is the background (the border's median, and `lowPermille` of the way from there to
 * the brightest pixel), and full scale `highPermille` of that way. Throws `input_blank` where nothing stands out.
 */
export function stretch(image: Image, lowPermille: number, highPermille: number, input: string): Image {
  const ground = borderMedian(image);
  const peak = brightest(image);
  if ((peak - ground) * 1000 < FULL * LEAST_CONTRAST_PERMILLE) throw blank(input);
  const low = (peak - ground) * lowPermille;
  const span = (peak - ground) * (highPermille - lowPermille);
  // A photograph has millions of pixels and only this many values, so each value is worked out once.
  const stretched = new Uint16Array(FULL + 1);
  for (let value = 0; value <= peak; value++) {
    const above = (value - ground) * 1000 - low;
    stretched[value] = above <= 0 ? 0 : Math.min(FULL, divideRounded(above * FULL, span));
  }
  const planes = image.planes.map((plane) => plane.map((value) => stretched[value] ?? 0));
  return { ...image, planes };
}

/** The smallest box with every pixel at or above `thresholdPermille` of full scale. Throws `input_blank`. */
export function cropToContent(image: Image, thresholdPermille: number, input: string): Image {
  const least = Math.ceil((FULL * thresholdPermille) / 1000);
  let [left, top, right, bottom] = [image.width, image.height, -1, -1];
  for (const plane of image.planes) {
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++) {
        if ((plane[y * image.width + x] ?? 0) < least) continue;
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
      }
    }
  }
  if (right < 0) throw blank(input);
  return window(image, left, top, right - left + 1, bottom - top + 1, input);
}

/** Empty (0) rows or columns on both sides until width to height is as given; an odd one goes right or below. */
export function padToAspect(image: Image, width: number, height: number, input: string): Image {
  const wide = Math.max(image.width, Math.ceil((image.height * width) / height));
  const high = Math.max(image.height, Math.ceil((image.width * height) / width));
  return window(
    image,
    -Math.floor((wide - image.width) / 2),
    -Math.floor((high - image.height) / 2),
    wide,
    high,
    input,
  );
}

/** `marginPermille` of the longer side as empty rows and columns on every side. */
export function addMargin(image: Image, marginPermille: number, input: string): Image {
  const margin = Math.floor((Math.max(image.width, image.height) * marginPermille) / 1000);
  return window(image, -margin, -margin, image.width + 2 * margin, image.height + 2 * margin, input);
}

/**
 * Resized so that each new pixel is the mean of the area it covers, rounded once. All sums are integers below
 * 2^53, so the result is exact and equal everywhere.
 */
export function resizeArea(image: Image, width: number, height: number): Image {
  const planes = image.planes.map((plane) => {
    const across = new Float64Array(width * image.height);
    spans(image.width, width, (from, to, share) => {
      for (let y = 0; y < image.height; y++) {
        const at = y * width + to;
        across[at] = (across[at] ?? 0) + (plane[y * image.width + from] ?? 0) * share;
      }
    });
    const sums = new Float64Array(width * height);
    spans(image.height, height, (from, to, share) => {
      for (let x = 0; x < width; x++) {
        const at = to * width + x;
        sums[at] = (sums[at] ?? 0) + (across[from * width + x] ?? 0) * share;
      }
    });
    return Uint16Array.from(sums, (sum) => divideRounded(sum, image.width * image.height));
  });
  return { width, height, planes };
}

/** For each old cell and each new one that it overlaps, by how much, in units of 1 / `next` of an old cell. */
function spans(old: number, next: number, each: (from: number, to: number, share: number) => void): void {
  for (let from = 0; from < old; from++) {
    const start = from * next;
    const end = start + next;
    for (let to = Math.floor(start / old); to * old < end; to++)
      each(from, to, Math.min(end, (to + 1) * old) - Math.max(start, to * old));
  }
}

/** The brightest pixel brought to full scale. Throws `input_blank` where every pixel is 0. */
export function normalizePeak(image: Image, input: string): Image {
  const peak = brightest(image);
  if (peak === 0) throw blank(input);
  return { ...image, planes: image.planes.map((plane) => plane.map((value) => divideRounded(value * FULL, peak))) };
}

/** A cut-out that may reach beyond the picture, where it is empty. Throws `input_too_large`. */
function window(image: Image, left: number, top: number, width: number, height: number, input: string): Image {
  if (width * height > MAX_IMAGE_PIXELS)
    throw inputError("input_too_large", `Input "${input}": its preparation needs ${width} by ${height} pixels.`, [
      "Hand in a smaller or less elongated picture.",
    ]);
  const planes = image.planes.map((plane) => {
    const out = new Uint16Array(width * height);
    for (let y = Math.max(0, -top); y < height && y + top < image.height; y++) {
      const from = (y + top) * image.width;
      const row = plane.subarray(from + Math.max(0, left), from + Math.min(image.width, left + width));
      out.set(row, y * width + Math.max(0, -left));
    }
    return out;
  });
  return { width, height, planes };
}

function brightest(image: Image): number {
  let most = 0;
  for (const plane of image.planes) for (const value of plane) if (value > most) most = value;
  return most;
}

/** The lower median of the outermost pixels, over all planes. */
function borderMedian({ width, height, planes }: Image): number {
  const counts = new Uint32Array(FULL + 1);
  let total = 0;
  for (const plane of planes) {
    for (let y = 0; y < height; y++) {
      const step = y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1);
      for (let x = 0; x < width; x += step) {
        const value = plane[y * width + x] ?? 0;
        counts[value] = (counts[value] ?? 0) + 1;
        total++;
      }
    }
  }
  let seen = 0;
  return counts.findIndex((count) => (seen += count) * 2 >= total);
}

/** Division of non-negative integers, rounded to the nearest, halves up. Exact while the sums stay below 2^53. */
function divideRounded(value: number, by: number): number {
  const doubled = 2 * value + by;
  return (doubled - (doubled % (2 * by))) / (2 * by);
}

function blank(input: string) {
  return inputError("input_blank", `Input "${input}": the picture holds nothing but background.`, [
    "Draw with more contrast, light on dark or dark on light.",
  ]);
}
