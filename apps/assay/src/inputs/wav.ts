import { inputError } from "./input-error.ts";
import { MAX_AUDIO_CHANNELS, MAX_AUDIO_SECONDS, MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ } from "./limits.ts";

/** A recording with one channel, as float64 from -1 to 1 (floating-point files may go beyond). */
export type Recording = { readonly sampleRateHz: number; readonly samples: Float64Array };

const PCM = 1;
const IEEE_FLOAT = 3;
const EXTENSIBLE = 0xfffe;
/** What follows the first two bytes of a sub-format GUID derived from a format tag (KSDATAFORMAT_SUBTYPE). */
const GUID_TAIL = "000000001000800000aa00389b71";
/** Programs that write to a pipe cannot know the length; they announce one at or above this. */
const UNKNOWN_LENGTH = 0x7fff_f000;

/** Whether `bytes` begin as a RIFF WAVE file does. */
export function isWav(bytes: Uint8Array): boolean {
  return tag(bytes, 0) === "RIFF" && tag(bytes, 8) === "WAVE";
}

/**
 * A WAVE file (PCM of 8, 16, 24 or 32 bits, float of 32 or 64, plain or `WAVE_FORMAT_EXTENSIBLE`), its channels
 * averaged into one. Throws `input_file_invalid` for a file that breaks the format or holds values that are not
 * numbers, `input_format_unsupported` for compressed ones, and `input_too_large` beyond the limits.
 */
export function decodeWav(bytes: Uint8Array, input: string): Recording {
  if (!isWav(bytes)) throw invalid(input, "it does not begin with RIFF and WAVE");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { format, data, streamed } = chunks(bytes, view, input);
  const { channels, sampleRateHz, read, frameBytes } = parseFormat(view, format, input);
  if (!streamed && data.length % frameBytes !== 0) throw invalid(input, "its data ends inside a frame");
  const frames = Math.floor(data.length / frameBytes);
  if (frames === 0) throw invalid(input, "it holds no sound");
  if (frames > MAX_AUDIO_SECONDS * sampleRateHz)
    throw inputError("input_too_large", `Input "${input}" lasts longer than ${MAX_AUDIO_SECONDS} s.`);
  const samples = new Float64Array(frames);
  const width = frameBytes / channels;
  for (let frame = 0; frame < frames; frame++) {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) sum += read(data.start + frame * frameBytes + channel * width);
    samples[frame] = sum / channels;
  }
  if (samples.some((sample) => !Number.isFinite(sample))) throw invalid(input, "it holds samples that are not numbers");
  return { sampleRateHz, samples };
}

type Span = { readonly start: number; readonly length: number };

function chunks(bytes: Uint8Array, view: DataView, input: string): { format: Span; data: Span; streamed: boolean } {
  let format: Span | undefined;
  for (let at = 12; at + 8 <= bytes.length;) {
    const id = tag(bytes, at);
    const announced = view.getUint32(at + 4, true);
    const start = at + 8;
    const left = bytes.length - start;
    if (id === "data") {
      if (format === undefined) throw invalid(input, "its data stands before its format");
      const streamed = announced >= UNKNOWN_LENGTH;
      if (!streamed && announced > left)
        throw invalid(input, `it announces ${announced} bytes of sound and ${left} follow`);
      return { format, data: { start, length: streamed ? left : announced }, streamed };
    }
    if (announced > left) throw invalid(input, `its chunk "${id}" ends beyond the file`);
    if (id === "fmt ") format = { start, length: announced };
    at = start + announced + (announced % 2);
  }
  throw invalid(input, "it has no data chunk");
}

function parseFormat(view: DataView, at: Span, input: string) {
  if (at.length < 16) throw invalid(input, "its format chunk is too short");
  const plain = view.getUint16(at.start, true);
  const channels = view.getUint16(at.start + 2, true);
  const sampleRateHz = view.getUint32(at.start + 4, true);
  const frameBytes = view.getUint16(at.start + 12, true);
  const bits = view.getUint16(at.start + 14, true);
  const kind = plain === EXTENSIBLE ? subFormat(view, at, input) : plain;
  const read = reader(view, kind, bits);
  if (read === undefined)
    throw inputError("input_format_unsupported", `Input "${input}" is a WAV file of kind ${kind} with ${bits} bits.`, [
      "Save it as PCM with 16 bits.",
    ]);
  if (channels === 0 || channels > MAX_AUDIO_CHANNELS)
    throw inputError(
      "input_too_large",
      `Input "${input}" has ${channels} channels; 1 to ${MAX_AUDIO_CHANNELS} are read.`,
    );
  if (sampleRateHz < MIN_SAMPLE_RATE_HZ || sampleRateHz > MAX_SAMPLE_RATE_HZ)
    throw inputError("input_format_unsupported", `Input "${input}" has ${sampleRateHz} samples a second.`, [
      `Rates from ${MIN_SAMPLE_RATE_HZ} to ${MAX_SAMPLE_RATE_HZ} Hz are read.`,
    ]);
  if (frameBytes !== (channels * bits) / 8) throw invalid(input, "its frame size does not follow from its format");
  return { channels, sampleRateHz, read, frameBytes };
}

function subFormat(view: DataView, at: Span, input: string): number {
  if (at.length < 40) throw invalid(input, "its extensible format chunk is too short");
  const tail = Array.from({ length: 14 }, (_, index) => view.getUint8(at.start + 26 + index));
  if (tail.map((byte) => byte.toString(16).padStart(2, "0")).join("") !== GUID_TAIL)
    throw inputError("input_format_unsupported", `Input "${input}" is a WAV file of a private format.`);
  return view.getUint16(at.start + 24, true);
}

/** Full scale is a power of two, so each sample is exact as float64. */
function reader(view: DataView, kind: number, bits: number): ((at: number) => number) | undefined {
  if (kind === PCM && bits === 8) return (at) => (view.getUint8(at) - 128) / 128;
  if (kind === PCM && bits === 16) return (at) => view.getInt16(at, true) / 32_768;
  if (kind === PCM && bits === 24)
    return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65_536) / 8_388_608;
  if (kind === PCM && bits === 32) return (at) => view.getInt32(at, true) / 2_147_483_648;
  if (kind === IEEE_FLOAT && bits === 32) return (at) => view.getFloat32(at, true);
  if (kind === IEEE_FLOAT && bits === 64) return (at) => view.getFloat64(at, true);
  return undefined;
}

function tag(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

function invalid(input: string, why: string) {
  return inputError("input_file_invalid", `Input "${input}" is not a sound WAV file: ${why}.`);
}
