import { formatUnits } from "./units.ts";
import { MAX_WITHDRAW_DELAY_SECONDS, MIN_WITHDRAW_DELAY_SECONDS } from "./limits.ts";
import { ZERO_ADDRESS } from "./addresses.ts";
import type { Address, Network, PaymentRequirements, Scheme, TransferMethod } from "./types.ts";
import { refuse } from "./verdict.ts";
import type { Refusal } from "./verdict.ts";

/** A token that may be spent, and how much of it. Amounts are atomic units. */
export type AssetLimit = {
  readonly network: Network;
  readonly address: Address;
  /** What people call it; only the address decides. */
  readonly symbol: string;
  readonly decimals: number;
  /** The token's EIP-712 domain, when it is known: a quote that says another is refused. */
  readonly domain?: { readonly name: string; readonly version: string };
  readonly perCallAtomic: bigint;
  readonly perHourAtomic: bigint;
  /** Per payee and hour; as much as in all when absent. */
  readonly perPayeeAtomic?: bigint;
  /** Of one deposit into a channel; as much as in an hour when absent. */
  readonly perDepositAtomic?: bigint;
};

/** What a client may spend. What is not named is refused, except hosts, networks and payees where no list is given. */
export type SpendPolicy = {
  readonly assets: readonly AssetLimit[];
  /** Hosts, with the port where it is not the scheme's own; `*.example.com` for all below. */
  readonly hosts?: readonly string[];
  readonly networks?: readonly Network[];
  readonly payees?: readonly Address[];
  /** The longest that an authorization may stay good, in seconds. Default a day. */
  readonly maxTimeoutSeconds?: number;
  /** The longest that a deposit may be locked, in seconds. Default a day. */
  readonly maxWithdrawDelaySeconds?: number;
};

/** What was spent of the quote's asset in the last hour. */
export type Spent = { readonly hourAtomic: bigint; readonly payeeHourAtomic: bigint };

/** What is asked of a client. */
export type SpendQuestion = {
  /** Host of the request that was answered by the quote, with the port where it is not the scheme's own. */
  readonly host: string;
  readonly requirement: PaymentRequirements;
  /** What is to be put into a channel with it, atomic units. */
  readonly depositAtomic?: bigint;
  /** A limit of this call alone, atomic units: of both, the lower counts. */
  readonly perCallAtomic?: bigint;
};

const DAY_SECONDS = 86_400;

/** A policy that spends nothing: every token is unknown to it. */
export const SPEND_NOTHING: SpendPolicy = { assets: [] };

function hostAllowed(hosts: readonly string[], host: string): boolean {
  const asked = host.toLowerCase();
  return hosts.some((entry) => {
    const allowed = entry.toLowerCase();
    return allowed.startsWith("*.")
      ? asked.endsWith(allowed.slice(1)) && asked.length > allowed.length - 1
      : allowed === asked;
  });
}

/** The limit of a quote's token, when the policy knows it. */
export function assetLimitOf(policy: SpendPolicy, requirement: PaymentRequirements): AssetLimit | undefined {
  return policy.assets.find(({ network, address }) => network === requirement.network && address === requirement.asset);
}

/**
 * Whether a quote may be paid. Everything in a quote is a stranger's word, so each member is held against the policy, in
 * the order in which a person would want to hear of it: who asks, where, in what, to whom, for how long, how much.
 */
export function judgeQuote(
  policy: SpendPolicy,
  spent: Spent,
  question: SpendQuestion,
): { readonly ok: true; readonly amountAtomic: bigint; readonly asset: AssetLimit } | Refusal {
  const { requirement, host } = question;
  const { extra } = requirement;
  if (policy.hosts !== undefined && !hostAllowed(policy.hosts, host)) {
    return refuse(
      "spend_host_refused",
      `Nothing is paid to "${host.slice(0, 253)}": it is not among the hosts allowed.`,
    );
  }
  if (policy.networks !== undefined && !policy.networks.includes(requirement.network)) {
    return refuse(
      "spend_network_refused",
      `Nothing is paid on ${requirement.network}: it is not among the networks allowed.`,
    );
  }
  const asset = assetLimitOf(policy, requirement);
  if (asset === undefined) {
    return refuse(
      "spend_asset_unknown",
      `The token ${requirement.asset} on ${requirement.network} is none that may be spent, whatever it is called.`,
    );
  }
  // Without a domain nothing can be signed for the token itself, and what Permit2 moves needs none.
  const says = extra.name !== "" || extra.version !== "";
  if (
    says &&
    asset.domain !== undefined &&
    (extra.name !== asset.domain.name || extra.version !== asset.domain.version)
  ) {
    return refuse(
      "spend_asset_unknown",
      `The quote calls ${asset.symbol} "${extra.name.slice(0, 64)}" version "${extra.version.slice(0, 16)}", which it is not.`,
    );
  }
  if (
    requirement.payTo === ZERO_ADDRESS ||
    (policy.payees !== undefined && !policy.payees.includes(requirement.payTo))
  ) {
    return refuse("spend_payee_refused", `${requirement.payTo} is not among the payees allowed.`);
  }
  const longest = policy.maxTimeoutSeconds ?? DAY_SECONDS;
  if (requirement.maxTimeoutSeconds > longest) {
    return refuse(
      "spend_timeout_refused",
      `The authorization would stay good for ${requirement.maxTimeoutSeconds} s, and ${longest} s is the most.`,
    );
  }
  const channel = requirement.scheme === "batch-settlement" ? judgeChannel(policy, requirement) : undefined;
  return channel ?? judgeAmounts(asset, spent, question);
}

