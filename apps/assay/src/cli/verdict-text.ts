import type { JsonValue } from "@assay/core";
import type { CheckName, CheckRow, Verdict } from "@assay/receipts";
import { facts, pad, printable, wrap } from "./style.ts";
import type { MarkKind, Style } from "./style.ts";

/** A line of evidence beyond the verdict's own: re-execution is done by whoever holds the model. */
export type ExtraRow = Omit<CheckRow, "check"> & { readonly check: string };

const KIND: Partial<Record<CheckName, MarkKind>> = { attestation: "enclave", proof: "proof" };
const HEADLINE: Record<Verdict["status"], string> = {
  verified: "Verified here.",
  failed: "This receipt does not hold.",
  inconclusive: "Not decided: something that has to be checked could not be.",
};
const MARK: Record<Verdict["status"], "pass" | "fail" | "inconclusive"> = {
  verified: "pass",
  failed: "fail",
  inconclusive: "inconclusive",
};

/** Columns of the names of checks; `commitments` and `re-execution` are the longest. */
const NAME_COLUMNS = 14;

/** One line: what the verdict is. */
export function verdictLine(verdict: Verdict, style: Style, extra: readonly ExtraRow[] = []): string {
  return `${style.mark("other", MARK[verdict.status])} ${headline(verdict, style, extra)}`;
}

function headline(verdict: Verdict, style: Style, extra: readonly ExtraRow[]): string {
  const text = HEADLINE[verdict.status];
  if (verdict.status === "verified") return style.seal(text);
  const deciding = [...verdict.checks, ...extra].find(({ code }) => code === verdict.code);
  const paint = verdict.status === "failed" ? style.fail : style.wait;
  return `${paint(text)}${deciding ? ` ${deciding.message}` : ""}`;
}

/** The whole verdict: one sentence, the evidence, the four questions, and what remains a matter of trust. */
export function verdictText(
  verdict: Verdict,
  style: Style,
  context: { readonly extra: readonly ExtraRow[]; readonly trustSource: string | undefined; readonly verbose: boolean },
): string {
  const rows = [...verdict.checks, ...context.extra];
  const title = verdict.receiptId === null ? "" : `${style.faint(`Receipt ${verdict.receiptId}`)}\n\n`;
  const evidence = rows.map((row) => rowText(row, style, context.verbose)).join("\n");
  const { answers } = verdict;
  const questions = facts(
    [
      ["Who acted", printable(answers.whoActed)],
      ["Which model", printable(answers.whichModel)],
      ["How to verify", printable(answers.howToVerify)],
      ["Could it have been altered", printable(answers.couldBeAltered)],
    ],
    style,
  );
  const rest = facts(
    [
      ["Proves", verdict.proves],
      ["Does not prove", verdict.doesNotProve],
      ...verdict.residualTrust.map((line, i) => [i === 0 ? "Still trusted" : "", printable(line)] as const),
      ["Trust file", context.trustSource ?? "none: nothing is trusted, so nothing can be verified"],
    ],
    style,
  );
  const sentence = wrap(verdictLine(verdict, style, context.extra), style.width, 2);
  return [`${title}${sentence}`, evidence, questions, rest].join("\n\n");
}

function rowText(row: ExtraRow, style: Style, verbose: boolean): string {
  const indent = 4 + NAME_COLUMNS;
  const mark = style.mark(KIND[row.check as CheckName] ?? "other", row.status);
  const paint = row.status === "absent" ? style.faint : (text: string): string => text;
  const lead = `  ${mark} ${pad(paint(row.check), NAME_COLUMNS)} `;
  const lines = [lead + wrap(paint(printable(row.message)), style.width, indent)];
  // Facts of a check that held are for those who ask; of one that did not, they are the finding.
  if (verbose || row.status === "fail" || row.status === "inconclusive") {
    for (const [name, value] of Object.entries(row.facts)) {
      lines.push(" ".repeat(indent) + wrap(style.faint(printable(`${name} ${value}`)), style.width, indent + 2));
    }
  }
  return lines.join("\n");
}

/** The verdict for programs: the verifier's own object with the lines added and the trust file named. */
export function verdictJson(
  verdict: Verdict,
  context: { readonly extra: readonly ExtraRow[]; readonly trustSource: string | undefined },
): { [key: string]: JsonValue } {
  return {
    status: verdict.status,
    code: verdict.code,
    receiptId: verdict.receiptId,
    executionDigest: verdict.executionDigest,
    checks: [...verdict.checks, ...context.extra].map((row) => ({ ...row, facts: { ...row.facts } })),
    answers: { ...verdict.answers },
    proves: verdict.proves,
    doesNotProve: verdict.doesNotProve,
    residualTrust: [...verdict.residualTrust],
    trustFile: context.trustSource ?? null,
  };
}
