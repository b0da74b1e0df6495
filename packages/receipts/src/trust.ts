import { AssayError, base64ToBytes, bytesToBase64, parseJson } from "@assay/core";
import type { JsonValue, SignatureAlgorithm } from "@assay/core";
import { ALGORITHM } from "./labels.ts";

/** A long-lived operator key that a verifier chooses to believe. */
export type TrustedIdentity = {
  readonly algorithm: SignatureAlgorithm;
  readonly publicKey: Uint8Array;
  /** Only for keysets of this subject, when given. */
  readonly subject?: string;
  /** `production`, `development` or a name of one's own; shown with the verdict. */
  readonly label: string;
};

/** A log that a verifier chooses to believe, with the witnesses that must have seen its checkpoints. */
export type TrustedLog = {
  readonly origin: string;
  /** Signed-note verifier keys (C2SP signed-note), any one of which signs the checkpoint. */
  readonly keys: readonly string[];
  readonly witnesses: readonly string[];
  /** Cosignatures wanted out of `witnesses`. */
  readonly quorum: number;
  /**
   * Whether signature lines by keys named neither here nor there may stand in a checkpoint. By default they make the
   * log check inconclusive, because a line that nobody can check is a line that anybody can change.
   */
  readonly ignoreUnknownSignatures?: boolean;
};

/** What verification starts from. Nothing outside it is believed because it is signed. */
export type Trust = {
  readonly identities: readonly TrustedIdentity[];
  /** Keyset digests pinned directly, lower-case hex. */
  readonly keysets: readonly string[];
  readonly logs: readonly TrustedLog[];
  /** Keysets and identity keys no longer believed from `sinceMs` of log time on; `key` is K or a public key, in hex. */
  readonly revoked: readonly { readonly key: string; readonly sinceMs: number; readonly reason: string }[];
  /** Hardware roots by kind, DER in base64; read by the attestation check. */
  readonly roots: readonly { readonly kind: string; readonly der: string; readonly simulated: boolean }[];
  /** Chains by CAIP-2 id with the registry and anchor contracts; read by the anchor and payment checks. */
  readonly chains: readonly { readonly chain: string; readonly contracts: Readonly<Record<string, string>> }[];
};

/** Trusts nothing: every receipt is inconclusive under it. */
export const EMPTY_TRUST: Trust = { identities: [], keysets: [], logs: [], revoked: [], roots: [], chains: [] };

const ALGORITHMS = Object.keys(ALGORITHM).filter((name) => name !== "ed25519-batch");
const PARTS = ["version", "identities", "keysets", "logs", "revoked", "roots", "chains"];
/** Lengths of raw public keys, bytes; P-256 has a compressed and an uncompressed form. */
const KEY_BYTES: Record<SignatureAlgorithm, readonly number[]> = { ed25519: [32], p256: [33, 65], "ml-dsa-44": [1312] };
const MAX_TRUST_BYTES = 4 * 1024 * 1024;
const MAX_LIST = 10_000;

