import { equalBytes } from "@assay/core";
import { ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR, ZERO_ADDRESS } from "./addresses.ts";
import { checkSponsored } from "./check-permit2.ts";
import type { Check } from "./check-context.ts";
import { channelIdOf, depositNonce, permitDepositDigest, receiveDigest, voucherDigest } from "./digests.ts";
import { EXPIRY_SLACK_SECONDS, MAX_WITHDRAW_DELAY_SECONDS, MIN_WITHDRAW_DELAY_SECONDS } from "./limits.ts";
import { paymentIdOf } from "./party.ts";
import { isSignedBy, judgeSigner } from "./signature.ts";
import type { SignerVerdict } from "./signature.ts";
import type { ChannelConfig, Payment, Voucher } from "./types.ts";
import { combine, isRefusal, refuse, seconds } from "./verdict.ts";
import type { Admission, Refusal } from "./verdict.ts";

type Deposit = Extract<Payment, { kind: "deposit" }>;
type Signed = Exclude<SignerVerdict, { signer: "refused" }>;

/** A channel's configuration: it is this payment's, pays whom the requirement says, and cannot be emptied at once. */
function checkConfig(check: Check, channel: ChannelConfig, voucher: Voucher): Refusal | undefined {
  const { requirement } = check;
  const { receiverAuthorizer, withdrawDelay } = requirement.extra;
  if (!equalBytes(channelIdOf(check.suite, check.chainId, channel), voucher.channelId)) {
    return refuse(
      "invalid_batch_settlement_evm_channel_id_mismatch",
      "The voucher is not of the channel that the payment describes.",
    );
  }
  if (channel.receiver !== requirement.payTo) {
    return refuse(
      "invalid_batch_settlement_evm_receiver_mismatch",
      `The channel pays ${channel.receiver}, and ${requirement.payTo} is to be paid.`,
    );
  }
  if (
    receiverAuthorizer === undefined ||
    receiverAuthorizer === ZERO_ADDRESS ||
    channel.receiverAuthorizer !== receiverAuthorizer
  ) {
    return refuse(
      "invalid_batch_settlement_evm_receiver_authorizer_mismatch",
      "The channel's receiver has another authorizer.",
    );
  }
  if (channel.token !== requirement.asset) {
    return refuse(
      "invalid_batch_settlement_evm_token_mismatch",
      `The channel is of ${channel.token}, and ${requirement.asset} is asked.`,
    );
  }
  if (withdrawDelay !== undefined && channel.withdrawDelay !== withdrawDelay) {
    return refuse(
      "invalid_batch_settlement_evm_withdraw_delay_mismatch",
      `The channel can be emptied after ${channel.withdrawDelay} s, and ${withdrawDelay} s is asked.`,
    );
  }
  if (channel.withdrawDelay < MIN_WITHDRAW_DELAY_SECONDS || channel.withdrawDelay > MAX_WITHDRAW_DELAY_SECONDS) {
    return refuse(
      "invalid_batch_settlement_evm_withdraw_delay_out_of_range",
      `A channel's delay is ${MIN_WITHDRAW_DELAY_SECONDS} to ${MAX_WITHDRAW_DELAY_SECONDS} s.`,
    );
  }
  return undefined;
}

/** A voucher's signature: of the channel's authorizer by its key alone, or of the payer when the channel names none. */
function checkVoucherSignature(check: Check, channel: ChannelConfig, voucher: Voucher): Signed | Refusal {
  const { suite, chainId } = check;
  const digest = voucherDigest(suite, chainId, voucher.channelId, voucher.maxClaimable);
  const refused = refuse(
    "invalid_batch_settlement_evm_voucher_signature",
    "The voucher is not signed by who may sign for the channel.",
  );
  if (channel.payerAuthorizer !== ZERO_ADDRESS) {
    return isSignedBy(suite, channel.payerAuthorizer, digest, voucher.signature) ? { signer: "ecdsa" } : refused;
  }
  const verdict = judgeSigner(
    suite,
    { account: channel.payer, digest, signature: voucher.signature },
    { code: check.payerCode, deployable: false, factories: [] },
  );
  return verdict.signer === "refused" ? refused : verdict;
}

/** A voucher of an open channel. That it is high enough is the channel's account to say. */
export function checkVoucher(check: Check, payment: Extract<Payment, { kind: "voucher" }>): Admission | Refusal {
  return checkSignedVoucher(check, payment, BigInt(check.requirement.amount));
}

/** A request to give what is left of a channel back, in its payer's name. */
export function checkRefund(check: Check, payment: Extract<Payment, { kind: "refund" }>): Admission | Refusal {
  if (payment.amount === 0n)
    return refuse("invalid_batch_settlement_evm_refund_amount_invalid", "A refund is of more than nothing.");
  return checkSignedVoucher(check, payment, 0n);
}

function checkSignedVoucher(
  check: Check,
  payment: Extract<Payment, { kind: "voucher" | "refund" }>,
  amountAtomic: bigint,
): Admission | Refusal {
  const { channel, voucher } = payment;
  const refused = checkConfig(check, channel, voucher);
  if (refused !== undefined) return refused;
  const signed = checkVoucherSignature(check, channel, voucher);
  if (isRefusal(signed)) return signed;
  return {
    ok: true,
    payer: channel.payer,
    asset: channel.token,
    paymentId: paymentIdOf(check.suite, check.payload, check.requirement),
    amountAtomic,
    deadlineS: Number.MAX_SAFE_INTEGER,
    ...combine(signed),
  };
}

