import type { IncomingMessage, ServerResponse } from "node:http";
import { AssayError, bytesToBase64Url, bytesToHex, isAssayError } from "@assay/core";
import { errorFrame, parseText } from "@assay/protocol";
import type { ExecutedText, ParsedText, TextDialect, TextOutcome } from "@assay/protocol";
import type { RetentionClass } from "@assay/receipts";
import type { Auth } from "../auth.ts";
import type { Metrics } from "../metrics.ts";
import { readBody } from "../read-body.ts";
import type { BodyBudget } from "../read-body.ts";
import { grantOf } from "../recorder.ts";
import { MAX_ANSWER_BYTES } from "../openings.ts";
import { completeAnswer, streamEnd } from "../payments/answer.ts";
import type { RecordFacts } from "../payments/answer.ts";
import { NOT_KEPT, payable } from "../payments/payable.ts";
import type { Paying } from "../payments/payments.ts";
import { PAID_HEADERS, paymentExpired } from "../payments/problem.ts";
import { hexHeader, retentionOf, single } from "../request-headers.ts";
import { beginText } from "./begin.ts";
import type { Begun, TryModules } from "./begin.ts";
import type { ItemMemory } from "./items.ts";
import type { TEXT_DEFAULTS } from "./limits.ts";
import { problemOf } from "../http-errors.ts";
import { chargeText, gather, payText, sendComplete } from "./pay.ts";
import { assertKeepable, openingOf, recordText } from "./record.ts";
import type { RecordModules, RecordedText } from "./record.ts";
import { drained, endWithin, eventText } from "./sse.ts";
import type { TextCaller } from "./types.ts";

/** What the text API stands on. */
export type TextModules = TryModules &
  RecordModules & {
    readonly auth: Pick<Auth, "caller">;
    readonly metrics: Metrics;
    /** Items that a next turn may refer to; without it references are refused. */
    readonly items?: ItemMemory | undefined;
    /** Largest body, bytes. */
    readonly maxBodyBytes: number;
  };

export type TextLimits = { readonly [name in keyof typeof TEXT_DEFAULTS]: number };

/** Facts of one request that was answered or begun to be, for its log line; nothing that anybody wrote. */
export type TextAnswered = {
  readonly kind: "answered";
  readonly status: number;
  readonly receiptId: string;
  readonly model: string;
  readonly node: string;
  readonly stream: boolean;
  readonly frames: number;
  readonly tries: number;
  readonly firstFrameMs: number;
  readonly engineMs?: number;
  readonly receiptMs?: number;
  /** How the answer ended; absent when the node did not say. */
  readonly finish?: TextOutcome["finish"];
  /** What broke it off, or kept its receipt from being written. */
  readonly failure?: unknown;
  readonly paymentId?: string;
};
/** A request that was paid for before, and got its answer again. */
export type TextReplayed = { readonly kind: "replayed"; readonly receiptId: string };

type Asked = {
  readonly dialect: TextDialect;
  readonly body: Uint8Array;
  readonly parsed: ParsedText;
  readonly caller: TextCaller;
  readonly retention: RetentionClass;
  /** What its header says in words; undefined without one. */
  readonly saidRetention: RetentionClass | undefined;
  readonly paying: Paying | undefined;
  readonly requestId: string;
  readonly startedMs: number;
};

/**
 * Answers one request of the text API: parse, route, run, sign, make durable, and only then the end of the answer.
 * Directly on node:http, as infer is. Throws when nothing was sent yet; what breaks later ends the stream with an error
 * event and without its `[DONE]`, and is named in the result.
 */
