import { AssayError, isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { checksumAddress } from "./hex.ts";
import { decodeHeader, encodeHeader } from "./header.ts";
import { MAX_ACCEPTS, MAX_JSON_DEPTH, MAX_QUOTE_BODY_BYTES, MAX_TEXT_CHARS } from "./limits.ts";
import { networkOfV1Name, v1NameOf } from "./networks.ts";
import { parseRequirements, requirementsToJson } from "./requirements.ts";
import type { EvmSuite, PaymentRequired, PaymentRequirements, ResourceInfo } from "./types.ts";
import { readObject } from "./values.ts";
import type { JsonObject } from "./values.ts";

/** A 402's document as JSON. */
export function paymentRequiredDocument(suite: EvmSuite, required: PaymentRequired): JsonObject {
  return {
    x402Version: 2,
    ...(required.error === undefined ? {} : { error: required.error }),
    resource: required.resource,
    accepts: required.accepts.map((requirement) => requirementsToJson(suite, requirement)),
    ...(required.extensions === undefined ? {} : { extensions: required.extensions as JsonObject }),
  };
}

/** The value of a 402's header `PAYMENT-REQUIRED`. Throws `payment_malformed` when it is too long for a header. */
export function encodePaymentRequired(suite: EvmSuite, required: PaymentRequired): string {
  return encodeHeader("PAYMENT-REQUIRED", paymentRequiredDocument(suite, required));
}

/**
 * The members of a 402's body that a v1 client reads: those requirements that have a form in v1, which are `exact` by
 * EIP-3009 on networks that v1 has names for.
 */
export function paymentRequiredV1(suite: EvmSuite, required: PaymentRequired): JsonObject {
  const accepts: JsonObject[] = [];
  for (const requirement of required.accepts) {
    const network = v1NameOf(requirement.network);
    const { extra } = requirement;
    if (network === undefined || requirement.scheme !== "exact" || extra.assetTransferMethod === "permit2") continue;
    accepts.push({
      scheme: "exact",
      network,
      maxAmountRequired: requirement.amount,
      resource: required.resource.url,
      description: required.resource.description ?? "",
      mimeType: required.resource.mimeType ?? "",
      payTo: checksumAddress(suite, requirement.payTo),
      maxTimeoutSeconds: requirement.maxTimeoutSeconds,
      asset: checksumAddress(suite, requirement.asset),
      extra: { name: extra.name, version: extra.version },
    });
  }
  return { x402Version: 1, accepts, error: required.error ?? "Payment required" };
}

/** What a 402 asks, as a client takes it. */
export type ParsedQuote = {
  /** The version to answer in. */
  readonly version: 1 | 2;
  readonly required: PaymentRequired;
  /** What was said word for word: `accepts[i]` is what `required.accepts[i]` was read from. */
  readonly wire: {
    readonly accepts: readonly JsonValue[];
    readonly resource?: JsonValue;
    readonly extensions?: JsonValue;
  };
  /** How many requirements were left out, because their scheme, network or form is not known here. */
  readonly leftOut: number;
};

/**
 * What a 402 asks: of its header `PAYMENT-REQUIRED` (v2) where there is one, otherwise of its body (v1). Requirements of
 * unknown schemes and networks and malformed ones are left out, as are those beyond {@link MAX_ACCEPTS}. Throws
 * `payment_quote_malformed` when there is no quote or it breaks a limit. It may come from anyone: nothing in it is trusted,
 * and whether to pay it is the spend policy's to say.
 */
export function parsePaymentRequired(from: {
  readonly header?: string | undefined;
  readonly body?: string | Uint8Array | undefined;
}): ParsedQuote {
  try {
    if (from.header !== undefined) return parseQuote(decodeHeader("PAYMENT-REQUIRED", from.header));
    if (from.body !== undefined) {
      return parseQuote(parseJson(from.body, { maxBytes: MAX_QUOTE_BODY_BYTES, maxDepth: MAX_JSON_DEPTH }));
    }
  } catch (cause) {
    if (isAssayError(cause) && cause.code === "payment_quote_malformed") throw cause;
    throw new AssayError("payment_quote_malformed", "The 402 asks for payment in a form that is not understood.", {
      cause,
    });
  }
  throw new AssayError("payment_quote_malformed", "The 402 has neither a header PAYMENT-REQUIRED nor a body.");
}

function parseQuote(document: JsonValue): ParsedQuote {
  const from = readObject(document, "quote");
  const version = from["x402Version"];
  const accepts = from["accepts"];
  if ((version !== 1 && version !== 2) || !Array.isArray(accepts)) {
    throw new AssayError("payment_quote_malformed", "The 402 names no x402 version that is known, or no requirements.");
  }
  const known: { wire: JsonValue; requirement: PaymentRequirements }[] = [];
  for (const wire of (accepts as readonly JsonValue[]).slice(0, MAX_ACCEPTS)) {
    try {
      known.push({ wire, requirement: version === 2 ? parseRequirements(wire) : parseRequirementsV1(wire) });
    } catch (error) {
      if (!isAssayError(error)) throw error;
    }
  }
  const error = from["error"];
  const { resource, extensions } = from;
  const extensionsObject =
    typeof extensions === "object" && extensions !== null && !Array.isArray(extensions) ? extensions : undefined;
  return {
    version,
    required: {
      x402Version: 2,
      ...(typeof error === "string" ? { error: error.slice(0, MAX_TEXT_CHARS) } : {}),
      resource: version === 2 ? readResource(resource) : readResource(accepts[0]),
      accepts: known.map(({ requirement }) => requirement),
      ...(extensionsObject === undefined ? {} : { extensions: extensionsObject as Record<string, unknown> }),
    },
    wire: {
      accepts: known.map(({ wire }) => wire),
      ...(resource === undefined ? {} : { resource }),
      ...(extensionsObject === undefined ? {} : { extensions: extensionsObject }),
    },
    leftOut: accepts.length - known.length,
  };
}

function parseRequirementsV1(value: JsonValue): PaymentRequirements {
  const from = readObject(value, "requirement");
  const network = from["network"];
  if (from["scheme"] !== "exact") {
    throw new AssayError("payment_scheme_unsupported", "x402 v1 pays by exact and by nothing else.");
  }
  return parseRequirements({
    ...from,
    network: networkOfV1Name(typeof network === "string" ? network : ""),
    amount: from["maxAmountRequired"] ?? null,
  });
}

function readResource(value: JsonValue | undefined): ResourceInfo {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return { url: "" };
  const from = value as JsonObject;
  const text = (member: JsonValue | undefined): string | undefined =>
    typeof member === "string" ? member.slice(0, MAX_TEXT_CHARS) : undefined;
  const description = text(from["description"]);
  const mimeType = text(from["mimeType"]);
  return {
    url: text(from["url"]) ?? text(from["resource"]) ?? "",
    ...(description === undefined ? {} : { description }),
    ...(mimeType === undefined ? {} : { mimeType }),
  };
}
