import { inflateSync } from "node:zlib";
import { PNG } from "pngjs";
import { inputError } from "./input-error.ts";
import { MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE, MAX_PNG_BYTES } from "./limits.ts";

/** Pixels as interleaved red, green, blue, alpha, each 0 to 65535. */
export type RgbaImage = { readonly width: number; readonly height: number; readonly rgba: Uint16Array };

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** An 8-bit value times this spans 16 bits exactly (255 * 257 = 65535). */
const EIGHT_TO_SIXTEEN = 257;
const CHANNELS_BY_COLOUR_TYPE: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** First column and row, and the steps between them, of the passes of an interlaced picture (PNG section 8.2). */
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;
const ONE_PASS = [[0, 0, 1, 1]] as const;

/** Whether `bytes` begin as a PNG file does. */
export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, index) => bytes[index] === byte);
}

/**
 * A PNG file of any colour type and depth as 16-bit RGBA. The size is read from the header and checked before a
 * single pixel is unpacked, and unpacking is bounded by it. Throws `input_too_large` or `input_file_invalid`.
 */
export function decodePng(bytes: Uint8Array, input: string): RgbaImage {
  if (bytes.length > MAX_PNG_BYTES)
    throw inputError(
      "input_too_large",
      `Input "${input}": the PNG file has ${bytes.length} bytes, more than ${MAX_PNG_BYTES}.`,
    );
  const header = readHeader(bytes, input);
  checkUnpackedSize(bytes, header, input);
  let picture;
  try {
    // At 16 bits the library's own scaling would throw half of each sample away; below, it is what is wanted.
    picture = PNG.sync.read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), {
      skipRescale: header.depth === 16,
    });
  } catch (cause) {
    throw invalid(input, "its pixels cannot be unpacked", cause);
  }
  const { width, height } = picture;
  const data: ArrayLike<number> = picture.data;
  if (width !== header.width || height !== header.height || data.length !== width * height * 4)
    throw invalid(input, "its pixels do not fill its size");
  const factor = header.depth === 16 ? 1 : EIGHT_TO_SIXTEEN;
  const rgba = new Uint16Array(data.length);
  for (let at = 0; at < rgba.length; at++) rgba[at] = (data[at] ?? 0) * factor;
  return { width, height, rgba };
}

type Header = { width: number; height: number; depth: number; bitsPerPixel: number; interlaced: boolean };

function readHeader(bytes: Uint8Array, input: string): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isPng(bytes) || bytes.length < 33 || view.getUint32(12) !== 0x4948_4452)
    throw invalid(input, "it does not begin with a PNG header");
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const depth = view.getUint8(24);
  const channels = CHANNELS_BY_COLOUR_TYPE[view.getUint8(25)];
  if (width === 0 || height === 0 || channels === undefined) throw invalid(input, "its header is wrong");
  if (width > MAX_IMAGE_SIDE || height > MAX_IMAGE_SIDE || width * height > MAX_IMAGE_PIXELS)
    throw inputError("input_too_large", `Input "${input}": the picture is ${width} by ${height} pixels.`, [
      `At most ${MAX_IMAGE_PIXELS} pixels and ${MAX_IMAGE_SIDE} along a side are read; make it smaller.`,
    ]);
  return { width, height, depth, bitsPerPixel: depth * channels, interlaced: view.getUint8(28) !== 0 };
}

/**
 * The library unpacks interlaced pictures without a bound, and from Node 24 on fills what others lack with black, so
 * that the pixels are there, and not many times over, is found out here first.
 */
function checkUnpackedSize(bytes: Uint8Array, header: Header, input: string): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Uint8Array[] = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x4944_4154) parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  const size = unpackedSize(header);
  let found: number;
  try {
    found = inflateSync(Buffer.concat(parts), { maxOutputLength: 2 * size }).length;
  } catch (cause) {
    throw invalid(input, "its pixels unpack to more than its size, or not at all", cause);
  }
  if (found < size) throw invalid(input, "its pixels do not fill its size");
}

/** Bytes of all rows of all passes, each row with its filter byte. */
function unpackedSize({ width, height, bitsPerPixel, interlaced }: Header): number {
  let size = 0;
  for (const [x, y, dx, dy] of interlaced ? ADAM7 : ONE_PASS) {
    const columns = Math.ceil((width - x) / dx);
    const rows = Math.ceil((height - y) / dy);
    if (columns > 0 && rows > 0) size += rows * (1 + Math.ceil((columns * bitsPerPixel) / 8));
  }
  return size;
}

function invalid(input: string, why: string, cause?: unknown) {
  return inputError("input_file_invalid", `Input "${input}" is not a sound PNG file: ${why}.`, [], cause);
}
