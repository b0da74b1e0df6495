/** Nonces under way at once: common nodes keep 64 of one account, and forget what is above. */
export const MAX_OPEN = 64;
/** Times that one nonce is signed: each raises the price by an eighth, so this is nine-fold. */
export const MAX_ATTEMPTS = 20;
/** Times that a nonce is signed to be used up, after its job was given up. */
export const MAX_CANCELS = 10;
/** Records that one nonce has in the journal at most. */
export const MAX_SIGNED = MAX_ATTEMPTS + MAX_CANCELS;
/** Nonces that may have to be sent again after the chain went back. More is another chain: a reset one. */
export const MAX_REVIVED = 256;
/** Looks at the chain before a used nonce without a receipt counts as somebody else's: nodes answer a little apart. */
export const MISSES_TO_DROP = 8;
/** Outcomes of finished jobs that are remembered, so that asking costs no look-up; each holds a receipt with all its logs. */
export const MAX_REMEMBERED = 100;
