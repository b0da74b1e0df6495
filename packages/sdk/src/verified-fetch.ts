import { bytesToHex, isAssayError, utf8ToBytes } from "@assay/core";
import type { AssayError, CryptoSuite } from "@assay/core";
import { openAiError, TEXT_DIALECTS } from "@assay/protocol";
import type { TextDialect } from "@assay/protocol";
import { createConnection } from "./connection.ts";
import { clientError, ReceiptError } from "./errors.ts";
import { DEFAULT_TEXT_TIMEOUT_MS, MAX_TEXT_ANSWER_BYTES, NONCE_BYTES } from "./limits.ts";
import type { CallPayment, Payer } from "./pay/payer.ts";
import { readRequest } from "./pay/read-request.ts";
import { SETTLEMENT_EVENT } from "./pay/settlement-filter.ts";
import { createChecker, trustOf } from "./text/checker.ts";
import type { CheckedReceipt, Checker, CheckerOptions } from "./text/checker.ts";
import { readReceiptHeaders, TEXT_PATHS } from "./text/exchange.ts";
import type { TextExchange } from "./text/exchange.ts";
import { readTextStream } from "./text/read-stream.ts";
import type { Received } from "./text/read-stream.ts";
import { writeSse } from "./text/sse.ts";
import { readBody } from "./transport.ts";
import type { Fetch } from "./transport.ts";

export type VerifiedFetchOptions = CheckerOptions & {
  /** What really fetches; default the platform's. */
  readonly fetch?: Fetch;
  /**
   * `before-release` (default): nothing of an answer comes before its receipt is verified; a stream is kept and played
   * back. `after`: a stream's text comes as it is made, its end waits for the verdict.
   */
  readonly verify?: "before-release" | "after";
  /** Called with every receipt before its answer is let through; what it throws keeps the answer back. */
  readonly onReceipt?: (receipt: CheckedReceipt) => void | Promise<void>;
  readonly suite?: CryptoSuite;
  readonly now?: () => number;
  readonly randomBytes?: (length: number) => Uint8Array;
  /** Milliseconds that an answer may stand still; default 600,000. */
  readonly timeoutMs?: number;
  /** Pays what is asked to be paid, within its policy. */
  readonly payer?: Payer;
  /** Most that one call may cost, decimal text in units of the asset that is paid. */
  readonly maxSpend?: string;
};

/** The platform's `fetch`, as far as clients of OpenAI's API use it. */
export type FetchLike = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/**
 * A `fetch` for unchanged clients of OpenAI's API: requests to language models are passed on as they are, and what comes
 * back is let through when its receipt is verified. An answer that may not be used becomes a response with status 502,
 * OpenAI's error body and one of the codes `receipt_failed`, `receipt_inconclusive`, `receipt_missing`,
 * `stream_truncated` (also in the header `assay-failure`); where the beginning of a stream was let through already, its body fails with that error in place
 * of its end. Everything else (lists of models, errors of the gateway) passes unchanged.
 *
 * @example
 * const client = new OpenAI({
 *   baseURL: "http://127.0.0.1:8402/v1",
 *   apiKey: "unused",
 *   fetch: verifiedFetch({ trust, onReceipt: ({ receiptId, bytes }) => save(receiptId, bytes) }),
 * });
 */
