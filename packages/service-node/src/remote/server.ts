import { createHash, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { AssayError, bytesToHex, isAssayError } from "@assay/core";
import {
  decodeRemoteTensor,
  decodeRemoteText,
  encodeFault,
  encodeFinishedTensor,
  encodeFinishedText,
  encodeFrame,
  encodeMessage,
  MESSAGE,
  PULSE_MS,
  retryAfterOf,
} from "@assay/protocol";
import type {
  ParsedText,
  RemoteTensor,
  RemoteText,
  Tensor,
  TextDialect,
  TextExecutor,
  TextTarget,
} from "@assay/protocol";
import { receiptSubject } from "@assay/receipts";
import type { NodeSigner } from "./signer.ts";
import { readBody } from "./read-body.ts";

/** One finished execution of an ONNX model, as the local node drafts it. */
export type TensorExecution = {
  readonly receiptId: Uint8Array;
  readonly subject: string;
  readonly issuedAtMs: number;
  readonly masterSalt: Uint8Array;
  readonly claims: Uint8Array;
  readonly outputs: readonly Tensor[];
  readonly engineMs: number;
};

export type NodeServerModules = {
  /** 32 bytes that the gateway got at the join; whoever shows them may give work. */
  readonly secret: Uint8Array;
  readonly signer: NodeSigner;
  /** The local text node, unsigned; absent on nodes that run tensors alone. */
  readonly text?: TextExecutor;
  /** Parses a caller's body for itself: what is signed is what the caller sent, whatever the gateway made of it. */
  readonly parseText?: (dialect: TextDialect, body: Uint8Array) => ParsedText;
  /** The target with its files on this disk, pulled if they are not here. Throws `model_not_found` and what pulling throws. */
  readonly target?: (
    wanted: Pick<RemoteText, "engine" | "model" | "manifestDigest" | "modelName" | "modelVersion">,
    signal: AbortSignal,
  ) => Promise<TextTarget>;
  /** Runs an ONNX model by its manifest digest. */
  readonly tensor?: (request: RemoteTensor, signal: AbortSignal) => Promise<TensorExecution>;
  /** Told of errors that no caller sees. */
  readonly onError?: (error: unknown) => void;
};

export type NodeServerOptions = {
  readonly host: string;
  readonly port: number;
  /** Work under way at most; beyond it the gateway gets `node_overloaded` and tries another node. */
  readonly maxInFlight?: number;
  /** Longest body, bytes: a request with all its tensors. */
  readonly maxBodyBytes?: number;
  /** Longest time for a request to arrive, milliseconds. */
  readonly requestTimeoutMs?: number;
  /** How often the gateway is told that work goes on, milliseconds. */
  readonly pulseMs?: number;
  /** How long `close` waits for work under way, milliseconds. */
  readonly drainMs?: number;
};

export type NodeServer = {
  readonly url: string;
  readonly server: Server;
  readonly running: () => number;
  readonly draining: () => boolean;
  /** Takes nothing new from now on; what runs is finished. */
  readonly drain: () => void;
  readonly close: () => Promise<void>;
};

const PATH = {
  text: "/node/v1/text",
  tensor: "/node/v1/tensor",
  health: "/node/v1/health",
  cancel: /^\/node\/v1\/cancel\/([0-9a-f]{32})$/,
} as const;
const ANSWER = "application/vnd.assay.node.v1";
/** Headers are a bearer and a length. */
const MAX_HEADER_BYTES = 16 * 1024;

/** Statuses of refusals before the answer begins; a gateway goes by the code. */
const STATUS: Readonly<Record<string, number>> = {
  node_unauthorized: 401,
  route_not_found: 404,
  model_not_found: 404,
  request_too_large: 413,
  receipt_id_reused: 409,
  node_overloaded: 503,
  node_draining: 503,
  outbox_full: 503,
};

/**
 * Listens for a gateway's work: executes, signs, makes durable, answers. Each answer is a stream of messages that ends
 * with the signed record, so a gateway that reads the end knows that the statement is on this node's disk.
 */
export async function createNodeServer(options: NodeServerOptions, modules: NodeServerModules): Promise<NodeServer> {
  const { signer } = modules;
  const maxInFlight = options.maxInFlight ?? 256;
  const maxBodyBytes = options.maxBodyBytes ?? 256 * 1024 * 1024;
  const pulseMs = options.pulseMs ?? PULSE_MS;
  const secretHash = digest(Buffer.from(bytesToHex(modules.secret)));
  const working = new Map<string, AbortController>();
  let inFlight = 0;
  let draining = false;
  let settled: (() => void) | undefined;

  const authorize = (request: IncomingMessage): void => {
    const shown = /^Bearer ([0-9a-f]{64})$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    // Both sides are hashed, so the comparison takes the same time whatever was shown, and however long it is.
    if (timingSafeEqual(digest(Buffer.from(shown)), secretHash)) return;
    throw new AssayError("node_unauthorized", "This node works for the gateway that it joined alone.");
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    authorize(request);
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    if (request.method === "GET" && path === PATH.health) {
      const body = JSON.stringify({ running: inFlight - 1, draining, subject: signer.issuer().document.subject });
      response.writeHead(200, { "content-type": "application/json" }).end(body);
      return;
    }
    const cancelled = request.method === "POST" ? PATH.cancel.exec(path)?.[1] : undefined;
    if (cancelled !== undefined) {
      working.get(cancelled)?.abort();
      response.writeHead(204).end();
      return;
    }
    if (request.method !== "POST" || (path !== PATH.text && path !== PATH.tensor))
      throw new AssayError("route_not_found", "A node has no such route.");
    if (draining) throw new AssayError("node_draining", "The node takes no new work.");
    signer.assertRoom();
    const body = await readBody(request, maxBodyBytes);
    if (path === PATH.text) await serveText(decodeRemoteText(body), response);
    else await serveTensor(decodeRemoteTensor(body), response);
  };

  /** Runs `work` under a signal that ends with the connection or with a cancel of `receiptId`. */
  const guarded = async (
    receiptId: string | undefined,
    response: ServerResponse,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> => {
    const aborted = new AbortController();
    if (receiptId !== undefined && working.has(receiptId))
      throw new AssayError("receipt_id_reused", `The receipt ${receiptId} is being made already.`);
    const gone = (): void => aborted.abort();
    response.once("close", gone);
    if (receiptId !== undefined) working.set(receiptId, aborted);
    let pulse: NodeJS.Timeout | undefined;
    try {
      pulse = setInterval(() => {
        if (response.headersSent) response.write(encodeMessage(MESSAGE.pulse));
        else begin(response);
      }, pulseMs);
      await work(aborted.signal);
    } finally {
      clearInterval(pulse);
      if (receiptId !== undefined) working.delete(receiptId);
      response.off("close", gone);
    }
  };

  const serveText = async (request: RemoteText, response: ServerResponse): Promise<void> => {
    const { text, parseText, target: findTarget } = modules;
    if (!text || !parseText || !findTarget)
      throw new AssayError("kind_unsupported", "This node runs no language models.");
    await guarded(bytesToHex(request.receiptId), response, async (signal) => {
      const parsed = parseText(request.dialect, request.body);
      const target = await findTarget(request, signal);
      await text.check(parsed, target);
      const execution = text.execute({
        receiptId: request.receiptId,
        masterSalt: request.masterSalt,
        createdS: request.createdS,
        body: request.body,
        parsed,
        target,
        ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
        ...(request.principal ? { principal: request.principal } : {}),
        signal,
      });
      let failure: unknown;
      let frames = 0;
      try {
        for await (const frame of execution.frames) {
          frames++;
          // A gateway that went away is not written to; what was executed is still stated below.
          if (!response.destroyed) await send(response, encodeFrame(frame));
        }
      } catch (error) {
        failure = error;
      }
      const { envelope: _none, requestFields: _asked, responseFields: _answered, ...done } = await execution.finish();
      const subject = receiptSubject(request.receiptId);
      const statement = await signer.sign({ claims: done.claims, subject, issuedAtMs: done.issuedAtMs });
      if (response.destroyed) return;
      if (failure !== undefined && frames > 0) await send(response, encodeMessage(MESSAGE.fault, faultOf(failure)));
      await send(
        response,
        encodeMessage(MESSAGE.finished, encodeFinishedText({ ...done, subject, envelope: statement.envelope })),
      );
      response.end();
    });
  };

  const serveTensor = async (request: RemoteTensor, response: ServerResponse): Promise<void> => {
    const { tensor } = modules;
    if (!tensor) throw new AssayError("kind_unsupported", "This node runs no tensor models.");
    await guarded(undefined, response, async (signal) => {
      const execution = await tensor(request, signal);
      const { envelope } = await signer.sign(execution);
      if (response.destroyed) return;
      const { receiptId, masterSalt, subject, issuedAtMs, claims, outputs, engineMs } = execution;
      const done = { receiptId, masterSalt, subject, issuedAtMs, claims, outputs, engineMs, envelope };
      await send(response, encodeMessage(MESSAGE.finished, ...encodeFinishedTensor(done)));
      response.end();
    });
  };

  const server = createServer(
    {
      requestTimeout: options.requestTimeoutMs ?? 120_000,
      headersTimeout: Math.min(20_000, options.requestTimeoutMs ?? 120_000),
      keepAliveTimeout: 30_000,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    (request, response) => {
      inFlight++;
      const sent = new Promise<void>((resolve) => {
        response.once("close", resolve);
      });
      const over = inFlight > maxInFlight;
      const served = over
        ? Promise.reject(new AssayError("node_overloaded", `${inFlight - 1} requests are under way already.`))
        : serve(request, response);
      void served
        .catch((error: unknown) => {
          if (!isAssayError(error)) modules.onError?.(error);
          refuse(request, response, error);
        })
        .then(() => sent)
        .finally(() => {
          inFlight--;
          if (inFlight === 0) settled?.();
        });
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new AssayError("listen_failed", `The node cannot listen on ${options.host}:${options.port}.`, { cause })),
    );
    server.listen(options.port, options.host, resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : options.port;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const drain = (): void => {
    draining = true;
  };
  return {
    url: `http://${host}:${port}`,
    server,
    running: () => inFlight,
    draining: () => draining,
    drain,
    async close() {
      drain();
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      server.closeIdleConnections();
      if (inFlight > 0) {
        let timer: NodeJS.Timeout | undefined;
        await Promise.race([
          new Promise<void>((resolve) => {
            settled = resolve;
          }),
          new Promise<void>((resolve) => {
            timer = setTimeout(resolve, options.drainMs ?? 10_000);
          }),
        ]);
        clearTimeout(timer);
      }
      for (const controller of working.values()) controller.abort();
      server.closeAllConnections();
      await closed;
    },
  };
}

function begin(response: ServerResponse): void {
  if (!response.headersSent && !response.destroyed) response.writeHead(200, { "content-type": ANSWER });
}

/** Writes one message, waiting while the gateway reads more slowly than the engine speaks. */
async function send(response: ServerResponse, bytes: Uint8Array): Promise<void> {
  begin(response);
  if (response.destroyed) return;
  if (response.write(bytes)) return;
  await new Promise<void>((resolve) => {
    const go = (): void => {
      response.off("drain", go);
      response.off("close", go);
      resolve();
    };
    response.on("drain", go);
    response.on("close", go);
  });
}

function refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (response.destroyed) return;
  const fault = faultOf(error);
  if (response.headersSent) {
    // Pulses went out before the refusal: it is a message like any other.
    response.end(encodeMessage(MESSAGE.fault, fault));
    return;
  }
  const code = isAssayError(error) ? error.code : "internal_error";
  response.writeHead(STATUS[code] ?? (isAssayError(error) ? 400 : 500), {
    "content-type": "application/json",
    // A body that was not read to its end would be taken for the next request.
    ...(request.complete ? {} : { connection: "close" }),
  });
  response.end(fault);
}

function faultOf(error: unknown): Uint8Array {
  const retryAfterMs = retryAfterOf(error);
  return encodeFault({
    // What is not ours may hold paths or data of this machine.
    ...(isAssayError(error)
      ? { code: error.code, message: error.message, hints: [...error.hints] }
      : { code: "node_failed", message: "Something unexpected went wrong on the node.", hints: [] }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

function digest(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
