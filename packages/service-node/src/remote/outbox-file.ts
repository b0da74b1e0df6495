import { crc32 } from "node:zlib";
import { AssayError } from "@assay/core";
import type { ChainHead } from "@assay/receipts";

/*
 * The outbox's bytes, big-endian.
 *
 *   file   = "ASSAYOUT", u32 version, 8 bytes nonce, u32 crc of what stands before it, batch...
 *   batch  = u32 magic, 8 bytes nonce, u32 length, u32 crc of the items, item...
 *   item   = u8 kind, u32 length, content
 *
 * A batch is what one flush made durable. The nonce is random per file, so that the bytes of a statement can never be
 * taken for a later batch.
 */
export const FILE_HEADER_BYTES = 24;
const BATCH_HEADER_BYTES = 20;
export const NONCE_BYTES = 8;
const MAGIC = Buffer.from("ASSAYOUT", "latin1");
const VERSION = 1;
const BATCH_MAGIC = 0x4f424154;
const ITEM_HEADER_BYTES = 5;
const KIND = { statement: 1, acknowledged: 2, head: 3, keyset: 4 } as const;
const DIGEST_BYTES = 32;

/** A signed statement that waits to be seen in the log. */
export type OutboxEntry = {
  readonly seq: number;
  /** The statement's digest. */
  readonly digest: Uint8Array;
  readonly envelope: Uint8Array;
  readonly claims: Uint8Array;
};

/** A keyset's place in the chain of boots. */
export type KeysetPlace = { readonly bootSeq: number; readonly keyset: Uint8Array; readonly statement: Uint8Array };

/** What a file says, item by item. */
export type OutboxItem =
  | { readonly kind: "statement"; readonly entry: OutboxEntry }
  | { readonly kind: "acknowledged"; readonly from: number; readonly to: number }
  | { readonly kind: "head"; readonly head: ChainHead }
  | { readonly kind: "keyset"; readonly keyset: KeysetPlace };

export function encodeFileHeader(nonce: Uint8Array): Buffer {
  const bytes = Buffer.alloc(FILE_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32BE(VERSION, 8);
  bytes.set(nonce, 12);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 20)), 20);
  return bytes;
}

/** The nonce of a file. Throws `outbox_corrupt`, or `outbox_format_unknown` for a later version. */
function decodeFileHeader(bytes: Buffer, name: string): Buffer {
  if (
    bytes.length < FILE_HEADER_BYTES ||
    !bytes.subarray(0, 8).equals(MAGIC) ||
    bytes.readUInt32BE(20) !== crc32(bytes.subarray(0, 20))
  ) {
    throw corrupt(`The outbox file ${name} has no valid header.`);
  }
  const version = bytes.readUInt32BE(8);
  if (version !== VERSION)
    throw new AssayError("outbox_format_unknown", `The outbox has layout version ${version}, not ${VERSION}.`);
  return bytes.subarray(12, 20);
}

export function encodeBatch(nonce: Uint8Array, items: readonly OutboxItem[]): Buffer {
  const parts = items.map(encodeItem);
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(BATCH_HEADER_BYTES);
  head.writeUInt32BE(BATCH_MAGIC, 0);
  head.set(nonce, 4);
  head.writeUInt32BE(body.length, 12);
  head.writeUInt32BE(crc32(body), 16);
  return Buffer.concat([head, body]);
}

function encodeItem(item: OutboxItem): Buffer {
  switch (item.kind) {
    case "statement": {
      const { seq, digest, envelope, claims } = item.entry;
      const head = Buffer.alloc(16);
      head.writeBigUInt64BE(BigInt(seq), 0);
      head.writeUInt32BE(envelope.length, 8);
      head.writeUInt32BE(claims.length, 12);
      return framed(KIND.statement, head, digest, envelope, claims);
    }
    case "acknowledged": {
      const body = Buffer.alloc(16);
      body.writeBigUInt64BE(BigInt(item.from), 0);
      body.writeBigUInt64BE(BigInt(item.to), 8);
      return framed(KIND.acknowledged, body);
    }
    case "head": {
      const body = Buffer.alloc(8);
      body.writeBigUInt64BE(BigInt(item.head.seq), 0);
      return framed(KIND.head, body, item.head.prev ?? new Uint8Array());
    }
    case "keyset": {
      const body = Buffer.alloc(8);
      body.writeBigUInt64BE(BigInt(item.keyset.bootSeq), 0);
      return framed(KIND.keyset, body, item.keyset.keyset, item.keyset.statement);
    }
  }
}

