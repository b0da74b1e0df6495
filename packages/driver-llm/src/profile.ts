/**
 * Largest change of a logit between generation and re-check that counts as agreement, for the profile `llm` with
 * float32 networks. See the tests of re-check for the differences that were measured; this is well above them, and
 * far below what another token, another prompt or another network changes.
 */
export const LOGIT_TOLERANCE = 0.005;
