import { isAssayError } from "@assay/core";
import { llmError } from "./errors.ts";
import { LaneDeath } from "./lane.ts";

const DEATHS: Readonly<Record<LaneDeath["why"], string>> = {
  deadline: "took longer than allowed",
  memory: "needed more memory than a process may have",
  aborted: "ended its process",
  external: "was ended from outside",
  protocol: "gave an answer that is not readable",
  silent: "stopped answering",
  ended: "was stopped because the engine is closing",
};

/** A child's death in terms of the request that it cost. */
export function errorOf(error: unknown): unknown {
  if (!(error instanceof LaneDeath))
    return isAssayError(error) ? error : llmError("model_failed", "The engine failed.", [], error);
  if (error.why === "ended") return llmError("engine_unavailable", "The engine is closed.", [], error);
  return llmError(
    "model_aborted",
    `The child process that ran the model ${DEATHS[error.why]}.`,
    ["It is started again for the next request."],
    error,
  );
}