export function verifiedFetch(options: VerifiedFetchOptions = {}): FetchLike {
  const inner: Fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init));
  const { payer, maxSpend } = options;
  const sending: Fetch = payer ? (url, init) => payer.send(inner, url, init, { maxSpend }) : inner;
  const checking: CheckerOptions =
    options.trust === undefined ? options : { ...options, trust: trustOf(options.trust) };
  const checkers = new Map<string, Checker>();
  const checkerOf = (base: string): Checker => {
    const known = checkers.get(base);
    if (known) return known;
    const { suite, now } = options;
    const connection = createConnection({
      url: base,
      fetch: inner,
      ...(suite ? { suite } : {}),
      ...(now ? { now } : {}),
    });
    const checker = createChecker(connection, checking);
    checkers.set(base, checker);
    return checker;
  };
  const random = options.randomBytes ?? ((length) => globalThis.crypto.getRandomValues(new Uint8Array(length)));

  return async (input, init = {}) => {
    const place = placeOf(input instanceof Request ? input.url : String(input));
    const method = init.method ?? (input instanceof Request ? input.method : "GET");
    // Everything else passes as it is, its body unread.
    if (!place || method.toUpperCase() !== "POST") return passOn(inner, input, init);
    // The receipt commits to the body's bytes, so they are taken before they are sent.
    const asked = await readRequest(input, init);
    const { dialect, base } = place;
    if (!asked.body) {
      throw clientError("request_unsupported", "A request to a language model has to have its body as text or bytes.");
    }
    const headers = new Headers(asked.init.headers);
    const clientNonce = headers.get("assay-client-nonce") ?? bytesToHex(random(NONCE_BYTES));
    headers.set("assay-client-nonce", clientNonce);
    const response = await sending(asked.url, { ...asked.init, headers });
    if (!response.ok) return response;
    const payment = payer?.paymentOf(response);
    const signal = asked.init.signal ?? undefined;
    const call: Call = {
      checker: checkerOf(base),
      dialect,
      request: asked.body,
      clientNonce: (payment?.clientNonce ?? clientNonce).toLowerCase(),
      payment,
      paysItself: headers.has("payment-signature") || headers.has("x-payment"),
      signal,
      idleMs: options.timeoutMs ?? DEFAULT_TEXT_TIMEOUT_MS,
      onReceipt: options.onReceipt,
    };
    try {
      return await verified(call, response, options.verify ?? "before-release");
    } catch (error) {
      response.body?.cancel().catch(() => undefined);
      if (!isAssayError(error)) throw error;
      return refusal(error);
    }
  };
}

async function passOn(inner: Fetch, input: string | URL | Request, init: RequestInit): Promise<Response> {
  if (!(input instanceof Request)) return inner(String(input), init);
  const { url, init: read } = await readRequest(input, init);
  return inner(url, read);
}

type Call = {
  readonly checker: Checker;
  readonly dialect: TextDialect;
  readonly request: Uint8Array;
  readonly clientNonce: string;
  readonly payment: CallPayment | undefined;
  /** Whether the caller brought a payment of its own, and wants to know what it was charged. */
  readonly paysItself: boolean;
  readonly signal: AbortSignal | undefined;
  readonly idleMs: number;
  readonly onReceipt: VerifiedFetchOptions["onReceipt"];
};

