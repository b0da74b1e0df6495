const MULTIPLIER_0 = 0xd251_1f53;
const MULTIPLIER_1 = 0xcd9e_8d57;
const WEYL_0 = 0x9e37_79b9;
const WEYL_1 = 0xbb67_ae85;
const ROUNDS = 10;

/**
 * Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): four random
 * 32-bit words for a counter of four and a key of two. It has no state, so any draw of any position can be made alone.
 */
export function philox4x32(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  key0: number,
  key1: number,
): void {
  let [a, b, c, d] = [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
  let k0 = key0 >>> 0;
  let k1 = key1 >>> 0;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, a);
    const low0 = Math.imul(MULTIPLIER_0, a) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c);
    const low1 = Math.imul(MULTIPLIER_1, c) >>> 0;
    a = (high1 ^ b ^ k0) >>> 0;
    b = low1;
    c = (high0 ^ d ^ k1) >>> 0;
    d = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** Upper 32 bits of the 64-bit product, by halves of 16 bits: no sum in between reaches 2^32. */
function multiplyHigh(x: number, y: number): number {
  const x0 = x & 0xffff;
  const x1 = x >>> 16;
  const y0 = y & 0xffff;
  const y1 = y >>> 16;
  const middle = x1 * y0 + ((x0 * y0) >>> 16);
  const carried = x0 * y1 + (middle & 0xffff);
  return (x1 * y1 + (middle >>> 16) + (carried >>> 16)) >>> 0;
}
