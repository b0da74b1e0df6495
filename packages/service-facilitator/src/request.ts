import type { Claim } from "@assay/driver-chain";
import { isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { fromHex, networkOfV1Name, parseChannelConfig, parsePaymentDocument, parseRequirements } from "@assay/x402";
import type { Address, Network, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { FACILITATOR_LIMITS } from "./limits.ts";
import { REASON, refuse } from "./reasons.ts";
import type { Refusal } from "./reasons.ts";
import type { JsonObject } from "./types.ts";

/** What a payer signed. */
export type PaymentRequest = {
  readonly kind: "payment";
  readonly document: PaymentPayload;
  readonly requirement: PaymentRequirements;
};
/** Claims on vouchers of one receiver. */
type ClaimRequest = {
  readonly kind: "claim";
  readonly requirement: PaymentRequirements;
  readonly claims: readonly Claim[];
  readonly claimSignature?: Uint8Array;
};
/** The sweep of what was claimed. */
type SweepRequest = {
  readonly kind: "sweep";
  readonly requirement: PaymentRequirements;
  readonly receiver: Address;
  readonly token: Address;
};
/** A refund that its receiver consents to, with the claims that come before it. */
type RefundRequest = {
  readonly kind: "refund";
  readonly requirement: PaymentRequirements;
  readonly channel: Claim["channel"];
  readonly channelId: Uint8Array;
  readonly amount: bigint;
  readonly nonce: bigint;
  readonly claims: readonly Claim[];
  readonly claimSignature?: Uint8Array;
  readonly refundSignature?: Uint8Array;
};
export type ParsedRequest = PaymentRequest | ClaimRequest | SweepRequest | RefundRequest;
export type Parsed =
  | { readonly ok: true; readonly request: ParsedRequest; readonly network: Network; readonly named: string }
  | (Refusal & { readonly named: string });

/** Reasons of x402 for the codes with which a document is refused. */
const REASONS: Readonly<Record<string, string>> = {
  payment_malformed: REASON.malformed,
  payment_version_unsupported: REASON.version,
  payment_scheme_unsupported: REASON.scheme,
  payment_network_unsupported: REASON.network,
};

/**
 * The documents of a verify or settle, parsed. Servers send three payloads besides what payers sign: `claim`, `settle` and
 * a `refund` with its nonce (x402 batch-settlement); their requirement names a receiver and a token and little else.
 */
export function parseRequest(payload: JsonValue, requirements: JsonValue): Parsed {
  const named = isObject(requirements) ? textOf(requirements["network"]) : "";
  try {
    if (!isObject(payload)) return { ...refuse(REASON.malformed, "The payload is not an object."), named };
    const version = payload["x402Version"];
    let requirement: PaymentRequirements;
    try {
      requirement = requirementOf(version, requirements, isServerPayload(payload["payload"]));
    } catch (error) {
      if (!isAssayError(error)) throw error;
      const reason = error.code === "payment_malformed" ? REASON.requirements : (REASONS[error.code] ?? error.code);
      return { ...refuse(reason, error.message), named };
    }
    const { network } = requirement;
    const inner = payload["payload"];
    if (requirement.scheme === "batch-settlement" && version === 2 && isServerPayload(inner))
      return { ok: true, request: serverRequest(inner, requirement), network, named };
    const document = parsePaymentDocument(payload);
    if (document.network !== network)
      return { ...refuse(REASON.network, "The payment is for another network."), named };
    return { ok: true, request: { kind: "payment", document, requirement }, network, named };
  } catch (error) {
    if (error instanceof Malformed) return { ...refuse(REASON.payloadType, error.message), named };
    if (!isAssayError(error)) throw error;
    return { ...refuse(REASONS[error.code] ?? error.code, error.message), named };
  }
}

/** A requirement of either version. What a server's own payloads leave out has no meaning for them. */
function requirementOf(version: JsonValue | undefined, value: JsonValue, servers: boolean): PaymentRequirements {
  if (!isObject(value)) return parseRequirements(value);
  if (version === 1) {
    const { maxAmountRequired, network, ...rest } = value;
    const name = textOf(network);
    return parseRequirements({ ...rest, amount: maxAmountRequired ?? null, network: networkOfV1Name(name) });
  }
  return parseRequirements(servers ? { ...value, maxTimeoutSeconds: 1, extra: {} } : value);
}

function isServerPayload(value: JsonValue | undefined): value is JsonObject {
  if (!isObject(value)) return false;
  const { type } = value;
  return type === "claim" || type === "settle" || (type === "refund" && "claims" in value && "refundNonce" in value);
}

function serverRequest(from: JsonObject, requirement: PaymentRequirements): ParsedRequest {
  if (from["type"] === "settle") {
    return { kind: "sweep", requirement, receiver: addressOf(from, "receiver"), token: addressOf(from, "token") };
  }
  const claims = claimsOf(from["claims"]);
  const claimSignature = signatureOf(from, "claimAuthorizerSignature");
  const signed = claimSignature === undefined ? {} : { claimSignature };
  if (from["type"] === "claim") {
    if (claims.length === 0) throw new Malformed("There is nothing to claim.");
    return { kind: "claim", requirement, claims, ...signed };
  }
  const voucher = from["voucher"];
  const channelId = isObject(voucher) ? textOf(voucher["channelId"]) : "";
  if (!/^0x[0-9a-fA-F]{64}$/.test(channelId)) throw new Malformed("The refund names no channel.");
  const refundSignature = signatureOf(from, "refundAuthorizerSignature");
  return {
    kind: "refund",
    requirement,
    channel: parseChannelConfig(from["channelConfig"], "payload.channelConfig"),
    channelId: fromHex(channelId),
    amount: uintOf(from["amount"], "amount", 128n),
    nonce: uintOf(from["refundNonce"], "refundNonce", 256n),
    claims,
    ...signed,
    ...(refundSignature === undefined ? {} : { refundSignature }),
  };
}

function claimsOf(value: JsonValue | undefined): readonly Claim[] {
  if (!Array.isArray(value)) throw new Malformed("`claims` is not a list.");
  const list = value as readonly JsonValue[];
  if (list.length > FACILITATOR_LIMITS.maxClaims)
    throw new Malformed(`More than ${FACILITATOR_LIMITS.maxClaims} claims do not fit one transaction.`);
  return list.map((entry, index) => {
    const voucher = isObject(entry) ? entry["voucher"] : undefined;
    if (!isObject(entry) || !isObject(voucher)) throw new Malformed("A claim is not an object with a voucher.");
    const signature = signatureOf(entry, "signature");
    if (signature === undefined) throw new Malformed("A claim has no signature.");
    return {
      channel: parseChannelConfig(voucher["channel"], `payload.claims[${index}].voucher.channel`),
      maxClaimable: uintOf(voucher["maxClaimableAmount"], "maxClaimableAmount", 128n),
      signature,
      totalClaimed: uintOf(entry["totalClaimed"], "totalClaimed", 128n),
    };
  });
}

class Malformed extends Error {}

function uintOf(value: JsonValue | undefined, name: string, bits: bigint): bigint {
  const text = typeof value === "number" && Number.isSafeInteger(value) ? String(value) : value;
  if (typeof text === "string" && /^\d{1,78}$/.test(text)) {
    const number = BigInt(text);
    if (number < 1n << bits) return number;
  }
  throw new Malformed(`\`${name}\` is not a whole number of ${bits} bits.`);
}

function addressOf(from: JsonObject, name: string): Address {
  const text = textOf(from[name]);
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return text.toLowerCase() as Address;
  throw new Malformed(`\`${name}\` is not an address.`);
}

function signatureOf(from: JsonObject, name: string): Uint8Array | undefined {
  const value = from[name];
  if (value === undefined || value === null) return undefined;
  const text = textOf(value);
  if (/^0x([0-9a-fA-F]{2})+$/.test(text) && text.length <= 2 + 2 * FACILITATOR_LIMITS.maxSignatureBytes)
    return fromHex(text);
  throw new Malformed(`\`${name}\` is not a signature.`);
}

function textOf(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
