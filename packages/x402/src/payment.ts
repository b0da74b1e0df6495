import { AssayError, equalBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { checksumAddress, fromHex, toHex } from "./hex.ts";
import { MAX_SIGNATURE_BYTES, MAX_UINT128, MAX_UINT256 } from "./limits.ts";
import type {
  ChannelConfig,
  Eip2612Permit,
  EvmSuite,
  Payment,
  Permit2Authorization,
  Scheme,
  Voucher,
} from "./types.ts";
import { malformed, readAddress, readBytes, readFixed, readInteger, readObject, readUint } from "./values.ts";
import type { JsonObject } from "./values.ts";

const MAX_UINT40 = 2 ** 40 - 1;
const SALT = /^0x[0-9a-fA-F]{1,64}$/;

function readSignature(value: JsonValue | undefined, path: string): Uint8Array {
  return readBytes(value, path, MAX_SIGNATURE_BYTES);
}

/** 32 bytes of a salt that is a number to the contract: hexadecimal of any length up to that, or decimal. */
function readSalt(value: JsonValue | undefined, path: string): Uint8Array {
  if (typeof value === "string" && SALT.test(value)) return fromHex(`0x${value.slice(2).padStart(64, "0")}`);
  const number = readUint(value, path, MAX_UINT256);
  return fromHex(`0x${number.toString(16).padStart(64, "0")}`);
}

function readPermit(value: JsonValue | undefined, path: string): { permit: Permit2Authorization; witness: JsonObject } {
  const from = readObject(value, path);
  const permitted = readObject(from["permitted"], `${path}.permitted`);
  return {
    permit: {
      from: readAddress(from["from"], `${path}.from`),
      token: readAddress(permitted["token"], `${path}.permitted.token`),
      amount: readUint(permitted["amount"], `${path}.permitted.amount`),
      spender: readAddress(from["spender"], `${path}.spender`),
      nonce: readUint(from["nonce"], `${path}.nonce`),
      deadline: readUint(from["deadline"], `${path}.deadline`),
    },
    witness: readObject(from["witness"], `${path}.witness`),
  };
}

/** A channel's configuration. Throws `payment_malformed`. */
export function parseChannelConfig(value: JsonValue | undefined, path = "channelConfig"): ChannelConfig {
  const from = readObject(value, path);
  return {
    payer: readAddress(from["payer"], `${path}.payer`),
    payerAuthorizer: readAddress(from["payerAuthorizer"], `${path}.payerAuthorizer`),
    receiver: readAddress(from["receiver"], `${path}.receiver`),
    receiverAuthorizer: readAddress(from["receiverAuthorizer"], `${path}.receiverAuthorizer`),
    token: readAddress(from["token"], `${path}.token`),
    withdrawDelay: readInteger(from["withdrawDelay"], `${path}.withdrawDelay`, MAX_UINT40),
    salt: readFixed(from["salt"], `${path}.salt`, 32),
  };
}

function readVoucher(value: JsonValue | undefined, path: string): Voucher {
  const from = readObject(value, path);
  return {
    channelId: readFixed(from["channelId"], `${path}.channelId`, 32),
    maxClaimable: readUint(from["maxClaimableAmount"], `${path}.maxClaimableAmount`, MAX_UINT128),
    signature: readSignature(from["signature"], `${path}.signature`),
  };
}

type DepositBy = Extract<Payment, { kind: "deposit" }>["by"];

function readDepositBy(
  value: JsonValue | undefined,
  path: string,
  channelId: Uint8Array,
  sponsored: Eip2612Permit | undefined,
): DepositBy {
  const from = readObject(value, path);
  if (from["permit2Authorization"] !== undefined) {
    const at = `${path}.permit2Authorization`;
    const { permit, witness } = readPermit(from["permit2Authorization"], at);
    if (!equalBytes(readFixed(witness["channelId"], `${at}.witness.channelId`, 32), channelId)) {
      throw malformed(`${at}.witness.channelId`, "the voucher's channel");
    }
    const signature = readSignature(readObject(from["permit2Authorization"], at)["signature"], `${at}.signature`);
    return { kind: "permit2", permit, signature, ...(sponsored === undefined ? {} : { sponsored }) };
  }
  const at = `${path}.erc3009Authorization`;
  const authorization = readObject(from["erc3009Authorization"], at);
  return {
    kind: "eip3009",
    validAfter: readUint(authorization["validAfter"], `${at}.validAfter`),
    validBefore: readUint(authorization["validBefore"], `${at}.validBefore`),
    salt: readSalt(authorization["salt"], `${at}.salt`),
    signature: readSignature(authorization["signature"], `${at}.signature`),
  };
}

function readChannelPayment(from: JsonObject, sponsored: Eip2612Permit | undefined): Payment {
  const type = from["type"];
  if (type !== "deposit" && type !== "voucher" && type !== "refund") {
    throw malformed("payload.type", "deposit, voucher or refund");
  }
  const channel = parseChannelConfig(from["channelConfig"], "payload.channelConfig");
  const voucher = readVoucher(from["voucher"], "payload.voucher");
  if (type === "voucher") return { kind: "voucher", channel, voucher };
  if (type === "refund") {
    const amount = from["amount"];
    if (amount === undefined || amount === null) return { kind: "refund", channel, voucher };
    return { kind: "refund", channel, voucher, amount: readUint(amount, "payload.amount", MAX_UINT128) };
  }
  const deposit = readObject(from["deposit"], "payload.deposit");
  return {
    kind: "deposit",
    channel,
    voucher,
    amount: readUint(deposit["amount"], "payload.deposit.amount", MAX_UINT128),
    by: readDepositBy(deposit["authorization"], "payload.deposit.authorization", voucher.channelId, sponsored),
  };
}

/** What a payer signed, by its scheme: the `payload` of a payment. Throws `payment_malformed`. */
export function parsePayment(scheme: Scheme, value: JsonValue | undefined, sponsored?: Eip2612Permit): Payment {
  const from = readObject(value, "payload");
  if (scheme === "batch-settlement") return readChannelPayment(from, sponsored);
  if (from["permit2Authorization"] !== undefined || scheme === "upto") {
    const path = "payload.permit2Authorization";
    const { permit, witness } = readPermit(from["permit2Authorization"], path);
    const signature = readSignature(from["signature"], "payload.signature");
    const to = readAddress(witness["to"], `${path}.witness.to`);
    const validAfter = readUint(witness["validAfter"], `${path}.witness.validAfter`);
    const extra = sponsored === undefined ? {} : { sponsored };
    if (scheme === "exact") return { kind: "permit2", permit, witness: { to, validAfter }, signature, ...extra };
    const facilitator = readAddress(witness["facilitator"], `${path}.witness.facilitator`);
    return { kind: "upto", permit, witness: { to, facilitator, validAfter }, signature, ...extra };
  }
  const path = "payload.authorization";
  const authorization = readObject(from["authorization"], path);
  return {
    kind: "eip3009",
    authorization: {
      from: readAddress(authorization["from"], `${path}.from`),
      to: readAddress(authorization["to"], `${path}.to`),
      value: readUint(authorization["value"], `${path}.value`),
      validAfter: readUint(authorization["validAfter"], `${path}.validAfter`),
      validBefore: readUint(authorization["validBefore"], `${path}.validBefore`),
      nonce: readFixed(authorization["nonce"], `${path}.nonce`, 32),
    },
    signature: readSignature(from["signature"], "payload.signature"),
  };
}

/** A channel's configuration as it stands on the wire. */
export function channelConfigToJson(suite: EvmSuite, channel: ChannelConfig): JsonObject {
  return {
    payer: checksumAddress(suite, channel.payer),
    payerAuthorizer: checksumAddress(suite, channel.payerAuthorizer),
    receiver: checksumAddress(suite, channel.receiver),
    receiverAuthorizer: checksumAddress(suite, channel.receiverAuthorizer),
    token: checksumAddress(suite, channel.token),
    withdrawDelay: channel.withdrawDelay,
    salt: toHex(channel.salt),
  };
}

function permitToJson(suite: EvmSuite, permit: Permit2Authorization, witness: JsonObject): JsonObject {
  return {
    from: checksumAddress(suite, permit.from),
    permitted: { token: checksumAddress(suite, permit.token), amount: permit.amount.toString() },
    spender: checksumAddress(suite, permit.spender),
    nonce: permit.nonce.toString(),
    deadline: permit.deadline.toString(),
    witness,
  };
}

/** A payment as the `payload` of its document. A sponsored permit stands in the document's extensions instead. */
export function paymentToJson(suite: EvmSuite, payment: Payment): JsonObject {
  switch (payment.kind) {
    case "eip3009": {
      const a = payment.authorization;
      return {
        signature: toHex(payment.signature),
        authorization: {
          from: checksumAddress(suite, a.from),
          to: checksumAddress(suite, a.to),
          value: a.value.toString(),
          validAfter: a.validAfter.toString(),
          validBefore: a.validBefore.toString(),
          nonce: toHex(a.nonce),
        },
      };
    }
    case "permit2":
    case "upto": {
      const { witness } = payment;
      return {
        signature: toHex(payment.signature),
        permit2Authorization: permitToJson(suite, payment.permit, {
          to: checksumAddress(suite, witness.to),
          ...("facilitator" in witness ? { facilitator: checksumAddress(suite, witness.facilitator) } : {}),
          validAfter: witness.validAfter.toString(),
        }),
      };
    }
    case "voucher":
      return { type: "voucher", ...channelPart(suite, payment) };
    case "refund":
      return {
        type: "refund",
        ...channelPart(suite, payment),
        ...(payment.amount === undefined ? {} : { amount: payment.amount.toString() }),
      };
    case "deposit":
      return {
        type: "deposit",
        ...channelPart(suite, payment),
        deposit: { amount: payment.amount.toString(), authorization: depositToJson(suite, payment) },
      };
    default:
      throw new AssayError("payment_scheme_unsupported", "The payment is of no kind that has a form on the wire.");
  }
}

function channelPart(
  suite: EvmSuite,
  payment: { readonly channel: ChannelConfig; readonly voucher: Voucher },
): JsonObject {
  const { channelId, maxClaimable, signature } = payment.voucher;
  return {
    channelConfig: channelConfigToJson(suite, payment.channel),
    voucher: {
      channelId: toHex(channelId),
      maxClaimableAmount: maxClaimable.toString(),
      signature: toHex(signature),
    },
  };
}

function depositToJson(suite: EvmSuite, payment: Extract<Payment, { kind: "deposit" }>): JsonObject {
  const { by } = payment;
  if (by.kind === "permit2") {
    const witness = { channelId: toHex(payment.voucher.channelId) };
    return {
      permit2Authorization: { ...permitToJson(suite, by.permit, witness), signature: toHex(by.signature) },
    };
  }
  return {
    erc3009Authorization: {
      validAfter: by.validAfter.toString(),
      validBefore: by.validBefore.toString(),
      salt: toHex(by.salt),
      signature: toHex(by.signature),
    },
  };
}
