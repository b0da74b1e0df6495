import { AssayError, CborTag, encodeCbor } from "@assay/core";
import type { CborValue, Signer } from "@assay/core";
import type { ExecutionClaims } from "./claims.ts";
import type { OpenMap } from "./table.ts";
import type { StatementHeader } from "./statement.ts";
import type { ReceiptView } from "./view.ts";

/** Profile of an Attested Inference Receipt, version 1 (draft-tsyrulnikov-rats-attested-inference-receipt-02). */
export const AIR_PROFILE = "https://spec.cyntrisec.com/air/v1";
/** COSE algorithm EdDSA and CoAP content format application/cwt: the whole protected header of AIR v1. */
export const AIR_HEADER = { algorithm: -8, contentType: 61 } as const;

/** Registers of the two platforms that AIR v1 defines; each is 48 bytes (SHA-384). */
export const AIR_PLATFORMS = {
  "nitro-pcr": { required: ["pcr0", "pcr1", "pcr2"], optional: ["pcr3", "pcr4", "pcr8"] },
  "tdx-mrtd-rtmr": { required: ["pcr0", "pcr1", "pcr2"], optional: ["pcr3", "pcr4"] },
} as const;
export type AirPlatform = keyof typeof AIR_PLATFORMS;
export const AIR_REGISTER_BYTES = 48;
export const AIR_SECURITY_MODES = ["production", "evaluation"] as const;
export const AIR_HASH_SCHEMES = ["sha256-single", "sha256-concat", "sha256-manifest"] as const;

/** The closed claim map of AIR v1 under its own names. Hashes are 32 bytes, `cti` 16, `eat_nonce` 8 to 64, `iat` seconds. */
export type AirClaims = {
  readonly iss: string;
  readonly iat: number;
  readonly cti: Uint8Array;
  readonly eat_nonce?: Uint8Array;
  readonly model_id: string;
  readonly model_version: string;
  readonly model_hash: Uint8Array;
  readonly request_hash: Uint8Array;
  readonly response_hash: Uint8Array;
  readonly attestation_doc_hash: Uint8Array;
  /** `measurement_type` and the platform's registers. */
  readonly enclave_measurements: { readonly [name: string]: string | Uint8Array };
  readonly policy_version: string;
  readonly sequence_number: number;
  readonly execution_time_ms: number;
  readonly memory_peak_mb: number;
  readonly security_mode: (typeof AIR_SECURITY_MODES)[number];
  readonly model_hash_scheme?: (typeof AIR_HASH_SCHEMES)[number];
};

type AirField = {
  readonly key: number;
  readonly name: keyof AirClaims;
  readonly kind: "text" | "uint" | "hash" | "cti" | "nonce" | "measurements";
  readonly optional?: true;
};

/** Claim keys of AIR v1 (section "Payload: CWT Claims Map"); 265, the profile, is checked before the others. */
export const AIR_FIELDS: readonly AirField[] = [
  { key: 1, name: "iss", kind: "text" },
  { key: 6, name: "iat", kind: "uint" },
  { key: 7, name: "cti", kind: "cti" },
  { key: 10, name: "eat_nonce", kind: "nonce", optional: true },
  { key: -65537, name: "model_id", kind: "text" },
  { key: -65538, name: "model_version", kind: "text" },
  { key: -65539, name: "model_hash", kind: "hash" },
  { key: -65540, name: "request_hash", kind: "hash" },
  { key: -65541, name: "response_hash", kind: "hash" },
  { key: -65542, name: "attestation_doc_hash", kind: "hash" },
  { key: -65543, name: "enclave_measurements", kind: "measurements" },
  { key: -65544, name: "policy_version", kind: "text" },
  { key: -65545, name: "sequence_number", kind: "uint" },
  { key: -65546, name: "execution_time_ms", kind: "uint" },
  { key: -65547, name: "memory_peak_mb", kind: "uint" },
  { key: -65548, name: "security_mode", kind: "text" },
  { key: -65549, name: "model_hash_scheme", kind: "text", optional: true },
];
export const AIR_PROFILE_KEY = 265;

/**
 * The AIR v1 claims of an execution. Request and response hashes are our salted roots, the sequence number is the
 * node's `seq`, and the time in milliseconds is `engineUs` rounded. Throws `air_requires_tee`, naming every claim that
 * is missing, unless the execution ran in mode `tee` and states all that AIR demands.
 */
