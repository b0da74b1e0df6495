import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ParsedQuote } from "@assay/x402";
import { isObject } from "../text/json.ts";
import { CHALLENGE_MS, MAX_CHALLENGES } from "./limits.ts";

/** Challenges by what they were for, so that the next request of its kind is paid unasked. */
export type Challenges = {
  readonly find: (request: PricedRequest, nowMs: number) => ParsedQuote | undefined;
  readonly keep: (request: PricedRequest, challenge: ParsedQuote, nowMs: number) => void;
  /** It did not fit: prices have changed. */
  readonly forget: (request: PricedRequest) => void;
};

type PricedRequest = {
  readonly method: string;
  readonly url: string;
  readonly body: Uint8Array | undefined;
  readonly init: RequestInit;
};

type Entry = {
  readonly sizes: Map<string, ParsedQuote>;
  /** What every size was asked so far; undefined once two were asked different prices. */
  flat: string | undefined;
  untilMs: number;
};

/** Sizes of one route that are remembered: a conversation grows with every turn, and an old size does not come again. */
const MAX_SIZES = 16;

/**
 * Challenges by route, model and what bounds the answer. A price by the token differs with the request's size: what two
 * sizes were asked the same for is taken for a price by the call, and goes for every other size as well.
 */
export function createChallenges(): Challenges {
  const entries = new Map<string, Entry>();
  const sizeOf = ({ body }: PricedRequest): string => String(body?.length ?? 0);
  return {
    find(request, nowMs) {
      const key = keyOf(request);
      const entry = entries.get(key);
      if (!entry) return undefined;
      if (entry.untilMs <= nowMs) {
        entries.delete(key);
        return undefined;
      }
      const [any] = entry.sizes.values();
      const known = entry.sizes.get(sizeOf(request));
      return known ?? (entry.sizes.size > 1 && entry.flat !== undefined ? any : undefined);
    },
    keep(request, challenge, nowMs) {
      const key = keyOf(request);
      const price = JSON.stringify(challenge.required.accepts);
      const untilMs = nowMs + CHALLENGE_MS;
      const entry = entries.get(key) ?? { sizes: new Map<string, ParsedQuote>(), flat: price, untilMs };
      if (entry.flat !== price) entry.flat = undefined;
      entry.untilMs = untilMs;
      entry.sizes.delete(sizeOf(request));
      entry.sizes.set(sizeOf(request), challenge);
      dropOldest(entry.sizes, MAX_SIZES);
      entries.delete(key);
      entries.set(key, entry);
      dropOldest(entries, MAX_CHALLENGES);
    },
    forget(request) {
      entries.delete(keyOf(request));
    },
  };
}

function dropOldest(map: Map<string, unknown>, most: number): void {
  if (map.size <= most) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}

/** Members of a body that prices depend on beside its size. */
const PRICED = ["model", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "stream"] as const;
/** Headers that prices depend on: what is to be kept, and what is to be anchored by itself, have some of their own. */
const PRICED_HEADERS = ["assay-retention", "assay-keep-days", "x-settlement-type"] as const;
/** Bodies above this are not looked into: their route and size are all that is known. */
const MAX_LOOKED_INTO = 1024 * 1024;

function keyOf({ method, url, body, init }: PricedRequest): string {
  const headers = new Headers(init.headers);
  const asked = PRICED_HEADERS.flatMap((name) => (headers.has(name) ? `${name}: ${headers.get(name)}` : []));
  const route = [`${method} ${url}`, ...asked].join("\n");
  if (!body || body.length > MAX_LOOKED_INTO || body[0] !== 0x7b) return route;
  let value: JsonValue;
  try {
    value = parseJson(body, { maxBytes: MAX_LOOKED_INTO });
  } catch {
    return route;
  }
  return isObject(value) ? `${route} ${JSON.stringify(PRICED.map((name) => value[name] ?? null))}` : route;
}
