import type { TextEnd } from "../openai/types.ts";
import type { TryEnd } from "./route-state.ts";

/** Codes that say that a candidate is broken or away, whatever was asked of it. */
const FAULTS = new Set([
  "engine_unavailable",
  "engine_interrupted",
  "upstream_unauthorized",
  "upstream_failed",
  "upstream_unreachable",
  "upstream_timeout",
  "upstream_malformed",
  "model_digest_mismatch",
  "model_aborted",
  "model_failed",
  "model_timeout",
  "model_out_of_memory",
  "runtime_unavailable",
  "internal_error",
]);
const FULL = new Set([
  "engine_overloaded",
  "upstream_rate_limited",
  "runtime_overloaded",
  "node_overloaded",
  "node_draining",
]);

/**
 * What an end says about the candidate. Refusals of what was asked (a parameter, a long prompt) are the request's and
 * count against nobody: a caller must not be able to eject a node by asking for nonsense.
 */
export function endOf(how: "ok" | "failed" | "cancelled", { code, outcome }: TextEnd, streamed: boolean): TryEnd {
  if (how === "cancelled") return { how };
  if (how === "ok")
    return {
      how: "answered",
      engineMs: outcome?.engineMs ?? 0,
      outputTokens: outcome?.usage.completion_tokens ?? 0,
      streamed,
    };
  if (code === undefined || FAULTS.has(code)) return { how: "failed" };
  if (FULL.has(code)) return { how: "busy" };
  return { how: code.startsWith("node_") ? "failed" : "refused" };
}
