import { createHash } from "node:crypto";
import { z } from "@hono/zod-openapi";
import { AssayError, canonicalJson, isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { withRetryAfter } from "@assay/protocol";
import { FACILITATOR_LIMITS } from "./limits.ts";
import type { DiscoveryPage, Facilitator, JsonObject, SettleResult, Supported, VerifyResult } from "./types.ts";

/** A facilitator at a URL: `…/verify`, `…/settle`, `…/supported`, `…/discovery/resources`. */
export type FacilitatorEndpoint = {
  readonly url: string;
  /** Whole value of the `authorization` header. Never appears in an error. */
  readonly authorization?: string;
};

export type ExternalFacilitatorOptions = {
  /** Asked in this order; the next when one is away or refuses to work for us. */
  readonly endpoints: readonly FacilitatorEndpoint[];
  /** Of one exchange, the body included. A settlement waits for its block. */
  readonly timeoutMs?: number;
  readonly fetch?: typeof fetch;
};

const DEFAULT_TIMEOUT_MS = 90_000;
/** Payments whose facilitator is remembered, so that a repeated settlement asks the one that has the transaction. */
const MAX_REMEMBERED = 10_000;
const MAX_ENDPOINTS = 8;
/** How long the kinds and addresses of a facilitator are believed. */
const SUPPORTED_KEEP_MS = 60_000;

const text = z.string().max(4096);
const absent = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);
const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
const extra = absent(z.record(z.string(), z.json()));
const verifySchema = z.object({
  isValid: z.boolean(),
  invalidReason: absent(text),
  invalidMessage: absent(text),
  payer: absent(address),
  extra,
});
const settleSchema = z.object({
  success: z.boolean(),
  errorReason: absent(text),
  errorMessage: absent(text),
  transaction: z.string().regex(/^(0x[0-9a-fA-F]{64})?$/),
  network: z.string().max(64),
  payer: absent(address),
  amount: absent(z.string().regex(/^\d{1,78}$/)),
  extra,
});
const kindSchema = z.object({ x402Version: z.number(), scheme: text, network: text, extra });
const supportedSchema = z.object({
  kinds: z.array(kindSchema).max(1000),
  extensions: z.array(text).max(100).default([]),
  signers: z.record(z.string(), z.array(text).max(1000)).default({}),
});
const pageSchema = z.object({
  items: z
    .array(
      z.object({
        resource: text,
        type: text,
        x402Version: z.number(),
        accepts: z.array(z.json()).max(100),
        lastUpdated: z.union([text, z.number()]).transform((value) => new Date(value).toISOString()),
        metadata: extra,
      }),
    )
    .max(1000),
  pagination: z.object({ limit: z.number(), offset: z.number(), total: z.number() }),
});

type Exchange = { readonly status: number; readonly body: JsonValue };

/**
 * Another's facilitator as this package's own: bodies and times are bounded, redirects are refused, answers are parsed.
 *
 * Verifying goes on to the next endpoint when one is away or refuses us. Settling does so only when the request cannot have
 * had an effect: the connection was never made, or the answer is 401, 403, 404 or 429. Anything else may have been settled,
 * and is `facilitator_outcome_unknown`: the same request again goes to the same endpoint.
 *
 * A `success` is what that facilitator says. Whoever must know reads the transaction on the chain.
 *
 * Throws `facilitator_unreachable`, `facilitator_refused`, `facilitator_answer_invalid`, `facilitator_outcome_unknown`; at
 * once `facilitator_config_invalid` for a URL that is not https (or loopback), or that carries credentials.
 */
