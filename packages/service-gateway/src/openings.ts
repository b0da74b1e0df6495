import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { AssayError, decodeCbor, encodeCbor } from "@assay/core";
import type { CborValue } from "@assay/core";
import type { BesideUse } from "@assay/protocol";
import type { FieldValue, FullOpening, RetentionClass } from "@assay/receipts";

/** Keeps openings for owners who ask for it, encrypted on this server's disk. */
export type OpeningVault = {
  /** Encrypted bytes to store beside the record, bound to its receipt id. Throws `opening_too_large`. */
  readonly seal: (
    receiptId: Uint8Array,
    salt: Uint8Array,
    request: readonly FieldValue[],
    response: readonly FieldValue[],
  ) => Uint8Array;
  /**
   * Both sides, in the order a bundle wants; undefined where only an answer is kept. Throws `opening_unreadable`.
   */
  readonly open: (receiptId: Uint8Array, sealed: Uint8Array) => readonly FullOpening[] | undefined;
  /**
   * What is stored beside the record of a paid answer: `opening` as {@link OpeningVault.seal} made it, or nothing, and the
   * answer sealed until `expiresAtMs`. Undefined when the answer is larger than {@link MAX_ANSWER_BYTES}, or both together
   * than the log takes.
   */
  readonly sealAnswer: (
    receiptId: Uint8Array,
    opening: Uint8Array,
    answer: Uint8Array,
    expiresAtMs: number,
  ) => Uint8Array | undefined;
  /** The answer kept there; undefined when there is none, or its time is over. Throws `opening_unreadable`. */
  readonly answer: (receiptId: Uint8Array, sealed: Uint8Array, nowMs: number) => Uint8Array | undefined;
};

/**
 * What keeping an opening uses beside the answer: one, whatever its size, until its owner has it erased. None for the
 * other classes of retention.
 */
export function keptOpening(retention: RetentionClass): readonly BesideUse[] {
  return retention === "server-encrypted" ? [{ subject: "service:openings", used: {} }] : [];
}

const VERSION = 1;
/** A container of an answer, with an opening of the first version before it or without one. */
const WITH_ANSWER = 2;
/** Largest opening kept, bytes: the log's own limit is 16 MiB, and an owner with more keeps the salt instead. */
export const MAX_OPENING_BYTES = 8 * 1024 * 1024;
/** Largest answer kept for its payer, bytes: what an opening may have. */
export const MAX_ANSWER_BYTES = 8 * 1024 * 1024;
/** Opening and answer together, bytes: below the log's own 16 MiB by more than a container adds. */
const MAX_CONTAINER_BYTES = 15 * 1024 * 1024;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Version, time of expiry and the opening's length. */
const CONTAINER_HEAD_BYTES = 1 + 8 + 4;

/** What stands in the clear of a kept answer: when it expires, and whether an opening is kept beside it. */
export type KeptAnswer = { readonly expiresAtMs: number; readonly withOpening: boolean };

/** What `sealed` says of an answer in it; undefined when it has none. Nothing is decrypted. */
export function keptAnswer(sealed: Uint8Array): KeptAnswer | undefined {
  const container = containerOf(sealed);
  return container && { expiresAtMs: container.expiresAtMs, withOpening: container.opening.length > 0 };
}

type Container = {
  readonly head: Uint8Array;
  readonly expiresAtMs: number;
  readonly opening: Uint8Array;
  readonly answer: Uint8Array;
};

function containerOf(sealed: Uint8Array): Container | undefined {
  if (sealed[0] !== WITH_ANSWER || sealed.length < CONTAINER_HEAD_BYTES) return undefined;
  const view = new DataView(sealed.buffer, sealed.byteOffset, CONTAINER_HEAD_BYTES);
  const end = CONTAINER_HEAD_BYTES + view.getUint32(9);
  if (end > sealed.length) return undefined;
  return {
    head: sealed.subarray(0, CONTAINER_HEAD_BYTES),
    expiresAtMs: Number(view.getBigUint64(1)),
    opening: sealed.subarray(CONTAINER_HEAD_BYTES, end),
    answer: sealed.subarray(end),
  };
}

