import { inputError } from "./input-error.ts";
import { MAX_FILTER_COEFFICIENTS } from "./limits.ts";

/** Zero crossings of the sinc on each side, at the lower of the two rates: a transition band of a few percent. */
const CROSSINGS = 16;
/** Kaiser window with some 80 dB of attenuation, below the noise of 13-bit sound. */
const BETA = 8;
/** The pass band ends a little below half the lower rate, so that the transition band does not fold back. */
const CUTOFF = 0.95;

/**
 * `samples` at `fromHz` as float32 at `toHz`, by a Kaiser-windowed sinc (the "bandlimited interpolation" of
 * J. O. Smith, 1984), with silence before the beginning and after the end. Length is `ceil(n * toHz / fromHz)`.
 *
 * Only additions, multiplications, divisions and square roots of float64 are used, in a fixed order, and one
 * rounding to float32: these are exact by IEEE 754, so every machine gives the same bytes. `Math.sin` is not.
 * Throws `input_format_unsupported` where the ratio of the rates needs too large a filter.
 */
export function resample(samples: Float64Array, fromHz: number, toHz: number, input: string): Float32Array {
  if (fromHz === toHz) return Float32Array.from(samples);
  const divisor = greatestCommonDivisor(fromHz, toHz);
  const up = toHz / divisor;
  const down = fromHz / divisor;
  // Frequencies are in units of the source's rate; when going down, the target's lower band is what must remain.
  const band = CUTOFF * Math.min(1, up / down);
  const reach = Math.ceil(CROSSINGS / band);
  if (up * 2 * reach > MAX_FILTER_COEFFICIENTS)
    throw inputError("input_format_unsupported", `Input "${input}": ${fromHz} Hz cannot be brought to ${toHz} Hz.`, [
      `Save the recording with ${toHz} samples a second.`,
    ]);
  const filters = new Map<number, Float64Array>();
  const out = new Float32Array(Math.ceil((samples.length * up) / down));
  for (let index = 0; index < out.length; index++) {
    const place = index * down;
    const phase = place % up;
    const first = (place - phase) / up - reach + 1;
    let filter = filters.get(phase);
    if (filter === undefined) {
      filter = phaseFilter(phase, up, band, reach);
      filters.set(phase, filter);
    }
    let sum = 0;
    const from = Math.max(0, -first);
    const to = Math.min(filter.length, samples.length - first);
    for (let tap = from; tap < to; tap++) sum += (filter[tap] ?? 0) * (samples[first + tap] ?? 0);
    out[index] = sum;
  }
  return out;
}

/** Weights of the `2 * reach` source samples around a point `phase / up` of a sample after one of them; sum 1. */
function phaseFilter(phase: number, up: number, band: number, reach: number): Float64Array {
  const filter = new Float64Array(2 * reach);
  let total = 0;
  for (let tap = 0; tap < filter.length; tap++) {
    const distance = phase / up + reach - 1 - tap;
    const weight = sinc(distance * band) * kaiser(distance / reach);
    filter[tap] = weight;
    total += weight;
  }
  return filter.map((weight) => weight / total);
}

function sinc(x: number): number {
  const angle = Math.PI * x;
  return x === 0 ? 1 : sineOfTurns(x) / angle;
}

/** sin(pi x), by its Taylor series after folding x into [-1/2, 1/2], where twelve terms reach float64's precision. */
function sineOfTurns(x: number): number {
  const nearest = Math.round(x);
  const angle = Math.PI * (x - nearest);
  let term = angle;
  let sum = angle;
  for (let k = 1; k <= 12; k++) {
    term *= -(angle * angle) / (2 * k * (2 * k + 1));
    sum += term;
  }
  return nearest % 2 === 0 ? sum : -sum;
}

function kaiser(x: number): number {
  const inside = 1 - x * x;
  return inside <= 0 ? 0 : besselI0(BETA * Math.sqrt(inside)) / besselI0(BETA);
}

/** The modified Bessel function of order 0, by its power series; 40 terms suffice up to {@link BETA}. */
function besselI0(x: number): number {
  let term = 1;
  let sum = 1;
  for (let k = 1; k <= 40; k++) {
    term *= (x / (2 * k)) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