function framed(kind: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(ITEM_HEADER_BYTES);
  head[0] = kind;
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

/**
 * Every item of a file in order, and where its last whole batch ends. What a crash left half written at the end is
 * passed over; damage in front of a whole later batch throws `outbox_corrupt`, because then something durable is lost.
 */
export function readItems(bytes: Buffer, name: string): { readonly items: OutboxItem[]; readonly end: number } {
  const nonce = decodeFileHeader(bytes, name);
  const items: OutboxItem[] = [];
  let at = FILE_HEADER_BYTES;
  while (at < bytes.length) {
    const body = batchAt(bytes, at, nonce);
    if (!body) {
      const later = laterBatch(bytes, at + 1, nonce);
      if (later === undefined) break;
      throw corrupt(`The outbox file ${name} is damaged at offset ${at}, yet a later batch stands at offset ${later}.`);
    }
    items.push(...itemsOf(body, name));
    at += BATCH_HEADER_BYTES + body.length;
  }
  return { items, end: at };
}

function batchAt(bytes: Buffer, at: number, nonce: Buffer): Buffer | undefined {
  if (at + BATCH_HEADER_BYTES > bytes.length || bytes.readUInt32BE(at) !== BATCH_MAGIC) return undefined;
  if (!bytes.subarray(at + 4, at + 4 + NONCE_BYTES).equals(nonce)) return undefined;
  const from = at + BATCH_HEADER_BYTES;
  const length = bytes.readUInt32BE(at + 12);
  if (from + length > bytes.length) return undefined;
  const body = bytes.subarray(from, from + length);
  return crc32(body) === bytes.readUInt32BE(at + 16) ? body : undefined;
}

function laterBatch(bytes: Buffer, from: number, nonce: Buffer): number | undefined {
  const mark = Buffer.alloc(4 + NONCE_BYTES);
  mark.writeUInt32BE(BATCH_MAGIC, 0);
  nonce.copy(mark, 4);
  for (let at = bytes.indexOf(mark, from); at >= 0; at = bytes.indexOf(mark, at + 1)) {
    if (batchAt(bytes, at, nonce)) return at;
  }
  return undefined;
}

function itemsOf(body: Buffer, name: string): OutboxItem[] {
  const items: OutboxItem[] = [];
  let at = 0;
  while (at < body.length) {
    const length = at + ITEM_HEADER_BYTES <= body.length ? body.readUInt32BE(at + 1) : Number.POSITIVE_INFINITY;
    const from = at + ITEM_HEADER_BYTES;
    if (from + length > body.length) throw corrupt(`The outbox file ${name} has an item that is cut off.`);
    items.push(decodeItem(body[at] ?? 0, body.subarray(from, from + length), name));
    at = from + length;
  }
  return items;
}

function decodeItem(kind: number, body: Buffer, name: string): OutboxItem {
  const part = (from: number, to?: number): Uint8Array => new Uint8Array(body.subarray(from, to));
  const number = (at: number): number => Number(body.readBigUInt64BE(at));
  switch (kind) {
    case KIND.statement: {
      if (body.length < 16 + DIGEST_BYTES) break;
      const envelope = body.readUInt32BE(8);
      const from = 16 + DIGEST_BYTES;
      if (from + envelope + body.readUInt32BE(12) !== body.length) break;
      return {
        kind: "statement",
        entry: {
          seq: number(0),
          digest: part(16, from),
          envelope: part(from, from + envelope),
          claims: part(from + envelope),
        },
      };
    }
    case KIND.acknowledged:
      if (body.length !== 16) break;
      return { kind: "acknowledged", from: number(0), to: number(8) };
    case KIND.head:
      if (body.length !== 8 && body.length !== 8 + DIGEST_BYTES) break;
      return { kind: "head", head: body.length === 8 ? { seq: number(0) } : { seq: number(0), prev: part(8) } };
    case KIND.keyset:
      if (body.length !== 8 + 2 * DIGEST_BYTES) break;
      return {
        kind: "keyset",
        keyset: { bootSeq: number(0), keyset: part(8, 8 + DIGEST_BYTES), statement: part(8 + DIGEST_BYTES) },
      };
  }
  throw corrupt(`The outbox file ${name} holds an item that this program does not write.`);
}

export function corrupt(what: string): AssayError<"outbox_corrupt"> {
  return new AssayError("outbox_corrupt", what, {
    hints: ["Restore the directory from a copy; statements in it may be in no log yet."],
  });
}
