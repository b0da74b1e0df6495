import { CborTag, bytesToHex, decodeCbor, utf8ToBytes } from "@assay/core";
import type { CborMap, CborValue, CryptoSuite } from "@assay/core";
import {
  AIR_FIELDS,
  AIR_HASH_SCHEMES,
  AIR_HEADER,
  AIR_PLATFORMS,
  AIR_PROFILE,
  AIR_PROFILE_KEY,
  AIR_REGISTER_BYTES,
  AIR_SECURITY_MODES,
  airToBeSigned,
} from "./air.ts";
import type { AirClaims, AirPlatform } from "./air.ts";

/** Largest AIR v1 receipt, bytes (the draft's layer 1, step 3). */
export const AIR_MAX_BYTES = 65_536;
/** Longest text claim, bytes of UTF-8: the maximum that the draft recommends. */
export const AIR_MAX_TEXT_BYTES = 1024;
/** How far `iat` may lie ahead of the verifier's clock unless the policy says otherwise. */
export const AIR_CLOCK_SKEW_MS = 5 * 60 * 1000;

/** Layer 4: what a verifier asks beyond validity. Digests and nonces are lower-case hex. */
export type AirPolicy = {
  readonly maxAgeMs?: number;
  readonly clockSkewMs?: number;
  readonly modelHash?: string;
  readonly modelId?: string;
  readonly requestHash?: string;
  readonly responseHash?: string;
  /** SHA-256 of the attestation document that was checked by the platform's own procedure. */
  readonly attestationDocHash?: string;
  readonly platform?: AirPlatform;
  readonly nonce?: string;
  /** Whether receipts of `security_mode` evaluation are accepted; by default they are not. */
  readonly allowEvaluation?: boolean;
  /** Whether this `cti` (hex) was seen before; without it replays are not looked for. */
  readonly seen?: (cti: string) => boolean;
};

/** One rule of the draft's procedure. `absent`: the policy asks nothing of the kind. */
export type AirRow = {
  readonly layer: 1 | 2 | 3 | 4;
  readonly check: string;
  readonly status: "pass" | "fail" | "absent";
  /** The draft's code, for example `SIG_FAILED`; `OK` for a rule that holds. */
  readonly code: string;
  readonly facts: Readonly<Record<string, string>>;
};

/** What {@link verifyAir} found. A layer is reached only when the one before it held, so rows end where it failed. */
export type AirVerdict = {
  readonly status: "verified" | "failed";
  /** Code of the first rule that failed, or `verified`. */
  readonly code: string;
  readonly rows: readonly AirRow[];
  /** The claims, once their form (layer 3) held; `null` before. */
  readonly claims: AirClaims | null;
  readonly doesNotProve: string;
};

export type AirVerifyOptions = {
  /** Raw Ed25519 key, 32 bytes, known from elsewhere: AIR v1 names no key. */
  readonly publicKey: Uint8Array;
  readonly suite: CryptoSuite;
  /** The verifier's clock, milliseconds since 1970. */
  readonly now: number;
  readonly policy?: AirPolicy;
};

const DOES_NOT_PROVE =
  "That the key belongs to an enclave: the attestation document and its binding to the key are checked by the platform's own procedure.";

type Parsed = {
  readonly protectedBytes: Uint8Array;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  readonly map: CborMap;
};

/** Collects the rows of a run; `failed` tells a layer's end whether to go on. */
class Rows {
  readonly list: AirRow[] = [];
  failed = false;

  add(layer: AirRow["layer"], check: string, holds: boolean, code: string, facts: AirRow["facts"] = {}): boolean {
    this.list.push({
      layer,
      check,
      status: holds ? "pass" : "fail",
      code: holds ? "OK" : code,
      facts: holds ? {} : facts,
    });
    if (!holds) this.failed = true;
    return holds;
  }

  absent(check: string): void {
    this.list.push({ layer: 4, check, status: "absent", code: "OK", facts: {} });
  }
}

/**
 * Checks an AIR v1 receipt by the draft's four layers: parse, signature, claims, policy. Never throws on hostile input.
 *
 * Codes are the draft's and its reference implementation's; for rules that have none there it adds
 * `BAD_PROTECTED_HEADER`, `UNKNOWN_CLAIM`, `BAD_TEXT_LENGTH`, `BAD_NONCE_LENGTH`, `ZERO_IAT`, `UNKNOWN_MEASUREMENT`.
 * Stricter than the draft in one point: unsigned integers from 2^53 on are `WRONG_TYPE`.
 */
export async function verifyAir(bytes: Uint8Array, options: AirVerifyOptions): Promise<AirVerdict> {
  const { suite, publicKey, now, policy = {} } = options;
  const rows = new Rows();
  const parsed = parse(bytes, rows);
  if (!parsed || rows.failed) return conclude(rows, null);
  const { protectedBytes, payload, signature, map } = parsed;
  if (rows.add(2, "SIG_LENGTH", signature.length === 64, "BAD_SIG_LENGTH", { length: String(signature.length) })) {
    const message = airToBeSigned(protectedBytes, payload);
    rows.add(2, "SIG", await suite.verify("ed25519", publicKey, message, signature), "SIG_FAILED");
  }
  if (rows.failed) return conclude(rows, null);
  const claims = readClaims(map, rows);
  if (!claims || rows.failed) return conclude(rows, null);
  applyPolicy(claims, policy, now, rows);
  return conclude(rows, claims);
}

