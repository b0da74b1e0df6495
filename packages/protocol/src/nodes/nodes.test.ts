import { expect, describe, test } from "vitest";
import fc from "fast-check";
import type { Frame } from "../text/execution.ts";
import { decodeRecords, encodeRecords } from "./log-wire.ts";
import { decodeFrame, encodeFrame, encodeMessage, MESSAGE, readMessages, splitHead } from "./stream.ts";
import type { Message } from "./stream.ts";
import { decodeFault, decodeFinishedText, decodeRemoteTensor, encodeFault, encodeRemoteTensor } from "./work.ts";

async function* cut(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}
const LIMITS = { maxMessageBytes: 1000, maxFinishedBytes: 2000 };
async function read(bytes: Uint8Array, sizes: readonly number[] = [7]): Promise<Message[]> {
  const messages = [];
  for await (const message of readMessages(cut(bytes, sizes), LIMITS)) messages.push(message);
  return messages;
}
const malformed = expect.objectContaining({ code: "node_answer_invalid" }) as unknown;
const unreadable = expect.objectContaining({ code: "node_message_invalid" }) as unknown;

describe("messages of a node's answer", () => {
  test("come out as they went in, however the bytes were cut", async () => {
    const frame = fc.record({
      data: fc.string({ unit: "grapheme", maxLength: 60 }),
      event: fc.option(fc.string({ unit: "grapheme", maxLength: 20 }), { nil: undefined }),
      final: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
        async (given, sizes) => {
          const frames: Frame[] = given.map(({ data, event, final }) => ({
            data,
            ...(event === undefined ? {} : { event }),
            ...(final ? { final: true as const } : {}),
          }));
          const bytes = Buffer.concat([
            ...frames.map(encodeFrame),
            encodeMessage(MESSAGE.pulse),
            encodeMessage(MESSAGE.finished, Buffer.from("end")),
          ]);
          const messages = await read(bytes, sizes);
          expect(messages.slice(0, -2).map(({ payload }) => decodeFrame(payload))).toEqual(frames);
          expect(messages.slice(-2).map(({ kind }) => kind)).toEqual([MESSAGE.pulse, MESSAGE.finished]);
        },
      ),
    );
  });

  test.each([
    ["an unknown kind", Buffer.from([9, 0, 0, 0, 0])],
    ["the kind zero", Buffer.from([0, 0, 0, 0, 0])],
    ["a payload past its limit", encodeMessage(MESSAGE.frame, new Uint8Array(1001))],
    ["a record past its limit", encodeMessage(MESSAGE.finished, new Uint8Array(2001))],
    ["an end within a head", Buffer.from([1, 0, 0])],
    ["an end within a payload", encodeMessage(MESSAGE.frame, new Uint8Array(10)).subarray(0, 9)],
  ])("%s is refused", async (_what, bytes) => {
    await expect(read(bytes)).rejects.toEqual(malformed);
  });

  test("a length is not believed before it is looked at", async () => {
    await expect(read(Buffer.from([1, 0xff, 0xff, 0xff, 0xff]))).rejects.toEqual(malformed);
    expect(await read(encodeMessage(MESSAGE.finished, new Uint8Array(2000)))).toHaveLength(1);
  });

  test.each([
    ["no flags", []],
    ["unknown flags", [4]],
    ["a name that is cut off", [2, 0]],
    ["a name longer than the frame", [2, 0, 9, 65]],
    ["a name past its limit", [2, 1, 1, ...Array.from({ length: 300 }, () => 65)]],
    ["text that is not UTF-8", [0, 0xff]],
  ])("a frame with %s is refused", (_what, bytes) => {
    expect(() => decodeFrame(new Uint8Array(bytes))).toThrow(malformed);
  });
  test("an event's name past its limit is not written", () => {
    expect(() => encodeFrame({ data: "", event: "x".repeat(257) })).toThrow(malformed);
  });
});

