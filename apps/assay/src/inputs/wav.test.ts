import { describe, expect, test } from "vitest";
import { MAX_AUDIO_CHANNELS, MAX_AUDIO_SECONDS, MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ } from "./limits.ts";
import { decodeWav, isWav } from "./wav.ts";

const code = (value: string) => expect.objectContaining({ code: value });
const PCM_GUID = "0100000000001000800000aa00389b71";

type Parts = {
  kind?: number;
  channels?: number;
  rate?: number;
  bits?: number;
  frameBytes?: number;
  data?: Uint8Array;
  announced?: number;
  extension?: string;
  before?: Uint8Array;
};

function chunk(id: string, body: Uint8Array, announced = body.length): Buffer {
  const head = Buffer.alloc(8);
  head.write(id, "latin1");
  head.writeUInt32LE(announced, 4);
  return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
}

function wav(parts: Parts = {}): Uint8Array {
  const { kind = 1, channels = 1, rate = 16_000, bits = 16, data = new Uint8Array(4), extension } = parts;
  const frameBytes = parts.frameBytes ?? (channels * bits) / 8;
  const format = Buffer.alloc(16);
  format.writeUInt16LE(kind, 0);
  format.writeUInt16LE(channels, 2);
  format.writeUInt32LE(rate, 4);
  format.writeUInt32LE(0, 8);
  format.writeUInt16LE(frameBytes, 12);
  format.writeUInt16LE(bits, 14);
  const more = extension === undefined ? Buffer.alloc(0) : Buffer.from(`1600${"0".repeat(12)}${extension}`, "hex");
  const body = Buffer.concat([
    Buffer.from("WAVE"),
    parts.before ?? Buffer.alloc(0),
    chunk("fmt ", Buffer.concat([format, more])),
    chunk("data", data, parts.announced),
  ]);
  return new Uint8Array(chunk("RIFF", body));
}

function bytes(size: number, write: (view: DataView) => void): Uint8Array {
  const buffer = new ArrayBuffer(size);
  write(new DataView(buffer));
  return new Uint8Array(buffer);
}

describe("a WAV file", () => {
  test.each<[string, Parts, number[]]>([
    ["8 bits", { bits: 8, data: Uint8Array.of(0, 128, 192, 255) }, [-1, 0, 0.5, 127 / 128]],
    ["16 bits", { data: Uint8Array.of(0, 128, 0, 64) }, [-1, 0.5]],
    ["24 bits", { bits: 24, data: Uint8Array.of(0, 0, 128, 0, 0, 64, 255, 255, 255) }, [-1, 0.5, -1 / 8_388_608]],
    ["32 bits", { bits: 32, data: Uint8Array.of(0, 0, 0, 128, 0, 0, 0, 64) }, [-1, 0.5]],
    ["float", { kind: 3, bits: 32, data: bytes(4, (view) => view.setFloat32(0, -1.25, true)) }, [-1.25]],
    ["double", { kind: 3, bits: 64, data: bytes(8, (view) => view.setFloat64(0, 0.1, true)) }, [0.1]],
    ["extensible", { kind: 0xfffe, extension: PCM_GUID, data: Uint8Array.of(0, 64) }, [0.5]],
    ["two channels, averaged", { channels: 2, data: Uint8Array.of(0, 64, 0, 0, 0, 128, 0, 64) }, [0.25, -0.25]],
    ["other chunks before", { before: chunk("LIST", new Uint8Array(3)), data: Uint8Array.of(0, 64) }, [0.5]],
    [
      "a length unknown to its writer",
      { announced: 0xffff_ffff, channels: 2, data: Uint8Array.of(0, 64, 0, 64, 1, 1) },
      [0.5],
    ],
    ["an unknown length as espeak-ng writes it", { announced: 0x7fff_f000, data: Uint8Array.of(0, 64) }, [0.5]],
  ])("of %s", (_, parts, samples) => {
    const file = wav(parts);
    expect(isWav(file)).toBe(true);
    expect(decodeWav(file, "audio")).toEqual({ sampleRateHz: 16_000, samples: Float64Array.from(samples) });
  });

  test.each<[string, Uint8Array, string]>([
    ["something else", new Uint8Array(Buffer.from("OggS")), "input_file_invalid"],
    [
      "a big-endian file",
      new Uint8Array(Buffer.concat([Buffer.from("RIFX"), wav().subarray(4)])),
      "input_file_invalid",
    ],
    ["no data chunk", wav().subarray(0, 36), "input_file_invalid"],
    ["a missing end", wav({ data: new Uint8Array(8) }).subarray(0, -2), "input_file_invalid"],
    ["no sound", wav({ data: new Uint8Array() }), "input_file_invalid"],
    ["half a frame", wav({ channels: 2, data: new Uint8Array(6) }), "input_file_invalid"],
    ["data before format", wav({ before: chunk("data", new Uint8Array(4)) }), "input_file_invalid"],
    ["a chunk beyond the file", wav({ before: chunk("LIST", new Uint8Array(), 1_000_000) }), "input_file_invalid"],
    ["a short format", wav({ before: chunk("fmt ", new Uint8Array(8)) }).subarray(0, 28), "input_file_invalid"],
    ["a wrong frame size", wav({ frameBytes: 3 }), "input_file_invalid"],
    ["a short extension", wav({ kind: 0xfffe }), "input_file_invalid"],
    [
      "NaN",
      wav({ kind: 3, bits: 32, data: bytes(4, (view) => view.setFloat32(0, Number.NaN, true)) }),
      "input_file_invalid",
    ],
    [
      "an infinity",
      wav({ kind: 3, bits: 64, data: bytes(8, (view) => view.setFloat64(0, -Infinity, true)) }),
      "input_file_invalid",
    ],
    ["ADPCM", wav({ kind: 2, bits: 4, frameBytes: 1 }), "input_format_unsupported"],
    ["mu-law", wav({ kind: 7, bits: 8 }), "input_format_unsupported"],
    ["12 bits", wav({ bits: 12 }), "input_format_unsupported"],
    ["a private format", wav({ kind: 0xfffe, extension: PCM_GUID.replace("aa", "ab") }), "input_format_unsupported"],
    ["too slow a rate", wav({ rate: MIN_SAMPLE_RATE_HZ - 1 }), "input_format_unsupported"],
    ["too fast a rate", wav({ rate: MAX_SAMPLE_RATE_HZ + 1 }), "input_format_unsupported"],
    ["no channel", wav({ channels: 0 }), "input_too_large"],
    ["too many channels", wav({ channels: MAX_AUDIO_CHANNELS + 1, data: new Uint8Array(66) }), "input_too_large"],
    [
      "too long a recording",
      wav({ bits: 8, rate: MIN_SAMPLE_RATE_HZ, data: new Uint8Array(MAX_AUDIO_SECONDS * MIN_SAMPLE_RATE_HZ + 1) }),
      "input_too_large",
    ],
  ])("refuses %s", (_, file, expected) => {
    expect(() => decodeWav(file, "audio")).toThrow(code(expected));
  });

  test("every cut of a file is refused", () => {
    const whole = wav({ data: new Uint8Array(32) });
    for (let length = 0; length < whole.length; length++)
      expect(() => decodeWav(whole.subarray(0, length), "audio")).toThrow(code("input_file_invalid"));
  });
});