function placeOf(url: string): { readonly dialect: TextDialect; readonly base: string } | undefined {
  const path = url.replace(/[?#].*$/, "").replace(/\/+$/, "");
  const dialect = TEXT_DIALECTS.find((name) => path.endsWith(TEXT_PATHS[name]));
  // The older interface's path is the end of no other's, `/v1/chat/completions` included.
  return dialect && { dialect, base: path.slice(0, -TEXT_PATHS[dialect].length) };
}

async function verified(call: Call, response: Response, mode: "before-release" | "after"): Promise<Response> {
  const headers = readReceiptHeaders(response.headers);
  const { dialect, request, clientNonce, payment, signal, idleMs } = call;
  const about = { ...headers, dialect, request, clientNonce, ...(payment ? { payment } : {}) };
  const isStream = (response.headers.get("content-type") ?? "").toLowerCase().startsWith("text/event-stream");
  if (!isStream || dialect === "embeddings") {
    const body = await readBody(response, MAX_TEXT_ANSWER_BYTES, { signal, idleMs });
    const receipt = await letThrough(call, { ...about, answer: { body } });
    return released(response, body, receipt);
  }
  const received: Received = { frames: [], complete: false };
  const left = new AbortController();
  const frames = readTextStream(dialect, response.body, received, headers.receiptId, {
    signal: signal ? AbortSignal.any([signal, left.signal]) : left.signal,
    idleMs,
  });
  const finish = async (): Promise<CheckedReceipt> => {
    const { executionDigest } = received;
    const digest = executionDigest === undefined ? {} : { executionDigest };
    return letThrough(call, { ...about, ...digest, answer: received });
  };
  const end = (receipt: CheckedReceipt): string =>
    endOf(dialect, receipt, call.paysItself ? received.settlement : undefined);
  if (mode === "after")
    return released(
      response,
      streamOf(frames, async () => end(await finish()), left),
      undefined,
    );
  for await (const _ of frames);
  const receipt = await finish();
  const text = received.frames.map((frame) => writeSse({ ...frame, comments: [] })).join("");
  return released(response, utf8ToBytes(text + end(receipt)), receipt);
}

/** The frames as they come; those that say how the answer ended, and the end, after the verdict. */
function streamOf(
  frames: ReturnType<typeof readTextStream>,
  finish: () => Promise<string>,
  left: AbortController,
): ReadableStream<Uint8Array> {
  const texts = async function* (): AsyncGenerator<string, void, undefined> {
    let held = "";
    for await (const { frame, ends } of frames) {
      const text = writeSse({ ...frame, comments: [] });
      if (ends) held += text;
      else {
        yield held + text;
        held = "";
      }
    }
    yield held + (await finish());
  };
  const run = texts();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done: over, value } = await run.next();
          if (over === true) controller.close();
          else controller.enqueue(utf8ToBytes(value));
        } catch (error) {
          controller.error(error);
        }
      },
      async cancel() {
        // A step that still waits for its next frame would keep `return` waiting as well.
        left.abort(clientError("request_cancelled", "The stream was left before its end."));
        await run.return(undefined).catch(() => undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** The end of a stream that was verified: what was found, as a comment that clients pass over, and the announced end. */
function endOf(dialect: TextDialect, { receiptId, verdict }: CheckedReceipt, settlement: string | undefined): string {
  const note = JSON.stringify({
    receipt_id: receiptId,
    execution_digest: verdict.executionDigest,
    verified: verdict.status === "verified",
    verdict: verdict.code,
  });
  const comment = writeSse({ comments: [`assay ${note}`] });
  if (dialect === "responses") return comment;
  const charged = settlement === undefined ? "" : writeSse({ event: SETTLEMENT_EVENT, data: settlement, comments: [] });
  return charged + comment + writeSse({ data: "[DONE]", comments: [] });
}

async function letThrough({ checker, signal, onReceipt }: Call, exchange: TextExchange): Promise<CheckedReceipt> {
  const receipt = await checker.demand(exchange, signal ? { signal } : {});
  try {
    await onReceipt?.(receipt);
  } catch (cause) {
    throw clientError("receipt_not_kept", "The answer's receipt could not be kept, so the answer is held back.", {
      cause,
      hints: [`The receipt is ${receipt.receiptId}; it was ${receipt.verdict.code}.`],
    });
  }
  return receipt;
}

/** Headers that speak of bytes on the way, which are others now. */
const OF_THE_WAY = ["content-length", "content-encoding", "transfer-encoding"];

function released(
  response: Response,
  body: Uint8Array | ReadableStream<Uint8Array>,
  receipt: CheckedReceipt | undefined,
): Response {
  const headers = new Headers(response.headers);
  for (const name of [...OF_THE_WAY, "assay-verified", "assay-verdict"]) headers.delete(name);
  if (receipt) {
    headers.set("assay-verified", String(receipt.verdict.status === "verified"));
    headers.set("assay-verdict", receipt.verdict.code);
  }
  const { status, statusText } = response;
  return new Response(body as NonNullable<RequestInit["body"]>, { status, statusText, headers });
}

/** The answer in place of one that may not be used. */
function refusal(error: AssayError): Response {
  const receiptId = error instanceof ReceiptError ? error.receiptId : undefined;
  const verdict = error instanceof ReceiptError ? error.verdict : undefined;
  return Response.json(openAiError(error, 502), {
    status: 502,
    headers: {
      // Asking again would run the model again, and change nothing about this answer.
      "x-should-retry": "false",
      "assay-verified": "false",
      "assay-failure": error.code,
      ...(receiptId === undefined ? {} : { "assay-receipt-id": receiptId }),
      ...(verdict ? { "assay-verdict": verdict.code } : {}),
    },
  });
}
