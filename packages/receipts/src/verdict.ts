/** The checks a verdict reports, in this order. `format` is whether the bytes are the one encoding of a bundle. */
export const CHECKS = [
  "format",
  "signature",
  "keyset",
  "attestation",
  "proof",
  "commitments",
  "log",
  "anchor",
  "payment",
  "policy",
] as const;
export type CheckName = (typeof CHECKS)[number];

/**
 * `pass`: made, and it held. `fail`: made, and it did not hold. `inconclusive`: it should be made and could not be.
 * `absent`: the receipt states nothing that this check would test.
 */
export type CheckStatus = "pass" | "fail" | "inconclusive" | "absent";

/** One row of a verdict. `facts` are what was compared, as texts a person can read. */
export type CheckRow = {
  readonly check: CheckName;
  readonly status: CheckStatus;
  /** Stable code, for example `signature_invalid`. */
  readonly code: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, string>>;
};

export type CheckOutcome = Omit<CheckRow, "check">;

/** The four questions people ask of a receipt, one sentence each. */
export type Answers = {
  readonly whoActed: string;
  readonly whichModel: string;
  readonly howToVerify: string;
  readonly couldBeAltered: string;
};

/**
 * What a verifier found. `verified` needs every required check to pass and none to fail; one failed check makes it
 * `failed`; a required check that could not be made makes it `inconclusive`.
 */
export type Verdict = {
  readonly status: "verified" | "failed" | "inconclusive";
  /** Code of the row that decided, or `verified`. */
  readonly code: string;
  readonly checks: readonly CheckRow[];
  readonly receiptId: string | null;
  readonly executionDigest: string | null;
  readonly answers: Answers;
  /** What this mode proves and what it does not, and who must still be trusted, a sentence each. */
  readonly proves: string;
  readonly doesNotProve: string;
  readonly residualTrust: readonly string[];
};
