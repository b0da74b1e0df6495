import type { Cli } from "../command.ts";
import { MACHINE_CHECKS } from "../doctor-checks.ts";
import type { DoctorCheck, Finding } from "../doctor-checks.ts";
import { checkChain, checkPayments, checkWallet } from "../doctor-money.ts";
import { EXIT } from "../exit-codes.ts";
import { pad, wrap } from "../style.ts";

const MARK = { pass: "pass", warn: "inconclusive", fail: "fail" } as const;
/** Columns of the names of checks. */
const NAME_COLUMNS = 10;

const CHECKS: readonly DoctorCheck[] = [
  ...MACHINE_CHECKS,
  { name: "chain", run: checkChain },
  { name: "wallet", run: checkWallet },
  { name: "payments", run: checkPayments },
];

/** `assay doctor`: whether this machine can do what the program asks of it. */
export async function doctor(cli: Cli, _flags: object): Promise<number> {
  return examine(cli, CHECKS);
}

/** Runs `checks` side by side and reports each; a check that throws has failed, and the others go on. */
export async function examine({ world, output }: Cli, checks: readonly DoctorCheck[]): Promise<number> {
  output.progress(`checking ${checks.map(({ name }) => name).join(", ")}`);
  const findings = await Promise.all(
    checks.map(async ({ name, run }): Promise<Finding & { readonly name: string }> => {
      try {
        return { name, ...(await run(world)) };
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        return { name, status: "fail", message: `The check itself failed: ${message}` };
      }
    }),
  );
  const { style } = output;
  const indent = NAME_COLUMNS + 5;
  const failed = findings.filter(({ status }) => status === "fail").length;
  output.answer(
    () =>
      findings
        .map(({ name, status, message, hint }) => {
          const line = `  ${style.mark("other", MARK[status])} ${pad(name, NAME_COLUMNS)} ${wrap(message, style.width, indent)}`;
          return hint === undefined
            ? line
            : `${line}\n${" ".repeat(indent)}${wrap(style.faint(hint), style.width, indent)}`;
        })
        .join("\n"),
    () => ({
      healthy: failed === 0,
      version: world.version,
      checks: findings.map(({ name, status, message, hint }) => ({ name, status, message, hint: hint ?? null })),
    }),
  );
  return failed === 0 ? EXIT.done : EXIT.failed;
}
