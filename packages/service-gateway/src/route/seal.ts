import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

/** Authenticated encryption of small secrets at rest; what was sealed for one purpose opens for that one alone. */
export type Sealer = {
  readonly seal: (purpose: string, plain: Uint8Array) => Uint8Array;
  /** Throws when the bytes were changed, or were sealed under another secret or for another purpose. */
  readonly open: (purpose: string, sealed: Uint8Array) => Uint8Array;
};

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** A sealer under a 32-byte secret: a key by HKDF-SHA-256, AES-256-GCM, the purpose as associated data. */
export function createSealer(secret: Uint8Array): Sealer {
  const key = new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(), Buffer.from("assay/upstream-key/1"), 32));
  return {
    seal(purpose, plain) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", key, nonce);
      cipher.setAAD(Buffer.from(purpose));
      const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
      return Buffer.concat([Buffer.from([VERSION]), nonce, cipher.getAuthTag(), sealed]);
    },
    open(purpose, sealed) {
      try {
        if (sealed[0] !== VERSION) throw new TypeError("unknown version");
        const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(1, 1 + NONCE_BYTES), {
          authTagLength: TAG_BYTES,
        });
        decipher.setAAD(Buffer.from(purpose));
        decipher.setAuthTag(sealed.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES));
        const plain = [decipher.update(sealed.subarray(1 + NONCE_BYTES + TAG_BYTES)), decipher.final()];
        return new Uint8Array(Buffer.concat(plain));
      } catch (cause) {
        throw new TypeError("This is not a sealed secret of this purpose.", { cause });
      }
    },
  };
}
