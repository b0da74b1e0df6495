import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { checksumAddress } from "./hex.ts";
import { MAX_SIGNATURE_BYTES, MAX_TEXT_CHARS, MAX_TIMEOUT_SECONDS } from "./limits.ts";
import { chainIdOf, networkOfChain } from "./networks.ts";
import type {
  ChannelStateWire,
  EvmSuite,
  Hex,
  Network,
  PaymentRequirements,
  RequirementExtra,
  Scheme,
  TransferMethod,
} from "./types.ts";
import { malformed, readAddress, readBytes, readFixed, readInteger, readObject, readText, readUint } from "./values.ts";
import type { JsonObject } from "./values.ts";
import { toHex } from "./hex.ts";

/** Bound of a channel's withdraw delay as it is encoded, `uint40`: its meaning is checked elsewhere. */
const MAX_UINT40 = 2 ** 40 - 1;

/** A scheme by its name. Throws `payment_scheme_unsupported`. */
export function readScheme(value: JsonValue | undefined): Scheme {
  if (value === "exact" || value === "upto" || value === "batch-settlement") return value;
  const named = typeof value === "string" ? `"${value.slice(0, 64)}"` : "without a name";
  throw new AssayError("payment_scheme_unsupported", `The payment scheme ${named} is not supported.`, {
    hints: ["The schemes are exact, upto and batch-settlement."],
  });
}

/** A CAIP-2 id of an EVM chain. Throws `payment_network_unsupported`. */
export function readNetwork(value: JsonValue | undefined): Network {
  return networkOfChain(chainIdOf(typeof value === "string" ? value : ""));
}

function readMethod(value: JsonValue | undefined): TransferMethod | undefined {
  if (value === undefined || value === null) return undefined;
  if (value === "eip3009" || value === "permit2") return value;
  const named = typeof value === "string" ? `"${value.slice(0, 64)}"` : "without a name";
  throw new AssayError("payment_scheme_unsupported", `The transfer method ${named} is not supported.`, {
    hints: ["The methods are eip3009 and permit2."],
  });
}

function optional<Out>(
  value: JsonValue | undefined,
  read: (value: JsonValue, path: string) => Out,
  path: string,
): Out | undefined {
  return value === undefined || value === null ? undefined : read(value, path);
}

/**
 * What a server knows of a channel, in a corrective 402 or a settlement's `extra`. Throws `payment_malformed`. Where
 * `chargedCumulativeAmount` is absent (a facilitator, which keeps no account, leaves it out) what was claimed stands in.
 */
export function readChannelState(value: JsonValue | undefined, path: string): ChannelStateWire {
  const state = readObject(value, path);
  const totalClaimed = readUint(state["totalClaimed"], `${path}.totalClaimed`).toString();
  const charged = optional(state["chargedCumulativeAmount"], readUint, `${path}.chargedCumulativeAmount`);
  return {
    channelId: toHex(readFixed(state["channelId"], `${path}.channelId`, 32)),
    balance: readUint(state["balance"], `${path}.balance`).toString(),
    totalClaimed,
    withdrawRequestedAt: readInteger(state["withdrawRequestedAt"] ?? 0, `${path}.withdrawRequestedAt`, MAX_UINT40),
    refundNonce: readUint(state["refundNonce"] ?? 0, `${path}.refundNonce`).toString(),
    chargedCumulativeAmount: charged?.toString() ?? totalClaimed,
  };
}

function readExtra(value: JsonValue | undefined, path: string): RequirementExtra {
  const extra: JsonObject = value === undefined || value === null ? {} : readObject(value, path);
  const method = readMethod(extra["assetTransferMethod"]);
  const facilitator = optional(extra["facilitatorAddress"], readAddress, `${path}.facilitatorAddress`);
  const authorizer = optional(extra["receiverAuthorizer"], readAddress, `${path}.receiverAuthorizer`);
  const delay = optional(
    extra["withdrawDelay"],
    (member, at) => readInteger(member, at, MAX_UINT40),
    `${path}.withdrawDelay`,
  );
  const minDeposit = optional(extra["minDeposit"], readUint, `${path}.minDeposit`);
  const channelState = optional(extra["channelState"], readChannelState, `${path}.channelState`);
  const voucherState = optional(extra["voucherState"], readVoucherState, `${path}.voucherState`);
  return {
    // Permit2 does not need the token's own domain, and foreign servers leave it out there.
    name: readText(extra["name"] ?? "", `${path}.name`, MAX_TEXT_CHARS),
    version: readText(extra["version"] ?? "", `${path}.version`, MAX_TEXT_CHARS),
    ...(method === undefined ? {} : { assetTransferMethod: method }),
    ...(facilitator === undefined ? {} : { facilitatorAddress: facilitator }),
    ...(authorizer === undefined ? {} : { receiverAuthorizer: authorizer }),
    ...(delay === undefined ? {} : { withdrawDelay: delay }),
    ...(minDeposit === undefined ? {} : { minDeposit: minDeposit.toString() }),
    ...(channelState === undefined ? {} : { channelState }),
    ...(voucherState === undefined ? {} : { voucherState }),
  };
}

function readVoucherState(
  value: JsonValue,
  path: string,
): { readonly signedMaxClaimable: string; readonly signature: Hex } {
  const state = readObject(value, path);
  return {
    signedMaxClaimable: readUint(state["signedMaxClaimable"], `${path}.signedMaxClaimable`).toString(),
    signature: toHex(readBytes(state["signature"], `${path}.signature`, MAX_SIGNATURE_BYTES)),
  };
}

function readTimeout(value: JsonValue | undefined, path: string): number {
  const seconds = readInteger(value, path, MAX_TIMEOUT_SECONDS);
  if (seconds > 0) return seconds;
  throw malformed(path, "a positive number of seconds");
}

/**
 * A requirement of x402 v2. Members that are not known are left out. Throws `payment_malformed`,
 * `payment_scheme_unsupported` or `payment_network_unsupported`.
 */
export function parseRequirements(value: JsonValue | undefined, path = "requirement"): PaymentRequirements {
  const from = readObject(value, path);
  return {
    scheme: readScheme(from["scheme"]),
    network: readNetwork(from["network"]),
    amount: readUint(from["amount"], `${path}.amount`).toString(),
    asset: readAddress(from["asset"], `${path}.asset`),
    payTo: readAddress(from["payTo"], `${path}.payTo`),
    maxTimeoutSeconds: readTimeout(from["maxTimeoutSeconds"], `${path}.maxTimeoutSeconds`),
    extra: readExtra(from["extra"], `${path}.extra`),
  };
}

/** A requirement as it stands on the wire: addresses with their checksum (EIP-55). */
export function requirementsToJson(suite: EvmSuite, requirement: PaymentRequirements): JsonObject {
  const { extra } = requirement;
  const { facilitatorAddress, receiverAuthorizer, channelState, voucherState, ...rest } = extra;
  return {
    scheme: requirement.scheme,
    network: requirement.network,
    amount: requirement.amount,
    asset: checksumAddress(suite, requirement.asset),
    payTo: checksumAddress(suite, requirement.payTo),
    maxTimeoutSeconds: requirement.maxTimeoutSeconds,
    extra: {
      ...rest,
      ...(facilitatorAddress === undefined ? {} : { facilitatorAddress: checksumAddress(suite, facilitatorAddress) }),
      ...(receiverAuthorizer === undefined ? {} : { receiverAuthorizer: checksumAddress(suite, receiverAuthorizer) }),
      ...(channelState === undefined ? {} : { channelState }),
      ...(voucherState === undefined ? {} : { voucherState }),
    },
  };
}
