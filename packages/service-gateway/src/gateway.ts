import { randomUUID } from "node:crypto";
import { createServer as createPlainServer } from "node:http";
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { getRequestListener } from "@hono/node-server";
import type { OpenAPIHono } from "@hono/zod-openapi";
import { AssayError } from "@assay/core";
import type { Logger } from "pino";
import { answerCors } from "./cors.ts";
import type { CorsOptions } from "./cors.ts";
import { describe } from "./describe.ts";
import { isFailure, sendProblem } from "./http-errors.ts";
import { handleInfer, handleRefund } from "./infer.ts";
import type { InferModules } from "./infer.ts";
import type { TextModules } from "./openai/handle-text.ts";
import type { TextOptions } from "./openai/limits.ts";
import { openAiProblem } from "./openai/problem.ts";
import { dialectAt } from "./openai/routes.ts";
import { createTextSurface, sendTextProblem } from "./openai/surface.ts";

export type GatewayOptions = {
  readonly host: string;
  readonly port: number;
  /** Longest a request may take to arrive, milliseconds; its head, 20 seconds at most. */
  readonly requestTimeoutMs?: number;
  /** Requests in flight at most, those to language models aside; beyond it callers get `gateway_overloaded`. */
  readonly maxInFlight?: number;
  /** Limits of the text API. */
  readonly text?: TextOptions;
  /** Certificate chain and key, PEM: the gateway then speaks HTTPS. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Who may call from pages in a browser; nobody when absent. */
  readonly cors?: CorsOptions;
  /** How long `close` waits for answers under way, milliseconds. */
  readonly drainMs?: number;
};

export type GatewayModules = {
  readonly api: OpenAPIHono;
  readonly infer: InferModules;
  /** Without it the text API's paths are not there. */
  readonly text?: TextModules;
  readonly logger: Logger;
};

export type Gateway = {
  readonly server: Server;
  readonly url: string;
  readonly draining: () => boolean;
  readonly inFlight: () => number;
  /** Takes nothing new, finishes what is under way, closes. */
  readonly close: () => Promise<void>;
};

const INFER = /^\/v2\/models\/([^/]+)(?:\/versions\/([1-9][0-9]{0,8}))?\/infer$/;
const REQUEST_ID = /^[\w.:-]{1,128}$/;

/**
 * Listens. The infer route and the text API are answered on node:http directly, everything else by the framework, in one
 * server. Throws `listen_failed`, and `tls_invalid` for a certificate or key that cannot be used.
 */
