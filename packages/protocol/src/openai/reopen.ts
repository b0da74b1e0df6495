import { AssayError, bytesToUtf8, parseJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { GenerateParameters } from "../text/engine.ts";
import type { ParsedText, TextDialect } from "../text/execution.ts";
import { parseText } from "./parse.ts";
import { isObject } from "./read.ts";
import type { JsonObject } from "./read.ts";

/** One opened field, as receipts have it. */
type OpenedField = { readonly name: string; readonly value: Uint8Array };

/** What a bundle discloses of a text execution, and what its claims state. */
export type OpenedText = {
  /** The claim `kind`. */
  readonly kind: "chat" | "completion" | "embedding";
  /** All fields of the request. */
  readonly requestFields: readonly OpenedField[];
  /** Fields of the response; `assay` holds the tokens. May be empty when only the request is wanted. */
  readonly responseFields: readonly OpenedField[];
  /** The claim `parameters`: what was applied, fractions as texts. */
  readonly parameters?: Readonly<Record<string, unknown>>;
};

/** A text execution taken up again: what was asked, what was stated and what came of it. */
export type ReopenedText = {
  readonly parsed: ParsedText;
  /** What to run it again with: parameters as asked and, where the request left them open, as the receipt states them. */
  readonly effective: GenerateParameters;
  /** Parameters that the request asked for and the receipt states otherwise. */
  readonly contradicted: readonly string[];
  /** Token ids of each choice in order, when the response has them. */
  readonly tokens?: readonly (readonly number[])[];
  /** The response's opened members. */
  readonly response: JsonObject;
};

/** Values that a receipt may state for what a request left open, and that have one form there and in a request. */
const NUMBERS = [
  "temperature",
  "top_p",
  "seed",
  "n",
  "max_tokens",
  "presence_penalty",
  "frequency_penalty",
  "top_logprobs",
  "best_of",
] as const satisfies readonly (keyof GenerateParameters)[];

/** Tokens of one answer that are read: the longest contexts known are below. */
const MAX_TOKENS = 16_777_216;

/**
 * The request of a receipt whose fields are open, ready to be checked again. Throws `opening_missing` when a field that
 * the request needs is not open, the codes of {@link parseText} when the fields are no request of this API, and
 * `response_malformed` when the response's tokens are no lists of token ids.
 */
export function reopenText(opened: OpenedText): ReopenedText {
  const { kind, requestFields, responseFields, parameters = {} } = opened;
  const dialect = dialectOf(kind, requestFields);
  const members = requestFields.map(({ name, value }) => {
    // Each value on its own, so that none can close its member and open another.
    decodedValue(value);
    return `${JSON.stringify(name)}:${bytesToUtf8(value)}`;
  });
  const parsed = parseText(dialect, utf8ToBytes(`{${members.join(",")}}`), {});
  const response: { [name: string]: JsonValue } = {};
  for (const { name, value } of responseFields) {
    Object.defineProperty(response, name, { value: decodedValue(value), enumerable: true });
  }
  const effective: { [name: string]: unknown } = { ...parsed.parameters };
  const contradicted: string[] = [];
  for (const name of NUMBERS) {
    const stated = numberOf(parameters[name]);
    if (stated === undefined) continue;
    const asked = parsed.parameters[name];
    if (asked === undefined) effective[name] = stated;
    else if (asked !== stated) contradicted.push(name);
  }
  const tokens = tokensOf(response["assay"]);
  return { parsed, effective, contradicted, ...(tokens ? { tokens } : {}), response };
}

const MAX_VALUE_DEPTH = 128;

function decodedValue(value: Uint8Array): JsonValue {
  return parseJson(value, { maxBytes: value.length, maxDepth: MAX_VALUE_DEPTH });
}

function dialectOf(kind: OpenedText["kind"], fields: readonly OpenedField[]): TextDialect {
  const needed = { chat: ["messages", "input"], completion: ["prompt"], embedding: ["input"] }[kind];
  const found = needed.find((name) => fields.some((field) => field.name === name));
  if (found === undefined || !fields.some(({ name }) => name === "model")) {
    throw new AssayError("opening_missing", "The receipt does not disclose the request that is to be checked again.", {
      hints: [`The fields model and ${needed.join(" or ")} of the request are needed, best all of them.`],
    });
  }
  if (kind === "embedding") return "embeddings";
  if (kind === "completion") return "completions";
  return found === "messages" ? "chat" : "responses";
}

function numberOf(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value !== "string" || value.trim() === "") return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}

function tokensOf(assay: JsonValue | undefined): (readonly number[])[] | undefined {
  const lists = isObject(assay) ? assay["tokens"] : undefined;
  if (lists === undefined) return undefined;
  let left = MAX_TOKENS;
  const isList = (list: JsonValue): list is number[] =>
    Array.isArray(list) &&
    (left -= list.length) >= 0 &&
    list.every((id) => typeof id === "number" && Number.isSafeInteger(id) && id >= 0);
  if (Array.isArray(lists) && (lists as readonly JsonValue[]).every(isList)) return lists as number[][];
  throw new AssayError("response_malformed", "The answer cannot be read: its tokens are no lists of token ids.");
}
