// What a payment may take, and why.

/** A signature is good for this long: the queue, the longest generation and several blocks fit. Seconds. */
export const MAX_TIMEOUT_SECONDS = 900;
/** A signature that ends sooner is refused: it could run out before a block has it. Seconds. */
export const MIN_REMAINING_SECONDS = 30;
/** Payments that are under way in one process at most; each holds a few hundred bytes. */
export const MAX_OPEN_PAYMENTS = 20_000;
/** Client-side limit of one statement, milliseconds: a payer waits meanwhile. */
export const STATEMENT_TIMEOUT_MS = 5_000;
/** What whoever sent a payment twice is told to wait, seconds. */
export const IN_FLIGHT_RETRY_S = 1;
/**
 * How long a copy of a payment waits for what becomes of the first, milliseconds: as long as proxies commonly wait for an
 * answer's first byte. Then it is told to come again.
 */
export const COPY_WAIT_MS = 60_000;
/** Copies that may wait for one payment: more than a client sends side by side. Each holds a connection and its body. */
export const MAX_COPIES_PER_PAYMENT = 64;
/** Copies that may wait in all: a quarter of the texts that a gateway has under way, so that they are in nobody's way. */
export const MAX_COPIES_WAITING = 1024;
/** What others are told to wait for a settlement or a chain, seconds. */
export const SETTLE_RETRY_S = 3;
/** A payer whose payment could not be settled is refused for this long after the last try, milliseconds. */
export const DENY_MS = 24 * 60 * 60 * 1000;
/** Characters of an idempotency key. */
export const MAX_KEY_LENGTH = 128;
/** The least first deposit, in quotes: what clients deposit that were not told. */
export const MIN_DEPOSIT_QUOTES = 5n;
/** A channel's payer may take its money back after this long, unless told otherwise: a day, in seconds. */
export const DEFAULT_WITHDRAW_DELAY_S = 86_400;
/** How long a voucher may wait for others on its channel, milliseconds. */
export const CHANNEL_WAIT_MS = 30_000;
/** Requests that may wait on one channel. */
export const MAX_CHANNEL_WAITERS = 256;
/** How long a client that was told its channel's state is waited for before the next is told, milliseconds. */
export const RESYNC_GRACE_MS = 3_000;
/** How often a channel that another gateway works on is looked at, milliseconds. */
export const CHANNEL_POLL_MS = 250;
/** Channels kept in memory; the rows have all of them. */
export const MAX_CHANNELS_KEPT = 10_000;
/** What the chain said of a channel holds for this long, milliseconds, and for a third of its withdraw delay at most. */
export const CHANNEL_FRESH_MS = 5 * 60 * 1000;
/** Whole tokens that a payer may owe unseen, unless told otherwise. */
export const DEFAULT_UNSETTLED_TOKENS = 1n;
/** Whole tokens that all payers together may owe unseen, unless told otherwise: an account costs nothing. */
export const DEFAULT_TRUSTED_TOKENS = 100n;
/** Whole tokens that a payer with a known balance may owe, unless told otherwise. */
export const DEFAULT_VERIFIED_UNSETTLED_TOKENS = 100n;
/** A chain that takes longer than this is as good as silent, milliseconds. */
export const FACTS_TIMEOUT_MS = 2_000;
/** How long it holds that none of a payer's payments failed, for vouchers, milliseconds. */
export const STANDING_FRESH_MS = 5_000;
/** Tries to claim a payment whose row comes and goes meanwhile. */
export const CLAIM_TRIES = 3;
/** A claim outlives its signature by this before others free it: generations run long, seconds. */
export const EXPIRED_GRACE_S = 3_600;
