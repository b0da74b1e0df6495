import { createHash } from "node:crypto";
import { isIPv4, isIPv6 } from "node:net";
import { AssayError } from "@assay/core";
import type { Price } from "@assay/routing";
import type { z } from "zod";
import { openDocument } from "./document.ts";
import type { DocumentFile } from "./document.ts";
import { issuesOf, upstreamBody, upstreamDocument } from "./schemas.ts";
import type { UPSTREAM_KINDS } from "./schemas.ts";
import type { Sealer } from "./seal.ts";

/** An upstream as it is shown: its key by the first eight hex digits of its SHA-256, which tells two keys apart. */
export type Upstream = {
  readonly name: string;
  readonly kind: (typeof UPSTREAM_KINDS)[number];
  /** Without a slash at its end; absent for the provider's own. */
  readonly baseUrl?: string;
  /** Of a GGUF model: its file here. */
  readonly path?: string;
  readonly allowPlain?: boolean;
  readonly prices?: Readonly<Record<string, Price>>;
  readonly families?: Readonly<Record<string, string>>;
  readonly country?: string;
  readonly maxInFlight?: number;
  readonly keyFingerprint: string | null;
  readonly addedAt: string;
};
type Stored = z.infer<typeof upstreamDocument>["upstreams"][number];

/** Providers that the operator sends work to, with their keys encrypted at rest. */
export type UpstreamStore = {
  readonly list: () => readonly Upstream[];
  readonly get: (name: string) => Upstream | undefined;
  /** Throws `upstream_invalid`, naming what does not fit, or `upstream_exists` without `replace`. */
  readonly add: (request: unknown) => Promise<Upstream>;
  /** Throws `upstream_not_found`. */
  readonly remove: (name: string) => Promise<void>;
  /** The key, for the engine alone; undefined for an upstream without one. Throws `upstream_key_unreadable`. */
  readonly apiKey: (name: string) => string | undefined;
  /** Told after each change; returns how to stop. */
  readonly onChange: (listener: () => void) => () => void;
};

/** Upstreams that one gateway may have: each costs a connection pool and a listing. */
export const MAX_UPSTREAMS = 64;