function judgeChannel(policy: SpendPolicy, requirement: PaymentRequirements): Refusal | undefined {
  const { withdrawDelay = MIN_WITHDRAW_DELAY_SECONDS, receiverAuthorizer } = requirement.extra;
  const longest = Math.min(policy.maxWithdrawDelaySeconds ?? DAY_SECONDS, MAX_WITHDRAW_DELAY_SECONDS);
  if (withdrawDelay > longest) {
    return refuse(
      "spend_delay_refused",
      `A deposit would be locked for ${withdrawDelay} s, and ${longest} s is the most.`,
    );
  }
  if (receiverAuthorizer === undefined || receiverAuthorizer === ZERO_ADDRESS) {
    return refuse("spend_payee_refused", "The channel would have no one who can sign refunds.");
  }
  return undefined;
}

function judgeAmounts(
  asset: AssetLimit,
  spent: Spent,
  question: SpendQuestion,
): { readonly ok: true; readonly amountAtomic: bigint; readonly asset: AssetLimit } | Refusal {
  const amountAtomic = BigInt(question.requirement.amount);
  const say = (atomic: bigint): string => `${formatUnits(atomic, asset.decimals)} ${asset.symbol}`;
  const own = question.perCallAtomic;
  const perCall = own !== undefined && own < asset.perCallAtomic ? own : asset.perCallAtomic;
  if (amountAtomic > perCall) {
    return refuse(
      "spend_over_call",
      `The call may cost ${say(amountAtomic)}, and ${say(perCall)} is the most for one.`,
    );
  }
  const deposit = question.depositAtomic ?? 0n;
  const perDeposit = asset.perDepositAtomic ?? asset.perHourAtomic;
  if (deposit > perDeposit) {
    return refuse(
      "spend_over_deposit",
      `${say(deposit)} is to be deposited, and ${say(perDeposit)} is the most at once.`,
    );
  }
  // A deposit leaves the wallet like a payment, so the greater of the two counts against the hour.
  const leaving = deposit > amountAtomic ? deposit : amountAtomic;
  if (spent.hourAtomic + leaving > asset.perHourAtomic) {
    return refuse(
      "spend_over_hour",
      `With ${say(leaving)} more, ${say(spent.hourAtomic + leaving)} would be spent in an hour; ${say(asset.perHourAtomic)} is the most.`,
    );
  }
  const perPayee = asset.perPayeeAtomic ?? asset.perHourAtomic;
  if (spent.payeeHourAtomic + leaving > perPayee) {
    return refuse(
      "spend_over_payee",
      `With ${say(leaving)} more, ${say(spent.payeeHourAtomic + leaving)} would go to one payee in an hour; ${say(perPayee)} is the most.`,
    );
  }
  return { ok: true, amountAtomic, asset };
}

/** What a client can sign, the dearest wish first. */
export type Capabilities = {
  readonly schemes: readonly Scheme[];
  readonly methods: readonly TransferMethod[];
};

function payable(capabilities: Capabilities, requirement: PaymentRequirements): boolean {
  const { scheme, extra } = requirement;
  const method = scheme === "upto" ? "permit2" : (extra.assetTransferMethod ?? "eip3009");
  if (!capabilities.schemes.includes(scheme) || !capabilities.methods.includes(method)) return false;
  // A signature by EIP-3009 is over the token's domain, and `upto` is for the facilitator that it names.
  if (method === "eip3009" && (extra.name === "" || extra.version === "")) return false;
  return scheme !== "upto" || extra.facilitatorAddress !== undefined;
}

/**
 * The requirement to pay: of those that can be signed and that the policy lets pass, the first in the client's order of
 * schemes, and of one scheme the first quoted. `ask` says what was spent and what a deposit would be. When none remains,
 * the refusal is that of the one that would have been next, or `spend_none_payable` when none can be signed at all.
 */
export function chooseRequirement(
  accepts: readonly PaymentRequirements[],
  capabilities: Capabilities,
  policy: SpendPolicy,
  ask: (requirement: PaymentRequirements) => {
    readonly spent: Spent;
    readonly question: Omit<SpendQuestion, "requirement">;
  },
):
  | {
      readonly ok: true;
      /** Its place in `accepts`. */
      readonly index: number;
      readonly requirement: PaymentRequirements;
      readonly amountAtomic: bigint;
      readonly asset: AssetLimit;
    }
  | (Refusal & { readonly refusals: readonly Refusal[] }) {
  const refusals: Refusal[] = [];
  for (const scheme of capabilities.schemes) {
    for (const [index, requirement] of accepts.entries()) {
      if (requirement.scheme !== scheme || !payable(capabilities, requirement)) continue;
      const { spent, question } = ask(requirement);
      const verdict = judgeQuote(policy, spent, { ...question, requirement });
      if (verdict.ok) return { ...verdict, index, requirement };
      refusals.push(verdict);
    }
  }
  const [first] = refusals;
  const none = refuse(
    "spend_none_payable",
    "Of the ways to pay that are offered there is none that this client can sign.",
  );
  return { ...(first ?? none), refusals };
}
