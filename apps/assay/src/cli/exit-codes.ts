import { isAssayError } from "@assay/core";
import type { Verdict } from "@assay/receipts";

/** What the program exits with. Scripts rely on these numbers. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  evidenceFailed: 10,
  inconclusive: 11,
  payment: 12,
  denied: 13,
  nodeUnavailable: 14,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

const USAGE: ReadonlySet<string> = new Set([
  "usage_invalid",
  "config_invalid",
  "model_name_invalid",
  "receipt_id_invalid",
  "receipt_ambiguous",
  "gateway_url_invalid",
  "field_unknown",
  "field_ambiguous",
  "output_unknown",
  "preprocessing_missing",
  "stdout_is_terminal",
  "policy_invalid",
  "spend_amount_invalid",
  "wallet_passphrase_unusable",
]);

/** An answer that cannot be shown to be what it says. */
const EVIDENCE: ReadonlySet<string> = new Set([
  "receipt_failed",
  "receipt_missing",
  "receipt_replaced",
  "stream_truncated",
  "payment_response_invalid",
]);

/** What is not paid: nobody to pay, nothing to pay with, or a quote that the spend policy refuses. */
const PAYMENT: ReadonlySet<string> = new Set(["wallet_missing", "payment_unpayable", "payment_quote_malformed"]);
const DENIED: ReadonlySet<string> = new Set(["wallet_export_refused", "development_key_refused"]);

const UNAVAILABLE: ReadonlySet<string> = new Set([
  "gateway_unreachable",
  "gateway_timeout",
  "chain_unavailable",
  "runtime_overloaded",
  "runtime_closed",
  "engine_overloaded",
  "engine_unavailable",
  "no_route",
  "nodes_unavailable",
  "assurance_unavailable",
]);

/** The exit code of a verdict. */
export function exitOfVerdict(status: Verdict["status"]): ExitCode {
  switch (status) {
    case "verified":
      return EXIT.done;
    case "failed":
      return EXIT.evidenceFailed;
    case "inconclusive":
      return EXIT.inconclusive;
  }
}

/** The exit code of something thrown. `interrupted` is whether the person asked to stop. */
export function exitOfError(error: unknown, interrupted: boolean): ExitCode {
  if (interrupted) return EXIT.interrupted;
  if (!isAssayError(error)) return EXIT.failed;
  // Everything loadInputs refuses is about what was typed or named on the command line.
  if (USAGE.has(error.code) || error.code.startsWith("input_")) return EXIT.usage;
  if (EVIDENCE.has(error.code)) return EXIT.evidenceFailed;
  if (error.code === "receipt_inconclusive") return EXIT.inconclusive;
  if (PAYMENT.has(error.code) || error.code.startsWith("spend_")) return EXIT.payment;
  if (DENIED.has(error.code)) return EXIT.denied;
  if (UNAVAILABLE.has(error.code)) return EXIT.nodeUnavailable;
  const status = httpStatusOf(error);
  if (status === 402) return EXIT.payment;
  if (status === 403) return EXIT.denied;
  return status !== undefined && [502, 503, 504].includes(status) ? EXIT.nodeUnavailable : EXIT.failed;
}

/** The HTTP status of a gateway's error. Read off the error itself, so that help and usage load no client. */
export function httpStatusOf(error: unknown): number | undefined {
  return isAssayError(error) && "status" in error && typeof error.status === "number" ? error.status : undefined;
}