/** Reads a trust file. Throws `trust_invalid` naming the entry that is wrong or has an unknown part, and `json_invalid`. */
export function parseTrust(text: string | Uint8Array): Trust {
  const value = closed(parseJson(text, { maxBytes: MAX_TRUST_BYTES, maxDepth: 8 }), "the file", PARTS);
  if (value["version"] !== 1) throw invalid("version", "must be 1");
  return {
    identities: list(value["identities"], "identities").map((item, i) => {
      const entry = closed(item, `identities[${i}]`, ["algorithm", "publicKey", "label", "subject"]);
      const algorithm = text_(entry["algorithm"], `identities[${i}].algorithm`);
      if (!ALGORITHMS.includes(algorithm))
        throw invalid(`identities[${i}].algorithm`, `must be one of ${ALGORITHMS.join(", ")}`);
      return {
        algorithm: algorithm as SignatureAlgorithm,
        publicKey: publicKey(entry["publicKey"], algorithm as SignatureAlgorithm, `identities[${i}].publicKey`),
        label: text_(entry["label"], `identities[${i}].label`),
        ...(entry["subject"] === undefined ? {} : { subject: text_(entry["subject"], `identities[${i}].subject`) }),
      };
    }),
    keysets: list(value["keysets"], "keysets").map((item, i) => {
      const hex = text_(item, `keysets[${i}]`);
      if (hexLength(hex) !== 32) throw invalid(`keysets[${i}]`, "must be 32 bytes in lower-case hexadecimal");
      return hex;
    }),
    logs: list(value["logs"], "logs").map((item, i, all) => {
      const entry = closed(item, `logs[${i}]`, ["origin", "keys", "witnesses", "quorum", "ignoreUnknownSignatures"]);
      const origin = text_(entry["origin"], `logs[${i}].origin`);
      if (all.findIndex((other) => isObject(other) && other["origin"] === origin) !== i)
        throw invalid(`logs[${i}].origin`, "names a log that stands above it");
      const witnesses = texts(entry["witnesses"], `logs[${i}].witnesses`);
      const quorum = uint(entry["quorum"] ?? 0, `logs[${i}].quorum`);
      if (quorum > witnesses.length) throw invalid(`logs[${i}].quorum`, "must be at most the number of witnesses");
      const keys = texts(entry["keys"], `logs[${i}].keys`);
      if (keys.length === 0) throw invalid(`logs[${i}].keys`, "must name at least one key");
      const ignore = entry["ignoreUnknownSignatures"];
      if (ignore !== undefined && typeof ignore !== "boolean") {
        throw invalid(`logs[${i}].ignoreUnknownSignatures`, "must be true or false");
      }
      return {
        origin,
        keys,
        witnesses,
        quorum,
        ...(ignore === undefined ? {} : { ignoreUnknownSignatures: ignore }),
      };
    }),
    revoked: list(value["revoked"], "revoked").map((item, i) => {
      const entry = closed(item, `revoked[${i}]`, ["key", "sinceMs", "reason"]);
      const key = text_(entry["key"], `revoked[${i}].key`);
      // Any other spelling would match no key, and so revoke nothing without a word.
      if ((hexLength(key) ?? 0) < 32)
        throw invalid(`revoked[${i}].key`, "must be a keyset digest or a public key in lower-case hexadecimal");
      return {
        key,
        sinceMs: uint(entry["sinceMs"], `revoked[${i}].sinceMs`),
        reason: text_(entry["reason"], `revoked[${i}].reason`),
      };
    }),
    roots: list(value["roots"], "roots").map((item, i) => {
      const entry = closed(item, `roots[${i}]`, ["kind", "der", "simulated"]);
      if (typeof entry["simulated"] !== "boolean") throw invalid(`roots[${i}].simulated`, "must be true or false");
      return {
        kind: text_(entry["kind"], `roots[${i}].kind`),
        der: text_(entry["der"], `roots[${i}].der`),
        simulated: entry["simulated"],
      };
    }),
    chains: list(value["chains"], "chains").map((item, i) => {
      const entry = closed(item, `chains[${i}]`, ["chain", "contracts"]);
      const contracts = object(entry["contracts"] ?? {}, `chains[${i}].contracts`);
      return {
        chain: text_(entry["chain"], `chains[${i}].chain`),
        contracts: Object.fromEntries(
          Object.entries(contracts).map(([key, at]) => [key, text_(at, `chains[${i}].contracts.${key}`)]),
        ),
      };
    }),
  };
}

/** The JSON form of a trust file, ready to be written with an indent of two. */
export function trustView(trust: Trust): JsonValue {
  return {
    version: 1,
    identities: trust.identities.map(({ publicKey, ...rest }) => ({ ...rest, publicKey: bytesToBase64(publicKey) })),
    keysets: trust.keysets,
    logs: trust.logs,
    revoked: trust.revoked,
    roots: trust.roots,
    chains: trust.chains,
  };
}

type JsonObject = { readonly [key: string]: JsonValue };

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function object(value: JsonValue | undefined, where: string): JsonObject {
  if (!isObject(value)) throw invalid(where, "must be an object");
  return value;
}

// Closed, because a misspelt "quorum" that is passed over would trust more than its writer meant.
function closed(value: JsonValue | undefined, where: string, known: readonly string[]): JsonObject {
  const entry = object(value, where);
  for (const key of Object.keys(entry)) {
    if (!known.includes(key)) throw invalid(where, `has the unknown part ${JSON.stringify(key.slice(0, 64))}`);
  }
  return entry;
}

function publicKey(value: JsonValue | undefined, algorithm: SignatureAlgorithm, where: string): Uint8Array {
  const text = text_(value, where);
  let bytes: Uint8Array;
  try {
    bytes = base64ToBytes(text);
  } catch (cause) {
    throw invalid(where, "must be base64", cause);
  }
  if (!KEY_BYTES[algorithm].includes(bytes.length))
    throw invalid(where, `must be ${KEY_BYTES[algorithm].join(" or ")} bytes long, not ${bytes.length}`);
  return bytes;
}

/** Bytes that a lower-case hexadecimal text spells, or `undefined` when it spells none. */
function hexLength(text: string): number | undefined {
  return text.length % 2 === 0 && /^[0-9a-f]*$/.test(text) ? text.length / 2 : undefined;
}

function list(value: JsonValue | undefined, where: string): readonly JsonValue[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > MAX_LIST) throw invalid(where, `must be a list of at most ${MAX_LIST}`);
  return value as readonly JsonValue[];
}

function texts(value: JsonValue | undefined, where: string): string[] {
  return list(value, where).map((item, i) => text_(item, `${where}[${i}]`));
}

function text_(value: JsonValue | undefined, where: string): string {
  if (typeof value !== "string" || value.length === 0) throw invalid(where, "must be a non-empty text");
  return value;
}

function uint(value: JsonValue | undefined, where: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw invalid(where, "must be an unsigned integer");
  return value;
}

function invalid(where: string, why: string, cause?: unknown): AssayError<"trust_invalid"> {
  return new AssayError("trust_invalid", `In the trust file, ${where} ${why}.`, {
    hints: ["`assay trust export` writes a trust file for a running gateway."],
    ...(cause === undefined ? {} : { cause }),
  });
}
