import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeControl, encodeControl } from "./control.ts";
import { HEADER_BYTES, KIND, createFrameReader, writeFrame } from "./frame.ts";
import { decodeTensors, encodeTensors } from "./tensor-frame.ts";
import type { TensorFrame } from "./tensor-frame.ts";

function written(kind: number, id: number, pieces: readonly Uint8Array[]): Buffer {
  const chunks: Uint8Array[] = [];
  writeFrame(
    { write: (bytes) => chunks.push(bytes), cork: () => undefined, uncork: () => undefined },
    kind,
    id,
    pieces,
  );
  return Buffer.concat(chunks);
}

function reader(maxBodyBytes: number): {
  push: (chunk: Uint8Array) => string | undefined;
  frames: { kind: number; id: number; body: Buffer; aligned: boolean }[];
} {
  const frames: { kind: number; id: number; body: Buffer; aligned: boolean }[] = [];
  const inner = createFrameReader({
    kinds: [KIND.run, KIND.load],
    maxBodyBytes,
    onFrame: (kind, id, body) => frames.push({ kind, id, body: Buffer.from(body), aligned: body.byteOffset % 8 === 0 }),
  });
  return { push: (chunk) => inner.push(chunk), frames };
}

describe("frames", () => {
  test("come out as they went in, however the stream is cut", () => {
    const frame = fc.record({
      kind: fc.constantFrom(KIND.run, KIND.load),
      id: fc.nat({ max: 0xffff_ffff }),
      pieces: fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 5 }), fc.integer({ min: 1, max: 50 }), (frames, step) => {
        const stream = Buffer.concat(frames.map(({ kind, id, pieces }) => written(kind, id, pieces)));
        const { push, frames: seen } = reader(200);
        for (let at = 0; at < stream.length; at += step) {
          expect(push(stream.subarray(at, at + step))).toBeUndefined();
        }
        expect(seen).toEqual(
          frames.map(({ kind, id, pieces }) => ({ kind, id, body: Buffer.concat(pieces), aligned: true })),
        );
      }),
    );
  });

  test("are written the same in one piece and in many", () => {
    const large = new Uint8Array(100_000).map((_, i) => i % 251);
    const { push, frames } = reader(200_000);
    expect(push(written(KIND.run, 7, [large.subarray(0, 3), new Uint8Array(), large.subarray(3)]))).toBeUndefined();
    expect(frames[0]?.body.equals(large)).toBe(true);
  });

  test("are refused with a wrong magic, an unknown kind or a body past the limit, before it is read", () => {
    const good = written(KIND.run, 1, [new Uint8Array(8)]);
    const spoilt = (offset: number, value: number): Buffer => {
      const copy = Buffer.from(good);
      copy.writeUInt32LE(value, offset);
      return copy.subarray(0, HEADER_BYTES);
    };
    expect(reader(8).push(good)).toBeUndefined();
    expect(reader(7).push(good)).toMatch(/longer than 7/);
    expect(reader(8).push(spoilt(0, 1))).toMatch(/magic/);
    expect(reader(8).push(spoilt(4, KIND.hello))).toMatch(/kind 17/);
    expect(reader(8).push(spoilt(12, 0xffff_ffff))).toMatch(/longer/);
    const broken = reader(8);
    expect(broken.push(spoilt(0, 1))).toBeDefined();
    expect(broken.push(good)).toBeDefined();
    expect(broken.frames).toEqual([]);
  });
});

describe("tensor bodies", () => {
  const tensor = fc.record({
    shape: fc.array(fc.nat({ max: 0xffff_ffff }), { maxLength: 32 }),
    data: fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 3 }),
  });
  const body = fc
    .tuple(
      fc.nat({ max: 0xffff_ffff }),
      fc.nat({ max: 0xffff_ffff }),
      fc.array(fc.nat({ max: 0xffff }), { maxLength: 6 }),
      fc.array(tensor, { maxLength: 5 }),
    )
    .map(([first, second, numbers, tensors]) => ({ first, second, numbers, tensors }));

  test("come back with their sizes and bytes, each 8-byte aligned", () => {
    fc.assert(
      fc.property(body, ({ first, second, numbers, tensors }) => {
        const bytes = new Uint8Array(Buffer.concat(encodeTensors(first, second, numbers, tensors)));
        const back = decodeTensors(bytes) as TensorFrame;
        expect(back).toMatchObject({ first, second, numbers });
        expect(back.tensors.map(({ shape }) => shape)).toEqual(tensors.map(({ shape }) => shape));
        for (const [i, { data }] of back.tensors.entries()) {
          expect(Buffer.from(data).equals(Buffer.concat(tensors[i]?.data ?? []))).toBe(true);
          expect(data.byteOffset % 8).toBe(0);
        }
      }),
    );
  });

  test("are refused when cut, lengthened, or claiming more than there is", () => {
    fc.assert(
      fc.property(body, fc.nat(), ({ first, second, numbers, tensors }, cut) => {
        const bytes = new Uint8Array(Buffer.concat(encodeTensors(first, second, numbers, tensors)));
        expect(decodeTensors(bytes.subarray(0, cut % bytes.length))).toBeUndefined();
        expect(decodeTensors(new Uint8Array([...bytes, 0, 0, 0, 0, 0, 0, 0, 0]))).toBeUndefined();
      }),
    );
    const one = new Uint8Array(Buffer.concat(encodeTensors(0, 0, [], [{ shape: [1], data: [new Uint8Array(8)] }])));
    const spoilt = (at: number, value: number): Uint8Array => one.map((byte, i) => (i === at ? value : byte));
    expect(decodeTensors(one)).toBeDefined();
    expect(decodeTensors(spoilt(16, 9))).toBeUndefined();
    expect(decodeTensors(spoilt(20, 33))).toBeUndefined();
    expect(decodeTensors(spoilt(11, 0xff))).toBeUndefined();
    expect(decodeTensors(spoilt(9, 0xff))).toBeUndefined();
  });

  test("never make the reader throw, whatever they are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => decodeTensors(bytes)).not.toThrow();
        expect(() => decodeControl(bytes)).not.toThrow();
      }),
    );
  });
});

test("control messages are objects of bounded depth", () => {
  expect(decodeControl(encodeControl({ a: [1, "ü"] }))).toEqual({ a: [1, "ü"] });
  expect(encodeControl({ a: "ü" }).length % 8).toBe(0);
  expect(decodeControl(Buffer.from("[1]"))).toBeUndefined();
  expect(decodeControl(Buffer.from("null"))).toBeUndefined();
  expect(decodeControl(Buffer.from('{"a":'))).toBeUndefined();
  expect(decodeControl(Buffer.from(`{"a":${"[".repeat(9)}${"]".repeat(9)}}`))).toBeUndefined();
});