export function airClaims(statement: { readonly header: StatementHeader }, claims: ExecutionClaims): AirClaims {
  const missing: string[] = [];
  const want = <Value>(value: Value | undefined, name: string, fits = value !== undefined): Value => {
    if (!fits) missing.push(name);
    return value as Value;
  };
  const words = (value: string | undefined, name: string): string =>
    want(value, name, value !== undefined && value !== "");
  const { header } = statement;
  const nonZero = (bytes: Uint8Array | undefined): boolean => bytes?.some((byte) => byte !== 0) === true;
  if (claims.mode !== "tee") missing.push("mode tee");
  const air: AirClaims = {
    iss: header.issuer,
    iat: want(header.issuedAtS, "a time of issue above 0", header.issuedAtS > 0),
    cti: want(claims.receiptId, "a receiptId that is not zero", nonZero(claims.receiptId)),
    ...(claims.clientNonce ? { eat_nonce: claims.clientNonce } : {}),
    model_id: words(claims.modelName, "modelName"),
    model_version: words(claims.modelVersion, "modelVersion"),
    model_hash: want(claims.modelDigest, "modelDigest", nonZero(claims.modelDigest)),
    request_hash: claims.requestRoot,
    response_hash: claims.responseRoot,
    attestation_doc_hash: want(claims.evidenceDigest, "evidenceDigest"),
    enclave_measurements: want(
      claims.measurements as AirClaims["enclave_measurements"] | undefined,
      "measurements of type nitro-pcr or tdx-mrtd-rtmr",
      claims.measurements !== undefined && measurementsFit(claims.measurements),
    ),
    policy_version: words(claims.policyVersion, "policyVersion"),
    sequence_number: header.seq,
    execution_time_ms: Math.round(want(claims.engineUs, "engineUs") / 1000),
    memory_peak_mb: want(claims.memoryPeakMb, "memoryPeakMb"),
    security_mode: want(claims.securityMode, "securityMode"),
    ...(claims.modelDigestScheme ? { model_hash_scheme: claims.modelDigestScheme } : {}),
  };
  if (missing.length > 0) {
    throw new AssayError("air_requires_tee", `The receipt has no AIR v1 form: it lacks ${missing.join(", ")}.`, {
      hints: ["AIR v1 describes one inference inside an attested enclave: mode tee with measurements and evidence."],
    });
  }
  return air;
}

function measurementsFit(measurements: OpenMap): boolean {
  const { measurement_type: type, ...registers } = measurements;
  const platform =
    typeof type === "string" && Object.hasOwn(AIR_PLATFORMS, type) ? AIR_PLATFORMS[type as AirPlatform] : undefined;
  if (!platform) return false;
  const known: readonly string[] = [...platform.required, ...platform.optional];
  return (
    platform.required.every((name) => registers[name] !== undefined) &&
    Object.entries(registers).every(
      ([name, value]) => known.includes(name) && value instanceof Uint8Array && value.length === AIR_REGISTER_BYTES,
    )
  );
}

/** Deterministic CBOR of the claims, as the payload of an AIR v1 receipt. */
export function encodeAirClaims(claims: AirClaims): Uint8Array {
  const map = new Map<number, CborValue>([[AIR_PROFILE_KEY, AIR_PROFILE]]);
  for (const { key, name } of AIR_FIELDS) {
    const value = claims[name];
    if (value === undefined) continue;
    map.set(key, typeof value === "object" && !(value instanceof Uint8Array) ? new Map(Object.entries(value)) : value);
  }
  return encodeCbor(map);
}

/** The protected header, the same bytes in every AIR v1 receipt. */
function airProtectedHeader(): Uint8Array {
  return encodeCbor(
    new Map([
      [1, AIR_HEADER.algorithm],
      [3, AIR_HEADER.contentType],
    ]),
  );
}

/** What an AIR v1 signature covers (RFC 9052 section 4.4). */
export function airToBeSigned(protectedBytes: Uint8Array, payload: Uint8Array): Uint8Array {
  return encodeCbor(["Signature1", protectedBytes, new Uint8Array(), payload]);
}

/**
 * The receipt's execution as an AIR v1 receipt: COSE_Sign1, tag 18, signed anew by `signer`. The signer is the
 * enclave's key where attestation is to be claimed: AIR binds a key to evidence outside the receipt. Throws
 * `air_requires_tee` (see {@link airClaims}) and `signer_algorithm_mismatch` for a key other than Ed25519.
 */
export async function exportAir(view: Pick<ReceiptView, "execution">, signer: Signer): Promise<Uint8Array> {
  if (signer.algorithm !== "ed25519") {
    throw new AssayError(
      "signer_algorithm_mismatch",
      `AIR v1 is signed with Ed25519 and the signer is ${signer.algorithm}.`,
    );
  }
  const payload = encodeAirClaims(airClaims(view.execution.statement, view.execution.claims));
  const header = airProtectedHeader();
  const signature = await signer.sign(airToBeSigned(header, payload));
  return encodeCbor(new CborTag(18, [header, new Map(), payload, signature]));
}
