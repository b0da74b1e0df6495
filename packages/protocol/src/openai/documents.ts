import type { AssayError, JsonValue } from "@assay/core";
import type { Frame, TextDialect } from "../text/execution.ts";
import type { JsonObject } from "./read.ts";

/** OpenAI's error body with our code, hints and page beside it. */
export type OpenAiErrorBody = {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
  readonly code: string;
  readonly hints: readonly string[];
  readonly docs: string;
};

type Problem = Pick<AssayError, "code" | "message" | "hints" | "docsPath">;

/** Codes whose first hint is the path of the parameter they are about. */
const NAMES_PARAMETER = new Set(["parameter_unknown", "parameter_invalid", "parameter_unsupported"]);

/** The body of an error by its HTTP status, in OpenAI's shape: `type` is what OpenAI gives for the status. */
export function openAiError(problem: Problem, status: number): OpenAiErrorBody {
  const { code, message, hints, docsPath } = problem;
  const param = NAMES_PARAMETER.has(code) ? (hints[0] ?? null) : code === "model_not_found" ? "model" : null;
  return {
    error: { message, type: errorType(status), param, code },
    code,
    hints,
    docs: docsPath,
  };
}

function errorType(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 404) return "not_found_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

/**
 * The last event of a stream that broke off, which is not part of its transcript. OpenAI's clients throw on a payload
 * with an `error` member, and on the Responses API's event `error`.
 */
export function errorFrame(dialect: TextDialect, problem: Problem, status: number, sequenceNumber = 0): Frame {
  const { error } = openAiError(problem, status);
  if (dialect !== "responses") return { data: JSON.stringify({ error }) };
  const { code, message, param } = error;
  return {
    event: "error",
    data: JSON.stringify({ type: "error", sequence_number: sequenceNumber, code, message, param, error }),
  };
}

/** One model as OpenAI lists it. `createdS` is seconds since 1970. */
export type ListedModel = { readonly id: string; readonly createdS: number; readonly ownedBy: string };

/** `{id, object, created, owned_by}`. */
export function openAiModel({ id, createdS, ownedBy }: ListedModel): JsonObject {
  return { id, object: "model", created: createdS, owned_by: ownedBy };
}

/** The members that OpenAI's list of models has: `object` and `data`. */
export function openAiModelList(models: readonly ListedModel[]): {
  readonly object: "list";
  readonly data: readonly JsonValue[];
} {
  return { object: "list", data: models.map(openAiModel) };
}
