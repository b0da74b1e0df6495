import type { CryptoSuite } from "@assay/core";
import { verifyReceipt } from "@assay/receipts";
import type { CheckModules, Policy, SignatureCache, Trust, Verdict } from "@assay/receipts";
import { createLogCheck } from "./log-check.ts";

/** Signatures kept as verified: keysets and batch roots, which many receipts share. */
const MAX_SIGNATURES = 4096;

export type VerifierOptions = {
  readonly trust: Trust;
  readonly suite: CryptoSuite;
  readonly policy?: Policy;
  /** Checks of other rooms, for example attestation; the log's is built in. */
  readonly checks?: Omit<CheckModules, "log">;
};

/** Verifies many receipts against one trust, remembering the keysets, batch roots and checkpoints they share. */
export type Verifier = (receipt: Uint8Array, now: number) => Promise<Verdict>;

/**
 * A verifier for one trust and policy.
 *
 * @example
 * const verify = createVerifier({ trust: parseTrust(text), suite: nodeSuite });
 * const verdict = await verify(bytes, Date.now());
 */
export function createVerifier(options: VerifierOptions): Verifier {
  const { trust, suite, policy } = options;
  const known = new Set<string>();
  const cache: SignatureCache = {
    has: (key) => known.has(key),
    add: (key) => {
      if (known.size >= MAX_SIGNATURES) known.clear();
      known.add(key);
    },
  };
  const checks: CheckModules = { ...options.checks, log: createLogCheck() };
  return (receipt, now) => verifyReceipt(receipt, { trust, suite, now, cache, checks, ...(policy ? { policy } : {}) });
}
