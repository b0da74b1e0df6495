import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { AssayError, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { TEXT_DIALECTS } from "@assay/protocol";
import type { RoutingOptions, TextDialect } from "@assay/protocol";
import { createClient, TEXT_PATHS, verifiedFetch } from "@assay/sdk";
import type { CheckedReceipt, CheckerOptions, Fetch, Payer } from "@assay/sdk";
import { createGuard, isLoopback } from "./guard.ts";
import { headersBack, headersOnward } from "./headers.ts";
import { MAX_LIST_BYTES, PROXY_DEFAULTS, READY_TIMEOUT_MS } from "./limits.ts";
import { readRequest } from "./read-request.ts";
import { sendProblem, sendStream } from "./respond.ts";

export type ProxyLimits = { readonly [name in Exclude<keyof typeof PROXY_DEFAULTS, "port">]: number };

export type ProxyOptions = CheckerOptions & {
  /** The Assay gateway, for example `http://127.0.0.1:8402`. */
  readonly upstreamUrl: string;
  /** Default `127.0.0.1`. Another address than the loopback's is refused unless `exposed` is true. */
  readonly host?: string;
  /** Default 8403; 0 takes any that is free. */
  readonly port?: number;
  /** That whoever reaches `host` may ask, with the token given here. */
  readonly exposed?: boolean;
  /** Names under which it may be asked beside the loopback's, without port. */
  readonly allowedHosts?: readonly string[];
  /** Web origins whose pages may ask; default none. */
  readonly allowedOrigins?: readonly string[];
  /** `before-release` (default): nothing before its verdict, streams are played back. `after`: a stream's end waits. */
  readonly mode?: "before-release" | "after";
  /** Routing options of requests that name none themselves. */
  readonly routing?: RoutingOptions;
  /** A gateway's token for requests that bring none. */
  readonly token?: string;
  /** Most that one call may cost, decimal text in units of the asset that is paid; beside the payer's policy. */
  readonly maxSpend?: string;
  readonly limits?: Partial<ProxyLimits>;
};

/** One request that is over, for a log line; nothing that anybody wrote. */
export type ProxyEvent = {
  readonly method: string;
  readonly route: string;
  readonly status: number;
  readonly wallMs: number;
  readonly receiptId?: string;
  /** Code of the receipt's verdict. */
  readonly verdict?: string;
  /** Code of what went wrong. */
  readonly failure?: string;
};

export type ProxyModules = {
  readonly fetch?: Fetch;
  /** Cryptography of verification; default noble. */
  readonly suite?: CryptoSuite;
  readonly now?: () => number;
  /** Pays what the gateway asks to be paid, within its policy. Requests that bring a payment of their own are passed on. */
  readonly payer?: Payer;
  /** Keeps receipts. Called before their answers are let through; what it throws keeps the answer back. */
  readonly onReceipt?: (receipt: CheckedReceipt) => void | Promise<void>;
  readonly onEvent?: (event: ProxyEvent) => void;
};

/** A proxy that listens. */
export type Proxy = {
  /** For example `http://127.0.0.1:8403`; clients of OpenAI's API take it with `/v1`. */
  readonly url: string;
  readonly port: number;
  /** Takes no more requests, lets those under way end, and cuts what is left after `drainMs`. */
  readonly close: () => Promise<void>;
};

/**
 * Starts a proxy for unchanged clients of OpenAI's API: it passes requests on to a gateway and lets through what was
 * verified. Throws `proxy_exposed` for an address that others reach, `listen_failed`, `gateway_url_invalid` and
 * `trust_invalid`.
 *
 * @example
 * const proxy = await createProxy({ upstreamUrl: "http://127.0.0.1:8402", trust });
 * const client = new OpenAI({ baseURL: `${proxy.url}/v1`, apiKey: "unused" });
 */
export async function createProxy(options: ProxyOptions, modules: ProxyModules = {}): Promise<Proxy> {
  const host = options.host ?? "127.0.0.1";
  if (!isLoopback(host) && options.exposed !== true) {
    throw new AssayError("proxy_exposed", `${host} is reached from other machines than this one.`, {
      hints: ["Listen on 127.0.0.1, or say exposed: true if everybody who reaches it may ask."],
    });
  }
  const limits: ProxyLimits = { ...PROXY_DEFAULTS, ...options.limits };
  const upstream = createClient({ url: options.upstreamUrl }).url;
  const fetch: Fetch = modules.fetch ?? ((url, init) => globalThis.fetch(url, init));
  const verified = verifiedFetch({
    ...(options.trust === undefined ? {} : { trust: options.trust }),
    ...(options.policy ? { policy: options.policy } : {}),
    ...(options.accept ? { accept: options.accept } : {}),
    ...(options.waitMs === undefined ? {} : { waitMs: options.waitMs }),
    ...(modules.suite ? { suite: modules.suite } : {}),
    ...(modules.now ? { now: modules.now } : {}),
    ...(modules.onReceipt ? { onReceipt: modules.onReceipt } : {}),
    ...(modules.payer ? { payer: modules.payer } : {}),
    ...(options.maxSpend === undefined ? {} : { maxSpend: options.maxSpend }),
    verify: options.mode ?? "before-release",
    timeoutMs: limits.answerTimeoutMs,
    fetch,
  });
  const guard = createGuard({
    host,
    allowedHosts: options.allowedHosts ?? [],
    allowedOrigins: options.allowedOrigins ?? [],
  });
  const closing = new AbortController();
  let running = 0;
  let open = true;

  const text: Handler = async (request, response, dialect, signal, cors) => {
    if (!open) throw new AssayError("proxy_closing", "The proxy is being stopped.");
    if (running >= limits.maxConcurrent) {
      throw new AssayError("proxy_overloaded", `${running} requests are under way, as many as the proxy takes.`, {
        hints: ["Send the request again after a moment."],
      });
    }
    running++;
    try {
      const body = await readRequest(request, limits.maxBodyBytes);
      const answer = await verified(upstream + TEXT_PATHS[dialect], {
        method: "POST",
        headers: headersOnward(request.headers, options),
        body: body as NonNullable<RequestInit["body"]>,
        redirect: "error",
        signal,
      }).catch((cause: unknown) => {
        throw unreachable(cause, upstream);
      });
      response.writeHead(answer.status, { ...headersBack(answer.headers), ...cors });
      const failure = answer.body ? await sendStream(response, answer.body, dialect, limits.stallMs) : response.end();
      return factsOf(answer, failure);
    } finally {
      running--;
    }
  };

  const models = async (
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
    cors: Readonly<Record<string, string>>,
  ): Promise<Facts> => {
    const answer = await fetch(upstream + path, {
      headers: headersOnward(request.headers, options),
      redirect: "error",
      signal,
    }).catch((cause: unknown) => {
      throw unreachable(cause, upstream);
    });
    const body = await boundedBody(answer);
    response.writeHead(answer.status, { ...headersBack(answer.headers), ...cors });
    response.end(body);
    return { status: answer.status };
  };

  const health = async (response: ServerResponse, cors: Readonly<Record<string, string>>): Promise<Facts> => {
    const ready = await fetch(`${upstream}/readyz`, { signal: AbortSignal.timeout(READY_TIMEOUT_MS) }).then(
      async (answer) => {
        await answer.body?.cancel();
        return answer.ok;
      },
      () => false,
    );
    const status = ready && open ? 200 : 503;
    response.writeHead(status, { "content-type": "application/json", ...cors });
    response.end(
      JSON.stringify({
        status: status === 200 ? "ok" : "unavailable",
        gateway: ready ? "ready" : "unreachable",
        verify: options.mode ?? "before-release",
        pinned: options.trust !== undefined,
      }),
    );
    return { status };
  };

  const answer = async (request: IncomingMessage, response: ServerResponse, route: Route): Promise<Facts> => {
    const left = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished)
        left.abort(new AssayError("request_cancelled", "The client went away before its answer was complete."));
    });
    const signal = AbortSignal.any([left.signal, closing.signal]);
    const { origin } = request.headers;
    const cors = guard.corsHeaders(origin);
    try {
      guard.check({ host: request.headers.host, origin });
      if (request.method === "OPTIONS" && origin !== undefined) {
        response.writeHead(204, {
          ...cors,
          "access-control-allow-methods": "GET, POST",
          "access-control-allow-headers": request.headers["access-control-request-headers"] ?? "content-type",
          "access-control-max-age": "600",
        });
        response.end();
        return { status: 204 };
      }
      if (route.dialect && request.method === "POST") return await text(request, response, route.dialect, signal, cors);
      if (route.path === "/health" && request.method === "GET") return await health(response, cors);
      if (route.models && request.method === "GET") return await models(route.path, request, response, signal, cors);
      throw new AssayError("route_not_found", "The proxy has no such route.", {
        hints: [`It has ${Object.values(TEXT_PATHS).join(", ")}, /v1/models and /health.`],
      });
    } catch (error) {
      const status = sendProblem(response, error, cors);
      return { status, failure: isAssayError(error) ? error.code : "internal_error" };
    }
  };

  const server = createServer(
    {
      requestTimeout: limits.requestTimeoutMs,
      headersTimeout: Math.min(20_000, limits.requestTimeoutMs),
      connectionsCheckingInterval: Math.min(5_000, limits.requestTimeoutMs),
    },
    (request, response) => {
      const startedMs = performance.now();
      const route = routeOf(request.url ?? "/");
      void answer(request, response, route).then((facts) => {
        modules.onEvent?.({
          method: request.method ?? "GET",
          route: route.name,
          wallMs: performance.now() - startedMs,
          ...facts,
        });
      });
    },
  );
  await listen(server, options.port ?? PROXY_DEFAULTS.port, host);
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`,
    port,
    close: () =>
      new Promise((resolve) => {
        open = false;
        const cut = setTimeout(() => {
          closing.abort(new AssayError("proxy_closing", "The proxy is being stopped."));
          server.closeAllConnections();
        }, limits.drainMs);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

type Facts = Pick<ProxyEvent, "status" | "receiptId" | "verdict" | "failure">;
type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  dialect: TextDialect,
  signal: AbortSignal,
  cors: Readonly<Record<string, string>>,
) => Promise<Facts>;
type Route = {
  readonly path: string;
  /** What log lines say: never a name that somebody chose. */
  readonly name: string;
  readonly dialect?: TextDialect;
  readonly models?: boolean;
};

function routeOf(url: string): Route {
  const path = url.replace(/[?#].*$/, "");
  const dialect = TEXT_DIALECTS.find((name) => TEXT_PATHS[name] === path);
  if (dialect) return { path, name: path, dialect };
  if (path === "/health") return { path, name: path };
  if (path === "/v1/models") return { path, name: path, models: true };
  // One name in the path, its slash as it is or encoded, and nothing that leads elsewhere.
  if (/^\/v1\/models\/[\w.@%:-]+(?:\/[\w.@%:-]+)?$/.test(path) && !/\.\.|%2e/i.test(path))
    return { path, name: "/v1/models/{model}", models: true };
  return { path, name: "other" };
}

function factsOf(answer: Response, failure: unknown): Facts {
  const [receiptId, verdict] = [answer.headers.get("assay-receipt-id"), answer.headers.get("assay-verdict")];
  const refused = answer.headers.get("assay-failure") ?? undefined;
  const code = failure === undefined ? refused : isAssayError(failure) ? failure.code : "internal_error";
  return {
    status: answer.status,
    ...(receiptId === null ? {} : { receiptId }),
    ...(verdict === null ? {} : { verdict }),
    ...(code === undefined ? {} : { failure: code }),
  };
}

function unreachable(cause: unknown, upstream: string): unknown {
  if (isAssayError(cause)) return cause;
  return new AssayError("gateway_unreachable", `Nothing answers at ${upstream}.`, {
    cause,
    hints: ["Start a gateway with `assay start`, or name another as the proxy's upstream."],
  });
}

async function boundedBody(answer: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of (answer.body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_LIST_BYTES)
      throw new AssayError("response_too_large", `The list of models has more than ${MAX_LIST_BYTES} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function listen(server: ReturnType<typeof createServer>, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void =>
      reject(
        new AssayError("listen_failed", `The proxy cannot listen on ${host} port ${port}.`, {
          cause,
          hints: ["Take another port, or stop what uses it."],
        }),
      );
    server.once("error", fail);
    server.listen(port, host, () => {
      server.off("error", fail);
      resolve();
    });
  });
}