export async function startGateway(options: GatewayOptions, modules: GatewayModules): Promise<Gateway> {
  const { api, infer, logger } = modules;
  const text = modules.text ? createTextSurface(modules.text, logger, options.text) : undefined;
  const maxInFlight = options.maxInFlight ?? 4096;
  const requestTimeoutMs = options.requestTimeoutMs ?? 120_000;
  const failures = new WeakMap<ServerResponse, unknown>();
  const listener = getRequestListener(
    (request, env) => {
      const { outgoing } = env as { readonly outgoing: ServerResponse };
      return api.fetch(request, { ...env, onFailure: (error: unknown) => failures.set(outgoing, error) });
    },
    { overrideGlobalObjects: false },
  );
  let inFlight = 0;
  let draining = false;
  let settled: (() => void) | undefined;

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const startedMs = performance.now();
    const requestId = requestIdOf(request);
    request.url = oneSegment(request.url ?? "/");
    const path = request.url.split("?", 1)[0] ?? "/";
    const { payments } = infer;
    const isRefund = request.method === "GET" && payments !== undefined;
    const target = request.method === "POST" || isRefund ? inferTarget(path) : undefined;
    if (target && isRefund) {
      try {
        await handleRefund(payments, request, response, target);
        infer.metrics.requests.inc({ route: "refund", status: "200" });
        logger.info({ requestId, latencyMs: round(performance.now() - startedMs) }, "channel refunded");
      } catch (error) {
        const problem = sendProblem(response, error, requestId);
        infer.metrics.requests.inc({ route: "refund", status: String(problem.status) });
        if (problem.status >= 500) logger.error({ requestId, err: describe(error) }, "refund failed");
      }
      return;
    }
    if (!target) {
      response.setHeader("x-request-id", requestId);
      await listener(request, response);
      if (!request.complete) discardRest(request);
      infer.metrics.requests.inc({ route: "api", status: String(response.statusCode) });
      const fields = {
        requestId,
        method: request.method,
        path,
        status: response.statusCode,
        latencyMs: round(performance.now() - startedMs),
      };
      const failure = failures.get(response);
      if (response.statusCode >= 500 && failure !== undefined)
        logger.error({ ...fields, err: describe(failure) }, "request failed");
      else logger.info(fields, "request");
      return;
    }
    try {
      const outcome = await handleInfer(infer, request, response, target, requestId);
      infer.metrics.requests.inc({ route: "infer", status: "200" });
      logger.info(
        {
          requestId,
          receiptId: outcome.receiptId,
          model: outcome.model,
          status: outcome.status,
          paymentId: outcome.paymentId,
          replayed: outcome.replayed,
          engineMs: round(outcome.engineMs),
          receiptMs: round(outcome.receiptMs),
          latencyMs: round(performance.now() - startedMs),
        },
        "inference",
      );
    } catch (error) {
      const problem = sendProblem(response, error, requestId);
      if (!request.complete) discardRest(request);
      infer.metrics.requests.inc({ route: "infer", status: String(problem.status) });
      infer.metrics.refusals.inc({ code: problem.body.code });
      const fields = {
        requestId,
        code: problem.body.code,
        status: problem.status,
        latencyMs: round(performance.now() - startedMs),
      };
      if (isFailure(problem)) logger.error({ ...fields, err: describe(error) }, "inference failed");
      else logger.info(fields, "inference refused");
    }
  };

  const server = listenerOf(
    options.tls,
    {
      requestTimeout: requestTimeoutMs,
      // Node refuses a shorter time for the whole request than for its head.
      headersTimeout: Math.min(20_000, requestTimeoutMs),
      connectionsCheckingInterval: Math.min(5000, requestTimeoutMs),
      keepAliveTimeout: 30_000,
      maxHeaderSize: 32 * 1024,
    },
    (request, response) => {
      if (options.cors && answerCors(options.cors, request, response)) return;
      const dialect = text ? dialectAt((request.url ?? "/").split("?", 1)[0] ?? "/") : undefined;
      const others = inFlight - (text?.inFlight() ?? 0);
      const refusal = draining
        ? new AssayError("gateway_draining", "The gateway is shutting down and takes no more work.")
        : dialect
          ? text?.full()
          : others >= maxInFlight
            ? new AssayError("gateway_overloaded", `${others} requests are in flight already.`, {
                hints: ["Send the request again after a moment."],
              })
            : undefined;
      if (refusal) {
        response.setHeader("connection", "close");
        if (dialect) {
          infer.metrics.textRequests.inc({ dialect, status: String(openAiProblem(refusal).status) });
          sendTextProblem(response, refusal, requestIdOf(request));
        } else sendProblem(response, refusal, randomUUID());
        return;
      }
      inFlight++;
      // An answer is under way until its last byte was handed to the system, which is after its handler has ended.
      const sent = new Promise<void>((resolve) => {
        response.once("close", resolve);
      });
      const served =
        dialect && text
          ? text.serve(request, response, dialect, requestIdOf(request)).then(() => {
              if (!request.complete) discardRest(request);
            })
          : serve(request, response);
      void served
        .catch((error: unknown) => {
          logger.error({ err: describe(error) }, "request handler failed");
          sendProblem(response, error, "unknown");
        })
        .then(() => sent)
        .finally(() => {
          inFlight--;
          if (inFlight === 0) settled?.();
        });
    },
  );
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (socket.writable) socket.end(refusalOf(error.code));
    else socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const busy = cause.code === "EADDRINUSE";
      reject(
        new AssayError(
          "listen_failed",
          busy
            ? `Port ${options.port} on ${options.host} is in use.`
            : `The gateway cannot listen on ${options.host}:${options.port}.`,
          {
            hints: busy ? ["Another gateway may be running; choose another port with --port."] : [],
            cause,
          },
        ),
      );
    });
    server.listen(options.port, options.host, resolve);
  });
  const idle = async (withinMs: number): Promise<void> => {
    if (inFlight === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      new Promise<void>((resolve) => {
        settled = resolve;
      }),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, withinMs);
      }),
    ]);
    clearTimeout(timer);
  };
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : options.port;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  return {
    server,
    url: `${options.tls ? "https" : "http"}://${host}:${port}`,
    draining: () => draining,
    inFlight: () => inFlight,
    async close() {
      draining = true;
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      server.closeIdleConnections();
      await idle(options.drainMs ?? 10_000);
      server.closeAllConnections();
      await closed;
      // Streams that were cut just now leave receipts that say so, and their handlers end with them.
      if (text && text.inFlight() > 0) await idle(CUT_MS);
    },
  };
}

