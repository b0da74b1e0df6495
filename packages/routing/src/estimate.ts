import { canonicalJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ParsedText } from "@assay/protocol";
import type { TokenBounds } from "./request.ts";

/**
 * What a chat template adds around a message, the beginning and the cue for the answer included. Templates in use add
 * 3 to 10 tokens; double that leaves room for those not yet seen.
 */
const TEMPLATE_TOKENS = 20;

/** Templates write tools as indented JSON, which has more characters than the compact form that is measured here. */
const INDENTED = 3;

/**
 * Bounds of a request's tokens without its tokenizer. A token of a byte-level vocabulary covers at least one byte, so
 * UTF-8 bytes bound the tokens from above; what was sent as token ids is exact. Images, files and sound are counted by
 * rules of each engine's own, so with them the input has no bound here.
 */
export function tokenBounds(parsed: ParsedText): TokenBounds {
  const { parameters } = parsed;
  const choices = Math.max(parameters.n ?? 1, parameters.best_of ?? 1);
  const output = parsed.kind === "embedding" ? { outputAtMost: 0 } : bound(parameters.max_tokens);
  if (parsed.kind === "chat") {
    let atMost: number | undefined = TEMPLATE_TOKENS;
    for (const message of parsed.messages) {
      if (hasMedia(message)) {
        atMost = undefined;
        break;
      }
      atMost += bytesOf(message as unknown as JsonValue) + TEMPLATE_TOKENS;
    }
    if (atMost !== undefined)
      for (const beside of [parameters.tools, parameters.response_format, parameters.tool_choice])
        if (beside !== undefined) atMost += INDENTED * bytesOf(beside as unknown as JsonValue);
    return { inputAtLeast: 0, ...(atMost === undefined ? {} : { inputAtMost: atMost }), ...output, choices };
  }
  const inputs = parsed.kind === "completion" ? [parsed.prompt ?? ""] : (parsed.inputs ?? []);
  let longest = 0;
  let atMost = 0;
  for (const input of inputs) {
    const size = typeof input === "string" ? utf8ToBytes(input).length + TEMPLATE_TOKENS : input.length;
    if (typeof input !== "string") longest = Math.max(longest, input.length);
    atMost += size;
  }
  if (parameters.suffix !== undefined) atMost += utf8ToBytes(parameters.suffix).length;
  // Each text of an embedding has the context to itself.
  return { inputAtLeast: longest, inputAtMost: atMost, ...output, choices };
}

function bound(maxTokens: number | undefined): { readonly outputAtMost?: number } {
  return maxTokens === undefined ? {} : { outputAtMost: maxTokens };
}

function hasMedia(message: ParsedText["messages"][number]): boolean {
  const content: unknown = "content" in message ? message.content : undefined;
  return (
    Array.isArray(content) &&
    (content as readonly { readonly type: string }[]).some(({ type }) => type !== "text" && type !== "refusal")
  );
}

function bytesOf(value: JsonValue): number {
  return canonicalJson(value).length;
}
