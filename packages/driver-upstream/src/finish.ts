import type { TextFinishReason } from "@assay/protocol";
import { malformed, upstreamError } from "./errors.ts";

/** Reasons as servers with OpenAI's API name them; the first word of each line is OpenAI's own. */
const REASONS: Readonly<Record<string, TextFinishReason>> = {
  stop: "stop",
  eos: "stop",
  eos_token: "stop",
  end_turn: "stop",
  stop_sequence: "stop",
  length: "length",
  max_tokens: "length",
  model_length: "length",
  tool_calls: "tool_calls",
  function_call: "tool_calls",
  tool_use: "tool_calls",
  content_filter: "content_filter",
  safety: "content_filter",
};

/** An upstream's reason in our words. Throws `upstream_failed` when it names a failure, `upstream_malformed` otherwise. */
export function finishReason(value: string): TextFinishReason {
  const reason = Object.hasOwn(REASONS, value) ? REASONS[value] : undefined;
  if (reason !== undefined) return reason;
  if (/^(?:error|abort|aborted|cancel|cancelled|insufficient_system_resource)$/.test(value))
    throw upstreamError("upstream_failed", `The upstream broke off its answer (${value}).`);
  throw malformed("it gives a finish reason that is not known");
}