describe("heads", () => {
  test("that are cut off, too long or no JSON are refused", () => {
    for (const bytes of [[], [0, 0, 0], [0, 0, 0, 5, 1], [0xff, 0xff, 0xff, 0xff]])
      expect(() => splitHead(new Uint8Array(bytes), 100)).toThrow(unreadable);
    const head = (text: string): Uint8Array => Buffer.concat([Buffer.from([0, 0, 0, text.length]), Buffer.from(text)]);
    for (const text of ["{", "[]", "{}", '{"subject":1}', "[".repeat(20)])
      expect(() => decodeFinishedText(head(text))).toThrow(unreadable);
  });

  test("tensors that do not fill what they say, or overfill it, are refused", () => {
    const tensor = (name: string, size: number) => ({
      name,
      datatype: "UINT8" as const,
      shape: [size],
      data: new Uint8Array(size).fill(size),
    });
    const request = {
      requestedName: "a/b",
      model: { name: "a/b", version: 1, manifestDigest: "00".repeat(32) },
      profile: "portable" as const,
      inputs: [tensor("x", 3), tensor("y", 5)],
      clientNonce: new Uint8Array(8).fill(1),
    };
    const bytes = Buffer.concat(encodeRemoteTensor(request));
    expect(decodeRemoteTensor(bytes)).toEqual(request);
    // Each stands in memory of its own, aligned for whatever reads it.
    for (const { data } of decodeRemoteTensor(bytes).inputs) expect(data.byteOffset).toBe(0);
    expect(() => decodeRemoteTensor(bytes.subarray(0, -1))).toThrow(unreadable);
    expect(() => decodeRemoteTensor(Buffer.concat([bytes, Buffer.from([0])]))).toThrow(unreadable);
    const many = { ...request, inputs: Array.from({ length: 1025 }, (_, i) => tensor(`t${i}`, 0)) };
    expect(() => decodeRemoteTensor(Buffer.concat(encodeRemoteTensor(many)))).toThrow(unreadable);
  });

  test("a fault keeps its sentence within bounds, and a code that is none is refused", () => {
    const long = encodeFault({
      code: "engine_failed",
      message: "x".repeat(9000),
      hints: Array.from({ length: 40 }, () => "h"),
    });
    const { message, hints } = decodeFault(long);
    expect([message.length, hints.length]).toEqual([4096, 16]);
    for (const code of ["", "Engine", "a b", "x".repeat(80)])
      expect(() => decodeFault(Buffer.from(JSON.stringify({ code, message: "", hints: [] })))).toThrow(unreadable);
  });
});

describe("records of a log elsewhere", () => {
  test("come out as they went in", () => {
    const bytes = fc.uint8Array({ maxLength: 40 });
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            index: fc.nat(),
            entry: bytes,
            claims: bytes,
            opening: bytes,
            erased: fc.boolean(),
          }),
          { maxLength: 6 },
        ),
        (records) => {
          expect(decodeRecords(encodeRecords(records), 6)).toEqual(records);
        },
      ),
    );
  });
  test("cut anywhere, or with anything behind them, they are refused", () => {
    const record = {
      index: 3,
      entry: new Uint8Array(5),
      claims: new Uint8Array(2),
      opening: new Uint8Array(1),
      erased: true,
    };
    const bytes = encodeRecords([record, record]);
    const invalid = expect.objectContaining({ code: "log_message_invalid" }) as unknown;
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodeRecords(bytes.subarray(0, length), 2)).toThrow(invalid);
    expect(() => decodeRecords(Buffer.concat([bytes, Buffer.from([0])]), 2)).toThrow(invalid);
    expect(() => decodeRecords(bytes, 1)).toThrow(invalid);
    const marked = Buffer.from(bytes);
    marked[12] = 2;
    expect(() => decodeRecords(marked, 2)).toThrow(invalid);
    const huge = Buffer.from(bytes);
    huge.fill(0xff, 4, 12);
    expect(() => decodeRecords(huge, 2)).toThrow(invalid);
  });
});
