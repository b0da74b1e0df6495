import type { EmbedRequest, GenerateRequest, Generation, LanguageEngine } from "@assay/protocol";
import { speakAnthropic } from "./anthropic/engine.ts";
import { createConnection } from "./connection.ts";
import type { Connection, UpstreamKind } from "./connection.ts";
import { asUpstreamError, cancelled, tooLong, upstreamError } from "./errors.ts";
import { speakGemini } from "./gemini/engine.ts";
import { DEFAULT_UPSTREAM_LIMITS } from "./limits.ts";
import type { UpstreamLimits } from "./limits.ts";
import { createModelList } from "./model-list.ts";
import { speakOpenAi } from "./openai/engine.ts";
import { createSlots } from "./slots.ts";
import type { Speaker } from "./speaker.ts";
import { createTransport } from "./transport.ts";

export type UpstreamOptions = {
  /** Lower-case letters, digits and dashes: what stands before the slash in its models' names. */
  readonly name: string;
  readonly kind: UpstreamKind;
  /** Where its API begins, for example `https://api.openai.com/v1`. Must be given for `openai-compatible`. */
  readonly baseUrl?: string;
  /** Sent to that address alone; never in an error, a log line or a receipt. */
  readonly apiKey?: string;
  readonly limits?: Partial<UpstreamLimits>;
  /** Certificates (PEM) to trust in place of the system's. */
  readonly ca?: string | readonly string[];
  /** For `anthropic`: the version of its API. `2023-06-01` still takes temperature and top_p, the default does not. */
  readonly anthropicVersion?: "2023-06-01";
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** From 0 to below 1. Spreads retries and makes ids of tool calls where the upstream gives none. */
  readonly random: () => number;
};

const BASE_URLS = {
  openai: "https://api.openai.com/v1",
  anthropic: "https://api.anthropic.com",
  gemini: "https://generativelanguage.googleapis.com",
} as const;
/** Printable ASCII without spaces: anything else could not stand in a header. */
const KEY = /^[\x21-\x7e]{1,4096}$/;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;
/** Names of models go into paths and sentences. */
const MODEL = /^[\w][\w.:/@+-]{0,255}$/;
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;

/**
 * A language engine that another party runs, reached over HTTP. Refuses with `upstream_invalid`: a name, address or key
 * that cannot be one, a key over plain HTTP to another machine, and a missing address.
 * Connections are made when first needed.
 */
export function createUpstream(options: UpstreamOptions): LanguageEngine {
  const { name, kind, now, random } = options;
  if (!NAME.test(name)) throw invalid("an upstream's name is 1 to 64 lower-case letters, digits and dashes");
  const base = baseOf(options);
  const secret = secretOf(options, base);
  const limits: UpstreamLimits = { ...DEFAULT_UPSTREAM_LIMITS, ...options.limits };
  for (const [limit, value] of Object.entries(limits))
    if (!Number.isSafeInteger(value) || value <= 0) throw invalid(`the limit ${limit} must be a whole number above 0`);

  const transport = createTransport({ origin: base, limits, ...(options.ca === undefined ? {} : { ca: options.ca }) });
  const slots = createSlots(limits.maxRunning, random);
  const connection = createConnection({ kind, name, base, secret, limits, transport, slots, now, random, admit });
  const speaker = speakerOf(connection, options);
  const models = createModelList({ fetch: speaker.models, limits, now });
  let closed = false;

  function admit(request: GenerateRequest | EmbedRequest): void {
    expectOpen();
    const wanted = "kind" in request ? request.kind : "embedding";
    if (!speaker.kinds.includes(wanted)) {
      throw upstreamError("kind_unsupported", `${name} does not serve the kind ${wanted}.`, {
        hints: [`It serves ${speaker.kinds.join(", ")}.`],
      });
    }
    if (!MODEL.test(request.model.name) || request.model.name.includes(".."))
      throw upstreamError("model_not_found", `${name} has no model of such a name.`);
  }

  function expectOpen(): void {
    if (closed) throw upstreamError("engine_unavailable", `The upstream ${name} was closed.`);
  }

  return {
    name,
    async models({ signal } = {}) {
      expectOpen();
      return models(signal);
    },
    async check(request) {
      admit(request);
      if ("kind" in request) speaker.check(request);
    },
    generate: (request, { signal }): Generation => speaker.generate(request, signal),
    async embed(request, { signal }) {
      admit(request);
      if (signal.aborted) throw cancelled();
      const free = slots.take();
      const startedMs = now();
      const stop = new AbortController();
      const onAbort = (): void => stop.abort(cancelled());
      const timer = setTimeout(() => stop.abort(tooLong(limits.totalTimeoutMs)), limits.totalTimeoutMs);
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        const outcome = await speaker.embed(request, stop.signal);
        return { ...outcome, engineMs: now() - startedMs };
      } catch (error) {
        throw asUpstreamError(error);
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        free();
      }
    },
    stats: () => ({ running: slots.running(), queued: 0 }),
    async close() {
      closed = true;
      await transport.close();
    },
  };
}

function speakerOf(connection: Connection, options: UpstreamOptions): Speaker {
  switch (options.kind) {
    case "anthropic":
      return speakAnthropic(connection, options.anthropicVersion);
    case "gemini":
      return speakGemini(connection);
    case "openai":
    case "openai-compatible":
      return speakOpenAi(connection, options.kind);
  }
}

function baseOf({ kind, baseUrl }: UpstreamOptions): URL {
  const text = baseUrl ?? (kind === "openai-compatible" ? undefined : BASE_URLS[kind]);
  if (text === undefined) throw invalid("an OpenAI-compatible upstream needs a baseUrl");
  if (!URL.canParse(text)) throw invalid("an upstream's baseUrl must be a URL");
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:") throw invalid("an upstream's baseUrl is http or https");
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw invalid("an upstream's baseUrl holds no credentials, query or fragment; its key is given as apiKey");
  return url;
}

function secretOf({ kind, apiKey }: UpstreamOptions, base: URL): string | undefined {
  if (apiKey === undefined) {
    if (kind === "openai-compatible") return undefined;
    throw invalid(`an upstream of the kind ${kind} needs an apiKey`);
  }
  if (!KEY.test(apiKey)) throw invalid("an upstream's apiKey is printable ASCII without spaces");
  if (base.protocol === "http:" && !LOOPBACK.test(base.hostname))
    throw invalid("a key is not sent over plain http to another machine");
  return apiKey;
}

function invalid(why: string): Error {
  return upstreamError("upstream_invalid", `The upstream's settings are not acceptable: ${why}.`);
}
