import { Readable } from "node:stream";
import { Pool } from "undici";
import { AssayError, bytesToHex, isAssayError } from "@assay/core";
import { decodeFault, MESSAGE, readMessages, withRetryAfter, WORK_LIMITS } from "@assay/protocol";
import type { Message } from "@assay/protocol";
import type { Party } from "./registry.ts";

/** One request to a node: the messages of its answer, and a way to have the work stopped. */
export type NodeCall = {
  readonly messages: AsyncIterator<Message>;
  /** Asks the node to stop; its answer then ends with what it states about the part that it did. */
  readonly cancel: () => void;
  /** Gives up on the answer. */
  readonly destroy: () => void;
};

/** Connections to one node. */
export type NodeClient = {
  /**
   * Sends work. The messages throw `node_lost` when the connection breaks or falls silent, and the node's own refusal
   * when it has one.
   */
  readonly call: (path: "text" | "tensor", body: readonly Uint8Array[], receiptId?: Uint8Array) => NodeCall;
  readonly close: () => Promise<void>;
};

export type NodeClientOptions = {
  /** Silence after which a node counts as lost, milliseconds; it pulses every second. */
  readonly silenceMs?: number;
  /** How long a cancelled request may take to end before its connection is cut, milliseconds. */
  readonly cancelMs?: number;
  readonly maxAnswerBytes?: number;
};

const SILENCE_MS = 10_000;
const CANCEL_MS = 3000;
const MAX_CONNECTIONS = 256;
/** The largest refusal: a sentence and its hints. */
const MAX_FAULT_BYTES = 256 * 1024;

/** Codes that a node may refuse with and that are passed on; with any other it is the node that failed. */
const PASSED_ON: ReadonlySet<string> = new Set([
  "model_not_found",
  "kind_unsupported",
  "parameter_unsupported",
  "parameter_invalid",
  "content_unsupported",
  "schema_unsupported",
  "context_exceeded",
  "engine_overloaded",
  "engine_unavailable",
  "engine_interrupted",
  "upstream_refused",
  "upstream_rate_limited",
  "upstream_unauthorized",
  "upstream_failed",
  "upstream_unreachable",
  "upstream_timeout",
  "upstream_malformed",
  "model_digest_mismatch",
  "model_invalid",
  "model_aborted",
  "model_timeout",
  "model_out_of_memory",
  "model_failed",
  "input_missing",
  "input_unexpected",
  "input_datatype",
  "input_shape",
  "output_unknown",
  "datatype_unsupported",
  "tensor_too_large",
  "runtime_overloaded",
  "runtime_unavailable",
  "request_cancelled",
  "request_invalid",
  "node_overloaded",
  "node_draining",
  "outbox_full",
  "signer_overloaded",
  "storage_full",
]);

/** Makes a client of a node's HTTP server. */
export function createNodeClient(
  { url = "", secret = new Uint8Array() }: Pick<Party, "url" | "secret">,
  options: NodeClientOptions = {},
): NodeClient {
  const silenceMs = options.silenceMs ?? SILENCE_MS;
  const parsed = new URL(url);
  const base = parsed.pathname.replace(/\/$/, "");
  const pool = new Pool(parsed.origin, {
    connections: MAX_CONNECTIONS,
    pipelining: 1,
    connect: { timeout: silenceMs },
    headersTimeout: silenceMs,
    bodyTimeout: silenceMs,
  });
  const authorization = `Bearer ${bytesToHex(secret)}`;

  const answer = async function* (
    path: string,
    body: readonly Uint8Array[],
    signal: AbortSignal,
  ): AsyncGenerator<Message> {
    try {
      const length = body.reduce((sum, part) => sum + part.length, 0);
      const response = await pool.request({
        method: "POST",
        path: `${base}/node/v1/${path}`,
        headers: {
          authorization,
          "content-type": "application/octet-stream",
          "content-length": String(length),
        },
        body: length <= COPIED_BYTES ? Buffer.concat(body, length) : Readable.from(streamOf(body)),
        signal,
      });
      if (response.statusCode !== 200) {
        throw faultOf(await bounded(response.body), response.statusCode);
      }
      yield* readMessages(response.body, {
        maxMessageBytes: WORK_LIMITS.maxFrameBytes,
        maxFinishedBytes: options.maxAnswerBytes ?? 512 * 1024 * 1024,
      });
    } catch (cause) {
      if (isAssayError(cause)) throw cause;
      throw lost(cause);
    }
  };

  return {
    call(path, body, receiptId) {
      const cut = new AbortController();
      const messages = answer(path, body, cut.signal);
      let timer: NodeJS.Timeout | undefined;
      let cancelled = false;
      return {
        messages: {
          async next() {
            const result = await messages.next();
            if (result.done) clearTimeout(timer);
            return result;
          },
        },
        cancel() {
          if (cancelled) return;
          cancelled = true;
          if (!receiptId) {
            cut.abort();
            return;
          }
          timer = setTimeout(() => cut.abort(), options.cancelMs ?? CANCEL_MS);
          timer.unref();
          pool
            .request({
              method: "POST",
              path: `${base}/node/v1/cancel/${bytesToHex(receiptId)}`,
              headers: { authorization },
              signal: cut.signal,
            })
            .then(
              (response) => response.body.dump(),
              () => cut.abort(),
            )
            .catch(() => undefined);
        },
        destroy() {
          clearTimeout(timer);
          cut.abort();
        },
      };
    },
    close: () => pool.destroy(),
  };
}

/** Bodies up to this size are copied into one buffer, which costs less than another write. */
const COPIED_BYTES = 256 * 1024;

async function* streamOf(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) if (part.length > 0) yield part;
}

async function bounded(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > MAX_FAULT_BYTES) break;
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

/** The next message, faults and malformed ends included; undefined when the answer ended without its last one. */
export async function nextMessage(call: NodeCall): Promise<Message | undefined> {
  for (;;) {
    const { value, done } = await call.messages.next();
    if (done) return undefined;
    if (value.kind !== MESSAGE.pulse) return value;
  }
}

/** The error in a fault's payload. */
export function faultOf(payload: Uint8Array, status?: number): AssayError {
  let fault: ReturnType<typeof decodeFault>;
  try {
    fault = decodeFault(payload);
  } catch (cause) {
    return new AssayError("node_lost", `The node's place answered with ${status ?? "something"} that no node says.`, {
      cause,
    });
  }
  const { code, message, hints, retryAfterMs } = fault;
  // After a restart a node has another secret, and tells it with its next join.
  if (code === "node_unauthorized") return lost(new AssayError(code, message));
  const error = PASSED_ON.has(code)
    ? new AssayError(code, message, { hints })
    : new AssayError("node_failed", `The node failed: ${message}`, { hints });
  return retryAfterMs === undefined ? error : withRetryAfter(error, retryAfterMs);
}

/** The connection to a node broke, or it fell silent. */
export function lost(cause?: unknown): AssayError<"node_lost"> {
  return new AssayError("node_lost", "The node that was chosen went away.", {
    hints: ["Send the request again; another node is chosen."],
    ...(cause === undefined ? {} : { cause }),
  });
}
