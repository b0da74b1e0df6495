import {
  createCipheriv,
  createDecipheriv,
  pbkdf2,
  randomBytes,
  randomUUID,
  scrypt,
  timingSafeEqual,
} from "node:crypto";
import { promisify } from "node:util";
import { AssayError, bytesToHex, concatBytes, hexToBytes, isAssayError, parseJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { addressOf } from "../crypto/evm-suite.ts";
import { writeWhole } from "../embedded/files.ts";

/** Cost of a guess at the passphrase: 128 MiB of memory and some tenths of a second. */
const SCRYPT = { n: 2 ** 17, r: 8, p: 1 } as const;
const DERIVED_BYTES = 32;
const SALT_BYTES = 32;
const IV_BYTES = 16;
/** A wallet's document is below two kilobytes. */
export const MAX_WALLET_BYTES = 64 * 1024;
/** Memory that a foreign wallet may ask for, bytes: twice what other programs make wallets with. */
export const MAX_SCRYPT_MEMORY = 512 * 1024 * 1024;
/** Work that it may ask for: n times r times p. */
export const MAX_SCRYPT_WORK = 2 ** 23;
/** Rounds of PBKDF2 that it may ask for: ten times the usual. */
export const MAX_PBKDF2_ROUNDS = 4_000_000;
/** Longer passphrases are a mistake; they would only be hashed. */
export const MAX_PASSPHRASE_BYTES = 1_024;

const deriveScrypt = promisify<string, Uint8Array, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);
const derivePbkdf2 = promisify(pbkdf2);

/**
 * A private key (32 bytes) behind a passphrase: the JSON text of a Web3 Secret Storage document, version 3 (scrypt,
 * AES-128-CTR, Keccak-256), which every Ethereum wallet reads. Throws `evm_key_invalid` and `wallet_passphrase_unusable`.
 */