export function createExternalFacilitator(options: ExternalFacilitatorOptions): Facilitator {
  const { endpoints, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const exchange = options.fetch ?? fetch;
  if (endpoints.length === 0 || endpoints.length > MAX_ENDPOINTS)
    throw new AssayError(
      "facilitator_config_invalid",
      `Between one and ${MAX_ENDPOINTS} facilitators can be configured.`,
    );
  const bases = endpoints.map(({ url, authorization }) => ({ base: baseOf(url), authorization }));
  const sent = new Map<string, number>();

  const ask = async (
    index: number,
    path: string,
    body: JsonObject | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Exchange> => {
    const at = bases[index];
    if (!at) throw new AssayError("facilitator_unreachable", "There is no such facilitator.");
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const response = await exchange(`${at.base}/${path}`, {
        method: body ? "POST" : "GET",
        redirect: "error",
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        headers: {
          accept: "application/json",
          ...(body ? { "content-type": "application/json" } : {}),
          ...(at.authorization === undefined ? {} : { authorization: at.authorization }),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      const { status } = response;
      if ([401, 403, 404, 429].includes(status)) {
        await response.body?.cancel();
        throw refused(at.base, status, response.headers.get("retry-after"));
      }
      const bytes = await bounded(response);
      try {
        return { status, body: parseJson(bytes, { maxBytes: FACILITATOR_LIMITS.maxAnswerBytes, maxDepth: 32 }) };
      } catch (cause) {
        if (status >= 500) throw away(at.base, `it answered with status ${status}`, cause);
        throw wrong(at.base, "its body is not JSON", cause);
      }
    } catch (error) {
      if (isAssayError(error)) throw error;
      if (signal?.aborted) throw error;
      throw away(at.base, timeout.aborted ? `it took longer than ${timeoutMs} ms` : "the exchange failed", error);
    }
  };
  /** The first answer of the endpoints, beginning with `first`; `mayGoOn` says whether an error leaves the next one free. */
  const firstOf = async <T>(
    first: number,
    attempt: (index: number) => Promise<T>,
    mayGoOn: (error: unknown) => boolean,
  ): Promise<T> => {
    let last: unknown;
    for (let i = 0; i < bases.length; i++) {
      try {
        return await attempt((first + i) % bases.length);
      } catch (error) {
        last = error;
        if (!mayGoOn(error)) throw error;
      }
    }
    throw last;
  };
  const reading = (error: unknown): boolean =>
    isAssayError(error) &&
    ["facilitator_unreachable", "facilitator_refused", "facilitator_answer_invalid"].includes(error.code);
  const parsed = <T>(index: number, schema: z.ZodType<T>, value: JsonValue): T => {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    throw wrong(bases[index]?.base ?? "", "its body is not what x402 has there", result.error);
  };
  const requestOf = (payload: JsonValue, requirements: JsonValue): JsonObject => ({
    x402Version: isObject(payload) ? (payload["x402Version"] ?? 2) : 2,
    paymentPayload: payload,
    paymentRequirements: requirements,
  });
  let believed: { readonly supported: Supported; readonly untilMs: number } | undefined;
  const get = <T>(path: string, schema: z.ZodType<T>): Promise<T> =>
    firstOf(
      0,
      async (index) => {
        const { status, body } = await ask(index, path, undefined, undefined);
        if (status !== 200) throw away(bases[index]?.base ?? "", `it answered with status ${status}`);
        return parsed(index, schema, body);
      },
      reading,
    );

  return {
    verify: (payload, requirements, request = {}) =>
      firstOf(
        0,
        async (index) => {
          const { status, body } = await ask(index, "verify", requestOf(payload, requirements), request.signal);
          if (status >= 500) throw away(bases[index]?.base ?? "", `it answered with status ${status}`);
          const result = parsed(index, verifySchema, body);
          if (status !== 200 && result.isValid)
            throw wrong(bases[index]?.base ?? "", "a refusal says that all is well");
          return compact(result) as VerifyResult;
        },
        reading,
      ),
    settle: async (payload, requirements, request = {}) => {
      const body = requestOf(payload, requirements);
      const key = createHash("sha256").update(canonicalJson(body)).digest("hex");
      const before = sent.get(key);
      const asked = isObject(requirements) ? requirements["network"] : undefined;
      const attempt = async (index: number): Promise<SettleResult> => {
        remember(sent, key, index);
        const answer = await ask(index, "settle", body, request.signal);
        const at = bases[index]?.base ?? "";
        const read = settleSchema.safeParse(answer.body);
        if (!read.success && WITHOUT_EFFECT.has(answer.status)) throw refused(at, answer.status, null);
        const result = parsed(index, settleSchema, answer.body);
        const pending = result.errorReason === "settlement_pending" && result.transaction !== "";
        if (answer.status >= 500 && !pending) throw away(at, `it answered with status ${answer.status}`);
        if (answer.status !== 200 && result.success) throw wrong(at, "a refusal says that all is well");
        if (result.success && result.network !== asked) throw wrong(at, "it settled on another network");
        if (!pending) sent.delete(key);
        return compact(result) as SettleResult;
      };
      try {
        // What one may have begun is asked of that one alone.
        if (before !== undefined) return await attempt(before);
        return await firstOf(
          0,
          attempt,
          (error) => isAssayError(error) && (error.code === "facilitator_refused" || neverSent(error)),
        );
      } catch (error) {
        if (!isAssayError(error) || error.code === "facilitator_refused" || neverSent(error)) {
          if (before === undefined) sent.delete(key);
          throw error;
        }
        throw withRetryAfter(
          new AssayError(
            "facilitator_outcome_unknown",
            "It is not known whether the facilitator settled this payment.",
            {
              cause: error,
              hints: [
                "Send the same request again: it goes to the same facilitator.",
                "Do not ask for another payment.",
              ],
            },
          ),
          2000,
        );
      }
    },
    supported: async () => {
      if (believed && believed.untilMs > Date.now()) return believed.supported;
      const supported = (await get("supported", supportedSchema)) as unknown as Supported;
      believed = { supported, untilMs: Date.now() + SUPPORTED_KEEP_MS };
      return supported;
    },
    discovery: async ({ type, limit, offset } = {}) => {
      const query = new URLSearchParams();
      if (type !== undefined) query.set("type", type);
      if (limit !== undefined) query.set("limit", String(limit));
      if (offset !== undefined) query.set("offset", String(offset));
      const page = await get(`discovery/resources?${query.toString()}`, pageSchema);
      return { x402Version: 2, ...page } as unknown as DiscoveryPage;
    },
    health: async () => {
      const networksOf = (supported: Supported): readonly string[] => [
        ...new Set(supported.kinds.map(({ network }) => network)),
      ];
      try {
        const supported = await get("supported", supportedSchema);
        const networks = networksOf(supported as unknown as Supported);
        return { status: "ok", networks: networks.map((network) => ({ network, up: true })) };
      } catch (error) {
        const code = isAssayError(error) ? error.code : "internal_error";
        const networks = believed ? networksOf(believed.supported) : [];
        return { status: "down", networks: networks.map((network) => ({ network, up: false, code })) };
      }
    },
  };
}

/** Fields that are there: an absent one is not sent as null. */
function compact(result: Readonly<Record<string, unknown>>): unknown {
  return Object.fromEntries(Object.entries(result).filter(([, value]) => value !== undefined));
}

function remember(sent: Map<string, number>, key: string, index: number): void {
  sent.delete(key);
  if (sent.size >= MAX_REMEMBERED) {
    const oldest = sent.keys().next();
    if (!oldest.done) sent.delete(oldest.value);
  }
  sent.set(key, index);
}

function baseOf(url: string): string {
  if (!URL.canParse(url)) throw new AssayError("facilitator_config_invalid", "A facilitator's address is not a URL.");
  const { protocol, hostname, username, password, search, hash } = new URL(url);
  const loopback = hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
  if (protocol !== "https:" && !(protocol === "http:" && loopback))
    throw new AssayError("facilitator_config_invalid", "A facilitator's address has to begin with https://.", {
      hints: ["Plain http is for a facilitator on this machine."],
    });
  if (username !== "" || password !== "" || search !== "" || hash !== "")
    throw new AssayError(
      "facilitator_config_invalid",
      "A facilitator's address has no credentials, query or fragment.",
      {
        hints: ["Give its token as `authorization`."],
      },
    );
  return url.replace(/\/+$/, "");
}

async function bounded(response: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  if (response.body)
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > FACILITATOR_LIMITS.maxAnswerBytes)
        throw wrong(response.url, `its body is longer than ${FACILITATOR_LIMITS.maxAnswerBytes} bytes`);
      chunks.push(chunk);
    }
  return new Uint8Array(Buffer.concat(chunks, size));
}

const NEVER_CONNECTED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Statuses with which a server says that it did not even begin. */
const WITHOUT_EFFECT = new Set([400, 402, 405, 413, 415, 422]);

/** Whether the connection was never made, so that nothing can have been settled. */
function neverSent(error: unknown): boolean {
  let link: unknown = error;
  for (let depth = 0; depth < 8 && link instanceof Error; depth++) {
    if ("code" in link && typeof link.code === "string" && NEVER_CONNECTED.has(link.code)) return true;
    // Every address of a name failed: the first says how.
    if (link instanceof AggregateError) return link.errors.length > 0 && link.errors.every((one) => neverSent(one));
    link = link.cause;
  }
  return false;
}

function away(base: string, why: string, cause?: unknown): AssayError {
  return new AssayError(
    "facilitator_unreachable",
    `The facilitator at ${hostOf(base)} cannot be asked: ${why}.`,
    cause === undefined ? {} : { cause },
  );
}

function wrong(base: string, why: string, cause?: unknown): AssayError {
  return new AssayError(
    "facilitator_answer_invalid",
    `The facilitator at ${hostOf(base)} answered wrongly: ${why}.`,
    cause === undefined ? {} : { cause },
  );
}

function refused(base: string, status: number, retryAfter: string | null): AssayError {
  const error = new AssayError(
    "facilitator_refused",
    `The facilitator at ${hostOf(base)} refused with status ${status}.`,
    {
      hints: [
        status === 429 ? "Its allowance is used up." : "Look at the address and the token it is configured with.",
      ],
    },
  );
  const seconds = retryAfter !== null && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : undefined;
  return seconds === undefined ? error : withRetryAfter(error, seconds * 1000);
}

/** A path may hold a key of its own; the host does not. */
function hostOf(base: string): string {
  return URL.canParse(base) ? new URL(base).host : "its address";
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