export async function handleText(
  modules: TextModules,
  limits: TextLimits,
  budget: BodyBudget,
  request: IncomingMessage,
  response: ServerResponse,
  dialect: TextDialect,
  requestId: string,
): Promise<TextAnswered | TextReplayed> {
  const { headers } = request;
  const left = new AbortController();
  response.once("close", () => {
    if (!response.writableFinished)
      left.abort(new AssayError("request_cancelled", "The client went away before its answer was complete."));
  });
  assertJson(headers);
  const body = await readBody(request, {
    maxBytes: modules.maxBodyBytes,
    hint: "Send fewer or smaller messages; images count with their base64 text.",
    budget,
  });
  let ending: NodeJS.Timeout | undefined;
  try {
    const startedMs = performance.now();
    const owner = (await modules.auth.caller(headers.authorization))?.owner;
    const retention = retentionOf(single(headers["assay-retention"]));
    const nonce = hexHeader(headers, "assay-client-nonce", 8, 64);
    const settlement = settlementOf(single(headers["x-settlement-type"]));
    assertKeepable(retention, body.length);
    const parsed = parseText(dialect, body, assayHeaders(headers), { item: modules.items?.item });
    const caller: TextCaller = {
      ...(owner === undefined ? {} : { owner, principal: { caller: owner, authentication: "token" } }),
      ...(request.socket.remoteAddress === undefined ? {} : { remoteAddress: request.socket.remoteAddress }),
      ...(settlement === undefined ? {} : { settlement }),
    };
    const { payments } = modules;
    const paying =
      payments &&
      (await payText(payments, modules.router, parsed, caller, retention, () => payable(request, body, left.signal)));
    if (paying?.kind === "replay") {
      sendComplete(response, paying.answer, limits.stallMs);
      return { kind: "replayed", receiptId: paying.receiptId };
    }
    const known: TextCaller =
      paying && owner === undefined
        ? { ...caller, principal: { caller: paying.account, authentication: "payment" } }
        : caller;
    if (paying) {
      const leftMs = paying.open.untilMs - payments.nowMs();
      ending = setTimeout(() => left.abort(paymentExpired()), Math.min(Math.max(leftMs, 0), MAX_TIMER_MS));
    }
    let begun: Begun;
    try {
      begun = await beginText(
        modules,
        {
          body,
          parsed,
          caller: known,
          ...(nonce ? { clientNonce: nonce } : {}),
          ...(paying ? { subjects: new Set(paying.subjects) } : {}),
          signal: left.signal,
        },
        limits.maxTries,
      );
    } catch (error) {
      await paying?.release();
      throw left.signal.aborted ? left.signal.reason : error;
    }
    const saidRetention = headers["assay-retention"] === undefined ? undefined : retention;
    const asked: Asked = {
      dialect,
      body,
      parsed,
      caller: known,
      retention,
      saidRetention,
      paying,
      requestId,
      startedMs,
    };
    return await answer(modules, limits, response, left.signal, asked, begun);
  } finally {
    clearTimeout(ending);
    budget.give(body.length);
  }
}

/** The longest that a timer can be set for. */
const MAX_TIMER_MS = 2 ** 31 - 1;

