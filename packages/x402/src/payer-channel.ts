import { toHex } from "./hex.ts";
import type { RequirementExtra } from "./types.ts";

/** A payer's own account of a channel. */
export type PayerAccount = {
  readonly balance: bigint;
  /** What was charged, as answers said. */
  readonly charged: bigint;
  /** What requests in flight may be charged. */
  readonly inFlight: bigint;
};

/**
 * What a payer signs for its next request: all that was charged, all that may be, and this. `depositAtomic` is what is
 * missing in the channel for it, 0 when nothing is.
 */
export function nextVoucher(
  account: PayerAccount,
  amountAtomic: bigint,
): { readonly maxClaimable: bigint; readonly depositAtomic: bigint } {
  const maxClaimable = account.charged + account.inFlight + amountAtomic;
  const missing = maxClaimable - account.balance;
  return { maxClaimable, depositAtomic: missing > 0n ? missing : 0n };
}

/**
 * What a payer believes of a corrective 402: its channel's charged amount, when the server shows a voucher of the payer's
 * own for at least as much. `isOwnVoucher` checks that signature. Undefined when it does not: the payer then asks the chain.
 */
export function resyncFrom(
  extra: Pick<RequirementExtra, "channelState" | "voucherState">,
  channelId: Uint8Array,
  isOwnVoucher: (maxClaimable: bigint, signature: string) => boolean,
): { readonly charged: bigint; readonly balance: bigint } | undefined {
  const { channelState, voucherState } = extra;
  if (channelState === undefined || voucherState === undefined) return undefined;
  if (channelState.channelId !== toHex(channelId)) return undefined;
  const charged = BigInt(channelState.chargedCumulativeAmount);
  const signed = BigInt(voucherState.signedMaxClaimable);
  if (charged > signed || !isOwnVoucher(signed, voucherState.signature)) return undefined;
  return { charged, balance: BigInt(channelState.balance) };
}