export async function encryptKey(privateKey: Uint8Array, passphrase: string): Promise<string> {
  const address = addressOf(privateKey);
  checkPassphrase(passphrase);
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(IV_BYTES);
  const derived = await byScrypt(passphrase, salt, SCRYPT.n, SCRYPT.r, SCRYPT.p);
  const cipher = createCipheriv("aes-128-ctr", derived.subarray(0, 16), iv);
  const ciphertext = concatBytes(cipher.update(privateKey), cipher.final());
  const document = {
    version: 3,
    id: randomUUID(),
    address: address.slice(2),
    crypto: {
      cipher: "aes-128-ctr",
      cipherparams: { iv: bytesToHex(iv) },
      ciphertext: bytesToHex(ciphertext),
      kdf: "scrypt",
      kdfparams: { dklen: DERIVED_BYTES, salt: bytesToHex(salt), ...SCRYPT },
      mac: bytesToHex(macOf(derived, ciphertext)),
    },
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/**
 * The private key (32 bytes) in a Web3 Secret Storage document of version 3, with scrypt or PBKDF2. Throws
 * `wallet_passphrase_wrong`, and `wallet_invalid` for anything that is no such document or asks for more memory or work
 * than a wallet needs.
 */
export async function decryptKey(text: string, passphrase: string): Promise<Uint8Array> {
  checkPassphrase(passphrase);
  const wallet = object(parse(text), "the document");
  if (wallet["version"] !== 3) throw invalid("its version is not 3");
  // Some programs spell it with a capital.
  const crypto = object(wallet["crypto"] ?? wallet["Crypto"], "crypto");
  if (crypto["cipher"] !== "aes-128-ctr") throw invalid("its cipher is not aes-128-ctr");
  const iv = bytes(object(crypto["cipherparams"], "cipherparams")["iv"], IV_BYTES, IV_BYTES, "iv");
  const ciphertext = bytes(crypto["ciphertext"], 32, 32, "ciphertext");
  const mac = bytes(crypto["mac"], 32, 32, "mac");
  const derived = await derive(crypto, passphrase);
  if (!timingSafeEqual(macOf(derived, ciphertext), mac))
    throw new AssayError("wallet_passphrase_wrong", "The passphrase does not open the wallet.", {
      hints: ["Or the file was damaged: both look the same from here."],
    });
  const decipher = createDecipheriv("aes-128-ctr", derived.subarray(0, 16), iv);
  const key = concatBytes(decipher.update(ciphertext), decipher.final());
  const address = wallet["address"];
  try {
    const found = addressOf(key);
    if (typeof address === "string" && found.slice(2) !== address.toLowerCase().replace(/^0x/, ""))
      throw invalid("its key is of another address than it says");
  } catch (error) {
    if (isAssayError(error) && error.code === "evm_key_invalid") throw invalid("what it holds is no key", error);
    throw error;
  }
  return key;
}

/** Writes a wallet's document, readable by its owner alone; after a crash the file is the old or the new one. */
export async function writeKeyFile(path: string, text: string): Promise<void> {
  await writeWhole(path, text);
}

async function derive(crypto: { readonly [key: string]: JsonValue }, passphrase: string): Promise<Uint8Array> {
  const parameters = object(crypto["kdfparams"], "kdfparams");
  if (parameters["dklen"] !== DERIVED_BYTES) throw invalid(`its dklen is not ${DERIVED_BYTES}`);
  const salt = bytes(parameters["salt"], 1, 128, "salt");
  if (crypto["kdf"] === "scrypt") {
    const n = integer(parameters["n"], "n");
    const r = integer(parameters["r"], "r");
    const p = integer(parameters["p"], "p");
    if (n < 2 || (n & (n - 1)) !== 0) throw invalid("its n is no power of two");
    // RFC 7914 section 2: n below 2^(128 r / 8).
    if (Math.log2(n) >= 16 * r) throw invalid("its n is too large for its r");
    if (128 * n * r > MAX_SCRYPT_MEMORY || n * r * p > MAX_SCRYPT_WORK)
      throw invalid("opening it would take more memory or time than a wallet needs");
    return byScrypt(passphrase, salt, n, r, p);
  }
  if (crypto["kdf"] === "pbkdf2") {
    if (parameters["prf"] !== "hmac-sha256") throw invalid("its prf is not hmac-sha256");
    const rounds = integer(parameters["c"], "c");
    if (rounds > MAX_PBKDF2_ROUNDS) throw invalid("opening it would take more time than a wallet needs");
    return derivePbkdf2(utf8ToBytes(passphrase), salt, rounds, DERIVED_BYTES, "sha256");
  }
  throw invalid("its kdf is neither scrypt nor pbkdf2");
}

function byScrypt(passphrase: string, salt: Uint8Array, n: number, r: number, p: number): Promise<Uint8Array> {
  // OpenSSL counts a little more than the table itself.
  return deriveScrypt(passphrase, salt, DERIVED_BYTES, { N: n, r, p, maxmem: 128 * n * r + 128 * r * p + 1024 * 1024 });
}

function macOf(derived: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  return keccak_256(concatBytes(derived.subarray(16, 32), ciphertext));
}

function checkPassphrase(passphrase: string): void {
  const length = utf8ToBytes(passphrase).length;
  if (length > 0 && length <= MAX_PASSPHRASE_BYTES) return;
  throw new AssayError("wallet_passphrase_unusable", "The passphrase is empty or far too long.", {
    hints: [`It has 1 to ${MAX_PASSPHRASE_BYTES} bytes.`],
  });
}

function parse(text: string): JsonValue {
  try {
    return parseJson(text, { maxBytes: MAX_WALLET_BYTES, maxDepth: 8 });
  } catch (cause) {
    throw invalid("it is no JSON", cause);
  }
}

function object(value: JsonValue | undefined, what: string): { readonly [key: string]: JsonValue } {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as { readonly [key: string]: JsonValue };
  throw invalid(`${what} is no object`);
}

function bytes(value: JsonValue | undefined, least: number, most: number, what: string): Uint8Array {
  if (typeof value === "string" && /^(?:[0-9a-f]{2})*$/i.test(value)) {
    const found = hexToBytes(value.toLowerCase());
    if (found.length >= least && found.length <= most) return found;
  }
  throw invalid(`its ${what} is not hexadecimal of the right length`);
}

function integer(value: JsonValue | undefined, what: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 2 ** 30) return value;
  throw invalid(`its ${what} is no sensible number`);
}

function invalid(why: string, cause?: unknown): AssayError<"wallet_invalid"> {
  return new AssayError("wallet_invalid", `The wallet cannot be read: ${why}.`, {
    hints: ["A wallet is a Web3 Secret Storage document of version 3."],
    ...(cause === undefined ? {} : { cause }),
  });
}
