import { isAssayError, parseJson } from "@assay/core";
import { channelOutcome, parseSettlementDocument, parseSettlementResponse } from "@assay/x402";
import type { Address, Hex, Network, Scheme, SettlementResponse } from "@assay/x402";
import { clientError } from "../errors.ts";
import { MAX_SETTLEMENT_BYTES } from "./limits.ts";

/** A token, as far as its payer has to know it. */
export type PaidAsset = { readonly symbol: string; readonly address: Address; readonly decimals: number };

/** What was signed to pay for a request. */
export type SignedPayment = {
  readonly payer: Address;
  /** As receipts, ledger and events name it: 32 bytes in hexadecimal. */
  readonly paymentId: Hex;
  readonly scheme: Scheme;
  readonly network: Network;
  readonly asset: PaidAsset;
  readonly payTo: Address;
  /** The price of `exact`, the most of the metered schemes. Atomic units. */
  readonly capAtomic: bigint;
};

/** What the other side says that it charged. */
export type Charged = {
  readonly amountAtomic: bigint;
  /** Hash of the transaction, when it was settled before the answer. */
  readonly transaction?: Hex;
  /** Sum that was charged of the channel. */
  readonly channelChargedAtomic?: bigint;
};

/**
 * What an answer's header says of its payment. Undefined when it names no amount yet, as the header of a stream. Throws
 * `payment_response_invalid` when it is about another payment than the one that was signed, or charges more.
 */
export function chargedByHeader(text: string, signed: SignedPayment): Charged | undefined {
  return chargedBy(
    readSettlement(() => parseSettlementResponse(text)),
    signed,
  );
}

/** The same of the data of a stream's settlement event. */
export function chargedByEvent(text: string, signed: SignedPayment): Charged | undefined {
  return chargedBy(
    readSettlement(() => parseSettlementDocument(parseJson(text, { maxBytes: MAX_SETTLEMENT_BYTES, maxDepth: 16 }))),
    signed,
  );
}

function readSettlement(parse: () => SettlementResponse): SettlementResponse {
  try {
    return parse();
  } catch (cause) {
    if (!isAssayError(cause)) throw cause;
    throw invalid("it is malformed", cause);
  }
}

function chargedBy(response: SettlementResponse, signed: SignedPayment): Charged | undefined {
  if (!response.success) throw invalid(`it says that the payment failed: ${response.errorReason ?? "no reason given"}`);
  if (response.network !== signed.network)
    throw invalid(`it is of ${response.network}, and ${signed.network} was signed`);
  if (response.payer !== undefined && response.payer !== signed.payer)
    throw invalid(`it names the payer ${response.payer}`);
  const { chargedAtomic, channelState } = outcomeOf(response);
  const named = signed.scheme === "batch-settlement" ? chargedAtomic : amountOf(response);
  // A fixed price needs no saying.
  const amountAtomic = named ?? (signed.scheme === "exact" ? signed.capAtomic : undefined);
  if (amountAtomic === undefined) return undefined;
  if (amountAtomic > signed.capAtomic) throw invalid(`it charges ${amountAtomic}, and ${signed.capAtomic} was signed`);
  if (signed.scheme === "exact" && amountAtomic !== signed.capAtomic)
    throw invalid(`it charges ${amountAtomic}, and exactly ${signed.capAtomic} was signed`);
  return {
    amountAtomic,
    ...(response.transaction === "" ? {} : { transaction: response.transaction as Hex }),
    ...(channelState === undefined ? {} : { channelChargedAtomic: BigInt(channelState.chargedCumulativeAmount) }),
  };
}

function amountOf({ amount }: SettlementResponse): bigint | undefined {
  return amount === undefined ? undefined : BigInt(amount);
}

function outcomeOf(response: SettlementResponse): ReturnType<typeof channelOutcome> {
  try {
    return channelOutcome(response);
  } catch (cause) {
    throw invalid("its account of the channel is malformed", cause);
  }
}

function invalid(why: string, cause?: unknown): Error {
  return clientError("payment_response_invalid", `The answer's account of its payment cannot be: ${why}.`, {
    cause,
    hints: ["The answer is held back. The payment counts in full until it is known to be over."],
  });
}
