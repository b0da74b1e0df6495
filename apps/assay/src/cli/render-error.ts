import { AssayError, isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { httpStatusOf } from "./exit-codes.ts";
import { printable, wrap } from "./style.ts";
import type { Style } from "./style.ts";

/** Codes of the command line itself. */
export type CliErrorCode =
  | "usage_invalid"
  | "file_unreadable"
  | "file_exists"
  | "home_in_use"
  | "receipt_unknown"
  | "receipt_ambiguous"
  | "receipt_replaced"
  | "receipt_unreadable"
  | "opening_missing"
  | "field_ambiguous"
  | "proof_missing"
  | "stdout_is_terminal"
  | "hub_unreachable"
  | "model_files_invalid"
  | "model_mismatch"
  | "reexecution_impossible"
  | "chain_not_development"
  | "development_key_refused"
  | "wallet_missing"
  | "wallet_exists"
  | "wallet_locked"
  | "wallet_busy"
  | "wallet_export_refused"
  | "approval_failed"
  | "chain_unknown"
  | "chain_unavailable"
  | "chain_mismatch"
  | "policy_invalid";

/** An error of a command. A hint that names a command in backticks is shown last, as what to do next. */
export function cliError(
  code: CliErrorCode,
  message: string,
  options: { readonly hints?: readonly string[]; readonly cause?: unknown } = {},
): AssayError<CliErrorCode> {
  return new AssayError(code, message, options);
}

/** The most causes that are followed: a chain that long is a loop. */
const MAX_CAUSES = 8;

/** What went wrong, for people: what, hints, where it is explained, and last the command to run next. */
export function renderError(error: unknown, style: Style, debug: boolean): string {
  const known = isAssayError(error);
  const message = known ? error.message : `Something unexpected happened: ${messageOf(error)}`;
  const lines = [`${style.mark("other", "fail")} ${wrap(style.strong(printable(message)), style.width, 2)}`];
  const hints = known ? error.hints.map(printable) : ["Run it again with --debug and report what it says."];
  const next = hints.map(commandIn).findLast((command) => command !== undefined);
  for (const hint of hints) lines.push(`  ${wrap(hint, style.width, 2)}`);
  if (known) lines.push(style.faint(`  ${error.code} ${style.dash} docs${error.docsPath}`));
  if (debug) lines.push(...causes(error).map((line) => style.faint(line)));
  if (next !== undefined) lines.push("", `  ${next}`);
  return lines.join("\n");
}

/** What went wrong, for programs: the error body of the API. */
export function errorDocument(error: unknown): JsonValue {
  if (!isAssayError(error)) return { error: messageOf(error), code: "unexpected", hints: [], docs: null };
  const status = httpStatusOf(error);
  return {
    error: error.message,
    code: error.code,
    hints: [...error.hints],
    docs: error.docsPath,
    ...(status === undefined ? {} : { status }),
  };
}

function commandIn(hint: string): string | undefined {
  return /`(assay [^`]+)`/.exec(hint)?.[1];
}

function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  return typeof error === "string" ? error : "something that is not an error was thrown";
}

function causes(error: unknown): string[] {
  const lines: string[] = [];
  let at: unknown = error;
  for (let depth = 0; at !== undefined && at !== null && depth < MAX_CAUSES; depth++) {
    const text = at instanceof Error ? (at.stack ?? at.message) : messageOf(at);
    lines.push(...`${depth === 0 ? "" : "caused by "}${text}`.split("\n").map((line) => `  ${printable(line)}`));
    at = at instanceof Error ? at.cause : undefined;
  }
  return lines;
}
