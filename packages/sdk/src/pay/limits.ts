/** What is spent counts for this long, milliseconds: the policy's hour. */
export const HOUR_MS = 3_600_000;
/** Spends that are over are kept together by the minute, so that an hour of them is small. */
export const BUCKET_MS = 60_000;
/** Most spends that are kept: 60 minutes of 60 payees, or as many under way. More are refused rather than forgotten. */
export const MAX_SPENDS = 4_096;
/** Most channels that are kept: one for each payee and asset. */
export const MAX_CHANNELS = 256;
/** Most payments that are kept to be sent again with their request. */
export const MAX_UNRESOLVED = 64;
/** Most that a kept state may have, bytes: the limits above, with room. */
export const MAX_STATE_BYTES = 4 * 1024 * 1024;
/** Most challenges that are remembered, and for how long: prices change. */
export const MAX_CHALLENGES = 256;
export const CHALLENGE_MS = 300_000;
/** A payment is not sent when it has less than this left, milliseconds: work and settlement take their time. */
export const DEADLINE_MARGIN_MS = 30_000;
/** Times that a payment is sent again after its connection was lost, with growing pauses. */
export const RESENDS = 3;
export const RESEND_FIRST_MS = 200;
/** How long a payment that is still worked on is asked for again, milliseconds: longer than a stored answer takes. */
export const IN_FLIGHT_MS = 120_000;
/** Times that one request is signed again because the other side stood elsewhere with the channel. */
export const MAX_CORRECTIONS = 3;
/** Payments to one payee in an hour after which a channel costs less than paying each by itself. */
export const CHANNEL_AFTER = 3;
/** Calls that a deposit pays for when the 402 names no smallest one. */
export const DEPOSIT_CALLS = 10n;
/** Longest settlement event of a stream, bytes: a transaction, a few numbers, a receipt's links. */
export const MAX_SETTLEMENT_BYTES = 64 * 1024;
/** Largest answer of a chain, bytes: a word or two, or an error that repeats the call. */
export const MAX_RPC_BYTES = 64 * 1024;
/** Time for an answer of a chain, milliseconds. */
export const RPC_TIMEOUT_MS = 10_000;
/** How long an allowance that was read is believed, milliseconds. */
export const ALLOWANCE_MS = 30_000;
/** How long a permit that was sent is given to reach the chain before the next one is signed, milliseconds. */
export const PERMIT_WAIT_MS = 20_000;
/** Body of a 402 that a v1 server answers with, bytes. */
export const MAX_CHALLENGE_BYTES = 256 * 1024;
/**
 * Largest approval that is made: tokens take 2^96 - 1 (and 2^256 - 1) for "without a limit".
 */
export const MAX_APPROVAL = 2n ** 96n - 2n;
