import { AssayError, parseJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { TEXT_DIALECTS, TEXT_LIMITS, parseRouting, parseText } from "@assay/protocol";
import type { ParsedText, TextDialect } from "@assay/protocol";

/** As large as what is to be explained may be. */
export const MAX_EXPLAIN_BYTES = TEXT_LIMITS.maxBodyBytes;

const DIALECT_OF = { chat: "chat", completion: "completions", embedding: "embeddings" } as const;

/**
 * What is to be explained: a request of the text API with `dialect` beside its members, or `model` with, if wanted,
 * `kind`, `max_tokens`, `stream` and `assay`. Throws `request_invalid` and the codes of `parseText`.
 */
export function parseExplain(body: Uint8Array, headers: Readonly<Record<string, string | undefined>>): ParsedText {
  const json = parseJson(body, { maxBytes: MAX_EXPLAIN_BYTES });
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw invalid("The body is not a JSON object.");
  const { dialect, ...rest } = json as { readonly [name: string]: JsonValue };
  if (dialect !== undefined) {
    if (!TEXT_DIALECTS.some((one) => one === dialect)) throw invalid(`dialect is one of ${TEXT_DIALECTS.join(", ")}.`);
    return parseText(dialect as TextDialect, utf8ToBytes(JSON.stringify(rest)), headers);
  }
  const { model, kind = "chat", max_tokens: maxTokens, stream = false, assay, ...unknown } = rest;
  const [stranger] = Object.keys(unknown);
  if (stranger !== undefined)
    throw invalid(
      `${JSON.stringify(stranger.slice(0, 64))} is not known here; send dialect to explain a whole request.`,
    );
  if (typeof model !== "string" || model.length === 0 || model.length > 256)
    throw invalid("model is not the name of a model.");
  if (kind !== "chat" && kind !== "completion" && kind !== "embedding")
    throw invalid("kind is chat, completion or embedding.");
  if (maxTokens !== undefined && (typeof maxTokens !== "number" || !Number.isSafeInteger(maxTokens) || maxTokens < 1))
    throw invalid("max_tokens is not a positive whole number.");
  if (typeof stream !== "boolean") throw invalid("stream is true or false.");
  return {
    dialect: DIALECT_OF[kind],
    kind,
    model,
    messages: [],
    parameters: maxTokens === undefined ? {} : { max_tokens: maxTokens },
    stream,
    includeUsage: false,
    routing: parseRouting(assay, headers),
  };
}

function invalid(sentence: string): AssayError {
  return new AssayError("request_invalid", sentence);
}
