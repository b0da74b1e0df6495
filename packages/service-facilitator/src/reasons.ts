/**
 * Reasons for which a payment is refused that are not found by `checkPayment`. They are x402's own codes, as the reference
 * implementation of version 2.27 spells them: clients and servers compare them.
 */
export const REASON = {
  malformed: "invalid_payload",
  requirements: "invalid_payment_requirements",
  version: "invalid_x402_version",
  scheme: "unsupported_scheme",
  network: "invalid_network",
  pending: "settlement_pending",
  transferName: "invalid_exact_evm_token_name_mismatch",
  transferVersion: "invalid_exact_evm_token_version_mismatch",
  transferUnsupported: "invalid_exact_evm_eip3009_not_supported",
  transferUsed: "invalid_exact_evm_nonce_already_used",
  transferBalance: "invalid_exact_evm_insufficient_balance",
  transferSimulation: "invalid_exact_evm_transaction_simulation_failed",
  exactTransaction: "invalid_exact_evm_transaction_failed",
  permit2Used: "permit2_invalid_nonce",
  permit2Balance: "permit2_insufficient_balance",
  permit2Allowance: "permit2_allowance_required",
  permit2Simulation: "permit2_simulation_failed",
  facilitator: "upto_facilitator_mismatch",
  uptoAmount: "invalid_upto_evm_payload_settlement_exceeds_amount",
  uptoTransaction: "invalid_upto_evm_transaction_failed",
  payloadType: "invalid_batch_settlement_evm_payload_type",
  channelMissing: "invalid_batch_settlement_evm_channel_not_found",
  channelMismatch: "invalid_batch_settlement_evm_channel_id_mismatch",
  receiver: "invalid_batch_settlement_evm_receiver_mismatch",
  token: "invalid_batch_settlement_evm_token_mismatch",
  voucher: "invalid_batch_settlement_evm_voucher_signature",
  aboveBalance: "invalid_batch_settlement_evm_cumulative_exceeds_balance",
  belowClaimed: "invalid_batch_settlement_evm_cumulative_below_claimed",
  depositBalance: "invalid_batch_settlement_evm_insufficient_balance",
  depositAllowance: "invalid_batch_settlement_evm_permit2_allowance_required",
  depositSimulation: "invalid_batch_settlement_evm_deposit_simulation_failed",
  depositTransaction: "invalid_batch_settlement_evm_deposit_transaction_failed",
  authorizer: "invalid_batch_settlement_evm_authorizer_not_configured",
  authorizerMismatch: "invalid_batch_settlement_evm_authorizer_address_mismatch",
  claimSimulation: "invalid_batch_settlement_evm_claim_simulation_failed",
  claimTransaction: "invalid_batch_settlement_evm_claim_transaction_failed",
  nothing: "invalid_batch_settlement_evm_nothing_to_settle",
  sweepSimulation: "invalid_batch_settlement_evm_settle_simulation_failed",
  sweepTransaction: "invalid_batch_settlement_evm_settle_transaction_failed",
  refundSimulation: "invalid_batch_settlement_evm_refund_simulation_failed",
  refundTransaction: "invalid_batch_settlement_evm_refund_transaction_failed",
} as const;

export type Reason = (typeof REASON)[keyof typeof REASON];

/** A refusal as a value. */
export type Refusal = {
  readonly ok: false;
  /** One of {@link REASON}, or of the codes of `checkPayment`. */
  readonly reason: string;
  readonly message?: string;
  readonly payer?: string;
};

export function refuse(reason: string, message?: string, payer?: string): Refusal {
  return {
    ok: false,
    reason,
    ...(message === undefined ? {} : { message }),
    ...(payer === undefined ? {} : { payer }),
  };
}
