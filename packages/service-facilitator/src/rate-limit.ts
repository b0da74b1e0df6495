/** So many requests a second on average, and so many at once. */
export type Rate = { readonly perSecond: number; readonly burst: number };

export type RateLimiter = {
  /** Takes one request of `key` from its allowance: undefined, or the milliseconds until there is one again. */
  readonly take: (key: string) => number | undefined;
  readonly size: () => number;
};

/**
 * Token buckets by key. At most `maxKeys` are remembered: the one that was touched longest ago is forgotten, which gives
 * its owner a full bucket again and nothing else.
 */
export function createRateLimiter(options: {
  readonly rate: Rate;
  readonly maxKeys: number;
  readonly now: () => number;
}): RateLimiter {
  const { perSecond, burst } = options.rate;
  // A Map lists its keys in the order of insertion; a touched key is inserted anew.
  const buckets = new Map<string, { readonly left: number; readonly atMs: number }>();
  return {
    take: (key) => {
      const nowMs = options.now();
      const known = buckets.get(key);
      const elapsedMs = known === undefined ? 0 : Math.max(0, nowMs - known.atMs);
      // Counted in thousandths of a request, which are whole numbers for whole rates.
      const full = burst * 1000;
      const left = known === undefined ? full : Math.min(full, known.left + elapsedMs * perSecond);
      buckets.delete(key);
      if (buckets.size >= options.maxKeys) {
        const oldest = buckets.keys().next();
        if (!oldest.done) buckets.delete(oldest.value);
      }
      const allowed = left >= 1000;
      buckets.set(key, { left: allowed ? left - 1000 : left, atMs: nowMs });
      return allowed ? undefined : Math.ceil((1000 - left) / perSecond);
    },
    size: () => buckets.size,
  };
}

/**
 * The key under which an address is limited: an IPv4 address itself, an IPv6 address by its /64, which one household or
 * machine has to itself.
 */
export function addressKey(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped?.[1] !== undefined) return mapped[1];
  if (!address.includes(":")) return address;
  const [plain = ""] = address.split("%");
  const [head = "", tail = ""] = plain.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === "" ? [] : tail.split(":");
  const missing = plain.includes("::") ? Math.max(0, 8 - front.length - back.length) : 0;
  const groups = [...front, ...Array.from({ length: missing }, () => "0"), ...back];
  return `${groups
    .slice(0, 4)
    .map((group) => (group.replace(/^0+/, "") || "0").toLowerCase())
    .join(":")}::/64`;
}