async function answer(
  modules: TextModules,
  limits: TextLimits,
  response: ServerResponse,
  signal: AbortSignal,
  asked: Asked,
  begun: Begun,
): Promise<TextAnswered> {
  const { metrics } = modules;
  const { dialect, parsed, paying } = asked;
  const { routed } = begun;
  const firstFrameMs = performance.now() - asked.startedMs;
  metrics.textFirstFrameSeconds.observe({ dialect }, firstFrameMs / 1000);
  const started = headersOf(modules, asked, begun);
  const gathered = paying && parsed.stream ? gather(MAX_ANSWER_BYTES) : undefined;
  const held: string[] = [];
  let frames = 0;
  let sent = 0;
  let failure: unknown;
  if (parsed.stream) metrics.textStreams.inc();
  try {
    if (parsed.stream) {
      response.writeHead(200, started);
    }
    let step: IteratorResult<{ readonly event?: string; readonly data: string; readonly final?: true }> = {
      done: false,
      value: begun.first,
    };
    while (!step.done) {
      const frame = step.value;
      frames++;
      gathered?.add(eventText(frame));
      if (!parsed.stream) held.push(frame.data);
      else if (frame.final || held.length > 0) held.push(eventText(frame));
      else {
        sent++;
        if (!response.write(eventText(frame)) && !(await drained(response, limits.stallMs, signal))) {
          // The close that made this so aborts the execution; what it still yields is not asked for.
          await begun.frames.return?.();
          throw (
            signal.reason ??
            new AssayError("request_cancelled", "The client stopped reading before its answer was complete.")
          );
        }
      }
      step = await begun.frames.next();
    }
  } catch (error) {
    // Whatever the engine makes of it: why it was ended is what its caller and the log are to hear.
    failure = signal.aborted ? signal.reason : error;
  } finally {
    if (parsed.stream) metrics.textStreams.dec();
  }
  metrics.textFrames.inc({ dialect }, frames);

  let executed: ExecutedText | undefined;
  try {
    executed = await begun.execution.finish();
  } catch (error) {
    failure ??= error;
  }
  if (executed && (executed.finish === "incomplete" || executed.finish === "error"))
    failure ??= new AssayError("engine_interrupted", "The answer ended before it was complete.");
  settle(modules, asked, begun, executed, failure, signal.aborted);

  const ranMs = performance.now();
  let recorded: RecordedText | undefined;
  let facts: RecordFacts | undefined;
  if (executed) {
    try {
      // What the client left is its to pay for; what failed here is not.
      const left = parsed.stream && (signal.aborted || isCancelled(failure));
      const owed = paying && (failure === undefined || left) ? paying : undefined;
      if (paying && !owed) await paying.release();
      if (failure !== undefined && owed) gathered?.add(brokenOff(dialect, failure, sent));
      // Of what nobody pays for nothing is kept: a part of an answer, left just in time, would be there to be read.
      const unpaid = paying !== undefined && owed === undefined && asked.retention === "server-encrypted";
      const opening = openingOf(modules.vault, begun, executed, unpaid ? "none" : asked.retention);
      const charged =
        owed &&
        chargeText(owed, executed, {
          dialect,
          subject: routed.subject,
          started,
          body: gathered ? gathered.text() : held[0],
          stream: !parsed.stream ? "no" : failure === undefined ? "whole" : "broken",
          retention: asked.saidRetention,
          kept: opening.retention,
        });
      recorded = await recordText(modules, begun, executed, { ...asked, ...opening }, charged);
      facts = await factsOf(modules, begun, recorded, owed);
      modules.onReceipt(bytesToHex(begun.receiptId), recorded.logIndex);
      if (dialect === "responses" && failure === undefined && parsed.parameters.store !== false)
        modules.items?.remember(executed.responseFields);
      metrics.receipts.inc();
      metrics.receiptSeconds.observe((performance.now() - ranMs) / 1000);
    } catch (error) {
      // Without a receipt there is no answer, whatever else went wrong before.
      failure = error;
      // A log that does not answer may have the record all the same: then the recorder tells the payment what became of it.
      if (!isAssayError(error) || error.code !== "log_unreachable") await paying?.release();
    }
  } else await paying?.release();
  const receiptMs = performance.now() - ranMs;
  if (!parsed.stream) {
    const [text] = held;
    if (failure !== undefined || !recorded || !facts || text === undefined)
      throw failure ?? new TypeError("An execution ended without an answer.");
    if (recorded.form) sendComplete(response, completeAnswer(recorded.form, facts), limits.stallMs);
    else {
      response.writeHead(200, {
        ...started,
        "content-length": Buffer.byteLength(text),
        "assay-execution-digest": facts.executionDigest,
        "assay-log-index": facts.logIndex,
        ...(recorded.retention === asked.retention ? {} : { "assay-retention": recorded.retention }),
      });
      endWithin(response, text, limits.stallMs);
    }
  } else if (failure !== undefined || !recorded || !facts) {
    const broken = failure ?? new TypeError("An execution ended without an answer.");
    endWithin(response, brokenOff(dialect, broken, sent), limits.stallMs);
  } else {
    endWithin(response, `${held.join("")}${endOf(dialect, asked, recorded, facts)}`, limits.stallMs);
  }
  return {
    kind: "answered",
    status: 200,
    ...(paying ? { paymentId: paying.paymentId } : {}),
    receiptId: bytesToHex(begun.receiptId),
    model: parsed.model,
    node: routed.executor.subject,
    stream: parsed.stream,
    frames,
    tries: begun.failed.length + 1,
    firstFrameMs,
    ...(executed ? { engineMs: executed.engineMs, finish: executed.finish } : {}),
    ...(recorded ? { receiptMs } : {}),
    ...(failure === undefined ? {} : { failure }),
  };
}

/** What follows the last frames of a stream that is complete, once its receipt is durable. */
function endOf(dialect: TextDialect, asked: Asked, { form, retention }: RecordedText, facts: RecordFacts): string {
  if (form?.stream) return streamEnd(form.stream, facts);
  const last = JSON.stringify({
    receipt_id: facts.receiptId,
    execution_digest: facts.executionDigest,
    log_index: facts.logIndex,
    ...(retention === asked.retention ? {} : { retention }),
  });
  // The comment is for whoever reads the raw stream; parsers pass over it. `[DONE]` is of the older dialects alone.
  return `: assay ${last}\n\n${dialect === "responses" ? "" : "data: [DONE]\n\n"}`;
}

/** The event that a stream ends with when it is not complete. */
function brokenOff(dialect: TextDialect, failure: unknown, sent: number): string {
  const { status, body } = problemOf(failure);
  const problem = { message: body.error, code: body.code, hints: body.hints, docsPath: body.docs };
  return eventText(errorFrame(dialect, problem, status, sent));
}

