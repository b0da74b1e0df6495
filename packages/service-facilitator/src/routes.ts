import { z } from "@hono/zod-openapi";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { bodyOf, withRetryAfter } from "@assay/protocol";
import type { Callers } from "./callers.ts";
import { FACILITATOR_LIMITS } from "./limits.ts";
import { problemOf, tokenRequired } from "./problem.ts";
import { addressKey, createRateLimiter } from "./rate-limit.ts";
import type { Rate } from "./rate-limit.ts";
import type { Facilitator, FacilitatorCaller, JsonObject } from "./types.ts";

export type FacilitatorRoutesModules = {
  readonly facilitator: Facilitator;
  /** Who has a token; without it nobody has one, and only payments to the allow-list are settled. */
  readonly callers?: Callers;
  /** Whether `POST …/verify` needs a token too. It spends no gas, and is rate-limited in any case. */
  readonly verifyNeedsToken?: boolean;
  /** Allowance of each address without a valid token. */
  readonly perAddress?: Rate;
  /** Allowance of each caller with one. */
  readonly perCaller?: Rate;
  /** The peer's address; the socket's when absent. Behind a proxy: what that proxy says of it, and nobody else. */
  readonly addressOf?: (context: Context) => string | undefined;
  readonly now?: () => number;
  /** Told of what is not the request's fault, for the log; never gets a payload. */
  readonly onError?: (error: unknown, operation: string) => void;
};

/** One person trying things out; a server that takes payments gets a token. */
const PER_ADDRESS: Rate = { perSecond: 5, burst: 20 };
/** A server that settles each payment by itself: more than one embedded chain takes. */
const PER_CALLER: Rate = { perSecond: 200, burst: 400 };

type Asked = { readonly payload: JsonValue; readonly requirements: JsonValue; readonly network: string };

/**
 * Adds the routes of an x402 facilitator below `/facilitator`: `POST verify` and `settle`, `GET supported`,
 * `discovery/resources` and `health`. What is wrong with a payment is answered with 200 and its reason, as clients of x402
 * expect; 400 is for a body that is no request of x402, 401 and 403 for whoever may not spend this facilitator's gas, 429
 * past the allowance, 502 and 503 when the chain lies or is away.
 */
export function addFacilitatorRoutes(app: OpenAPIHono, modules: FacilitatorRoutesModules): void {
  const { facilitator, callers } = modules;
  const now = modules.now ?? Date.now;
  const limiter = (rate: Rate) => createRateLimiter({ rate, maxKeys: FACILITATOR_LIMITS.maxRateKeys, now });
  const addresses = limiter(modules.perAddress ?? PER_ADDRESS);
  const known = limiter(modules.perCaller ?? PER_CALLER);
  const addressOf = modules.addressOf ?? socketAddress;

  /** Who asks, within the allowance. Throws `token_invalid`, `facilitator_rate_limited`. */
  const admit = (context: Context): FacilitatorCaller | undefined => {
    const address = addressKey(addressOf(context) ?? "unknown");
    let caller: FacilitatorCaller | undefined;
    try {
      const authorization = context.req.header("authorization");
      caller = callers ? callers.caller(authorization) : undefined;
    } catch (error) {
      // Guessing tokens costs the address what asking without one costs.
      within(addresses.take(address));
      throw error;
    }
    within(caller ? known.take(caller.id) : addresses.take(address));
    return caller;
  };

  const post = (operation: "verify" | "settle"): void => {
    app.post(`/facilitator/${operation}`, async (context) => {
      let network = "";
      try {
        const caller = admit(context);
        if (operation === "verify" && modules.verifyNeedsToken === true && !caller) throw tokenRequired();
        const asked = await read(context);
        ({ network } = asked);
        const request = { ...(caller ? { caller } : {}), signal: context.req.raw.signal };
        const result = await facilitator[operation](asked.payload, asked.requirements, request);
        return context.json(result, 200, { "cache-control": "no-store" });
      } catch (error) {
        return refuse(context, error, operation, network);
      }
    });
  };
  const refuse = (context: Context, error: unknown, operation: "verify" | "settle" | "read", network = "") => {
    const { status, headers, body } = problemOf(error, operation, network);
    if (status >= 500) modules.onError?.(error, operation);
    return context.json(body, status as 400, { ...headers });
  };
  const get = (path: string, answer: (context: Context) => Promise<Response>): void => {
    app.get(`/facilitator/${path}`, async (context) => {
      try {
        admit(context);
        return await answer(context);
      } catch (error) {
        return refuse(context, error, "read");
      }
    });
  };

  post("verify");
  post("settle");
  get("supported", async (context) => context.json(await facilitator.supported()));
  get("discovery/resources", async (context) => {
    const type = context.req.query("type");
    const limit = count(context, "limit");
    const offset = count(context, "offset");
    const page = await facilitator.discovery({
      ...(type === undefined ? {} : { type }),
      ...(limit === undefined ? {} : { limit }),
      ...(offset === undefined ? {} : { offset }),
    });
    return context.json(page);
  });
  get("health", async (context) => {
    const health = await facilitator.health();
    const headers = { "cache-control": "no-store" };
    return context.json(health, health.status === "down" ? 503 : 200, headers);
  });
  document(app, modules.verifyNeedsToken === true);
}

