/** Payments of one transaction: 200 at 75,000 gas each fill {@link MAX_GROUP_GAS}. */
export const MAX_GROUP_ITEMS = 200;
/** Channels claimed by one transaction; a claim costs about 25,000 gas, and its calldata half a kilobyte. */
export const MAX_GROUP_CHANNELS = 200;
/** Gas of one transaction: below 2^24, where chains of the Osaka rules cap it (EIP-7825). */
export const MAX_GROUP_GAS = 15_000_000n;
/** And at most this share of a block, in percent, so that a transaction is not what no block has room for. */
export const MAX_BLOCK_SHARE_PERCENT = 50n;
/** What an estimate is raised by, in percent: storage that was warm in the simulation may be cold in the block. */
export const GAS_MARGIN_PERCENT = 25n;
/** Rows looked at in one turn: a longer backlog takes several turns, earliest deadline first. */
export const MAX_DUE_ROWS = 2_000;
/** Jobs under way at once: each may hold a nonce, and a stuck nonce holds all after it. */
export const MAX_JOBS = 8;
/** How long a transaction that a facilitator named is looked for before it is asked again, milliseconds: some blocks. */
export const OUTSIDE_WAIT_MS = 60_000;
/** Tries of a payment before it is dead and waits for a person. */
export const MAX_ATTEMPTS = 8;
/** Wait before the second try, milliseconds; doubled for each further one. */
export const FIRST_RETRY_MS = 2_000;
/** Longest wait between tries: a payer who tops up is served soon after. */
export const LONGEST_RETRY_MS = 120_000;
/** Runs of one job's workflow that ended in an unexpected error before its payments are dead. */
export const MAX_JOB_RUNS = 5;
/** How long before its deadline a payment is sent whatever waits for company, seconds. */
export const DEADLINE_MARGIN_S = 180;
/** After a signature's last second it can still be in a block that we have not seen; later it cannot, seconds. */
export const EXPIRY_GRACE_S = 60;
/** Blocks searched for a payment that somebody else sent: an hour of two-second blocks, above any deadline we quote. */
export const SEARCH_BLOCKS = 1_800;
/** Blocks asked of a node in one question; public nodes refuse longer ranges. */
export const SEARCH_CHUNK_BLOCKS = 900;
/** Settled payments looked at again after a chain went back, newest first. */
export const MAX_REORG_ROWS = 5_000;
/** Bytes of a revert reason that are kept. */
export const MAX_ERROR_BYTES = 300;
/** Supplements written in one turn. */
export const MAX_SUPPLEMENT_ROWS = 256;