function conclude(rows: Rows, claims: AirClaims | null): AirVerdict {
  const first = rows.list.find(({ status }) => status === "fail");
  return {
    status: first ? "failed" : "verified",
    code: first?.code ?? "verified",
    rows: rows.list,
    claims,
    doesNotProve: DOES_NOT_PROVE,
  };
}

function decoded(bytes: Uint8Array, maxDepth: number): CborValue | undefined {
  try {
    return decodeCbor(bytes, { maxBytes: AIR_MAX_BYTES, maxDepth, maxItems: 128 });
  } catch {
    return undefined;
  }
}

function parse(bytes: Uint8Array, rows: Rows): Parsed | undefined {
  if (!rows.add(1, "SIZE", bytes.length <= AIR_MAX_BYTES, "RECEIPT_TOO_LARGE", { bytes: String(bytes.length) }))
    return undefined;
  const outer = decoded(bytes, 4);
  const parts =
    outer instanceof CborTag && outer.tag === 18 && Array.isArray(outer.value) && outer.value.length === 4
      ? (outer.value as readonly CborValue[])
      : [];
  const [protectedBytes, unprotected, payload, signature] = parts;
  const shaped = protectedBytes instanceof Uint8Array && unprotected instanceof Map && signature instanceof Uint8Array;
  if (!rows.add(1, "COSE_DECODE", shaped, "COSE_DECODE_FAILED") || !shaped) return undefined;
  const header = decoded(protectedBytes, 2);
  const labels: CborMap = header instanceof Map ? header : new Map();
  rows.add(1, "UNPROTECTED", unprotected.size === 0, "NON_EMPTY_UNPROTECTED");
  rows.add(1, "ALG", labels.get(1) === AIR_HEADER.algorithm, "BAD_ALG");
  rows.add(1, "CONTENT_TYPE", labels.get(3) === AIR_HEADER.contentType, "BAD_CONTENT_TYPE");
  rows.add(1, "PROTECTED", labels.size === 2, "BAD_PROTECTED_HEADER", { parameters: String(labels.size) });
  const present = payload instanceof Uint8Array && payload.length > 0;
  if (!rows.add(1, "PAYLOAD", present, "MISSING_PAYLOAD") || !present) return undefined;
  const map = decoded(payload, 3);
  const isMap = map instanceof Map;
  if (!rows.add(1, "CLAIMS_DECODE", isMap, "PAYLOAD_NOT_MAP") || !isMap) return undefined;
  rows.add(1, "EAT_PROFILE", map.get(AIR_PROFILE_KEY) === AIR_PROFILE, "WRONG_PROFILE");
  return { protectedBytes, payload, signature, map };
}

const KNOWN_KEYS = new Set<number | string>([AIR_PROFILE_KEY, ...AIR_FIELDS.map(({ key }) => key)]);

/** Layer 3: every claim by itself. Returns the claims when all have their form. */
function readClaims(map: CborMap, rows: Rows): AirClaims | undefined {
  const stranger = [...map.keys()].find((key) => !KNOWN_KEYS.has(key));
  rows.add(3, "CLOSED", stranger === undefined, "UNKNOWN_CLAIM", { claim: String(stranger).slice(0, 64) });
  const found: { [name: string]: unknown } = {};
  for (const { key, name, kind, optional } of AIR_FIELDS) {
    const value = map.get(key);
    if (value === undefined) {
      if (!optional) rows.add(3, "REQUIRED", false, "MISSING_CLAIM", { claim: name });
      continue;
    }
    const fault = kind === "measurements" ? undefined : scalarFault(kind, value);
    if (fault !== undefined) rows.add(3, "TYPE", false, fault, { claim: name });
    else found[name] = value;
  }
  const measurements = map.get(-65543);
  if (measurements !== undefined) found["enclave_measurements"] = readMeasurements(measurements, rows);
  if (found["iat"] === 0) rows.add(3, "IAT", false, "ZERO_IAT");
  if (isZero(found["cti"])) rows.add(3, "CTI", false, "BAD_CTI_LENGTH", { claim: "cti", value: "zero" });
  if (isZero(found["model_hash"])) rows.add(3, "MHASH_PRESENT", false, "ZERO_MODEL_HASH");
  allowed(found["model_hash_scheme"], AIR_HASH_SCHEMES, "MHASH_SCHEME", "UNKNOWN_MODEL_HASH_SCHEME", rows);
  allowed(found["security_mode"], AIR_SECURITY_MODES, "SECURITY_MODE", "UNKNOWN_SECURITY_MODE", rows);
  if (rows.failed) return undefined;
  rows.add(3, "CLAIMS", true, "OK");
  return found as unknown as AirClaims;
}

function isZero(value: unknown): boolean {
  return value instanceof Uint8Array && value.every((byte) => byte === 0);
}

