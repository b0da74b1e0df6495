import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { checksumAddress } from "./hex.ts";
import { decodeHeader, encodeHeader } from "./header.ts";
import { MAX_TEXT_CHARS } from "./limits.ts";
import { networkOfV1Name, v1NameOf } from "./networks.ts";
import { readChannelState, readNetwork } from "./requirements.ts";
import type { ChannelStateWire, EvmSuite, SettlementResponse } from "./types.ts";
import { malformed, readAddress, readObject, readText, readUint } from "./values.ts";
import type { JsonObject } from "./values.ts";

/** A settlement's document as JSON, in the version that the payment came in: v1 names its network. */
export function settlementDocument(suite: EvmSuite, version: 1 | 2, response: SettlementResponse): JsonObject {
  const { payer, amount, errorReason, errorMessage, extra } = response;
  return {
    success: response.success,
    transaction: response.transaction,
    network: (version === 1 ? v1NameOf(response.network) : undefined) ?? response.network,
    ...(payer === undefined ? {} : { payer: checksumAddress(suite, payer) }),
    ...(amount === undefined ? {} : { amount }),
    ...(errorReason === undefined ? {} : { errorReason }),
    ...(errorMessage === undefined ? {} : { errorMessage }),
    ...(extra === undefined ? {} : { extra: extra as JsonObject }),
  };
}

/** A settlement as the header of an answer. Throws `payment_malformed` when it is too long for one. */
export function encodeSettlementResponse(
  suite: EvmSuite,
  version: 1 | 2,
  response: SettlementResponse,
): { readonly name: "PAYMENT-RESPONSE" | "X-PAYMENT-RESPONSE"; readonly value: string } {
  const name = version === 1 ? "X-PAYMENT-RESPONSE" : "PAYMENT-RESPONSE";
  return { name, value: encodeHeader(name, settlementDocument(suite, version, response)) };
}

/** Hash of a transaction, or none. */
const TRANSACTION = /^(?:0x[0-9a-fA-F]{64})?$/;

/** A settlement's document, as an answer's header, a facilitator or a stream's event gives it. Throws `payment_malformed`. */
export function parseSettlementDocument(value: JsonValue): SettlementResponse {
  const from = readObject(value, "settlement");
  const { success, network } = from;
  if (typeof success !== "boolean") throw malformed("settlement.success", "true or false");
  const transaction = readText(from["transaction"] ?? "", "settlement.transaction", MAX_TEXT_CHARS);
  if (!TRANSACTION.test(transaction)) throw malformed("settlement.transaction", "a transaction's hash or empty");
  const named = typeof network === "string" && !network.includes(":");
  return {
    success,
    transaction,
    network: named ? networkOfV1Name(network) : readNetwork(network),
    ...(given(from["payer"]) ? { payer: readAddress(from["payer"], "settlement.payer") } : {}),
    ...(given(from["amount"]) ? { amount: readUint(from["amount"], "settlement.amount").toString() } : {}),
    ...(given(from["errorReason"])
      ? { errorReason: readText(from["errorReason"], "settlement.errorReason", MAX_TEXT_CHARS) }
      : {}),
    ...(given(from["errorMessage"])
      ? { errorMessage: readText(from["errorMessage"], "settlement.errorMessage", MAX_TEXT_CHARS) }
      : {}),
    ...(given(from["extra"]) ? { extra: readObject(from["extra"], "settlement.extra") } : {}),
  };
}

// Some servers send an empty text for a payer or an amount that there is none of.
function given(value: JsonValue | undefined): boolean {
  return value !== undefined && value !== null && value !== "";
}

/** The settlement in an answer's header `PAYMENT-RESPONSE` or `X-PAYMENT-RESPONSE`. Throws `payment_malformed`. */
export function parseSettlementResponse(text: string): SettlementResponse {
  return parseSettlementDocument(decodeHeader("PAYMENT-RESPONSE", text));
}

/** What a settlement says of a channel: what this request was charged, and the channel's state after it. */
export function channelOutcome(response: SettlementResponse): {
  readonly chargedAtomic?: bigint;
  readonly channelState?: ChannelStateWire;
} {
  const extra = response.extra as JsonObject | undefined;
  const charged = extra?.["chargedAmount"];
  const state = extra?.["channelState"];
  try {
    return {
      ...(given(charged) ? { chargedAtomic: readUint(charged, "settlement.extra.chargedAmount") } : {}),
      ...(given(state) ? { channelState: readChannelState(state, "settlement.extra.channelState") } : {}),
    };
  } catch (cause) {
    throw new AssayError("payment_malformed", "The settlement's account of the channel is malformed.", { cause });
  }
}
