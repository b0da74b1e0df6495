import { AssayError } from "@assay/core";
import type { RoutingOptions, SecurityMode } from "@assay/protocol";
import { parseDecimal } from "./decimal.ts";

/** Levels of assurance, weakest first. */
export const ASSURANCES = ["vanilla", "vanilla+audit", "tee", "zkml"] as const;
export type Assurance = (typeof ASSURANCES)[number];

/** One line of a policy: up to this value at risk (US dollars, decimal text; `null` for any), this assurance. */
export type AssuranceTier = {
  readonly upTo: string | null;
  readonly assurance: Assurance;
  /** With `vanilla+audit`: the share of answers that are executed again and compared, decimal text above 0 to 1. */
  readonly auditShare?: string;
};

/** An operator's policy: which assurance an answer needs for what hangs on it. Tiers ascend. */
export type AssurancePolicy = { readonly version: 1; readonly tiers: readonly AssuranceTier[] };

/** Tiers that a policy may have: an operator reads them all. */
export const MAX_TIERS = 16;

/** What holds where the operator wrote nothing: the price of a wrong answer decides how it must be backed. */
export const DEFAULT_ASSURANCE_POLICY: AssurancePolicy = {
  version: 1,
  tiers: [
    { upTo: "100", assurance: "vanilla" },
    { upTo: "1000", assurance: "vanilla+audit", auditShare: "0.05" },
    { upTo: "100000", assurance: "tee" },
    { upTo: null, assurance: "zkml" },
  ],
};

/** What a decision demands, why, and how much of it is audited. */
export type DemandedAssurance = {
  readonly assurance: Assurance;
  /** One sentence for the service statement. */
  readonly reason: string;
  readonly auditShare?: string;
};

/**
 * Refuses a policy that cannot be applied: no tiers or more than {@link MAX_TIERS}, values that do not ascend, an open
 * tier before the last, an assurance that falls while the value grows, an audit without its share. Throws
 * `assurance_policy_invalid`.
 */
export function checkAssurancePolicy(policy: AssurancePolicy): void {
  const refuse = (sentence: string): never => {
    throw new AssayError("assurance_policy_invalid", sentence, {
      hints: ["Tiers ascend by value and by assurance; the last may have upTo null, for every higher value."],
    });
  };
  const { tiers } = policy;
  if (tiers.length === 0 || tiers.length > MAX_TIERS) refuse(`A policy has 1 to ${MAX_TIERS} tiers.`);
  let value = -1n;
  let level = -1;
  for (const [i, tier] of tiers.entries()) {
    if (tier.upTo === null) {
      if (i < tiers.length - 1) refuse("Only the last tier may be without a value.");
    } else {
      let upTo: bigint;
      try {
        upTo = parseDecimal(tier.upTo, "A tier's value");
      } catch (cause) {
        throw new AssayError("assurance_policy_invalid", `Tier ${i + 1} has no decimal value.`, { cause });
      }
      if (upTo <= value) refuse(`Tier ${i + 1} has a value that is not above the one before.`);
      value = upTo;
    }
    const next = ASSURANCES.indexOf(tier.assurance);
    if (next < level) refuse(`Tier ${i + 1} asks for less assurance than the one before it.`);
    level = next;
    if ((tier.assurance === "vanilla+audit") !== (tier.auditShare !== undefined))
      refuse(`Tier ${i + 1} must name a share of audits exactly when it is vanilla+audit.`);
    if (tier.auditShare !== undefined && !isShare(tier.auditShare))
      refuse(`Tier ${i + 1} has a share of audits that is not above 0 and at most 1.`);
  }
}

/**
 * The assurance that `limits` demand together: the strongest of the modes asked for and of the tiers that the values at
 * risk fall in. Throws `assurance_unavailable` for a value above every tier, and where `tee` is asked for and the value
 * demands `zkml`: a proof does not hide what an enclave hides, so neither stands in for both.
 */
export function demandedAssurance(limits: readonly RoutingOptions[], policy: AssurancePolicy): DemandedAssurance {
  let demanded: DemandedAssurance = { assurance: "vanilla", reason: "Nothing more was asked for." };
  let teeAsked = false;
  const raise = (next: DemandedAssurance): void => {
    if (rank(next.assurance) > rank(demanded.assurance)) demanded = next;
  };
  for (const { mode, valueAtRisk } of limits) {
    if (mode !== undefined) {
      teeAsked ||= mode === "tee";
      raise({ assurance: mode, reason: `The mode ${mode} was asked for.` });
    }
    if (valueAtRisk !== undefined) raise(tierOf(policy, valueAtRisk));
  }
  if (teeAsked && demanded.assurance === "zkml")
    throw new AssayError("assurance_unavailable", "The tee mode was asked for where zkml is demanded.", {
      hints: ["No execution gives both; ask for one of them, or name a smaller value at risk."],
    });
  return demanded;
}

/** The mode in which an execution must run to give an assurance. */
export function modeOf(assurance: Assurance): SecurityMode {
  return assurance === "vanilla+audit" ? "vanilla" : assurance;
}

function tierOf(policy: AssurancePolicy, valueAtRisk: string): DemandedAssurance {
  const value = parseDecimal(valueAtRisk, "The value at risk");
  const tier = policy.tiers.find(({ upTo }) => upTo === null || value <= parseDecimal(upTo, "A tier's value"));
  if (!tier)
    throw new AssayError(
      "assurance_unavailable",
      `No tier of this gateway's policy reaches a value of ${valueAtRisk}.`,
      {
        hints: [`Its highest is ${policy.tiers.at(-1)?.upTo ?? "none"} US dollars.`],
      },
    );
  return {
    assurance: tier.assurance,
    reason:
      tier.upTo === null
        ? `A value at risk of ${valueAtRisk} is above every limit of the policy.`
        : `A value at risk of ${valueAtRisk} is within the policy's tier up to ${tier.upTo}.`,
    ...(tier.auditShare === undefined ? {} : { auditShare: tier.auditShare }),
  };
}

function rank(assurance: Assurance): number {
  return ASSURANCES.indexOf(assurance);
}

function isShare(text: string): boolean {
  try {
    const share = parseDecimal(text, "A share");
    return share > 0n && share <= parseDecimal("1", "One");
  } catch {
    return false;
  }
}
