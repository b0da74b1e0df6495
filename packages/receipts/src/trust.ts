import { AssayError, base64ToBytes, bytesToBase64, hexToBytes, parseJson } from "@assay/core";
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
const MAX_TRUST_BYTES = 4 * 1024 * 1024;
const MAX_LIST = 10_000;

/** Reads a trust file. Throws `trust_invalid` naming the entry that is wrong. */
export function parseTrust(text: string | Uint8Array): Trust {
  const value = object(parseJson(text, { maxBytes: MAX_TRUST_BYTES, maxDepth: 8 }), "the file");
  if (value["version"] !== 1) throw invalid("version", "must be 1");
  for (const key of Object.keys(value)) {
    if (!["version", "identities", "keysets", "logs", "revoked", "roots", "chains"].includes(key)) {
      throw invalid(key, "is not a part of a trust file");
    }
  }
  return {
    identities: list(value["identities"], "identities").map((item, i) => {
      const entry = object(item, `identities[${i}]`);
      const algorithm = text_(entry["algorithm"], `identities[${i}].algorithm`);
      if (!ALGORITHMS.includes(algorithm))
        throw invalid(`identities[${i}].algorithm`, `must be one of ${ALGORITHMS.join(", ")}`);
      return {
        algorithm: algorithm as SignatureAlgorithm,
        publicKey: base64ToBytes(text_(entry["publicKey"], `identities[${i}].publicKey`)),
        label: text_(entry["label"], `identities[${i}].label`),
        ...(entry["subject"] === undefined ? {} : { subject: text_(entry["subject"], `identities[${i}].subject`) }),
      };
    }),
    keysets: list(value["keysets"], "keysets").map((item, i) => {
      const hex = text_(item, `keysets[${i}]`);
      if (hexToBytes(hex).length !== 32) throw invalid(`keysets[${i}]`, "must be 32 bytes in hexadecimal");
      return hex;
    }),
    logs: list(value["logs"], "logs").map((item, i) => {
      const entry = object(item, `logs[${i}]`);
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
        origin: text_(entry["origin"], `logs[${i}].origin`),
        keys,
        witnesses,
        quorum,
        ...(ignore === undefined ? {} : { ignoreUnknownSignatures: ignore }),
      };
    }),
    revoked: list(value["revoked"], "revoked").map((item, i) => {
      const entry = object(item, `revoked[${i}]`);
      return {
        key: text_(entry["key"], `revoked[${i}].key`),
        sinceMs: uint(entry["sinceMs"], `revoked[${i}].sinceMs`),
        reason: text_(entry["reason"], `revoked[${i}].reason`),
      };
    }),
    roots: list(value["roots"], "roots").map((item, i) => {
      const entry = object(item, `roots[${i}]`);
      if (typeof entry["simulated"] !== "boolean") throw invalid(`roots[${i}].simulated`, "must be true or false");
      return {
        kind: text_(entry["kind"], `roots[${i}].kind`),
        der: text_(entry["der"], `roots[${i}].der`),
        simulated: entry["simulated"],
      };
    }),
    chains: list(value["chains"], "chains").map((item, i) => {
      const entry = object(item, `chains[${i}]`);
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

function object(value: JsonValue | undefined, where: string): { readonly [key: string]: JsonValue } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(where, "must be an object");
  return value as { readonly [key: string]: JsonValue };
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

function invalid(where: string, why: string): AssayError<"trust_invalid"> {
  return new AssayError("trust_invalid", `In the trust file, ${where} ${why}.`, {
    hints: ["`assay trust export` writes a trust file for a running gateway."],
  });
}
