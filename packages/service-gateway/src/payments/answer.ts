import { AssayError, decodeCbor, encodeCbor, utf8ToBytes } from "@assay/core";
import type { CborValue } from "@assay/core";

/**
 * An answer as it is kept for its payer: all of it that is known before its record is in the log. What follows from the
 * record (its index, its digests, what an `individual` settlement says) is put in when it is sent, the first time and
 * every other time by the same function, so that both are the same bytes.
 */
export type KeptForm = {
  readonly status: number;
  /** Names in lower case; without those that follow from the record. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Absent for an answer in one piece. */
  readonly stream?: StreamEnd;
  /** Whether it is settled by itself: then whoever does that is asked for what it adds. */
  readonly individual?: boolean;
};

/** How a stream ends. `broken` ones were abandoned: their body ends with an error event, and nothing follows. */
export type StreamEnd =
  | { readonly kind: "broken" }
  | {
      readonly kind: "whole";
      /** JSON of the event that tells what was paid, and the members that clients of the dialect need in every event. */
      readonly event: string;
      /** The comment's members beside those that follow from the record. */
      readonly comment: Readonly<Record<string, string | boolean>>;
      /**
       * Whether an event tells what was paid and `[DONE]` ends it. In the Responses dialect the comment tells it: OpenAI's
       * client throws on an event that it does not know.
       */
      readonly done: boolean;
    };

/** What an answer's record adds to it. */
export type RecordFacts = {
  readonly receiptId: string;
  readonly logIndex: number;
  /** Lower-case hex. */
  readonly executionDigest: string;
  readonly individual?: IndividualFacts | undefined;
};

/** What an `individual` settlement adds: headers, and members of a stream's event. The same for the same receipt. */
export type IndividualFacts = {
  readonly headers: Readonly<Record<string, string>>;
  readonly event: Readonly<Record<string, string>>;
};

export type CompleteAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
};

/** The whole answer, byte for byte as its payer gets or got it. */
export function completeAnswer(form: KeptForm, facts: RecordFacts): CompleteAnswer {
  const { status, stream } = form;
  if (!stream) return { status, headers: { ...form.headers, ...recordHeaders(facts) }, body: form.body };
  const { headers, body } = form;
  return { status, headers, body: Buffer.concat([body, utf8ToBytes(streamEnd(stream, facts))]) };
}

/** Headers that an answer in one piece has of its record. */
export function recordHeaders(facts: RecordFacts): Readonly<Record<string, string>> {
  return {
    "assay-execution-digest": facts.executionDigest,
    "assay-log-index": String(facts.logIndex),
    ...facts.individual?.headers,
  };
}

/** What follows a stream's last frame once its record is durable; nothing for one that was broken off. */
export function streamEnd(stream: StreamEnd, facts: RecordFacts): string {
  if (stream.kind === "broken") return "";
  const { receiptId, executionDigest, logIndex, individual } = facts;
  const event = withMembers(stream.event, { ...individual?.event });
  const comment = JSON.stringify({
    receipt_id: receiptId,
    execution_digest: executionDigest,
    log_index: logIndex,
    ...stream.comment,
  });
  return stream.done
    ? `event: x402-settlement\ndata: ${event}\n\n: assay ${comment}\n\ndata: [DONE]\n\n`
    : `: assay ${comment.slice(0, -1)},"settlement":${event}}\n\n`;
}

/** The JSON object `json` with further members at its end. */
export function withMembers(json: string, members: Readonly<Record<string, unknown>>): string {
  const more = JSON.stringify(members).slice(1, -1);
  const body = json.trim().slice(1, -1).trim();
  return `{${[body, more].filter((part) => part !== "").join(",")}}`;
}

const VERSION = 1;
const MAX_HEADERS = 64;

/** Deterministic bytes of an answer, for the vault. */
export function encodeKept({ status, headers, body, stream, individual }: KeptForm): Uint8Array {
  const pairs = (of: Readonly<Record<string, string | boolean>>): CborValue =>
    Object.entries(of).map(([name, value]) => [name, value]);
  const end: CborValue =
    stream === undefined
      ? null
      : stream.kind === "broken"
        ? []
        : [stream.event, pairs(stream.comment), stream.done ? 1 : 0];
  return encodeCbor([VERSION, status, pairs(headers), body, end, individual ? 1 : 0]);
}

/** Reads what {@link encodeKept} wrote. Throws `record_invalid`: these bytes are our own, so anything else is damage. */
export function decodeKept(bytes: Uint8Array): KeptForm {
  try {
    const value = decodeCbor(bytes, { maxBytes: bytes.length, maxDepth: 6, maxItems: 16 * MAX_HEADERS });
    const [version, status, headers, body, end, individual] = listOf(value);
    if (version !== VERSION || typeof status !== "number" || !(body instanceof Uint8Array)) throw new TypeError();
    const pairs = <Value extends CborValue>(of: CborValue | undefined, is: (value: CborValue) => value is Value) =>
      Object.fromEntries(
        listOf(of).map((pair) => {
          const [name, item] = listOf(pair);
          if (typeof name !== "string" || item === undefined || !is(item)) throw new TypeError();
          return [name, item] as const;
        }),
      );
    const isText = (item: CborValue): item is string => typeof item === "string";
    const isFact = (item: CborValue): item is string | boolean => typeof item === "string" || typeof item === "boolean";
    const form = { status, headers: pairs(headers, isText), body, individual: individual === 1 };
    if (end === null) return form;
    const [event, comment, done] = listOf(end);
    if (event === undefined) return { ...form, stream: { kind: "broken" } };
    if (typeof event !== "string") throw new TypeError();
    return { ...form, stream: { kind: "whole", event, comment: pairs(comment, isFact), done: done === 1 } };
  } catch (cause) {
    throw new AssayError("record_invalid", "A stored answer is not what this program writes.", { cause });
  }
}

function listOf(value: CborValue | undefined): readonly CborValue[] {
  if (!Array.isArray(value)) throw new TypeError("not a list");
  return value as readonly CborValue[];
}