/**
 * A vault under a 32-byte server secret. Each opening has a key of its own, HKDF-SHA-256 over secret and receipt id, and
 * is sealed with AES-256-GCM with the receipt id as associated data: an opening cannot be moved to another receipt.
 */
export function createOpeningVault(secret: Uint8Array): OpeningVault {
  const keyFor = (receiptId: Uint8Array, what: string): Uint8Array =>
    new Uint8Array(hkdfSync("sha256", secret, receiptId, Buffer.from(what), 32));
  const encrypt = (what: string, receiptId: Uint8Array, bound: Uint8Array, plain: Uint8Array): Uint8Array => {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", keyFor(receiptId, what), nonce);
    cipher.setAAD(bound);
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  };
  const decrypt = (what: string, receiptId: Uint8Array, bound: Uint8Array, sealed: Uint8Array): Buffer => {
    const decipher = createDecipheriv("aes-256-gcm", keyFor(receiptId, what), sealed.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(bound);
    decipher.setAuthTag(sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
  };
  return {
    seal(receiptId, salt, request, response) {
      const pairs = (fields: readonly FieldValue[]): CborValue => fields.map(({ name, value }) => [name, value]);
      let size = 0;
      for (const { value } of [...request, ...response]) size += value.length;
      if (size > MAX_OPENING_BYTES) {
        throw new AssayError("opening_too_large", `Request and response have ${size} bytes together.`, {
          hints: [
            `At most ${MAX_OPENING_BYTES} bytes are kept here; ask without assay-retention and keep the opening.`,
          ],
        });
      }
      const plain = encodeCbor([salt, pairs(request), pairs(response)]);
      return Buffer.concat([Buffer.from([VERSION]), encrypt(OPENING_KEY, receiptId, receiptId, plain)]);
    },
    open(receiptId, sealed) {
      try {
        const opening = sealed[0] === WITH_ANSWER ? containerOf(sealed)?.opening : sealed;
        if (opening?.length === 0 && sealed.length > 0) return undefined;
        if (opening?.[0] !== VERSION) throw new TypeError("unknown version");
        const plain = decrypt(OPENING_KEY, receiptId, receiptId, opening.subarray(1));
        const [salt, request, response] = decodeCbor(new Uint8Array(plain), { maxBytes: plain.length }) as [
          Uint8Array,
          [string, Uint8Array][],
          [string, Uint8Array][],
        ];
        const side = (name: "request" | "response", fields: [string, Uint8Array][]): FullOpening => ({
          side: name,
          salt,
          fields: fields
            .map(([field, value]) => ({ name: field, value }))
            .toSorted((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name))),
        });
        return [side("request", request), side("response", response)];
      } catch (cause) {
        throw new AssayError("opening_unreadable", "The stored opening of this receipt cannot be decrypted.", {
          cause,
        });
      }
    },
    sealAnswer(receiptId, opening, answer, expiresAtMs) {
      if (answer.length > MAX_ANSWER_BYTES || opening.length + answer.length > MAX_CONTAINER_BYTES) return undefined;
      const head = new Uint8Array(CONTAINER_HEAD_BYTES);
      const view = new DataView(head.buffer);
      view.setUint8(0, WITH_ANSWER);
      view.setBigUint64(1, BigInt(expiresAtMs));
      view.setUint32(9, opening.length);
      const sealed = encrypt(ANSWER_KEY, receiptId, Buffer.concat([receiptId, head]), answer);
      return Buffer.concat([head, opening, sealed]);
    },
    answer(receiptId, sealed, nowMs) {
      const container = containerOf(sealed);
      if (!container || container.expiresAtMs <= nowMs) return undefined;
      try {
        return decrypt(ANSWER_KEY, receiptId, Buffer.concat([receiptId, container.head]), container.answer);
      } catch (cause) {
        throw new AssayError("opening_unreadable", "The stored answer of this receipt cannot be decrypted.", { cause });
      }
    },
  };
}

const OPENING_KEY = "assay/opening/1";
const ANSWER_KEY = "assay/answer/1";
