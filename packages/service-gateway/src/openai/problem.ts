import { openAiError } from "@assay/protocol";
import type { OpenAiErrorBody } from "@assay/protocol";
import { problemOf } from "../http-errors.ts";

export type OpenAiProblem = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: OpenAiErrorBody;
  /** Members of the body beside OpenAI's. */
  readonly more?: Readonly<Record<string, unknown>>;
};

/** The answer to an error in OpenAI's shape, which clients of that API show to their users. */
export function openAiProblem(error: unknown): OpenAiProblem {
  const { status, headers, body, more } = problemOf(error);
  const { error: message, code, hints, docs: docsPath } = body;
  return { status, headers, body: openAiError({ message, code, hints, docsPath }, status), ...(more ? { more } : {}) };
}
