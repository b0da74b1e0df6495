import { clientError } from "../errors.ts";
import { MAX_EVENT_BYTES, MAX_TEXT_ANSWER_BYTES } from "../limits.ts";
import { piecesOf } from "../pieces.ts";
import type { Pace } from "../pieces.ts";

/** One block of an event stream. */
export type SseBlock = {
  readonly event?: string;
  /** Its `data` lines joined by line feeds; absent when it has none, as a block of comments. */
  readonly data?: string;
  readonly comments: readonly string[];
};

export type SseLimits = { readonly eventBytes: number; readonly totalBytes: number };

const LIMITS: SseLimits = { eventBytes: MAX_EVENT_BYTES, totalBytes: MAX_TEXT_ANSWER_BYTES };

/**
 * The blocks of an event stream (WHATWG HTML section 9.2.6). A block that the end cuts off is none. Throws
 * `response_too_large` for a block or a whole past its limit, `response_malformed` for what is not UTF-8, and what
 * {@link piecesOf} throws.
 */
export async function* readSse(
  body: ReadableStream<Uint8Array> | null,
  pace: Pace = {},
  limits: SseLimits = LIMITS,
): AsyncGenerator<SseBlock, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const block = createBlock();
  const lineEnd = /\r\n|\r|\n/g;
  let line = "";
  let afterReturn = false;
  let total = 0;

  for await (const piece of piecesOf(body, pace)) {
    total += piece.length;
    if (total > limits.totalBytes) throw tooLarge(`stream has more than ${limits.totalBytes} bytes`);
    const text = decode(decoder, piece);
    if (text === "") continue;
    // A line feed after a carriage return ends the same line, also when a border between pieces lies between them.
    let from = afterReturn && text.startsWith("\n") ? 1 : 0;
    afterReturn = text.endsWith("\r");
    lineEnd.lastIndex = from;
    for (let end = lineEnd.exec(text); end; end = lineEnd.exec(text)) {
      line += text.slice(from, end.index);
      from = lineEnd.lastIndex;
      if (line !== "") block.line(line);
      else {
        const done = block.take();
        if (done) yield done;
      }
      line = "";
    }
    line += text.slice(from);
    if (block.size() + line.length > limits.eventBytes)
      throw tooLarge(`event has more than ${limits.eventBytes} bytes`);
  }
}

/** A block as text, ready to be sent. */
export function writeSse({ event, data, comments }: SseBlock): string {
  const lines = [
    ...comments.map((comment) => `: ${comment}`),
    ...(event === undefined ? [] : [`event: ${event}`]),
    ...(data === undefined ? [] : data.split("\n").map((line) => `data: ${line}`)),
  ];
  return `${lines.join("\n")}\n\n`;
}

type Block = {
  readonly line: (line: string) => void;
  /** The block so far, if a line of it said anything; a new one begins. */
  readonly take: () => SseBlock | undefined;
  /** Characters held. */
  readonly size: () => number;
};

function createBlock(): Block {
  let size = 0;
  let event = "";
  let data: string[] = [];
  let comments: string[] = [];
  return {
    size: () => size,
    line(line) {
      size += line.length;
      const colon = line.indexOf(":");
      const name = colon === -1 ? line : line.slice(0, colon);
      const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (colon === 0) comments.push(value);
      else if (name === "data") data.push(value);
      else if (name === "event") event = value;
    },
    take() {
      const block: SseBlock = {
        ...(event === "" ? {} : { event }),
        ...(data.length === 0 ? {} : { data: data.join("\n") }),
        comments,
      };
      const said = data.length > 0 || comments.length > 0;
      size = 0;
      event = "";
      data = [];
      comments = [];
      return said ? block : undefined;
    },
  };
}

function decode(decoder: InstanceType<typeof TextDecoder>, piece: Uint8Array): string {
  try {
    return decoder.decode(piece, { stream: true });
  } catch (cause) {
    throw clientError("response_malformed", "The stream holds bytes that are not UTF-8.", { cause });
  }
}

function tooLarge(what: string): Error {
  return clientError("response_too_large", `The answer's ${what}.`);
}
