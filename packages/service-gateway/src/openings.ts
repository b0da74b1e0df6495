import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { AssayError, decodeCbor, encodeCbor } from "@assay/core";
import type { CborValue } from "@assay/core";
import type { FieldValue, FullOpening } from "@assay/receipts";

/** Keeps openings for owners who ask for it, encrypted on this server's disk. */
export type OpeningVault = {
  /** Encrypted bytes to store beside the record, bound to its receipt id. Throws `opening_too_large`. */
  readonly seal: (
    receiptId: Uint8Array,
    salt: Uint8Array,
    request: readonly FieldValue[],
    response: readonly FieldValue[],
  ) => Uint8Array;
  /** Both sides, in the order a bundle wants. Throws `opening_unreadable`. */
  readonly open: (receiptId: Uint8Array, sealed: Uint8Array) => readonly FullOpening[];
};

const VERSION = 1;
/** Largest opening kept, bytes: the log's own limit is 16 MiB, and an owner with more keeps the salt instead. */
export const MAX_OPENING_BYTES = 8 * 1024 * 1024;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * A vault under a 32-byte server secret. Each opening has a key of its own, HKDF-SHA-256 over secret and receipt id, and
 * is sealed with AES-256-GCM with the receipt id as associated data: an opening cannot be moved to another receipt.
 */
export function createOpeningVault(secret: Uint8Array): OpeningVault {
  const keyFor = (receiptId: Uint8Array): Uint8Array =>
    new Uint8Array(hkdfSync("sha256", secret, receiptId, Buffer.from("assay/opening/1"), 32));
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
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", keyFor(receiptId), nonce);
      cipher.setAAD(receiptId);
      const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
      return Buffer.concat([Buffer.from([VERSION]), nonce, cipher.getAuthTag(), sealed]);
    },
    open(receiptId, sealed) {
      try {
        if (sealed[0] !== VERSION) throw new TypeError("unknown version");
        const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
        const decipher = createDecipheriv("aes-256-gcm", keyFor(receiptId), nonce);
        decipher.setAAD(receiptId);
        decipher.setAuthTag(sealed.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES));
        const plain = Buffer.concat([decipher.update(sealed.subarray(1 + NONCE_BYTES + TAG_BYTES)), decipher.final()]);
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
  };
}
