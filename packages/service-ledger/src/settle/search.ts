import type { Hex } from "@assay/x402";
import { SEARCH_BLOCKS, SEARCH_CHUNK_BLOCKS } from "./limits.ts";

/** Looks from `head` back through `blocks` ({@link SEARCH_BLOCKS}), a part at a time, until `look` finds something. */
export async function searchBack<T>(
  head: number,
  look: (fromBlock: number, toBlock: number) => Promise<T | undefined>,
  blocks = SEARCH_BLOCKS,
): Promise<T | undefined> {
  const oldest = Math.max(0, head - blocks);
  for (let to = head; to >= oldest; to -= SEARCH_CHUNK_BLOCKS) {
    const found = await look(Math.max(oldest, to - SEARCH_CHUNK_BLOCKS + 1), to);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** viem types topics as possibly nested; ours are single values. */
export function plainTopics(encoded: readonly (Hex | readonly Hex[] | null)[]): readonly (Hex | null)[] {
  return encoded.map((topic) => (typeof topic === "string" ? topic : null));
}