function within(waitMs: number | undefined): void {
  if (waitMs === undefined) return;
  throw withRetryAfter(
    new AssayError("facilitator_rate_limited", "Too many requests came from this caller or address."),
    waitMs,
  );
}

/** The body of a verify or settle: the version of the payload must be the request's. Throws `facilitator_request_invalid`. */
async function read(context: Context): Promise<Asked> {
  const type = context.req.header("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type))
    throw new AssayError("content_type_unsupported", "The body has to be application/json.");
  const bytes = await bodyOf(context.req.raw, FACILITATOR_LIMITS.maxBodyBytes);
  let body: JsonValue;
  try {
    body = parseJson(bytes, { maxBytes: FACILITATOR_LIMITS.maxBodyBytes, maxDepth: FACILITATOR_LIMITS.maxDepth });
  } catch (cause) {
    throw invalid("its body is not JSON within the limits", cause);
  }
  if (!isObject(body)) throw invalid("its body is not an object");
  const { x402Version, paymentPayload, paymentRequirements } = body;
  if (!isObject(paymentPayload)) throw invalid("`paymentPayload` is not an object");
  if (!isObject(paymentRequirements)) throw invalid("`paymentRequirements` is not an object");
  if (x402Version !== undefined && x402Version !== paymentPayload["x402Version"])
    throw invalid("`x402Version` is not the payload's");
  const network = paymentRequirements["network"];
  return {
    payload: paymentPayload,
    requirements: paymentRequirements,
    network: typeof network === "string" ? network.slice(0, 64) : "",
  };
}

function invalid(why: string, cause?: unknown): AssayError<"facilitator_request_invalid"> {
  return new AssayError("facilitator_request_invalid", `This is no request of x402: ${why}.`, {
    hints: ["Send { x402Version, paymentPayload, paymentRequirements } as JSON."],
    ...(cause === undefined ? {} : { cause }),
  });
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function count(context: Context, name: string): number | undefined {
  const text = context.req.query(name);
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new AssayError("facilitator_request_invalid", `The query's ${name} is not a count.`);
}

/** The socket's peer, where the server is Node's own. */
function socketAddress(context: Context): string | undefined {
  const bindings = context.env as { incoming?: { socket?: { remoteAddress?: string } } } | undefined;
  return bindings?.incoming?.socket?.remoteAddress;
}

/** What the OpenAPI document says of these routes. */
function document(app: OpenAPIHono, verifyNeedsToken: boolean): void {
  const anyJson = z.record(z.string(), z.unknown());
  const json = (description: string) => ({ description, content: { "application/json": { schema: anyJson } } });
  const responses = (description: string) => ({ 200: json(description), default: json("What went wrong.") });
  const request = z
    .object({
      x402Version: z.union([z.literal(1), z.literal(2)]),
      paymentPayload: anyJson,
      paymentRequirements: anyJson,
    })
    .openapi("FacilitatorRequest");
  const token = [{ token: [] }];
  for (const [operation, summary, security] of [
    ["verify", "Verify a payment of x402", verifyNeedsToken ? token : [{}, ...token]],
    ["settle", "Settle a payment of x402; spends gas", [{}, ...token]],
  ] as const) {
    app.openAPIRegistry.registerPath({
      method: "post",
      path: `/facilitator/${operation}`,
      operationId: `facilitator.${operation}`,
      summary,
      tags: ["facilitator"],
      security: security.map((entry) => ({ ...entry })),
      request: { body: { content: { "application/json": { schema: request } } } },
      responses: responses("The result; what is wrong with a payment is in it."),
    });
  }
  const number = z.coerce.number().int().min(0).optional();
  for (const [path, operationId, summary, query] of [
    ["supported", "facilitator.supported", "Kinds of payment that are verified and settled here", undefined],
    [
      "discovery/resources",
      "facilitator.resources",
      "Resources that take payments through this facilitator",
      z.object({ type: z.string().optional(), limit: number, offset: number }),
    ],
    ["health", "facilitator.health", "Whether the chains can be reached", undefined],
  ] as const) {
    app.openAPIRegistry.registerPath({
      method: "get",
      path: `/facilitator/${path}`,
      operationId,
      summary,
      tags: ["facilitator"],
      ...(query ? { request: { query } } : {}),
      responses: responses("As it stands now."),
    });
  }
}
