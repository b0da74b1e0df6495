/** Largest JSON answer, bytes: a page of a thousand receipts is under one megabyte, a manifest at most four. */
export const MAX_JSON_BYTES = 16 * 1024 * 1024;
/** Largest error body that is read, bytes: a sentence, a code and hints. */
export const MAX_ERROR_BYTES = 64 * 1024;
/** Largest proof or checkpoint, bytes: a note with several post-quantum cosignatures. */
export const MAX_PROOF_BYTES = 1024 * 1024;
/** Times a safe request is sent again by default. */
export const DEFAULT_RETRIES = 2;
/** Times that signing in is tried again while the gateway's database starts, which takes a few seconds. */
export const SIGN_IN_RETRIES = 8;
/** First and longest pause between two tries, milliseconds; the real one is random below it. */
export const BACKOFF_FIRST_MS = 100;
export const BACKOFF_LONGEST_MS = 2_000;
/** Longest `Retry-After` that is obeyed, milliseconds: a person waits behind most calls. */
export const MAX_RETRY_AFTER_MS = 10_000;
/** Time until an answer's headers have come, milliseconds: the gateway's own run limit is 30 seconds. */
export const DEFAULT_TIMEOUT_MS = 60_000;
/** How long an answer waits for its checkpoint by default, milliseconds: they are signed every second. */
export const DEFAULT_CHECKPOINT_WAIT_MS = 5_000;
/** A token is renewed when it has less than this left, milliseconds. */
export const TOKEN_MARGIN_MS = 60_000;
/**
 * Largest answer of a language model, bytes: beside the largest request (32 MiB) it still fits an opened bundle
 * (64 MiB), so whatever is accepted can also be verified.
 */
export const MAX_TEXT_ANSWER_BYTES = 28 * 1024 * 1024;
/** Largest event of a stream, bytes: a token is a few hundred, an image that a model made a few million. */
export const MAX_EVENT_BYTES = 16 * 1024 * 1024;
/** Most frames of one stream: at honest sizes the limit in bytes comes first, and each frame costs two hashes. */
export const MAX_FRAMES = 250_000;
/** Time until an answer's first byte and between any two of them, milliseconds; a long prompt on a slow machine. */
export const DEFAULT_TEXT_TIMEOUT_MS = 600_000;
/** Bytes of the nonce that ties a receipt to its own request. */
export const NONCE_BYTES = 16;
