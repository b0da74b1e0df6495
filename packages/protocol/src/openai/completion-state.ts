import type { JsonValue } from "@assay/core";
import { TEXT_LIMITS } from "../text/messages.ts";
import { malformed } from "./chat-state.ts";
import { isObject } from "./read.ts";
import type { JsonObject } from "./read.ts";

const LOGPROB_LISTS = ["tokens", "token_logprobs", "top_logprobs", "text_offset"] as const;
type Logprobs = { [Name in (typeof LOGPROB_LISTS)[number]]: JsonValue[] };
type Choice = { text: string; logprobs: Logprobs | null; finish: JsonValue };

/** The logical answer of the older completions API, grown from the objects of its frames by writer and reader alike. */
export type CompletionState = {
  /** Takes `choices`, `usage` and `assay` of one frame. Throws `response_malformed`. */
  readonly take: (frame: JsonObject) => void;
  /** Members after `model`: `choices`, `completion` (the first choice's text), and `usage` and `assay` when they came. */
  readonly rest: () => JsonObject;
};

export function createCompletionState(): CompletionState {
  const choices = new Map<number, Choice>();
  let usage: JsonValue | undefined;
  let assay: JsonValue | undefined;
  return {
    take(frame) {
      const list = frame["choices"];
      if (!Array.isArray(list)) throw malformed("a frame has no choices");
      for (const item of list as readonly JsonValue[]) {
        const index = isObject(item) ? item["index"] : undefined;
        if (!isObject(item) || typeof index !== "number" || !Number.isInteger(index))
          throw malformed("a choice has no index");
        if (index < 0 || index >= TEXT_LIMITS.maxChoices) throw malformed("a choice has no index");
        let choice = choices.get(index);
        if (!choice) {
          choice = { text: "", logprobs: null, finish: null };
          choices.set(index, choice);
        }
        if (typeof item["text"] === "string") choice.text += item["text"];
        if (isObject(item["logprobs"])) takeLogprobs(choice, item["logprobs"]);
        if (item["finish_reason"] !== undefined && item["finish_reason"] !== null)
          choice.finish = item["finish_reason"];
      }
      if (frame["usage"] !== undefined) ({ usage } = frame);
      if (frame["assay"] !== undefined) ({ assay } = frame);
    },
    rest() {
      const sorted = [...choices].sort(([a], [b]) => a - b);
      return {
        choices: sorted.map(([index, choice]) => ({
          text: choice.text,
          index,
          logprobs: choice.logprobs && copied(choice.logprobs),
          finish_reason: choice.finish,
        })),
        completion: sorted[0]?.[1].text ?? "",
        ...(usage === undefined ? {} : { usage }),
        ...(assay === undefined ? {} : { assay }),
      };
    },
  };
}

// What was given out stays as it was when more frames come.
function copied(lists: Logprobs): JsonObject {
  return Object.fromEntries(LOGPROB_LISTS.map((name) => [name, [...lists[name]]]));
}

function takeLogprobs(choice: Choice, more: JsonObject): void {
  choice.logprobs ??= { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  for (const name of LOGPROB_LISTS) {
    const list = more[name];
    if (Array.isArray(list)) for (const item of list as readonly JsonValue[]) choice.logprobs[name].push(item);
  }
}
