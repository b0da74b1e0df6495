import type { JsonValue } from "@assay/core";
import type { ChatMessage, GenerateRequest, TextUsage } from "@assay/protocol";
import { CHARACTERS_PER_TOKEN, MAX_TOKENS_REPORTED, USAGE_SLACK_TOKENS } from "./limits.ts";

/** Tokens as an upstream reports them, in our names; members that are no counts are left out. */
export type ReportedUsage = {
  readonly prompt?: JsonValue | undefined;
  readonly completion?: JsonValue | undefined;
  readonly cached?: JsonValue | undefined;
  readonly reasoning?: JsonValue | undefined;
  readonly promptAudio?: JsonValue | undefined;
  readonly completionAudio?: JsonValue | undefined;
  readonly accepted?: JsonValue | undefined;
  readonly rejected?: JsonValue | undefined;
};

/**
 * Reported counts, or undefined when they cannot be true: not whole, negative, above {@link MAX_TOKENS_REPORTED}, or
 * more completion tokens than `maxCompletion` allowed. The total is ours, the sum.
 */
export function believe(reported: ReportedUsage, maxCompletion: number): TextUsage | undefined {
  const prompt = count(reported.prompt);
  const completion = count(reported.completion);
  if (prompt === undefined || completion === undefined) return undefined;
  if (completion > maxCompletion + USAGE_SLACK_TOKENS) return undefined;
  const promptDetails = counts({ cached_tokens: reported.cached, audio_tokens: reported.promptAudio }, prompt);
  const completionDetails = counts(
    {
      reasoning_tokens: reported.reasoning,
      audio_tokens: reported.completionAudio,
      accepted_prediction_tokens: reported.accepted,
      rejected_prediction_tokens: reported.rejected,
    },
    completion,
  );
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    ...(promptDetails === undefined ? {} : { prompt_tokens_details: promptDetails }),
    ...(completionDetails === undefined ? {} : { completion_tokens_details: completionDetails }),
  };
}

/** What a text of so many characters is taken to hold, when its tokens were not counted. */
export function estimate(promptCharacters: number, completionCharacters: number): TextUsage {
  const prompt = Math.ceil(promptCharacters / CHARACTERS_PER_TOKEN);
  const completion = Math.ceil(completionCharacters / CHARACTERS_PER_TOKEN);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    estimated: true,
  };
}

/** Characters of what a request asks, texts only: images and files have no tokens that we could guess. */
export function promptCharacters(request: GenerateRequest): number {
  const { prompt } = request;
  if (typeof prompt === "string") return prompt.length;
  if (prompt !== undefined) return prompt.length * CHARACTERS_PER_TOKEN;
  return request.messages.reduce((sum, message) => sum + messageCharacters(message), 0);
}

function messageCharacters(message: ChatMessage): number {
  const { content } = message;
  let sum = 0;
  if (typeof content === "string") sum = content.length;
  else if (content !== null && content !== undefined)
    for (const part of content) sum += part.type === "text" ? part.text.length : 0;
  if (message.role !== "assistant") return sum;
  for (const call of message.tool_calls ?? []) sum += call.function.name.length + call.function.arguments.length;
  return sum;
}

function count(value: JsonValue | undefined): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= MAX_TOKENS_REPORTED
    ? value
    : undefined;
}

/** The members of `values` that are counts of at most `most`; undefined when none is. */
function counts<Name extends string>(
  values: Readonly<Record<Name, JsonValue | undefined>>,
  most: number,
): Partial<Record<Name, number>> | undefined {
  const out: Partial<Record<Name, number>> = {};
  let any = false;
  for (const name of Object.keys(values) as Name[]) {
    const value = count(values[name]);
    if (value === undefined || value > most) continue;
    out[name] = value;
    any = true;
  }
  return any ? out : undefined;
}
