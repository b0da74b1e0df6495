/** Characters of a payment header before decoding: what Node takes for all headers of a request together. */
export const MAX_HEADER_CHARS = 16 * 1024;
/** Bytes of a v1 quote, which comes as a body: several requirements with their output schemas fit. */
export const MAX_QUOTE_BODY_BYTES = 64 * 1024;
/** Nesting of a payment's JSON. Extensions echo their JSON schemas, which nest about ten deep. */
export const MAX_JSON_DEPTH = 24;
/** Requirements of one quote that are looked at: seller's networks times tokens times schemes, with room. */
export const MAX_ACCEPTS = 64;
/** Characters of a text in a quote, such as its description. */
export const MAX_TEXT_CHARS = 4096;
/** Bytes of a signature: a contract account's passkey or multi-signature with its deployment (ERC-6492) fits. */
export const MAX_SIGNATURE_BYTES = 8 * 1024;
/** Seconds that a requirement may give for payment: a year. What a payer accepts is its policy's matter. */
export const MAX_TIMEOUT_SECONDS = 31_536_000;

/** Seconds by which an authorization must outlive the moment of its check: the block that settles it is still to come. */
export const EXPIRY_SLACK_SECONDS = 6;
/** Bounds of a channel's withdraw delay (x402 batch-settlement): 15 minutes, 30 days. */
export const MIN_WITHDRAW_DELAY_SECONDS = 900;
export const MAX_WITHDRAW_DELAY_SECONDS = 2_592_000;

export const MAX_UINT128 = (1n << 128n) - 1n;
export const MAX_UINT256 = (1n << 256n) - 1n;
