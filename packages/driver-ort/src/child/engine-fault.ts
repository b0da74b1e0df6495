import { isAssayError } from "@assay/core";
import type { OrtErrorCode } from "../errors.ts";

/** What the parent is told of a failure. After a fatal one the engine's state is unknown and the child must go. */
export type EngineFault = {
  readonly code: string;
  readonly message: string;
  readonly hints: readonly string[];
  readonly fatal: boolean;
};

/** Engine messages quote node names, which a model's author chooses: long enough to help, too short to flood. */
const MAX_MESSAGE = 400;

const MEMORY = /bad_alloc|bad allocation|failed to allocate|out of memory|array buffer allocation|could not allocate/i;
const TOO_LARGE = /tensor shape is too large|storage size overflow/i;
const UNSUPPORTED = /unsupported data ?type|unsupported tensor type|not supported: .*type|unknown.*data ?type/i;
const BROKEN = /aborted\(|unreachable|table index is out of bounds|memory access out of bounds|call stack size/i;

/** Names a failure of the engine; `otherwise` is the code when the message says nothing more exact. */
export function engineFault(error: unknown, otherwise: OrtErrorCode): EngineFault {
  if (isAssayError(error)) return { code: error.code, message: error.message, hints: error.hints, fatal: false };
  const raw = error instanceof Error ? error.message : String(error);
  const detail = raw.length > MAX_MESSAGE ? `${raw.slice(0, MAX_MESSAGE)}…` : raw;
  const fault = (code: OrtErrorCode, message: string, fatal: boolean): EngineFault => ({
    code,
    message,
    hints: detail === "" ? [] : [`The engine said: ${detail}`],
    fatal,
  });
  if (MEMORY.test(raw)) return fault("model_out_of_memory", "The engine could not get the memory it asked for.", true);
  if (TOO_LARGE.test(raw))
    return fault("tensor_too_large", "The model asked for a tensor that no memory holds.", false);
  if (isWasmTrap(error) || BROKEN.test(raw)) return fault("model_aborted", "The engine broke off while running.", true);
  if (UNSUPPORTED.test(raw))
    return fault("datatype_unsupported", "The model uses a type that cannot be served.", false);
  const sentence = otherwise === "model_invalid" ? "The engine refused the model." : "The model failed while running.";
  return fault(otherwise, sentence, false);
}

/** The type library of this project has no DOM, where WebAssembly's errors are declared. */
function isWasmTrap(error: unknown): boolean {
  return error instanceof Error && error.constructor.name === "RuntimeError";
}
