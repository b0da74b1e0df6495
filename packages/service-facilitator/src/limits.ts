/** Bounds of what the facilitator takes in and keeps. Each is crossed by a test. */
export const FACILITATOR_LIMITS = {
  /** A payment with a contract account's signature and an echoed extension is below 16 KiB; a claim of 100 vouchers below 100. */
  maxBodyBytes: 256 * 1024,
  /** Payments nest eight levels deep with extensions' schemas; a schema may nest further. */
  maxDepth: 24,
  /** Claims of one transaction: 24,500 gas each stays below the 2^24 that a transaction may use. */
  maxClaims: 200,
  /** Bytes of a signature: a passkey wallet's is below 2 KiB, a counterfactual one carries its deployment. */
  maxSignatureBytes: 8 * 1024,
  /** Settlements that wait for their transaction at the same time; each holds a connection. */
  maxPending: 256,
  /** Resources in the catalogue, and bytes of one entry. */
  maxResources: 10_000,
  maxResourceBytes: 8 * 1024,
  /** Page of the catalogue. */
  maxPage: 100,
  defaultPage: 20,
  /** Callers and addresses whose rate is remembered. */
  maxRateKeys: 50_000,
  /** Settlements whose results are remembered in memory. */
  maxRecords: 100_000,
  /** Bytes of another facilitator's answer. */
  maxAnswerBytes: 1024 * 1024,
} as const;
