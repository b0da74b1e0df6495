import { CACHE_LEAST_TOKENS } from "../limits.ts";
import type { Decoder, Past } from "./decoder.ts";

/** Keeps what the network computed for texts, so that a text that begins alike need not run that beginning again. */
export type PrefixCache = {
  /** The longest known beginning of `tokens`, never all of it: the last token must run to give logits. */
  readonly find: (tokens: readonly number[]) => Past | undefined;
  /** Remembers `past` as what the network computed for `tokens`. */
  readonly put: (tokens: readonly number[], past: Past) => void;
  readonly bytes: () => number;
};

type Entry = { readonly tokens: readonly number[]; readonly past: Past; readonly bytes: number };

/** A cache of at most `maxBytes`, which forgets what was not used for the longest time. */
export function createPrefixCache(decoder: Pick<Decoder, "cut" | "bytesOf">, maxBytes: number): PrefixCache {
  /** In order of use: the first is the least recently used. */
  let entries: Entry[] = [];
  let held = 0;

  const shared = (a: readonly number[], b: readonly number[]): number => {
    const most = Math.min(a.length, b.length);
    let length = 0;
    while (length < most && a[length] === b[length]) length++;
    return length;
  };
  const drop = (entry: Entry): void => {
    entries = entries.filter((other) => other !== entry);
    held -= entry.bytes;
  };

  return {
    find: (tokens) => {
      let best: Entry | undefined;
      let most = CACHE_LEAST_TOKENS - 1;
      for (const entry of entries) {
        const length = Math.min(shared(entry.tokens, tokens), tokens.length - 1);
        if (length > most) {
          best = entry;
          most = length;
        }
      }
      if (best === undefined) return undefined;
      const found = best;
      entries = [...entries.filter((other) => other !== found), found];
      return decoder.cut(found.past, most);
    },
    put: (tokens, past) => {
      const bytes = decoder.bytesOf(past);
      if (bytes > maxBytes || past.length < CACHE_LEAST_TOKENS || past.length !== tokens.length) return;
      for (const entry of entries) {
        const length = shared(entry.tokens, tokens);
        // Something at least as long is there already; or something shorter that this one now stands for.
        if (length === tokens.length) return;
        if (length === entry.tokens.length) drop(entry);
      }
      entries = [...entries, { tokens: [...tokens], past, bytes }];
      held += bytes;
      for (const oldest of entries) {
        if (held <= maxBytes) break;
        drop(oldest);
      }
    },
    bytes: () => held,
  };
}
