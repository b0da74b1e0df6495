import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { assemble } from "@assay/protocol";
import type { RoutingOptions } from "@assay/protocol";
import type { CallOptions, Connection } from "../connection.ts";
import { clientError, ReceiptError } from "../errors.ts";
import { DEFAULT_TEXT_TIMEOUT_MS, MAX_TEXT_ANSWER_BYTES } from "../limits.ts";
import { readBody } from "../transport.ts";
import { chatAnswer, completionAnswer, deltasOf, embeddingAnswer } from "./bodies.ts";
import type { CheckedReceipt, Checker } from "./checker.ts";
import type { TextExchange } from "./exchange.ts";
import { isObject } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { readTextStream } from "./read-stream.ts";
import type { Received } from "./read-stream.ts";
import type {
  ChatAnswer,
  ChatRequest,
  CompletionAnswer,
  CompletionRequest,
  EmbeddingAnswer,
  EmbeddingRequest,
  Receipted,
  TextCallOptions,
  TextDelta,
  TextStream,
  VerifyMode,
} from "./requests.ts";
import { sendText } from "./send.ts";
import type { SendDefaults, Sent } from "./send.ts";

/** A call that answers at once, and its stream. */
export type TextCall<Request, Answer> = {
  (request: Request, options?: TextCallOptions): Promise<Answer>;
  /** The same step by step; nothing is sent before it is read. */
  readonly stream: (request: Request, options?: TextCallOptions) => TextStream<Answer>;
};

export type TextCalls = {
  readonly chat: TextCall<ChatRequest, ChatAnswer>;
  readonly complete: TextCall<CompletionRequest, CompletionAnswer>;
  readonly embed: (request: EmbeddingRequest, options?: TextCallOptions) => Promise<EmbeddingAnswer>;
};

/** What calls need of the client that they belong to. */
export type TextModules = {
  readonly connection: Connection;
  readonly checker: Checker;
  readonly defaults: SendDefaults;
  readonly verify: VerifyMode;
};

type ReadAnswer<Answer> = (body: JsonObject, receipted: Receipted) => Answer;
type Asked = { readonly assay?: RoutingOptions };

/** The calls of language models. */
export function createTextCalls(modules: TextModules): TextCalls {
  const callOf = <Request extends Asked, Answer>(
    dialect: "chat" | "completions",
    answerOf: ReadAnswer<Answer>,
  ): TextCall<Request, Answer> =>
    Object.assign(
      (request: Request, options: TextCallOptions = {}) => ask(modules, dialect, request, options, answerOf),
      {
        stream: (request: Request, options: TextCallOptions = {}) =>
          streamOf(modules, dialect, request, options, answerOf),
      },
    );
  return {
    chat: callOf<ChatRequest, ChatAnswer>("chat", chatAnswer),
    complete: callOf<CompletionRequest, CompletionAnswer>("completions", completionAnswer),
    // Vectors travel as base64: exact, and a third of the size of decimals.
    embed: (request, options = {}) =>
      ask(modules, "embeddings", request, options, embeddingAnswer, { encoding_format: "base64" }),
  };
}

async function ask<Answer>(
  { connection, checker, defaults, verify }: TextModules,
  dialect: "chat" | "completions" | "embeddings",
  asked: Asked,
  options: TextCallOptions,
  answerOf: ReadAnswer<Answer>,
  extra: object = {},
): Promise<Answer> {
  const { signal } = options;
  const sent = await sendText(connection, dialect, asked, extra, options, defaults);
  const idleMs = defaults.timeoutMs ?? DEFAULT_TEXT_TIMEOUT_MS;
  const body = await readBody(sent.response, MAX_TEXT_ANSWER_BYTES, { signal, idleMs });
  const exchange: TextExchange = { ...exchangeOf(sent), dialect, answer: { body } };
  const mode = options.verify ?? verify;
  const checked = mode === "off" ? undefined : await checker.demand(exchange, signal ? { signal } : {});
  return answerOf(readAnswer(body), receiptedOf(checker, exchange, checked));
}

function streamOf<Answer>(
  modules: TextModules,
  dialect: "chat" | "completions",
  asked: Asked,
  options: TextCallOptions,
  answerOf: ReadAnswer<Answer>,
): TextStream<Answer> {
  const { checker, defaults } = modules;
  const mode = options.verify ?? modules.verify;
  const received: Received = { frames: [], complete: false };
  let sent: Sent | undefined;
  let answer: Answer | undefined;
  let failure: unknown;

  const exchange = (from: Sent): TextExchange => ({
    ...exchangeOf(from),
    ...(received.executionDigest === undefined ? {} : { executionDigest: received.executionDigest }),
    dialect,
    answer: received,
  });

  const steps = async function* (): AsyncGenerator<TextDelta, void, undefined> {
    const { signal } = options;
    sent = await sendText(modules.connection, dialect, asked, { stream: true }, options, defaults);
    const idleMs = defaults.timeoutMs ?? DEFAULT_TEXT_TIMEOUT_MS;
    const frames = readTextStream(dialect, sent.response.body, received, sent.headers.receiptId, { signal, idleMs });
    // What says how the answer ended is kept until the receipt is verified, so that no reader takes it for whole before.
    let held: TextDelta[] = [];
    for await (const { value, ends } of frames) {
      const deltas = deltasOf(value);
      if (mode === "before-release" || (mode === "after" && ends)) held.push(...deltas);
      else {
        yield* held;
        held = [];
        yield* deltas;
      }
    }
    const whole = exchange(sent);
    const checked = mode === "off" ? undefined : await checker.demand(whole, signal ? { signal } : {});
    answer = answerOf(assemble(dialect, received.frames), receiptedOf(checker, whole, checked));
    yield* held;
  };

  const guarded = async function* (): AsyncGenerator<TextDelta, void, undefined> {
    let over = false;
    try {
      yield* steps();
      over = true;
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      if (!over) failure ??= clientError("request_cancelled", "The stream was left before its end.");
    }
  };
  const run = guarded();
  return {
    [Symbol.asyncIterator]: () => run,
    async final() {
      for await (const _ of run);
      if (failure !== undefined) throw failure;
      if (answer === undefined) throw clientError("request_cancelled", "The stream is read elsewhere.");
      return answer;
    },
    async receipt(call = {}) {
      if (!sent) throw new ReceiptError("receipt_missing", "Nothing was received yet that a receipt could be of.");
      return checker.check(exchange(sent), call);
    },
  };
}

function exchangeOf({ headers, request, clientNonce, payment }: Sent): Omit<TextExchange, "dialect" | "answer"> {
  return { ...headers, request, clientNonce, ...(payment ? { payment } : {}) };
}

function receiptedOf(checker: Checker, exchange: TextExchange, checked: CheckedReceipt | undefined): Receipted {
  let held = checked;
  return {
    receiptId: exchange.receiptId,
    verified: checked?.verdict.status === "verified",
    ...(checked ? { verdict: checked.verdict } : {}),
    ...(exchange.payment ? { payment: exchange.payment } : {}),
    async receipt(call: CallOptions = {}) {
      if (held?.verdict.status !== "verified") held = await checker.check(exchange, call);
      return held;
    },
  };
}

function readAnswer(body: Uint8Array): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(body, { maxBytes: MAX_TEXT_ANSWER_BYTES });
  } catch (cause) {
    throw clientError("response_malformed", "The gateway's answer is not JSON.", { cause });
  }
  if (isObject(value)) return value;
  throw clientError("response_malformed", "The gateway's answer is no object.");
}
