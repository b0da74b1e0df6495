import { AssayError, isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { createBreaker } from "./breaker.ts";
import { rpcError } from "./fault.ts";

/** A node answers a read in milliseconds; a provider over the internet in some hundred. */
const DEFAULT_TIMEOUT_MS = 5_000;
/** Largest answer: logs of a busy block. */
const DEFAULT_MAX_ANSWER_BYTES = 4 * 1024 * 1024;
/** Deepest nesting of an answer: a receipt's logs are at five. */
const MAX_ANSWER_DEPTH = 32;
/** Calls under way to one node; more wait here, where they are bounded by their own time. */
export const MAX_IN_FLIGHT = 64;
/** Calls that may wait for their turn: more of them mean that the node does not keep up. */
export const MAX_WAITING = 4_096;

export type TransportOptions = {
  /** `http:` or `https:`; may hold a credential, so it is never repeated in an error. */
  readonly url: string;
  readonly timeoutMs?: number;
  readonly maxAnswerBytes?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly nowMs?: () => number;
};

export type CallOptions = {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly maxAnswerBytes?: number;
};

export type Transport = {
  /**
   * The result of one JSON-RPC call. Throws `chain_unavailable` when there was no answer within bounds (down, slow, too
   * large, not JSON-RPC, or the circuit is open) and `chain_rpc_error` when the node refused.
   */
  readonly request: (method: string, params: readonly unknown[], options?: CallOptions) => Promise<JsonValue>;
  /** Milliseconds until the node will be tried again; 0 when it is not known to be down. */
  readonly retryAfterMs: () => number;
  readonly isDown: () => boolean;
};

/** JSON-RPC over HTTP, bounded in size and time, with a circuit breaker. Throws `chain_url_invalid`. */
export function createTransport(options: TransportOptions): Transport {
  const { url, authorization } = checkedUrl(options.url);
  const headers = {
    "content-type": "application/json",
    accept: "application/json",
    ...authorization,
    ...options.headers,
  };
  const breaker = createBreaker(options.nowMs ?? Date.now);
  let lastId = 0;
  let inFlight = 0;
  const waiting: Array<() => void> = [];

  async function takeTurn(): Promise<void> {
    if (inFlight < MAX_IN_FLIGHT) {
      inFlight++;
      return;
    }
    if (waiting.length >= MAX_WAITING) throw unavailable("too many calls wait for it");
    // The turn is handed over by the call that ended, so the count stays.
    await new Promise<void>((resolve) => waiting.push(resolve));
  }

  function giveTurn(): void {
    const next = waiting.shift();
    if (next === undefined) inFlight--;
    else next();
  }

  async function attempt(method: string, params: readonly unknown[], call: CallOptions): Promise<JsonValue> {
    const id = ++lastId;
    const timeout = AbortSignal.timeout(call.timeoutMs ?? options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const signal = call.signal === undefined ? timeout : AbortSignal.any([timeout, call.signal]);
    const response = await fetch(url, {
      method: "POST",
      headers,
      body: JSON.stringify({ jsonrpc: "2.0", id, method, params }),
      redirect: "error",
      signal,
    });
    const limit = call.maxAnswerBytes ?? options.maxAnswerBytes ?? DEFAULT_MAX_ANSWER_BYTES;
    const body = await readBounded(response, limit);
    // Providers answer refusals with 4xx and a JSON-RPC body, so the body is looked at first.
    let answer: JsonValue;
    try {
      answer = parseJson(body, { maxBytes: limit, maxDepth: MAX_ANSWER_DEPTH });
    } catch (cause) {
      throw unavailable(`it answered status ${response.status} without JSON`, cause);
    }
    if (typeof answer !== "object" || answer === null || Array.isArray(answer))
      throw unavailable(`its answer to ${method} is no JSON-RPC response`);
    const fields = answer as { readonly [key: string]: JsonValue };
    if (fields["error"] !== undefined && fields["error"] !== null) {
      if (response.status === 429 || response.status >= 500) throw unavailable(`it answered status ${response.status}`);
      throw rpcError(method, fields["error"]);
    }
    if (fields["id"] !== id || fields["result"] === undefined)
      throw unavailable(`its answer to ${method} belongs to another call or has no result`);
    return fields["result"];
  }

  return {
    async request(method, params, call = {}) {
      // Judged before the turn, so that nobody waits for a node that is down, and after it, for what happened meanwhile.
      if (breaker.retryInMs() > 1) throw unavailable("it did not answer lately");
      await takeTurn();
      if (breaker.pauseMs() > 0) {
        giveTurn();
        throw unavailable("it did not answer lately");
      }
      try {
        const result = await attempt(method, params, call);
        breaker.succeeded();
        return result;
      } catch (error) {
        if (call.signal?.aborted === true) {
          breaker.undecided();
          throw error;
        }
        if (isAssayError(error) && error.code === "chain_rpc_error") {
          breaker.succeeded();
          throw error;
        }
        breaker.failed();
        throw isAssayError(error) ? error : unavailable(reasonOf(error), error);
      } finally {
        giveTurn();
      }
    },
    retryAfterMs: breaker.retryInMs,
    isDown: breaker.isOpen,
  };
}

function checkedUrl(text: string): { url: string; authorization: Readonly<Record<string, string>> } {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // Judged below: the text itself may hold a credential.
  }
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw new AssayError("chain_url_invalid", "The chain's RPC address is not an http or https URL.", {
      hints: ["It looks like http://127.0.0.1:8545."],
    });
  if (url.username === "" && url.password === "") return { url: url.href, authorization: {} };
  // fetch refuses credentials inside of an address, so they travel in their header.
  const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  url.username = "";
  url.password = "";
  return { url: url.href, authorization: { authorization: `Basic ${Buffer.from(pair).toString("base64")}` } };
}

async function readBounded(response: Response, limit: number): Promise<Uint8Array> {
  if (Number(response.headers.get("content-length") ?? 0) > limit) {
    await response.body?.cancel();
    throw unavailable(`its answer is larger than ${limit} bytes`);
  }
  const parts: Uint8Array[] = [];
  let size = 0;
  if (response.body !== null)
    for await (const part of response.body as AsyncIterable<Uint8Array>) {
      size += part.length;
      // Leaving the loop cancels the rest.
      if (size > limit) throw unavailable(`its answer is larger than ${limit} bytes`);
      parts.push(part);
    }
  return Buffer.concat(parts);
}

function reasonOf(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") return "it did not answer in time";
  const cause = error instanceof Error ? error.cause : undefined;
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : undefined;
  return code === undefined ? "the connection failed" : `the connection failed with ${code}`;
}

export function unavailable(why: string, cause?: unknown): AssayError<"chain_unavailable"> {
  return new AssayError("chain_unavailable", `The chain's node gave no usable answer: ${why}.`, {
    hints: ["It is tried again by itself; check that the node runs and that its address is right."],
    ...(cause === undefined ? {} : { cause }),
  });
}