/** Opens the store. Throws `route_document_invalid` for a file that is not one. */
export async function openUpstreamStore(modules: {
  readonly file: DocumentFile;
  readonly sealer: Sealer;
  readonly now: () => number;
}): Promise<UpstreamStore> {
  const { sealer, now } = modules;
  const document = await openDocument(modules.file, "list of upstreams", (json) => upstreamDocument.parse(json), {
    version: 1 as const,
    upstreams: [],
  });
  const listeners = new Set<() => void>();
  const find = (name: string): Stored | undefined => document.get().upstreams.find((one) => one.name === name);
  const changed = (): void => {
    for (const listener of listeners) listener();
  };
  return {
    list: () => document.get().upstreams.map(shown),
    get(name) {
      const found = find(name);
      return found && shown(found);
    },
    async add(request) {
      const result = upstreamBody.safeParse(request);
      if (!result.success) throw invalid(`The upstream does not fit: ${issuesOf(result.error).join("; ")}.`);
      const { apiKey, replace, ...facts } = result.data;
      if (facts.kind === "openai-compatible" && facts.baseUrl === undefined)
        throw invalid("An openai-compatible upstream has no address of its own: it needs a base URL.");
      if (facts.kind === "gguf" && (facts.baseUrl !== undefined || apiKey !== undefined || facts.path === undefined))
        throw invalid("A GGUF model is named by its path; it has neither address nor key.");
      if (facts.kind !== "gguf" && facts.path !== undefined) throw invalid("Only GGUF models have a path.");
      const baseUrl =
        facts.baseUrl === undefined
          ? undefined
          : checkedUrl(facts.baseUrl, facts.allowPlain === true, apiKey !== undefined);
      const stored: Stored = {
        ...facts,
        ...(baseUrl === undefined ? {} : { baseUrl }),
        ...(apiKey === undefined
          ? {}
          : {
              sealedKey: Buffer.from(
                sealer.seal(purposeOf(facts.name, facts.kind, baseUrl), Buffer.from(apiKey)),
              ).toString("base64"),
              keyFingerprint: createHash("sha256").update(apiKey).digest("hex").slice(0, 8),
            }),
        addedAtMs: now(),
      };
      await document.update((value) => {
        const others = value.upstreams.filter(({ name }) => name !== facts.name);
        if (others.length < value.upstreams.length && replace !== true)
          throw new AssayError("upstream_exists", `There is an upstream named ${facts.name} already.`, {
            hints: ["Remove it first, or send replace: true with its key."],
          });
        if (others.length >= MAX_UPSTREAMS) throw invalid(`There are ${MAX_UPSTREAMS} upstreams already.`);
        return { ...value, upstreams: [...others, stored].toSorted((a, b) => (a.name < b.name ? -1 : 1)) };
      });
      changed();
      return shown(stored);
    },
    async remove(name) {
      await document.update((value) => {
        const upstreams = value.upstreams.filter((one) => one.name !== name);
        if (upstreams.length === value.upstreams.length) throw upstreamNotFound(name);
        return { ...value, upstreams };
      });
      changed();
    },
    apiKey(name) {
      const found = find(name);
      if (!found) throw upstreamNotFound(name);
      if (found.sealedKey === undefined) return undefined;
      try {
        const opened = sealer.open(
          purposeOf(found.name, found.kind, found.baseUrl),
          Buffer.from(found.sealedKey, "base64"),
        );
        return Buffer.from(opened).toString();
      } catch (cause) {
        throw new AssayError("upstream_key_unreadable", `The key of the upstream ${name} cannot be decrypted.`, {
          hints: ["It was stored for another address or under another key file; add the upstream again with its key."],
          cause,
        });
      }
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function shown(stored: Stored): Upstream {
  const { sealedKey: _, keyFingerprint, addedAtMs, ...facts } = stored;
  const shownFacts = { ...facts, keyFingerprint: keyFingerprint ?? null, addedAt: new Date(addedAtMs).toISOString() };
  // The schema's optional members are absent and never undefined, which its inferred type cannot say.
  return shownFacts as Upstream;
}

// A key is bound to the address that it is sent to: whoever can edit the file but has no key file cannot redirect it.
function purposeOf(name: string, kind: string, baseUrl = ""): string {
  return `assay/upstream/1\n${name}\n${kind}\n${baseUrl}`;
}

/**
 * The base URL in its normal form, without a slash at its end. Refuses what is not HTTPS unless it stays on this machine
 * (or `allowPlain` says so and there is no key), and what could carry secrets or be cut off: user names, queries,
 * fragments.
 */
function checkedUrl(text: string, allowPlain: boolean, hasKey: boolean): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw invalid("The base URL is not a URL.");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "" || /[?#]/.test(text))
    throw invalid("The base URL has a user name, a query or a fragment, which none has.");
  if (url.protocol !== "https:" && url.protocol !== "http:") throw invalid("The base URL is neither https nor http.");
  if (url.protocol === "http:" && !isLoopback(url.hostname) && (hasKey || !allowPlain))
    throw new AssayError("upstream_invalid", "The base URL is plain HTTP to another machine.", {
      hints: [
        hasKey
          ? "Use https, or a proxy on this machine that speaks it: a key must not travel in the clear."
          : "Use https; or send allowPlain: true where the network itself protects prompts and answers.",
      ],
    });
  return url.href.replace(/\/+$/, "");
}

function isLoopback(hostname: string): boolean {
  const host = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
  // Names other than this one are resolved by somebody else, and so may lead anywhere.
  return host === "localhost" || (isIPv4(host) && host.startsWith("127.")) || (isIPv6(host) && host === "::1");
}

function invalid(sentence: string): AssayError {
  return new AssayError("upstream_invalid", sentence);
}

function upstreamNotFound(name: string): AssayError {
  return new AssayError("upstream_not_found", `There is no upstream named ${JSON.stringify(name.slice(0, 64))}.`);
}
