import type { ToolCallDelta } from "@assay/protocol";
import { overlap } from "./answer-text.ts";

/** Marks around one call, in the style of the Hermes models. */
export const CALL_BEGIN = "<tool_call>";
export const CALL_END = "</tool_call>";
/** What stands between the marks: `\n{"name": "…", "arguments": {…}}\n`, written as Python's `json.dumps` does. */
export const CALL_NAME = '\n{"name": "';
export const CALL_ARGUMENTS = '", "arguments": ';
export const CALL_CLOSE = "}\n";

type ParsedPiece = { readonly content: string; readonly calls: readonly ToolCallDelta[] };

/** Tells the calls in an answer from its text, as it comes. The grammar has made sure that calls are well-formed. */
export type CallParser = {
  readonly push: (text: string) => ParsedPiece;
  /** What was held back, when no more text comes. */
  readonly end: () => ParsedPiece;
  /** Calls that were written to their end. */
  readonly complete: () => number;
};

export function createCallParser(callId: (index: number) => string): CallParser {
  let stage: "content" | "head" | "arguments" | "tail" = "content";
  let held = "";
  let index = -1;
  let complete = 0;
  let depth = 0;
  let quoted = false;
  let escaped = false;

  const push = (text: string): ParsedPiece => {
    held += text;
    let content = "";
    const calls: ToolCallDelta[] = [];
    for (;;) {
      if (stage === "content") {
        const begin = held.indexOf(CALL_BEGIN);
        const ready = begin >= 0 ? begin : held.length - overlap(held, CALL_BEGIN);
        // Line ends between calls belong to no message.
        if (index < 0) content += held.slice(0, ready);
        held = held.slice(begin >= 0 ? begin + CALL_BEGIN.length : ready);
        if (begin < 0) break;
        stage = "head";
        index++;
      } else if (stage === "head") {
        const split = held.indexOf(CALL_ARGUMENTS);
        if (split < 0) break;
        const name = held.slice(CALL_NAME.length, split);
        calls.push({ index, id: callId(index), type: "function", function: { name, arguments: "" } });
        held = held.slice(split + CALL_ARGUMENTS.length);
        stage = "arguments";
        depth = 0;
      } else if (stage === "arguments") {
        const length = argumentsIn(held);
        if (length > 0) calls.push({ index, function: { arguments: held.slice(0, length) } });
        held = held.slice(length);
        if (depth > 0 || length === 0) break;
        stage = "tail";
      } else {
        const end = held.indexOf(CALL_END);
        if (end < 0) break;
        held = held.slice(end + CALL_END.length);
        complete++;
        stage = "content";
      }
    }
    return { content, calls };
  };

  /** How much of `text` still belongs to the arguments, which are one JSON object. */
  const argumentsIn = (text: string): number => {
    for (let at = 0; at < text.length; at++) {
      const character = text[at];
      if (escaped) escaped = false;
      else if (quoted && character === "\\") escaped = true;
      else if (character === '"') quoted = !quoted;
      else if (!quoted && (character === "{" || character === "[")) depth++;
      else if (!quoted && (character === "}" || character === "]") && --depth === 0) return at + 1;
    }
    return text.length;
  };

  return {
    push,
    end: () => {
      const content = stage === "content" && index < 0 ? held : "";
      held = "";
      return { content, calls: [] };
    },
    complete: () => complete,
  };
}
