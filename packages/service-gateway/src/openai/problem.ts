import { isAssayError } from "@assay/core";
import { problemOf } from "../http-errors.ts";

/** OpenAI's error body, with the members beside it that every refusal here has. */
export type OpenAiError = {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
};

export type OpenAiProblem = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: {
    readonly error: OpenAiError;
    readonly code: string;
    readonly hints: readonly string[];
    readonly docs: string;
  };
};

const TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  402: "payment_required",
  403: "permission_error",
  429: "rate_limit_error",
};
/** Codes whose first hint is the name of the parameter that they are about. */
const NAMES_PARAMETER = new Set(["parameter_unsupported", "parameter_invalid"]);
const PARAMETER = /^[\w.[\]-]{1,128}$/;

/** The answer to an error in OpenAI's shape, which clients of that API show to their users. */
export function openAiProblem(error: unknown): OpenAiProblem {
  const { status, headers, body } = problemOf(error);
  return {
    status,
    headers,
    body: {
      error: {
        message: body.error,
        type: TYPES[status] ?? (status >= 500 ? "server_error" : "invalid_request_error"),
        param: parameterOf(error),
        code: body.code,
      },
      code: body.code,
      hints: body.hints,
      docs: body.docs,
    },
  };
}

function parameterOf(error: unknown): string | null {
  if (!isAssayError(error)) return null;
  if (error.code === "model_not_found") return "model";
  const [first] = error.hints;
  return NAMES_PARAMETER.has(error.code) && first !== undefined && PARAMETER.test(first) ? first : null;
}
