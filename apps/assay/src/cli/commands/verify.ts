import { nodeSuite } from "@assay/driver-crypto";
import { LIMIT } from "@assay/receipts";
import type { Verdict } from "@assay/receipts";
import { createVerifier } from "@assay/verifier";
import type { Cli } from "../command.ts";
import { EXIT, exitOfVerdict } from "../exit-codes.ts";
import { absolute, readWhole } from "../files.ts";
import { loadPolicy } from "../policy-file.ts";
import { findReceipt, viewOf } from "../receipt-store.ts";
import { cliError } from "../render-error.ts";
import { loadTrust } from "../trust-file.ts";
import { verdictJson, verdictText } from "../verdict-text.ts";
import type { ExtraRow } from "../verdict-text.ts";

export type VerifyFlags = {
  readonly trust?: string;
  readonly policy?: string;
  readonly at?: number;
  readonly reexecute: boolean;
  readonly model?: string;
  readonly facts: boolean;
};

/** `assay verify`: no network, no server; the verdict decides the exit code. */
export async function verify(cli: Cli, flags: VerifyFlags, given: string): Promise<number> {
  const { world, output } = cli;
  if (flags.model !== undefined && !flags.reexecute) {
    throw cliError("usage_invalid", "A model is of use only to run it again.", {
      hints: ["Give --reexecute with --model FILE, or leave both out."],
    });
  }
  const bytes = await receiptBytes(cli, given);
  const { trust, source } = await loadTrust(world, flags.trust);
  const policy = flags.policy === undefined ? undefined : await loadPolicy(world, flags.policy);
  const verifier = createVerifier({ trust, suite: nodeSuite, ...(policy ? { policy } : {}) });
  const verdict = await verifier(bytes, flags.at ?? world.now());
  const extra: ExtraRow[] = [];
  // A receipt that does not hold says nothing worth repeating, and its model and tensors may be anybody's.
  if (flags.reexecute && verdict.status !== "failed") {
    output.progress("running the model again");
    const { reexecute } = await import("../reexecute.ts");
    extra.push(
      await reexecute(
        world,
        viewOf(bytes, given),
        flags.model === undefined ? undefined : absolute(world, flags.model),
      ),
    );
  }
  const differs = extra.find(({ status }) => status === "fail");
  const overall: Verdict = differs ? { ...verdict, status: "failed", code: differs.code } : verdict;
  const context = { extra, trustSource: source, verbose: flags.facts };
  output.answer(
    () => verdictText(overall, output.style, context),
    () => verdictJson(overall, context),
  );
  if (source === undefined) {
    output.note(output.noteStyle.faint("No trust file: write one with `assay trust export > trust.json`."));
  }
  return differs ? EXIT.evidenceFailed : exitOfVerdict(verdict.status);
}

async function receiptBytes({ world }: Cli, given: string): Promise<Uint8Array> {
  if (given === "-") return world.stdin(LIMIT.bundleBytes);
  const found = await findReceipt(world, given);
  return found?.bytes ?? readWhole(absolute(world, given), LIMIT.bundleBytes, "receipt");
}
