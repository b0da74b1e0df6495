import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import {
  EIP2612_GAS_SPONSORING,
  PAYMENT_IDENTIFIER,
  readIdentifier,
  readSponsored,
  sponsoredToJson,
} from "./extensions.ts";
import { decodeHeader, encodeHeader } from "./header.ts";
import { networkOfV1Name, v1NameOf } from "./networks.ts";
import { parsePayment, paymentToJson } from "./payment.ts";
import { parseRequirements, readScheme, requirementsToJson } from "./requirements.ts";
import type { EvmSuite, Eip2612Permit, Payment, PaymentPayload } from "./types.ts";
import { readObject } from "./values.ts";
import type { JsonObject } from "./values.ts";

/** Headers that a payment comes in: of x402 v2, and of v1. */
export type PaymentHeaderName = "payment-signature" | "x-payment";

/**
 * The payment in a request's header. `x-payment` may carry either version, as old clients of v2 send it. Throws
 * `payment_malformed`, `payment_version_unsupported`, `payment_scheme_unsupported` or `payment_network_unsupported`.
 */
export function parsePaymentHeader(name: PaymentHeaderName, text: string): PaymentPayload {
  const payload = parsePaymentDocument(decodeHeader(name, text));
  if (payload.version === 1 && name === "payment-signature") throw unsupportedVersion(1, "payment-signature carries 2");
  return payload;
}

/** A payment's document, as a header or a facilitator's request carries it. Refuses as {@link parsePaymentHeader} does. */
export function parsePaymentDocument(value: JsonValue): PaymentPayload {
  const from = readObject(value, "document");
  const version = from["x402Version"];
  if (version === 1) return parseV1(from);
  if (version === 2) return parseV2(from);
  throw unsupportedVersion(version, "it is 1 or 2");
}

function unsupportedVersion(version: JsonValue | undefined, wanted: string): AssayError<"payment_version_unsupported"> {
  const named = typeof version === "number" ? `${version}` : "that it names";
  return new AssayError("payment_version_unsupported", `The x402 version ${named} is not supported here: ${wanted}.`);
}

function parseV1(from: JsonObject): PaymentPayload {
  const scheme = readScheme(from["scheme"]);
  const name = from["network"];
  const network = networkOfV1Name(typeof name === "string" ? name : "");
  const payment = scheme === "exact" ? parsePayment(scheme, from["payload"]) : undefined;
  if (payment?.kind === "eip3009") return { version: 1, scheme, network, payment };
  throw new AssayError("payment_scheme_unsupported", "x402 v1 pays by exact with EIP-3009 and by nothing else.", {
    hints: ["Permit2, upto and channels need x402 v2: the header PAYMENT-SIGNATURE."],
  });
}

function parseV2(from: JsonObject): PaymentPayload {
  const accepted = parseRequirements(from["accepted"], "accepted");
  const { scheme, network } = accepted;
  const payment = parsePayment(scheme, from["payload"], readSponsored(from["extensions"]));
  const identifier = readIdentifier(from["extensions"]);
  return { version: 2, scheme, network, payment, accepted, ...(identifier === undefined ? {} : { identifier }) };
}

/** The permit that comes with a payment for Permit2, if any. */
export function sponsoredOf(payment: Payment): Eip2612Permit | undefined {
  if (payment.kind === "permit2" || payment.kind === "upto") return payment.sponsored;
  return payment.kind === "deposit" && payment.by.kind === "permit2" ? payment.by.sponsored : undefined;
}

/** What a quote said besides its requirements, to be repeated with the payment. */
export type QuoteEcho = {
  /** The requirement as it was quoted: servers may compare it word for word. */
  readonly accepted?: JsonValue;
  readonly resource?: JsonValue;
  readonly extensions?: JsonValue;
};

/** A payment's document. `echo` is what the quote said, word for word; without it `accepted` is written anew. */
export function paymentDocument(suite: EvmSuite, payload: PaymentPayload, echo: QuoteEcho = {}): JsonObject {
  const inner = paymentToJson(suite, payload.payment);
  if (payload.version === 1) {
    const network = v1NameOf(payload.network);
    if (network === undefined || payload.payment.kind !== "eip3009") {
      throw new AssayError("payment_version_unsupported", "x402 v1 has no form for this payment or its network.");
    }
    return { x402Version: 1, scheme: payload.scheme, network, payload: inner };
  }
  const accepted = echo.accepted ?? (payload.accepted && requirementsToJson(suite, payload.accepted));
  if (accepted === undefined) {
    throw new AssayError("payment_malformed", "A payment of x402 v2 repeats the requirement that it accepts.");
  }
  const extensions = extensionsOf(suite, payload, echo.extensions);
  return {
    x402Version: 2,
    ...(echo.resource === undefined ? {} : { resource: echo.resource }),
    accepted,
    payload: inner,
    ...(Object.keys(extensions).length === 0 ? {} : { extensions }),
  };
}

function extensionsOf(suite: EvmSuite, payload: PaymentPayload, quoted: JsonValue | undefined): JsonObject {
  const out: Record<string, JsonValue> =
    quoted === undefined || quoted === null ? {} : { ...readObject(quoted, "extensions") };
  const sponsored = sponsoredOf(payload.payment);
  if (sponsored !== undefined) out[EIP2612_GAS_SPONSORING] = { info: sponsoredToJson(suite, sponsored) };
  if (payload.identifier !== undefined) {
    const known = out[PAYMENT_IDENTIFIER];
    const extension = known === undefined || known === null ? {} : readObject(known, PAYMENT_IDENTIFIER);
    const offered = extension["info"];
    const info = offered === undefined || offered === null ? { required: false } : readObject(offered, "info");
    out[PAYMENT_IDENTIFIER] = { ...extension, info: { ...info, id: payload.identifier } };
  }
  return out;
}

/** A payment as the header of a request. Throws `payment_malformed` when it is too long for one. */
export function encodePayment(
  suite: EvmSuite,
  payload: PaymentPayload,
  echo: QuoteEcho = {},
): { readonly name: "PAYMENT-SIGNATURE" | "X-PAYMENT"; readonly value: string } {
  const name = payload.version === 1 ? "X-PAYMENT" : "PAYMENT-SIGNATURE";
  return { name, value: encodeHeader(name, paymentDocument(suite, payload, echo)) };
}
