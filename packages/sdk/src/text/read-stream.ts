import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Frame, TextDialect } from "@assay/protocol";
import { clientError, GatewayError, readProblem, ReceiptError } from "../errors.ts";
import { MAX_EVENT_BYTES, MAX_FRAMES } from "../limits.ts";
import { MAX_SETTLEMENT_BYTES } from "../pay/limits.ts";
import { SETTLEMENT_EVENT } from "../pay/settlement-filter.ts";
import type { Pace } from "../pieces.ts";
import { TEXT_PATHS } from "./exchange.ts";
import { isObject } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { readSse } from "./sse.ts";

/** One frame of a stream, with what a reader needs of it. */
export type StreamStep = {
  readonly frame: Frame;
  readonly value: JsonObject;
  /** Whether it says how the answer, or a choice of it, ended: nothing that may be shown before the receipt is verified. */
  readonly ends: boolean;
};

/** What was received of a stream so far. */
export type Received = {
  readonly frames: Frame[];
  /** Whether the end was announced: only then is the answer whole. */
  complete: boolean;
  /** As the gateway's last comment gives it, 64 hexadecimal digits. */
  executionDigest?: string;
  /** What was charged, as the settlement event says it, for whoever paid by itself. */
  settlement?: string;
};

/** What ends a Responses stream that did not fail. */
const RESPONSE_ENDS: ReadonlySet<string> = new Set(["response.completed", "response.incomplete"]);

/**
 * The frames of an event stream, kept in `received` as they come. Ends after the announced end. Throws
 * `stream_truncated` when the stream stops without one, the gateway's own error when it says that it failed,
 * `response_malformed` for what the protocol does not have, and what `readSse` throws.
 */
export async function* readTextStream(
  dialect: Exclude<TextDialect, "embeddings">,
  body: ReadableStream<Uint8Array> | null,
  received: Received,
  receiptId: string,
  pace: Pace,
): AsyncGenerator<StreamStep, void, undefined> {
  for await (const { event, data, comments } of readSse(body, pace)) {
    for (const comment of comments) takeNote(received, comment, receiptId);
    // What was charged is no part of the answer, and no frame of its transcript.
    if (data !== undefined && event === SETTLEMENT_EVENT) received.settlement = data;
    if (data === undefined || event === SETTLEMENT_EVENT) continue;
    if (dialect !== "responses" && data === "[DONE]") {
      received.complete = true;
      return;
    }
    const value = readFrame(data);
    const failure = failureOf(dialect, value);
    if (failure) throw failure;
    checkEvent(dialect, event, value);
    if (received.frames.length >= MAX_FRAMES)
      throw clientError("response_too_large", `The stream has more than ${MAX_FRAMES} frames.`);
    const frame: Frame = event === undefined ? { data } : { event, data };
    received.frames.push(frame);
    const ends = endsAnswer(dialect, value);
    if (dialect === "responses" && ends) received.complete = true;
    yield { frame, value, ends };
  }
  if (received.complete) return;
  throw new ReceiptError(
    "stream_truncated",
    "The stream ended before its end was announced: the answer is not whole.",
    {
      receiptId,
      hints: [`What was received is ${received.frames.length} frames; the receipt is ${receiptId}.`],
    },
  );
}

function readFrame(data: string): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(data, { maxBytes: MAX_EVENT_BYTES });
  } catch (cause) {
    throw clientError("response_malformed", "A frame of the stream is not JSON.", { cause });
  }
  if (isObject(value)) return value;
  throw clientError("response_malformed", "A frame of the stream is no object.");
}

// A receipt commits to the data alone, so an event's name may say nothing that the data does not say too.
function checkEvent(dialect: TextDialect, event: string | undefined, { type }: JsonObject): void {
  if (event === undefined || (dialect === "responses" && event === type)) return;
  throw clientError("response_malformed", "A frame of the stream has a name that its data does not have.");
}

function failureOf(dialect: Exclude<TextDialect, "embeddings">, value: JsonObject): Error | undefined {
  const said =
    dialect !== "responses"
      ? isObject(value["error"])
      : value["type"] === "error" || value["type"] === "response.failed";
  if (!said) return undefined;
  const { response } = value;
  const problem = readProblem(value["type"] === "response.failed" && isObject(response) ? response : value);
  const request = `POST ${TEXT_PATHS[dialect]}`;
  return new GatewayError(
    problem?.code ?? "engine_interrupted",
    problem?.message ?? "The gateway broke the answer off.",
    { status: 200, request, hints: problem?.hints ?? [] },
  );
}

function endsAnswer(dialect: TextDialect, value: JsonObject): boolean {
  if (dialect === "responses") return typeof value["type"] === "string" && RESPONSE_ENDS.has(value["type"]);
  const { choices, usage } = value;
  if (usage !== undefined && usage !== null) return true;
  return (
    Array.isArray(choices) &&
    (choices as readonly JsonValue[]).some(
      (choice) => isObject(choice) && choice["finish_reason"] !== undefined && choice["finish_reason"] !== null,
    )
  );
}

/** The gateway's own comment before the end: `assay {"receipt_id", "execution_digest", "log_index"}`. */
function takeNote(received: Received, comment: string, receiptId: string): void {
  if (!comment.startsWith("assay ")) return;
  let note: JsonValue;
  try {
    note = parseJson(comment.slice("assay ".length), { maxBytes: MAX_SETTLEMENT_BYTES, maxDepth: 12 });
  } catch (cause) {
    throw clientError("response_malformed", "The gateway's comment on the receipt is not JSON.", { cause });
  }
  const digest = isObject(note) ? note["execution_digest"] : undefined;
  if (
    !isObject(note) ||
    note["receipt_id"] !== receiptId ||
    typeof digest !== "string" ||
    !/^[0-9a-f]{64}$/.test(digest)
  )
    throw clientError("response_malformed", "The gateway's comment is not about the receipt that its headers name.");
  received.executionDigest = digest;
}
