import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { clientError, GatewayError, readProblem } from "./errors.ts";
import { BACKOFF_FIRST_MS, BACKOFF_LONGEST_MS, MAX_ERROR_BYTES, MAX_JSON_BYTES, MAX_RETRY_AFTER_MS } from "./limits.ts";
import { piecesOf } from "./pieces.ts";
import type { CallLimits, Payer } from "./pay/payer.ts";
import type { Pace } from "./pieces.ts";

/** What is asked of `fetch`: the platform's own fits. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export type TransportOptions = {
  /** Origin and base path, for example `http://127.0.0.1:8402`. */
  readonly url: string;
  readonly fetch: Fetch;
  readonly retries: number;
  readonly timeoutMs: number;
  /** Resolves after `ms`, rejects when the signal aborts. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** From 0 to 1: spreads the tries of many clients. */
  readonly random: () => number;
  /** Pays what is asked to be paid; without one a 402 is an error. */
  readonly payer?: Payer | undefined;
};

export type Call = {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path and query below the gateway's address, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  readonly signal?: AbortSignal | undefined;
  /** Whether asking twice means the same as asking once; default for GET alone. */
  readonly safe?: boolean;
  /** Failures after which even an unsafe call may be sent again, because nothing was begun. */
  readonly again?: (error: unknown) => boolean;
  /** Milliseconds until the answer is there, in place of the transport's. */
  readonly timeoutMs?: number;
  /** Limits of what it may cost, when there is a payer. */
  readonly limits?: CallLimits | undefined;
  /** Whether that time ends with the answer's headers: a stream lasts as long as it lasts. */
  readonly streamed?: boolean;
};

export type Transport = {
  /** Does `work` again, at most `tries` times, while it fails with what may pass by itself. */
  readonly retry: <Result>(
    work: () => Promise<Result>,
    tries: number,
    signal: AbortSignal | undefined,
    passes?: (error: unknown) => boolean,
  ) => Promise<Result>;
  /** The answer, when its status is a success. Throws {@link GatewayError} or a client error. */
  readonly send: (call: Call) => Promise<Response>;
  readonly json: (call: Call) => Promise<JsonValue>;
  /** The body in full. Throws `response_too_large` past `limit`. */
  readonly bytes: (call: Call, limit: number) => Promise<Uint8Array>;
};

const AGAIN: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Whether it may pass by itself: no answer, or an answer that says so. */
function isPassing(error: unknown): boolean {
  if (error instanceof GatewayError) return AGAIN.has(error.status);
  return isAssayError(error) && error.code === "gateway_unreachable";
}

/** Sends calls, tries safe ones again with growing random pauses, and turns error bodies into typed errors. */
export function createTransport(options: TransportOptions): Transport {
  const base = parseBase(options.url);

  const once = async (call: Call): Promise<Response> => {
    const timeoutMs = call.timeoutMs ?? options.timeoutMs;
    const patience = patienceOf(timeoutMs);
    try {
      const init: RequestInit = {
        method: call.method,
        headers: { ...call.headers },
        ...(call.body === undefined ? {} : { body: call.body as NonNullable<RequestInit["body"]> }),
        // A credential follows no redirect, and the API has none.
        redirect: "error",
        signal: call.signal ? AbortSignal.any([call.signal, patience.signal]) : patience.signal,
      };
      const url = base + call.path;
      const { payer, fetch } = options;
      const response = await (payer ? payer.send(fetch, url, init, call.limits) : fetch(url, init));
      if (call.streamed === true && response.ok) patience.stop();
      return response;
    } catch (cause) {
      patience.stop();
      if (call.signal?.aborted === true) throw call.signal.reason;
      // What a payer refuses is no failure of the connection.
      if (isAssayError(cause)) throw cause;
      if (patience.signal.aborted) {
        throw clientError("gateway_timeout", `${base} gave no answer within ${timeoutMs} ms.`, { cause });
      }
      throw clientError("gateway_unreachable", `Nothing answers at ${base}.`, {
        cause,
        hints: ["Start a gateway with `assay start`, or name another with --url."],
      });
    }
  };

  const retry: Transport["retry"] = async (work, tries, signal, passes = isPassing) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (attempt >= tries || !passes(error)) throw error;
        const asked = error instanceof GatewayError ? error.retryAfterMs : 0;
        const pauseMs = options.random() * Math.min(BACKOFF_LONGEST_MS, BACKOFF_FIRST_MS * 2 ** attempt);
        await options.sleep(Math.max(pauseMs, asked), signal);
      }
    }
  };

  const send = (call: Call): Promise<Response> =>
    retry(
      async () => {
        const response = await once(call);
        if (response.ok) return response;
        throw await errorOf(call, response);
      },
      call.again !== undefined || (call.safe ?? call.method === "GET") ? options.retries : 0,
      call.signal,
      call.again,
    );

  const bytes = async (call: Call, limit: number): Promise<Uint8Array> => readBody(await send(call), limit);
  return {
    retry,
    send,
    bytes,
    json: async (call) => readJson(await send(call), call.path),
  };
}

