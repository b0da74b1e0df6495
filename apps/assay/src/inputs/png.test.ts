import { crc32, deflateSync } from "node:zlib";
import { PNG } from "pngjs";
import type { ColorType } from "pngjs";
import { describe, expect, test } from "vitest";
import { MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE, MAX_PNG_BYTES } from "./limits.ts";
import { decodePng, isPng } from "./png.ts";

const code = (value: string) => expect.objectContaining({ code: value });

function chunk(kind: string, body: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  const named = Buffer.concat([Buffer.from(kind, "latin1"), body]);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, check]);
}

type Parts = {
  width?: number;
  height?: number;
  depth?: number;
  colour?: number;
  interlaced?: boolean;
  extra?: Buffer[];
  pixels?: Uint8Array;
};

/** A file from its parts; `pixels` are the unpacked rows, each with its filter byte. */
function png({
  width = 1,
  height = 1,
  depth = 8,
  colour = 0,
  interlaced = false,
  extra = [],
  pixels,
}: Parts): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, colour, 0, 0, interlaced ? 1 : 0], 8);
  return new Uint8Array(
    Buffer.concat([
      Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
      chunk("IHDR", header),
      ...extra,
      chunk("IDAT", deflateSync(pixels ?? new Uint8Array(2))),
      chunk("IEND", new Uint8Array()),
    ]),
  );
}

const bytes = (...values: number[]) => Uint8Array.from(values);

describe("a PNG file", () => {
  test.each<[string, Parts, number[]]>([
    ["grey, 1 bit", { width: 2, depth: 1, pixels: bytes(0, 0x40) }, [0, 0, 0, 65_535, 65_535, 65_535, 65_535, 65_535]],
    ["grey, 2 bits", { depth: 2, pixels: bytes(0, 0x40) }, [21_845, 21_845, 21_845, 65_535]],
    ["grey, 4 bits", { depth: 4, pixels: bytes(0, 0x80) }, [0x8888, 0x8888, 0x8888, 65_535]],
    ["grey, 8 bits", { pixels: bytes(0, 0x80) }, [0x8080, 0x8080, 0x8080, 65_535]],
    ["grey, 16 bits", { depth: 16, pixels: bytes(0, 0x12, 0x34) }, [0x1234, 0x1234, 0x1234, 65_535]],
    ["colour, 8 bits", { colour: 2, pixels: bytes(0, 1, 2, 3) }, [257, 514, 771, 65_535]],
    ["colour, 16 bits", { depth: 16, colour: 2, pixels: bytes(0, 0, 1, 0, 2, 0, 3) }, [1, 2, 3, 65_535]],
    [
      "a palette with transparency",
      { colour: 3, extra: [chunk("PLTE", bytes(1, 2, 3, 4, 5, 6)), chunk("tRNS", bytes(0, 128))], pixels: bytes(0, 1) },
      [4 * 257, 5 * 257, 6 * 257, 128 * 257],
    ],
    ["grey with alpha", { colour: 4, pixels: bytes(0, 9, 128) }, [9 * 257, 9 * 257, 9 * 257, 128 * 257]],
    ["grey with alpha, 16 bits", { depth: 16, colour: 4, pixels: bytes(0, 0, 9, 1, 0) }, [9, 9, 9, 256]],
    ["colour with alpha", { colour: 6, pixels: bytes(0, 1, 2, 3, 4) }, [257, 514, 771, 1_028]],
    ["an interlaced pixel", { interlaced: true, pixels: bytes(0, 7) }, [7 * 257, 7 * 257, 7 * 257, 65_535]],
  ])("of %s", (_, parts, rgba) => {
    const file = png(parts);
    expect(isPng(file)).toBe(true);
    expect([...decodePng(file, "image").rgba]).toEqual(rgba);
  });

  test.each([0, 2, 4, 6] as ColorType[])("as pngjs writes colour type %i", (colorType) => {
    const picture = new PNG({ width: 5, height: 3 });
    picture.data.forEach((__, index) => {
      picture.data[index] = index % 4 === 3 ? 255 : 40 * ((index >> 2) % 5);
    });
    const found = decodePng(new Uint8Array(PNG.sync.write(picture, { colorType, inputHasAlpha: true })), "image");
    expect(found).toMatchObject({ width: 5, height: 3 });
    expect([...found.rgba]).toEqual([...picture.data].map((value) => value * 257));
  });

  test.each<[string, Uint8Array, string]>([
    ["something else", bytes(0xff, 0xd8, 0xff, 0xe0), "input_file_invalid"],
    ["nothing", bytes(), "input_file_invalid"],
    ["another first chunk", png({}).map((byte, at) => (at === 12 ? 0x4a : byte)), "input_file_invalid"],
    ["a wrong checksum", png({}).map((byte, at) => (at === 29 ? byte ^ 1 : byte)), "input_file_invalid"],
    ["no width", png({ width: 0 }), "input_file_invalid"],
    ["an unknown colour type", png({ colour: 5 }), "input_file_invalid"],
    ["an impossible depth", png({ depth: 3 }), "input_file_invalid"],
    ["a palette that is missing", png({ colour: 3 }), "input_file_invalid"],
    ["a plain picture that unpacks without end", png({ pixels: new Uint8Array(20_000_000) }), "input_file_invalid"],
    ["too few pixels", png({ width: 100, height: 100 }), "input_file_invalid"],
    ["too few pixels, interlaced", png({ width: 9, height: 9, interlaced: true }), "input_file_invalid"],
    ["an unknown filter", png({ pixels: bytes(9, 1) }), "input_file_invalid"],
    ["an unknown critical chunk", png({ extra: [chunk("ABCD", bytes(1))] }), "input_file_invalid"],
    ["too wide a picture", png({ width: MAX_IMAGE_SIDE + 1 }), "input_too_large"],
    ["too high a picture", png({ height: 0xffff_ffff }), "input_too_large"],
    [
      "too many pixels",
      png({ width: MAX_IMAGE_SIDE, height: MAX_IMAGE_PIXELS / MAX_IMAGE_SIDE + 1 }),
      "input_too_large",
    ],
    ["too large a file", new Uint8Array(MAX_PNG_BYTES + 1), "input_too_large"],
    [
      "an interlaced picture that unpacks without end",
      png({ interlaced: true, pixels: new Uint8Array(20_000_000) }),
      "input_file_invalid",
    ],
  ])("refuses %s", (_, file, expected) => {
    expect(() => decodePng(file, "image")).toThrow(code(expected));
  });

  test("every cut of a file is refused", () => {
    const whole = png({ width: 3, height: 2, pixels: new Uint8Array(8) });
    const end = whole.length - 12;
    for (let length = 0; length < end; length++)
      expect(() => decodePng(whole.subarray(0, length), "image")).toThrow(code("input_file_invalid"));
  });
});