/** How long `close` waits for the receipts of answers that it cut, milliseconds: a flush takes a hundredth of it. */
const CUT_MS = 5000;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

// One server for both: node:https's has node:http's methods on a TLS socket.
function listenerOf(tls: GatewayOptions["tls"], options: ServerOptions, handler: Handler): Server {
  if (!tls) return createPlainServer(options, handler);
  try {
    return createTlsServer({ ...options, ...tls, minVersion: "TLSv1.2" }, handler);
  } catch (cause) {
    throw new AssayError("tls_invalid", "The certificate and key for HTTPS cannot be used.", {
      hints: ["Both are PEM texts, and the key is the certificate's own."],
      cause,
    });
  }
}

function requestIdOf(request: IncomingMessage): string {
  const given = request.headers["x-request-id"];
  return typeof given === "string" && REQUEST_ID.test(given) ? given : randomUUID();
}

const TWO_SEGMENTS = /^(\/v2\/models\/[^/?%]+)\/(?!(?:ready|infer|versions)(?:[/?]|$))([^/?%]+)/;

const TWO_SEGMENTS_SHOWN =
  /^(\/v1\/models\/[^/?%]+)\/(?!(?:files|releases|rollback|deprecate)(?:[?]|$))([^/?%]+)(?=[?]|$)/;

// A model's name is one segment, its slash encoded. Clients that others wrote send the slash as it is.
function oneSegment(url: string): string {
  if (url.startsWith("/v2/models/")) return url.replace(TWO_SEGMENTS, "$1%2F$2");
  return url.startsWith("/v1/models/") ? url.replace(TWO_SEGMENTS_SHOWN, "$1%2F$2") : url;
}

function inferTarget(path: string): { readonly name: string; readonly version: number | undefined } | undefined {
  const match = INFER.exec(path);
  if (!match) return undefined;
  let name: string;
  try {
    name = decodeURIComponent(match[1] ?? "");
  } catch {
    return undefined;
  }
  // A version in the path and one in the name, or something else after the @, leave a name that is refused later.
  if (match[2] !== undefined) name = `${name}@${match[2]}`;
  const versioned = /^([^@]*)@([1-9][0-9]{0,8})$/.exec(name);
  return versioned ? { name: versioned[1] ?? "", version: Number(versioned[2]) } : { name, version: undefined };
}

/** What is read on of a body that was refused, bytes and milliseconds, so that its sender reads the answer. */
const DISCARD = { bytes: 64 * 1024 * 1024, ms: 2000 };

/**
 * Reads the rest of a refused body and drops it: closing while bytes arrive would reset the connection and could take
 * the answer with it. A sender that goes on beyond {@link DISCARD} is cut off.
 */
function discardRest(request: IncomingMessage): void {
  let size = 0;
  const cut = (): void => {
    request.destroy();
  };
  const timer = setTimeout(cut, DISCARD.ms);
  timer.unref();
  request.on("data", (chunk: Uint8Array) => {
    size += chunk.length;
    if (size > DISCARD.bytes) cut();
  });
  request.once("close", () => clearTimeout(timer));
  request.once("end", () => clearTimeout(timer));
  request.resume();
}

/** The whole answer to bytes that are not a request, by the parser's code. */
function refusalOf(code: string | undefined): string {
  const [status, error] =
    code === "HPE_HEADER_OVERFLOW"
      ? (["431 Request Header Fields Too Large", "The request's headers are too large."] as const)
      : code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? (["408 Request Timeout", "The request did not arrive in time."] as const)
        : (["400 Bad Request", "This is not an HTTP request."] as const);
  const body = JSON.stringify({ error, code: "http_malformed", hints: [], docs: "/errors/http_malformed.md" });
  return `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
