// Conversions work on bit patterns, never on JavaScript numbers: reading a signalling NaN through a number may
// change it, and the bits are what receipts commit to.

const SIGN = 0x8000;

/** Each IEEE 754 binary16 (as its 16 bits) as float32; exact for every value, NaN payloads kept in the top bits. */
export function float16ToFloat32(halves: Uint16Array): Float32Array {
  const out = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) out[i] = halfBitsToFloatBits(halves[i] ?? 0);
  return new Float32Array(out.buffer);
}

/**
 * Each float32 as the 16 bits of the nearest binary16, ties to even (IEEE 754 section 4.3.1). Values beyond the
 * largest finite half (65504, rounding at 65520) become infinities; a NaN stays a NaN with the top of its payload.
 */
export function float32ToFloat16(floats: Float32Array): Uint16Array {
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const out = new Uint16Array(floats.length);
  for (let i = 0; i < out.length; i++) out[i] = floatBitsToHalfBits(bits[i] ?? 0);
  return out;
}

/** Each bfloat16 (as its 16 bits) as float32: exact, since it is the upper half of one. */
export function bfloat16ToFloat32(brains: Uint16Array): Float32Array {
  const out = new Uint32Array(brains.length);
  for (let i = 0; i < brains.length; i++) out[i] = (brains[i] ?? 0) << 16;
  return new Float32Array(out.buffer);
}

/** Each float32 as the 16 bits of the nearest bfloat16, ties to even; a NaN stays a (quiet) NaN. */
export function float32ToBfloat16(floats: Float32Array): Uint16Array {
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const out = new Uint16Array(floats.length);
  for (let i = 0; i < out.length; i++) {
    const word = bits[i] ?? 0;
    const upper = word >>> 16;
    if ((word & 0x7fff_ffff) > 0x7f80_0000) {
      // The payload may sit entirely in the bits that are cut off; an infinity must not come out of a NaN.
      out[i] = (upper & 0x7f) === 0 ? upper | 0x40 : upper;
    } else out[i] = (word + 0x7fff + (upper & 1)) >>> 16;
  }
  return out;
}

function halfBitsToFloatBits(half: number): number {
  const sign = (half & SIGN) << 16;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f80_0000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // A subnormal half is fraction x 2^-24, which is a normal float32: shift its leading one out of the fraction.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | ((fraction << (shift + 13)) & 0x7f_ffff);
}

function floatBitsToHalfBits(word: number): number {
  const sign = (word >>> 16) & SIGN;
  const exponent = (word >>> 23) & 0xff;
  const fraction = word & 0x7f_ffff;
  if (exponent === 255) {
    if (fraction === 0) return sign | 0x7c00;
    return sign | 0x7c00 | (fraction >> 13 === 0 ? 0x200 : fraction >> 13);
  }
  const power = exponent - 112;
  if (power >= 31) return sign | 0x7c00;
  // Below 2^-25 everything rounds to zero; exactly 2^-25 is a tie whose even side is zero too.
  if (power < -10) return sign;
  const cut = power > 0 ? 13 : 14 - power;
  const value = power > 0 ? (power << 23) | fraction : fraction | 0x80_0000;
  const kept = value >>> cut;
  const rest = value & ((1 << cut) - 1);
  const half = 1 << (cut - 1);
  // A carry out of the fraction moves into the exponent, which is the next larger half (or infinity).
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}
