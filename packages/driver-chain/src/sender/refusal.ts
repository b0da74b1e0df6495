import { rpcFault } from "../rpc/fault.ts";

/**
 * What a node's refusal of a transaction means. Nodes share no codes for it, so their words decide; words that are not
 * known are `unknown`, which is waited out.
 */
export type Refusal =
  /** It has the transaction: as good as sent. */
  | "known"
  /** A transaction with this nonce was mined: perhaps an attempt of the same job. */
  | "nonce_used"
  /** Another attempt is there and this one does not pay enough more. */
  | "underpriced"
  | "unfunded"
  /** No node will ever take these bytes. */
  | "invalid"
  | "unknown";

const WORDS: readonly (readonly [RegExp, Refusal])[] = [
  [/already (known|imported|in (the )?(mem)?pool)|known transaction/i, "known"],
  [/nonce (is )?too low|nonce has already been used|old nonce/i, "nonce_used"],
  [/underpriced|max fee per gas less than block base fee|fee ?cap (less|lower)|fee too low/i, "underpriced"],
  [/insufficient (funds|balance)|not enough funds/i, "unfunded"],
  [
    /intrinsic gas|exceeds block gas limit|gas limit (is )?too high|invalid (sender|signature|chain)|rlp|size (limit|too)|oversized/i,
    "invalid",
  ],
];

/** Undefined when the node was not the one that refused: it could not be reached. */
export function refusalOf(error: unknown): Refusal | undefined {
  const fault = rpcFault(error);
  if (fault === undefined) return undefined;
  return WORDS.find(([pattern]) => pattern.test(fault.rpcMessage))?.[1] ?? "unknown";
}