/** A deposit that opens a channel or adds to it, with the first voucher on it. */
export function checkDeposit(check: Check, payment: Deposit): Admission | Refusal {
  const { requirement } = check;
  const { channel, voucher, by } = payment;
  const refused = checkConfig(check, channel, voucher);
  if (refused !== undefined) return refused;
  if ((requirement.extra.assetTransferMethod ?? by.kind) !== by.kind) {
    return refuse(
      "invalid_batch_settlement_evm_payload_type",
      "The deposit is not made in the way that the requirement asks for.",
    );
  }
  if (payment.amount === 0n)
    return refuse("invalid_batch_settlement_evm_payload_type", "A deposit is of more than nothing.");
  const deposited =
    by.kind === "permit2" ? checkPermit2Deposit(check, payment, by) : checkEip3009Deposit(check, payment, by);
  if (isRefusal(deposited)) return deposited;
  const signed = checkVoucherSignature(check, channel, voucher);
  if (isRefusal(signed)) return signed;
  return {
    ok: true,
    payer: channel.payer,
    asset: channel.token,
    paymentId: paymentIdOf(check.suite, check.payload, requirement),
    amountAtomic: BigInt(requirement.amount),
    deadlineS: seconds(by.kind === "permit2" ? by.permit.deadline : by.validBefore),
    ...combine(deposited, signed),
  };
}

function checkEip3009Deposit(
  check: Check,
  payment: Deposit,
  by: Extract<Deposit["by"], { kind: "eip3009" }>,
): Signed | Refusal {
  const { suite, requirement, chainId, nowS } = check;
  const { name, version } = requirement.extra;
  const { payer } = payment.channel;
  if (name === "" || version === "") {
    return refuse(
      "invalid_batch_settlement_evm_missing_eip712_domain",
      "The requirement does not say the token's EIP-712 domain.",
    );
  }
  if (by.validBefore < BigInt(nowS + EXPIRY_SLACK_SECONDS)) {
    return refuse(
      "invalid_batch_settlement_evm_payload_authorization_valid_before",
      "The deposit has expired, or will before a block can take it.",
    );
  }
  if (by.validAfter > BigInt(nowS)) {
    return refuse("invalid_batch_settlement_evm_payload_authorization_valid_after", "The deposit is not valid yet.");
  }
  const digest = receiveDigest(
    suite,
    { name, version, chainId, verifyingContract: requirement.asset },
    {
      from: payer,
      to: ERC3009_DEPOSIT_COLLECTOR,
      value: payment.amount,
      validAfter: by.validAfter,
      validBefore: by.validBefore,
      nonce: depositNonce(suite, payment.voucher.channelId, by.salt),
    },
  );
  const verdict = judgeSigner(
    suite,
    { account: payer, digest, signature: by.signature },
    { code: check.payerCode, deployable: true, factories: check.factories },
  );
  if (verdict.signer !== "refused") return verdict;
  return verdict.why === "factory"
    ? refuse(
        "invalid_batch_settlement_evm_eip6492_factory_not_allowed",
        "The payer would be deployed by a factory that is not allowed.",
      )
    : refuse("invalid_batch_settlement_evm_receive_authorization_signature", `The deposit is not signed by ${payer}.`);
}

function checkPermit2Deposit(
  check: Check,
  payment: Deposit,
  by: Extract<Deposit["by"], { kind: "permit2" }>,
): Signed | Refusal {
  const { suite, requirement, chainId, nowS } = check;
  const { permit, sponsored } = by;
  const { payer } = payment.channel;
  if (permit.from !== payer) {
    return refuse(
      "invalid_batch_settlement_evm_permit2_invalid_signature",
      `The deposit is of ${permit.from}, and ${payer} has the channel.`,
    );
  }
  if (permit.spender !== PERMIT2_DEPOSIT_COLLECTOR) {
    return refuse(
      "invalid_batch_settlement_evm_permit2_invalid_spender",
      `The deposit's permit is for ${permit.spender}.`,
    );
  }
  if (permit.token !== requirement.asset) {
    return refuse(
      "invalid_batch_settlement_evm_token_mismatch",
      `The deposit is of ${permit.token}, and ${requirement.asset} is asked.`,
    );
  }
  if (permit.amount !== payment.amount) {
    return refuse(
      "invalid_batch_settlement_evm_permit2_amount_mismatch",
      `The permit is of ${permit.amount}, and the deposit of ${payment.amount}.`,
    );
  }
  if (permit.deadline < BigInt(nowS + EXPIRY_SLACK_SECONDS)) {
    return refuse(
      "invalid_batch_settlement_evm_permit2_deadline_expired",
      "The deposit has expired, or will before a block can take it.",
    );
  }
  if (sponsored !== undefined) {
    const refused = checkSponsored(
      check,
      sponsored,
      payer,
      payment.amount,
      "invalid_batch_settlement_evm_eip2612_amount_mismatch",
    );
    if (refused !== undefined) return refused;
  }
  const digest = permitDepositDigest(suite, chainId, permit, payment.voucher.channelId);
  const verdict = judgeSigner(
    suite,
    { account: payer, digest, signature: by.signature },
    { code: check.payerCode, deployable: false, factories: [] },
  );
  return verdict.signer === "refused"
    ? refuse("invalid_batch_settlement_evm_permit2_invalid_signature", `The deposit is not signed by ${payer}.`)
    : verdict;
}
