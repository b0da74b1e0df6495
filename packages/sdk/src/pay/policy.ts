import { AssayError } from "@assay/core";
import { judgeQuote, parseUnits } from "@assay/x402";
import type { AssetLimit, PaymentRequirements, SpendPolicy } from "@assay/x402";
import { depositedLately } from "./channels.ts";
import type { PaidAsset } from "./settlement.ts";
import type { PayState, Spend } from "./state.ts";

/** A token that may be spent, with its limits as decimal texts in units of the token. */
export type SpendLimits = {
  /** Most that one call may cost. */
  readonly perCall: string;
  /** Most in an hour, whoever is paid; deposits into channels count. */
  readonly perHour: string;
  /** Most in an hour for any one payee; as much as in all when absent. */
  readonly perPayee?: string;
  /** Most of one deposit into a channel; as much as in an hour when absent. */
  readonly perDeposit?: string;
};

/**
 * The limit of a token for a policy. Throws `spend_amount_invalid`.
 *
 * @example
 * const policy = { assets: [spendLimit(usdc, { perCall: "0.01", perHour: "1" })] };
 */
export function spendLimit(token: PaidAsset & Pick<AssetLimit, "network" | "domain">, limits: SpendLimits): AssetLimit {
  const atomic = (text: string): bigint => parseUnits(text, token.decimals);
  const { perPayee, perDeposit } = limits;
  return {
    network: token.network,
    address: token.address,
    symbol: token.symbol,
    decimals: token.decimals,
    ...(token.domain ? { domain: token.domain } : {}),
    perCallAtomic: atomic(limits.perCall),
    perHourAtomic: atomic(limits.perHour),
    ...(perPayee === undefined ? {} : { perPayeeAtomic: atomic(perPayee) }),
    ...(perDeposit === undefined ? {} : { perDepositAtomic: atomic(perDeposit) }),
  };
}

/** What a quote is judged by. */
export type QuoteContext = {
  readonly host: string;
  readonly requirement: PaymentRequirements;
  /** What is to be deposited with it. */
  readonly depositAtomic?: bigint;
  /** A limit of the call itself, decimal text. */
  readonly maxSpend: string | undefined;
};

/**
 * The asset of a quote that a policy lets pass, in the light of what was spent. Throws the refusal (`spend_asset_unknown`,
 * `spend_over_call`, `spend_over_hour`, `spend_payee_refused` and the like).
 */
export function requireAllowed(
  policy: SpendPolicy,
  state: Pick<PayState, "spends" | "channels">,
  quote: QuoteContext,
  nowMs: number,
): AssetLimit {
  const { requirement, host, depositAtomic, maxSpend } = quote;
  const { network, asset, payTo } = requirement;
  const known = policy.assets.find((one) => one.network === network && one.address === asset);
  const isOf = (one: { network: string; asset: string }): boolean => one.network === network && one.asset === asset;
  const spends = state.spends.filter(isOf);
  const channels = state.channels.filter(isOf);
  // From a channel's balance nothing leaves the wallet before that is used up.
  const covered =
    requirement.scheme === "batch-settlement" && depositAtomic === undefined ? BigInt(requirement.amount) : 0n;
  const toPayee = (one: { readonly payee: string }): boolean => one.payee === payTo;
  const verdict = judgeQuote(
    policy,
    {
      hourAtomic: spent(spends, channels, nowMs, covered),
      payeeHourAtomic: spent(spends.filter(toPayee), channels.filter(toPayee), nowMs, covered),
    },
    {
      host,
      requirement,
      ...(depositAtomic === undefined ? {} : { depositAtomic }),
      ...(maxSpend === undefined || !known ? {} : { perCallAtomic: parseUnits(maxSpend, known.decimals) }),
    },
  );
  if (verdict.ok) return verdict.asset;
  throw new AssayError(verdict.code, verdict.message, { hints: ["Nothing was signed for it."] });
}

// What is paid from a channel left the wallet with its deposit: of both, the greater counts.
function spent(spends: readonly Spend[], channels: PayState["channels"], nowMs: number, covered: bigint): bigint {
  let paid = 0n;
  let fromChannels = 0n;
  for (const { amount, channelId } of spends) {
    if (channelId === undefined) paid += BigInt(amount);
    else fromChannels += BigInt(amount);
  }
  const deposited = channels.reduce((sum, channel) => sum + depositedLately(channel, nowMs), -covered);
  return paid + (deposited > fromChannels ? deposited : fromChannels);
}

/** Whether an error is the refusal of a quote by a policy. */
export function isSpendRefusal(error: unknown): error is AssayError {
  return error instanceof AssayError && error.code.startsWith("spend_") && error.code !== "spend_amount_invalid";
}
