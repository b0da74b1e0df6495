import { bytesToHex } from "@assay/core";
import type { Address } from "@assay/x402";
import type { Chain } from "./chain.ts";
import type { FactsQuery, PayerFacts } from "./facts.ts";

/** Facts older than this are read again: a payer may move funds at any block. */
const DEFAULT_MAX_AGE_MS = 2_000;
/** Questions that are remembered; the oldest go first. */
const DEFAULT_MAX_ENTRIES = 10_000;

export type FactsCacheOptions = {
  readonly maxAgeMs?: number;
  readonly maxEntries?: number;
  readonly nowMs?: () => number;
};

export type FactsCache = {
  /** As {@link Chain.payerFacts}; the same question within the age is not asked again, nor twice at a time. */
  readonly payerFacts: (query: FactsQuery) => Promise<PayerFacts>;
  /** Forgets a payer: something of theirs was settled, so what is known of them is wrong. */
  readonly invalidate: (payer: Address) => void;
  readonly size: () => number;
};

type Entry = { readonly answer: Promise<PayerFacts>; readonly askedAtMs: number };

/**
 * Remembers what a chain said of payers for a short time. Only whole questions are matched: whether a nonce was used is never
 * concluded from what was asked about another.
 */
export function createFactsCache(chain: Pick<Chain, "payerFacts">, options: FactsCacheOptions = {}): FactsCache {
  const maxAgeMs = options.maxAgeMs ?? DEFAULT_MAX_AGE_MS;
  const maxEntries = options.maxEntries ?? DEFAULT_MAX_ENTRIES;
  const nowMs = options.nowMs ?? Date.now;
  const entries = new Map<string, Entry>();
  const byPayer = new Map<string, Set<string>>();

  function remove(key: string): void {
    entries.delete(key);
    const payer = key.slice(0, ADDRESS_LENGTH);
    const keys = byPayer.get(payer);
    keys?.delete(key);
    if (keys?.size === 0) byPayer.delete(payer);
  }

  return {
    payerFacts(query) {
      const key = keyOf(query);
      const known = entries.get(key);
      if (known !== undefined && nowMs() - known.askedAtMs < maxAgeMs) return known.answer;
      remove(key);
      const entry: Entry = { answer: chain.payerFacts(query), askedAtMs: nowMs() };
      entries.set(key, entry);
      const payer = key.slice(0, ADDRESS_LENGTH);
      byPayer.set(payer, (byPayer.get(payer) ?? new Set()).add(key));
      for (const oldest of entries.keys()) {
        if (entries.size <= maxEntries) break;
        remove(oldest);
      }
      // A failure is nobody's fact; whoever asks next asks the chain.
      entry.answer.catch(() => {
        if (entries.get(key) === entry) remove(key);
      });
      return entry.answer;
    },
    invalidate(payer) {
      for (const key of byPayer.get(payer.toLowerCase()) ?? []) remove(key);
    },
    size: () => entries.size,
  };
}

const ADDRESS_LENGTH = 42;

function keyOf(query: FactsQuery): string {
  const nonce = query.authorizationNonce === undefined ? "" : bytesToHex(query.authorizationNonce);
  const parts = [query.asset, query.spender ?? "", nonce, query.permit2Nonce ?? "", query.permitNonce ?? ""];
  return `${query.payer} ${parts.join(" ")}`.toLowerCase();
}
