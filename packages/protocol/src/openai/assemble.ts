import { parseJson } from "@assay/core";
import type { Frame, TextDialect } from "../text/execution.ts";
import { createChatState, malformed } from "./chat-state.ts";
import { createCompletionState } from "./completion-state.ts";
import { isObject } from "./read.ts";
import type { JsonObject } from "./read.ts";
import { createResponsesState } from "./responses-state.ts";

/** Longest payload that is read: an answer's images come in one piece. */
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
/** Deepest nesting of a payload: what a request may nest (64), and the members around what is repeated of it. */
const MAX_FRAME_DEPTH = 72;

/** An answer's frames, taken one by one, and the logical response that they make. */
export type Assembler = {
  /** Throws `response_malformed` for a payload that is no part of an answer in this dialect. */
  readonly take: (frame: Pick<Frame, "data">) => void;
  /** The response as far as frames were taken: what a request without `stream` would have got. */
  readonly response: () => JsonObject;
};

/** Makes an assembler; frames are the payloads of a stream without `[DONE]`, or the one body of an answer. */
export function createAssembler(dialect: TextDialect): Assembler {
  let head: JsonObject | undefined;
  let whole: JsonObject | undefined;
  const responses = dialect === "responses" ? createResponsesState() : undefined;
  const choices =
    dialect === "chat" ? createChatState() : dialect === "completions" ? createCompletionState() : undefined;
  return {
    take({ data }) {
      if (whole) throw malformed("something follows the whole answer");
      const value = decoded(data);
      if (isWhole(dialect, value)) {
        if (head) throw malformed("a whole answer follows a part of one");
        whole = value;
        return;
      }
      if (responses) {
        head ??= value;
        return responses.take(value);
      }
      if (!choices) throw malformed("it is no list of embeddings");
      const { id, created, model } = value;
      if (id === undefined || created === undefined || model === undefined) throw malformed("a frame has no id");
      if (head && (head["id"] !== id || head["model"] !== model))
        throw malformed("frames of different answers are mixed");
      head ??= { id, object: dialect === "chat" ? "chat.completion" : "text_completion", created, model };
      choices.take(value);
    },
    response() {
      if (whole) return whole;
      if (!head) throw malformed("it has no frames");
      return responses ? responses.response() : { ...head, ...choices?.rest() };
    },
  };
}

/**
 * The logical response of an answer's frames: for one whole body the body, for a stream what its frames add up to. A
 * receipt commits to its top-level members, so server, client and verifier all use this one. Throws `response_malformed`.
 */
export function assemble(dialect: TextDialect, frames: readonly Pick<Frame, "data">[]): JsonObject {
  const assembler = createAssembler(dialect);
  for (const frame of frames) assembler.take(frame);
  return assembler.response();
}

function decoded(data: string): JsonObject {
  let value;
  try {
    value = parseJson(data, { maxBytes: MAX_FRAME_BYTES, maxDepth: MAX_FRAME_DEPTH });
  } catch (cause) {
    throw malformed("a frame is no JSON", cause);
  }
  if (!isObject(value)) throw malformed("a frame is no object");
  return value;
}

function isWhole(dialect: TextDialect, value: JsonObject): boolean {
  switch (dialect) {
    case "chat":
      return value["object"] === "chat.completion";
    case "completions":
      return value["completion"] !== undefined;
    case "responses":
      return value["object"] === "response";
    case "embeddings":
      return value["object"] === "list";
  }
}
