import { bytesToHex } from "@assay/core";
import type { Claim } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import type { ChannelConfig, Hex, Voucher } from "@assay/x402";
import type { PaymentRow } from "./rows.ts";
import { text } from "./values.ts";

/** A claim on one channel: the highest voucher that its payer signed, and what is claimed in all. */
export type ChannelClaim = Claim & { readonly channelId: Hex };

/** The channel and voucher that a row's payer signed; undefined for other payments. */
export function voucherOf(row: PaymentRow): { readonly channel: ChannelConfig; readonly voucher: Voucher } | undefined {
  const { payment } = row.instruction.payload;
  return payment.kind === "voucher" || payment.kind === "deposit" ? payment : undefined;
}

/**
 * The highest voucher of a channel: of these rows, or the one that the channel's row keeps when theirs do not reach
 * `atLeast`. A payment that ended first may have come with a higher voucher than those that are claimed with it.
 */
export async function highestVoucher(
  database: Database,
  channelId: Hex,
  rows: readonly PaymentRow[],
  atLeast: bigint,
): Promise<Pick<ChannelClaim, "channel" | "maxClaimable" | "signature"> | undefined> {
  let best: Pick<ChannelClaim, "channel" | "maxClaimable" | "signature"> | undefined;
  for (const row of rows) {
    const signed = voucherOf(row);
    if (!signed || bytesToHex(signed.voucher.channelId) !== channelId.slice(2)) continue;
    const { maxClaimable, signature } = signed.voucher;
    if (!best || maxClaimable > best.maxClaimable) best = { channel: signed.channel, maxClaimable, signature };
  }
  if (!best || best.maxClaimable >= atLeast) return best;
  const answer = await database.query(
    `SELECT signed_max::text AS signed_max, signature FROM assay.channels
     WHERE channel_id = decode($1, 'hex') AND signature IS NOT NULL`,
    [channelId.slice(2)],
  );
  const kept = answer.rows[0];
  const signature = kept?.["signature"];
  if (!(signature instanceof Uint8Array)) return best;
  const maxClaimable = BigInt(text(kept?.["signed_max"]));
  return maxClaimable > best.maxClaimable
    ? { channel: best.channel, maxClaimable, signature: new Uint8Array(signature) }
    : best;
}
