import { canonicalJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { FACILITATOR_LIMITS } from "./limits.ts";
import type { DiscoveredResource, DiscoveryPage, DiscoveryQuery, JsonObject } from "./types.ts";

/** Resources that take payments through this facilitator. */
export type Catalogue = {
  /** Takes up what a settled payment says of its resource, when its server declared the `bazaar` extension for it. */
  readonly learn: (payload: JsonValue, requirements: JsonValue, by: string) => Promise<void>;
  readonly page: (query?: DiscoveryQuery) => Promise<DiscoveryPage>;
};

/** Where learned entries are kept, at most so many: the one longest without a payment goes first. */
export type CatalogueStore = {
  /** Who the entry of a URL belongs to, and what it says. */
  readonly get: (url: string) => Promise<{ readonly by: string; readonly entry: DiscoveredResource } | undefined>;
  /** Puts an entry first, unless it is somebody else's by now. */
  readonly put: (by: string, entry: DiscoveredResource) => Promise<void>;
  /** Entries of a type, or all of them, the latest first, and how many there are. */
  readonly list: (
    type: string | undefined,
    offset: number,
    limit: number,
  ) => Promise<{ readonly items: readonly DiscoveredResource[]; readonly total: number }>;
};

const isObject = (value: JsonValue | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * A catalogue. `own` are resources that the operator lists, always first; the rest is learned from settled payments. An
 * entry belongs to the caller that was first to settle for it: nobody else changes it. An entry past `maxResourceBytes` is
 * not taken up.
 */
export function createCatalogue(options: {
  readonly own?: () => readonly DiscoveredResource[];
  readonly now: () => number;
  /** In memory when absent. */
  readonly store?: CatalogueStore;
}): Catalogue {
  const store = options.store ?? createMemoryCatalogue();
  return {
    learn: async (payload, requirements, by) => {
      if (!isObject(payload) || !isObject(requirements) || !isObject(payload["resource"])) return;
      const { url, description, mimeType } = payload["resource"];
      const extensions = payload["extensions"];
      const bazaar = isObject(extensions) ? extensions["bazaar"] : undefined;
      if (!isObject(bazaar) || typeof url !== "string" || !isWeb(url)) return;
      const known = await store.get(url);
      if (known && known.by !== by) return;
      const accepts = payload["accepted"] ?? requirements;
      const others = (known?.entry.accepts ?? []).filter((other) => !sameKind(other, accepts)).slice(0, 7);
      const info = bazaar["info"];
      const entry: DiscoveredResource = {
        resource: url,
        type: "http",
        x402Version: 2,
        accepts: [accepts, ...others],
        lastUpdated: new Date(options.now()).toISOString(),
        metadata: {
          ...(typeof description === "string" ? { description } : {}),
          ...(typeof mimeType === "string" ? { mimeType } : {}),
          ...(isObject(info) ? { info } : {}),
        },
      };
      if (canonicalJson(entry).length > FACILITATOR_LIMITS.maxResourceBytes) return;
      await store.put(by, entry);
    },
    page: async ({ type, limit = FACILITATOR_LIMITS.defaultPage, offset = 0 } = {}) => {
      const own = (options.own?.() ?? []).filter((entry) => type === undefined || entry.type === type);
      const size = Math.min(Math.max(1, limit), FACILITATOR_LIMITS.maxPage);
      const first = own.slice(offset, offset + size);
      const rest = await store.list(type, Math.max(0, offset - own.length), size - first.length);
      return {
        x402Version: 2,
        items: [...first, ...rest.items],
        pagination: { limit: size, offset, total: own.length + rest.total },
      };
    },
  };
}

/** Entries in memory: a restart forgets them. */
export function createMemoryCatalogue(maxResources: number = FACILITATOR_LIMITS.maxResources): CatalogueStore {
  const learned = new Map<string, { readonly by: string; readonly entry: DiscoveredResource }>();
  return {
    get: async (url) => learned.get(url),
    put: async (by, entry) => {
      const url = entry.resource;
      if ((learned.get(url)?.by ?? by) !== by) return;
      learned.delete(url);
      if (learned.size >= maxResources) {
        const oldest = learned.keys().next();
        if (!oldest.done) learned.delete(oldest.value);
      }
      learned.set(url, { by, entry });
    },
    list: async (type, offset, limit) => {
      const all = [...learned.values()]
        .map(({ entry }) => entry)
        .toReversed()
        .filter((entry) => type === undefined || entry.type === type);
      return { items: all.slice(offset, offset + limit), total: all.length };
    },
  };
}

/** Two ways to pay that differ in the amount alone are one. */
function sameKind(a: JsonValue, b: JsonValue): boolean {
  const of = (value: JsonValue): string =>
    isObject(value) ? JSON.stringify([value["scheme"], value["network"], value["asset"]]) : "";
  return of(a) === of(b);
}

function isWeb(url: string): boolean {
  if (url.length > 2048 || !URL.canParse(url)) return false;
  const { protocol, username, password } = new URL(url);
  return (protocol === "https:" || protocol === "http:") && username === "" && password === "";
}
