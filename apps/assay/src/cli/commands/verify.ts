import { nodeSuite } from "@assay/driver-crypto";
import { LIMIT, statesAnchor, viewReceipt } from "@assay/receipts";
import type { CheckName, Policy, ReceiptCheck, Verdict } from "@assay/receipts";
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
  /** A chain that says whether the payment and the anchor are on it. */
  readonly chain?: string;
};

/** `assay verify`: no network but the chain that was named, no server; the verdict decides the exit code. */
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
  if (flags.chain !== undefined) output.progress("asking the chain");
  const asked =
    flags.chain === undefined
      ? undefined
      : await (await import("../chain-evidence.ts")).chainEvidence(world, flags.chain, trust);
  const checks = asked ?? { anchor: unaskedAnchor };
  // Who names a chain wants to know what is on it: a row that stays open leaves the verdict open.
  const demanded = asked ? { ...policy, require: requiredWith(policy, bytes) } : policy;
  const verifier = createVerifier({
    trust,
    suite: nodeSuite,
    ...(demanded ? { policy: demanded } : {}),
    checks,
  });
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
  const unasked = overall.checks.some(({ code }) => code === "payment_unchecked" || code === "anchor_unchecked");
  if (flags.chain === undefined && unasked) {
    output.note(
      output.noteStyle.faint(
        "Whether its chain has that: add --chain RPC, which `assay chain status` shows as Address.",
      ),
    );
  }
  return differs ? EXIT.evidenceFailed : exitOfVerdict(verdict.status);
}

/** An anchor without its chain. What hashes it is loaded for receipts that state one. */
const unaskedAnchor: ReceiptCheck = async (view, context) => {
  const { createAnchorCheck } = await import("@assay/service-ledger");
  return createAnchorCheck()(view, context);
};

/** The rows that a chain decides, where the receipt states anything that it could decide. */
function requiredWith(policy: Policy | undefined, bytes: Uint8Array): readonly CheckName[] {
  const taken = viewReceipt(nodeSuite, bytes);
  // What is no receipt is the verdict's to say.
  if ("fault" in taken) return policy?.require ?? [];
  const { view } = taken;
  return [
    ...(policy?.require ?? []),
    ...(view.service?.claims.payment ? (["payment"] as const) : []),
    ...(statesAnchor(view) ? (["anchor"] as const) : []),
  ];
}

async function receiptBytes({ world }: Cli, given: string): Promise<Uint8Array> {
  if (given === "-") return world.stdin(LIMIT.bundleBytes);
  const found = await findReceipt(world, given);
  return found?.bytes ?? readWhole(absolute(world, given), LIMIT.bundleBytes, "receipt");
}
