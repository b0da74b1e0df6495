import type { IncomingMessage, ServerResponse } from "node:http";
import type { Charge, ExecutedText, ParsedText, TextDialect } from "@assay/protocol";
import type { RetentionClass } from "@assay/receipts";
import { keptOpening } from "../openings.ts";
import { withMembers } from "../payments/answer.ts";
import type { CompleteAnswer, KeptForm } from "../payments/answer.ts";
import { NOT_KEPT, payable } from "../payments/payable.ts";
import type { PayableRequest, Paying, Payments, Replayed } from "../payments/payments.ts";
import type { ChargedText } from "./record.ts";
import { endWithin } from "./sse.ts";
import type { TextCaller, TextRouter } from "./types.ts";

/** Takes the payment of a request to a language model; undefined when it is free. Throws the refusals of `take`. */
export async function payText(
  payments: Payments,
  router: TextRouter,
  parsed: ParsedText,
  caller: TextCaller,
  retention: RetentionClass,
  request: () => PayableRequest,
): Promise<Paying | Replayed | undefined> {
  if (!router.priced || payments.allFree()) return undefined;
  const priced = await router.priced(parsed, caller, payments.limits.textMs);
  if (priced.subjects.length === 0) return undefined;
  return payments.take(
    { ...priced, besides: keptOpening(retention) },
    request(),
    parsed.stream ? "text/event-stream" : "application/json",
  );
}

/** Answers a GET on a route of the text API: `?model=` names the listing whose channel it is about. */
export async function refundText(
  payments: Payments,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const model = new URL(request.url ?? "/", "http://localhost").searchParams.get("model");
  const left = new AbortController();
  response.once("close", () => left.abort());
  const answer = await payments.refund(
    model === null ? undefined : `model:${model}`,
    payable(request, NOTHING, left.signal),
  );
  response.writeHead(answer.status, { ...answer.headers, "content-length": answer.body.length });
  response.end(answer.body);
}

/** Sends an answer in one piece; a client that does not take it within `stallMs` is cut. */
export function sendComplete(response: ServerResponse, answer: CompleteAnswer, stallMs: number): void {
  response.writeHead(answer.status, { ...answer.headers, "content-length": answer.body.length });
  endWithin(response, answer.body, stallMs);
}

/**
 * What clients of OpenAI's older dialects read of every event, whatever its name. One choice that adds nothing, and not
 * none: loops that others wrote look at the first of each frame.
 */
const NOTHING_MORE = {
  chat: { choices: [{ index: 0, delta: {}, finish_reason: null }] },
  completions: { choices: [{ index: 0, text: "", finish_reason: null }] },
} as const;

/** Frames of a paid answer, gathered to be kept until they are too many. */
export type Gathered = { readonly add: (text: string) => void; readonly text: () => string | undefined };

/** Gathers at most `maxBytes` of UTF-8. */
export function gather(maxBytes: number): Gathered {
  let parts: string[] | undefined = [];
  let size = 0;
  return {
    add(text) {
      size += Buffer.byteLength(text);
      if (size > maxBytes) parts = undefined;
      parts?.push(text);
    },
    text: () => parts?.join(""),
  };
}

/** How a paid text is charged and kept. */
export function chargeText(
  paying: Paying,
  executed: ExecutedText,
  facts: {
    readonly dialect: TextDialect;
    readonly subject: Parameters<Paying["charge"]>[0];
    /** Headers of its head, without those of the payment. */
    readonly started: Readonly<Record<string, string>>;
    /** Its whole body; undefined when it was too large to be gathered. */
    readonly body: string | undefined;
    readonly stream: "no" | "whole" | "broken";
    /** What its caller asked for in words; undefined when nothing. */
    readonly retention: RetentionClass | undefined;
    /** What became of it: `none` for an opening that grew too large to be kept. */
    readonly kept: RetentionClass;
  },
): ChargedText {
  const { usage, engineMs } = executed;
  const { dialect, stream, body, started } = facts;
  const used = {
    inputTokens: usage.prompt_tokens,
    outputTokens: usage.completion_tokens,
    milliseconds: Math.ceil(engineMs),
  };
  const charge = paying.charge(facts.subject, used, keptOpening(facts.kept));
  const keepable = facts.retention !== "none" && body !== undefined;
  const common = { status: 200, individual: paying.open.settlement === "individual" };
  return {
    paying,
    charge,
    keepable,
    form(retention, kept): KeptForm {
      const grew = facts.retention !== undefined && facts.retention !== retention;
      const bytes = kept || stream === "no" ? Buffer.from(body ?? "") : NOTHING;
      if (stream === "no")
        return {
          ...common,
          headers: {
            ...started,
            ...charge.headers,
            ...(grew ? { "assay-retention": retention } : {}),
            ...(kept ? {} : NOT_KEPT),
          },
          body: bytes,
        };
      return {
        ...common,
        headers: started,
        body: bytes,
        stream:
          stream === "broken" ? { kind: "broken" } : wholeStream(charge, dialect, grew ? retention : undefined, kept),
      };
    },
  };
}

function wholeStream(
  charge: Charge,
  dialect: TextDialect,
  retention: RetentionClass | undefined,
  kept: boolean,
): NonNullable<KeptForm["stream"]> {
  const { "payment-response": paymentResponse } = charge.headers;
  // Clients that cannot read a header after its answer began take its value from the event.
  const event =
    paymentResponse === undefined || charge.event.includes('"paymentResponse"')
      ? charge.event
      : withMembers(charge.event, { paymentResponse });
  return {
    kind: "whole",
    event: dialect === "chat" || dialect === "completions" ? withMembers(event, NOTHING_MORE[dialect]) : event,
    comment: { ...(retention === undefined ? {} : { retention }), ...(kept ? {} : { answer_kept: false }) },
    done: dialect !== "responses",
  };
}

const NOTHING = new Uint8Array();