function isCancelled(failure: unknown): boolean {
  return isAssayError(failure) && failure.code === "request_cancelled";
}

/** What follows from a durable record, with what a settlement of its own adds. */
async function factsOf(
  { payments }: TextModules,
  { receiptId }: Begun,
  { logIndex, execution, service }: RecordedText,
  paying: Paying | undefined,
): Promise<RecordFacts> {
  const facts = { receiptId: bytesToHex(receiptId), logIndex, executionDigest: bytesToHex(execution.digest) };
  if (!payments || !paying || paying.open.settlement !== "individual") return facts;
  const receipt = { ...facts, serviceDigest: bytesToHex(service.digest) };
  return { ...facts, individual: await payments.individual("individual", receipt) };
}

/** Tells the router and the metrics how it ended. */
function settle(
  { metrics }: TextModules,
  { dialect }: Asked,
  { routed }: Begun,
  executed: ExecutedText | undefined,
  failure: unknown,
  aborted: boolean,
): void {
  const code = failure === undefined ? undefined : isAssayError(failure) ? failure.code : "internal_error";
  routed.ended(aborted || code === "request_cancelled" ? "cancelled" : code === undefined ? "ok" : "failed", {
    ...(code === undefined ? {} : { code }),
    ...(executed ? { outcome: executed } : {}),
  });
  if (!executed) return;
  metrics.engineSeconds.observe(executed.engineMs / 1000);
  metrics.textTokens.inc({ dialect, kind: "prompt" }, executed.usage.prompt_tokens);
  metrics.textTokens.inc({ dialect, kind: "completion" }, executed.usage.completion_tokens);
  if (executed.finish === "incomplete") metrics.textIncomplete.inc({ dialect });
}

/** The head of an answer, as far as it is known before the end. */
function headersOf({ suite }: TextModules, asked: Asked, begun: Begun): Readonly<Record<string, string>> {
  const { requestId, paying, parsed } = asked;
  return {
    ...(parsed.stream ? STREAM_HEADERS : JSON_HEADERS),
    "x-request-id": requestId,
    "assay-receipt-id": bytesToHex(begun.receiptId),
    "assay-opening": bytesToBase64Url(begun.masterSalt),
    "assay-grant": bytesToHex(grantOf(suite, begun.masterSalt)),
    "assay-node": begun.routed.executor.subject,
    ...(paying ? PAID_HEADERS : {}),
    ...(paying && parsed.stream ? { ...paying.open.headers, "cache-control": "private, no-store, no-transform" } : {}),
    ...(paying && parsed.stream && asked.saidRetention === "none" ? NOT_KEPT : {}),
  };
}

const JSON_HEADERS = { "content-type": "application/json" } as const;
const STREAM_HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  // Compressed or gathered by a proxy on the way, a stream is none.
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
} as const;

/** The headers that routing options may stand in, each as one text. */
function assayHeaders(headers: IncomingMessage["headers"]): Readonly<Record<string, string | undefined>> {
  const ours: Record<string, string | undefined> = {};
  for (const name in headers) if (name.startsWith("assay-")) ours[name] = single(headers[name]);
  return ours;
}

/** Refuses everything but JSON in UTF-8 as it is, with `content_type_unsupported`. */
function assertJson(headers: IncomingMessage["headers"]): void {
  const type = (headers["content-type"] ?? "").toLowerCase();
  const [media = "", ...parameters] = type.split(";").map((part) => part.trim());
  const charset = parameters.find((one) => one.startsWith("charset="))?.slice("charset=".length);
  const plain = headers["content-encoding"] === undefined || headers["content-encoding"] === "identity";
  if (media === "application/json" && (charset === undefined || /^"?utf-?8"?$/.test(charset)) && plain) return;
  throw new AssayError("content_type_unsupported", "The body is not sent as application/json in UTF-8, uncompressed.", {
    hints: ["Send the header content-type: application/json."],
  });
}

/** How a caller of OpenGradient's SDKs wants its payment to be settled. Throws `header_invalid`. */
function settlementOf(text: string | undefined): TextCaller["settlement"] {
  if (text === undefined) return undefined;
  const kind = text.toLowerCase();
  if (kind === "private" || kind === "batch" || kind === "individual") return kind;
  throw new AssayError("header_invalid", "The header x-settlement-type is private, batch or individual.");
}
