/** A binary floating-point format smaller than float64: explicit mantissa bits and exponent bias. */
export type SmallFloat = { readonly mantissaBits: number; readonly bias: number };

export const HALF: SmallFloat = { mantissaBits: 10, bias: 15 };
export const BFLOAT16: SmallFloat = { mantissaBits: 7, bias: 127 };

/**
 * The bits of `value` in `format`, rounded once to the nearest, ties to even (IEEE 754, 4.3.1). A value too large
 * becomes an infinity, as conversion does everywhere; the caller decides whether that is acceptable.
 */
export function toSmallFloat(value: number, format: SmallFloat): number {
  const { mantissaBits, bias } = format;
  const infinity = (2 * bias + 1) << mantissaBits;
  const sign = value < 0 || Object.is(value, -0) ? 1 << 15 : 0;
  if (Number.isNaN(value)) return infinity | (1 << (mantissaBits - 1));
  const size = Math.abs(value);
  if (size === Number.POSITIVE_INFINITY) return sign | infinity;
  const exponent = Math.max(exponentOf(size), 1 - bias);
  // Scaling by a power of two is exact, so the only rounding is the one to an integer.
  const mantissa = roundHalfEven(size * powerOfTwo(mantissaBits - exponent));
  const hidden = 1 << mantissaBits;
  const bits = mantissa < hidden ? mantissa : ((exponent + bias) << mantissaBits) + (mantissa - hidden);
  return sign | Math.min(bits, infinity);
}

/** The value of 16 `bits` in `format`, exactly. */
export function fromSmallFloat(bits: number, format: SmallFloat): number {
  const { mantissaBits, bias } = format;
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> mantissaBits;
  const mantissa = bits & ((1 << mantissaBits) - 1);
  if (exponent === 2 * bias + 1) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * mantissa * powerOfTwo(1 - bias - mantissaBits);
  return sign * (mantissa + (1 << mantissaBits)) * powerOfTwo(exponent - bias - mantissaBits);
}

const scratch = new DataView(new ArrayBuffer(8));

function exponentOf(size: number): number {
  scratch.setFloat64(0, size);
  return ((scratch.getUint16(0) & 0x7fff) >> 4) - 1023;
}

/** 2 to an integer power between -1022 and 1023, from its bits: `**` is not specified to be exact. */
function powerOfTwo(exponent: number): number {
  scratch.setBigUint64(0, BigInt(exponent + 1023) << 52n);
  return scratch.getFloat64(0);
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
