import type { JsonValue } from "@assay/core";
import { instanceOf, littleCount, littleText, littleTokens } from "./little-model.ts";
import type { LittleSettings, LittleToken } from "./little-model.ts";

/** What a wire format boils down to before the little model answers it. */
export type LittleChat = Omit<LittleSettings, "choice"> & {
  readonly n: number;
  readonly tools: readonly { readonly name: string; readonly schema: JsonValue | undefined }[];
  readonly toolChoice: "none" | "auto" | "required" | { readonly name: string };
  readonly parallel: boolean;
  /** `json` without a schema is any object. */
  readonly format: { readonly type: "text" } | { readonly type: "json"; readonly schema?: JsonValue };
};

type LittleCall = { readonly id: string; readonly name: string; readonly input: JsonValue };

export type LittleAnswer = {
  /** One for each choice; tokens of an endless answer never run out. */
  readonly choices: readonly {
    readonly tokens: Iterable<LittleToken>;
    readonly calls: readonly LittleCall[];
    readonly finish: "stop" | "length" | "tool_calls";
  }[];
  readonly promptTokens: number;
};

/** Settings that a wire format leaves out. */
export const LITTLE_DEFAULTS: LittleChat = {
  prompt: "",
  seed: 0,
  temperature: 1,
  topP: 1,
  maxTokens: Number.POSITIVE_INFINITY,
  stop: [],
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  n: 1,
  tools: [],
  toolChoice: "auto",
  parallel: true,
  format: { type: "text" },
};

/**
 * Answers as the little model does: a tool is called when it is forced, or when the prompt names it; a JSON format
 * gets an instance of its schema; everything else is text.
 */
export function littleAnswer(chat: LittleChat): LittleAnswer {
  const promptTokens = littleCount(chat.prompt);
  const calls = callsOf(chat);
  if (calls.length > 0) {
    return { choices: repeat(chat.n, () => ({ tokens: [], calls, finish: "tool_calls" as const })), promptTokens };
  }
  if (chat.format.type === "json") {
    const text = JSON.stringify(chat.format.schema === undefined ? { word: "amber" } : instanceOf(chat.format.schema));
    const tokens = text.match(/.{1,8}/gs)?.map((part) => ({ text: part, logprob: 0, top: [] })) ?? [];
    return { choices: repeat(chat.n, () => ({ tokens, calls: [], finish: "stop" as const })), promptTokens };
  }
  return {
    choices: repeat(chat.n, (choice) => {
      const settings = { ...chat, choice };
      if (chat.prompt.includes("endless") && chat.maxTokens === Number.POSITIVE_INFINITY)
        return { tokens: littleTokens(settings), calls: [], finish: "stop" as const };
      const text = littleText(settings);
      return { tokens: text.tokens, calls: [], finish: text.finish };
    }),
    promptTokens,
  };
}

function callsOf(chat: LittleChat): LittleCall[] {
  const { toolChoice } = chat;
  if (toolChoice === "none" || chat.tools.length === 0) return [];
  const wanted =
    typeof toolChoice === "object"
      ? chat.tools.filter((tool) => tool.name === toolChoice.name)
      : chat.tools.filter((tool) => chat.prompt.includes(tool.name));
  const chosen = wanted.length === 0 && toolChoice === "required" ? chat.tools.slice(0, 1) : wanted;
  return (chat.parallel ? chosen : chosen.slice(0, 1)).map((tool, index) => ({
    id: `call_little_${index}`,
    name: tool.name,
    input: instanceOf(tool.schema),
  }));
}

function repeat<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}