/** The body of an answer as JSON. Throws `response_malformed` naming the path that was asked, or what `readBody` throws. */
export async function readJson(response: Response, path: string): Promise<JsonValue> {
  const body = await readBody(response, MAX_JSON_BYTES);
  try {
    return parseJson(body, { maxBytes: MAX_JSON_BYTES });
  } catch (cause) {
    throw clientError("response_malformed", `${withoutQuery(path)} was answered with something else than JSON.`, {
      cause,
    });
  }
}

/** The whole body of an answer. Throws `response_too_large`, and what `piecesOf` throws when it breaks off. */
export async function readBody(response: Response, limit: number, pace: Pace = {}): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const part of piecesOf(response.body, pace)) {
    length += part.length;
    if (length > limit) throw clientError("response_too_large", `The answer has more than ${limit} bytes.`);
    chunks.push(part);
  }
  const [first] = chunks;
  if (first && chunks.length === 1) return first;
  const out = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

function parseBase(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw clientError("gateway_url_invalid", "The gateway's address is not a URL.", { cause });
  }
  if (!["http:", "https:"].includes(parsed.protocol) || parsed.search !== "" || parsed.hash !== "") {
    throw clientError("gateway_url_invalid", `A gateway is reached by http or https, without a query.`, {
      hints: ["For example http://127.0.0.1:8402."],
    });
  }
  if (parsed.username !== "" || parsed.password !== "") {
    throw clientError("gateway_url_invalid", "The gateway's address holds a password.", {
      hints: ["Callers are known by a key or a token, never by a password in an address."],
    });
  }
  return parsed.href.replace(/\/+$/, "");
}

function withoutQuery(path: string): string {
  return path.replace(/\?.*$/, "");
}

function retryAfterMs(response: Response): number {
  const seconds = Number(response.headers.get("retry-after") ?? "0");
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : 0;
}

async function errorOf(call: Call, response: Response): Promise<GatewayError> {
  const request = `${call.method} ${withoutQuery(call.path)}`;
  const facts = { status: response.status, request, retryAfterMs: retryAfterMs(response) };
  let body: JsonValue | undefined;
  try {
    body = parseJson(await readBody(response, MAX_ERROR_BYTES), { maxBytes: MAX_ERROR_BYTES, maxDepth: 8 });
  } catch {
    body = undefined;
  }
  const problem = readProblem(body);
  return problem
    ? new GatewayError(problem.code, problem.message, { ...facts, hints: problem.hints })
    : new GatewayError(
        `http_${response.status}`,
        `${facts.request} was answered with status ${response.status}.`,
        facts,
      );
}

/** A time limit that can be lifted. Its timer keeps no process alive where timers can be told so. */
function patienceOf(timeoutMs: number): { readonly signal: AbortSignal; readonly stop: () => void } {
  const controller = new AbortController();
  const timer: unknown = setTimeout(() => controller.abort(new DOMException("Too late.", "TimeoutError")), timeoutMs);
  if (typeof timer === "object" && timer !== null && "unref" in timer && typeof timer.unref === "function")
    timer.unref();
  return { signal: controller.signal, stop: () => clearTimeout(timer as number) };
}
