import type { JsonValue } from "@assay/core";
import type { ParsedText, TextDialect } from "../text/execution.ts";
import { parseChat } from "./chat-request.ts";
import { parseCompletion } from "./completion-request.ts";
import { parseEmbedding } from "./embedding-request.ts";
import { TEXT_VALUE_LIMITS } from "./limits.ts";
import { readBody } from "./read.ts";
import type { JsonObject } from "./read.ts";
import { parseResponses } from "./responses-request.ts";
import { parseRouting } from "./routing.ts";

export type ParseOptions = {
  /** The item of an earlier answer that a Responses request refers to by its id; without it references are refused. */
  readonly item?: ((id: string) => JsonValue | undefined) | undefined;
};

/**
 * A request of OpenAI's API as typed data: every parameter is known and within its bounds, or the request is refused.
 * `headers` are lower case; of them `assay-objective`, `assay-mode` and so on are read, and a body's `assay` member wins
 * over them. Throws `request_too_large`, `json_invalid`, `parameter_unknown`, `parameter_invalid` (both name the path)
 * and `parameter_unsupported` (with the reason); `docs/reference/openai-parameters.md` lists every parameter.
 */
export function parseText(
  dialect: TextDialect,
  body: Uint8Array,
  headers: Readonly<Record<string, string | undefined>>,
  { item }: ParseOptions = {},
): ParsedText {
  const asked = readBody(body);
  const parsed = dialect === "responses" ? parseResponses(asked, item) : parserOf(dialect)(asked);
  const routing = parseRouting(asked["assay"], headers);
  return { ...parsed, ...(parsed.omitted ? { omitted: shortened(parsed.omitted) } : {}), routing };
}

function parserOf(dialect: Exclude<TextDialect, "responses">): (body: JsonObject) => Omit<ParsedText, "routing"> {
  switch (dialect) {
    case "chat":
      return parseChat;
    case "completions":
      return parseCompletion;
    case "embeddings":
      return parseEmbedding;
  }
}

function shortened(paths: readonly string[]): readonly string[] {
  const { maxOmitted } = TEXT_VALUE_LIMITS;
  if (paths.length <= maxOmitted) return paths;
  return [...paths.slice(0, maxOmitted - 1), `and ${paths.length - maxOmitted + 1} more`];
}