function allowed(value: unknown, values: readonly string[], check: string, code: string, rows: Rows): void {
  if (typeof value === "string" && !values.includes(value)) {
    rows.add(3, check, false, code, { found: value.slice(0, 64), known: values.join(", ") });
  }
}

/** Why a claim does not have its form, as the draft's code, or `undefined`. */
function scalarFault(kind: "text" | "uint" | "hash" | "cti" | "nonce", value: CborValue): string | undefined {
  if (kind === "text") {
    if (typeof value !== "string") return "WRONG_TYPE";
    return value === "" || utf8ToBytes(value).length > AIR_MAX_TEXT_BYTES ? "BAD_TEXT_LENGTH" : undefined;
  }
  if (kind === "uint") return typeof value === "number" && value >= 0 ? undefined : "WRONG_TYPE";
  if (!(value instanceof Uint8Array)) return "WRONG_TYPE";
  if (kind === "hash") return value.length === 32 ? undefined : "BAD_HASH_LENGTH";
  if (kind === "cti") return value.length === 16 ? undefined : "BAD_CTI_LENGTH";
  // RFC 9711 section 4.1 gives a nonce 8 to 64 bytes.
  return value.length >= 8 && value.length <= 64 ? undefined : "BAD_NONCE_LENGTH";
}

function readMeasurements(value: CborValue, rows: Rows): AirClaims["enclave_measurements"] | undefined {
  const claim = "enclave_measurements";
  if (!rows.add(3, "MEAS_MAP", value instanceof Map, "WRONG_TYPE", { claim })) return undefined;
  const map = value as CborMap;
  const type = map.get("measurement_type");
  const known = typeof type === "string" && Object.hasOwn(AIR_PLATFORMS, type);
  if (!rows.add(3, "MTYPE", known, "UNKNOWN_MTYPE") || !known) return undefined;
  const platform = AIR_PLATFORMS[type as AirPlatform];
  const names: readonly string[] = [...platform.required, ...platform.optional];
  for (const name of platform.required) {
    if (!map.has(name)) rows.add(3, "MEAS", false, "MISSING_CLAIM", { claim: `${claim}.${name}` });
  }
  const out: { [name: string]: string | Uint8Array } = { measurement_type: type };
  for (const [name, register] of map) {
    if (name === "measurement_type") continue;
    const label = String(name).slice(0, 64);
    if (typeof name !== "string" || !names.includes(name)) {
      rows.add(3, "MEAS", false, "UNKNOWN_MEASUREMENT", { register: label });
    } else if (!(register instanceof Uint8Array)) {
      rows.add(3, "MEAS", false, "WRONG_TYPE", { claim: `${claim}.${label}` });
    } else if (register.length !== AIR_REGISTER_BYTES) {
      rows.add(3, "MEAS", false, "BAD_MEASUREMENT_LENGTH", { register: label, length: String(register.length) });
    } else out[name] = register;
  }
  return out;
}

function applyPolicy(claims: AirClaims, policy: AirPolicy, now: number, rows: Rows): void {
  const iatMs = claims.iat * 1000;
  const skew = policy.clockSkewMs ?? AIR_CLOCK_SKEW_MS;
  rows.add(4, "FUTURE", iatMs <= now + skew, "TIMESTAMP_FUTURE", { iat: String(claims.iat) });
  if (policy.maxAgeMs === undefined) rows.absent("FRESH");
  else rows.add(4, "FRESH", now - iatMs <= policy.maxAgeMs, "TIMESTAMP_STALE", { iat: String(claims.iat) });
  const equal = (check: string, wanted: string | undefined, found: string, code: string): void => {
    if (wanted === undefined) rows.absent(check);
    else rows.add(4, check, wanted === found, code, { wanted, found });
  };
  equal("MHASH", policy.modelHash, bytesToHex(claims.model_hash), "MODEL_HASH_MISMATCH");
  equal("MODEL", policy.modelId, claims.model_id, "MODEL_ID_MISMATCH");
  equal("RHASH", policy.requestHash, bytesToHex(claims.request_hash), "REQUEST_HASH_MISMATCH");
  equal("OHASH", policy.responseHash, bytesToHex(claims.response_hash), "RESPONSE_HASH_MISMATCH");
  equal("ADHASH", policy.attestationDocHash, bytesToHex(claims.attestation_doc_hash), "ATTESTATION_DOC_HASH_MISMATCH");
  const production = claims.security_mode === "production" || policy.allowEvaluation === true;
  rows.add(4, "SECURITY_MODE_POLICY", production, "EVALUATION_MODE_REJECTED");
  equal("PLATFORM", policy.platform, String(claims.enclave_measurements["measurement_type"]), "PLATFORM_MISMATCH");
  if (policy.nonce !== undefined && !claims.eat_nonce) rows.add(4, "NONCE", false, "NONCE_MISSING");
  else equal("NONCE", policy.nonce, claims.eat_nonce ? bytesToHex(claims.eat_nonce) : "", "NONCE_MISMATCH");
  if (!policy.seen) rows.absent("REPLAY");
  else rows.add(4, "REPLAY", !policy.seen(bytesToHex(claims.cti)), "REPLAY_CTI");
}
