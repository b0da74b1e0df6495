import { createChain, inspectDeployment } from "@assay/driver-chain";
import type { Inspected } from "@assay/driver-chain";
import { readChainFile, requireAccounts } from "../../server/money/chain-place.ts";
import type { ChainFile } from "../../server/money/chain-place.ts";
import { accountsIn } from "../../server/money/keys.ts";
import { rpcOf } from "../chain-rpc.ts";
import type { RpcFlags } from "../chain-rpc.ts";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute } from "../files.ts";
import { cliError } from "../render-error.ts";
import { facts, printable } from "../style.ts";
import type { World } from "../world.ts";

export type CheckFlags = RpcFlags & { readonly file?: string; readonly keys?: string };

const MARKS = { pass: "pass", warn: "inconclusive", fail: "fail" } as const;

/** `assay chain check`: exit code 1 when something is wrong. */
export async function checkChain({ world, output }: Cli, flags: CheckFlags): Promise<number> {
  const url = rpcOf(world, flags);
  const named = flags.file ?? world.variable("ASSAY_CHAIN_FILE");
  if (named === undefined || named === "")
    throw cliError("usage_invalid", "Whether a chain has what it should is said by a file.", {
      hints: ["Name the one that `assay chain deploy` wrote: --file base.json."],
    });
  const file = await readChainFile(absolute(world, named));
  const accounts = await accountsOf(world, flags, file);
  const { deployments, acceptedCode } = file;
  const { network, chainId } = deployments;
  output.progress("asking the chain");
  const checks = await inspectDeployment(createChain({ url, chainId }), deployments, accounts, acceptedCode);
  const failed = checks.some(({ status }) => status === "fail");
  const { style } = output;
  output.answer(
    () =>
      [
        `${style.mark("other", failed ? "fail" : "pass")} ${style.strong(network)} ${failed ? "is not as it has to be" : "is as its file says"}`,
        "",
        facts(
          checks.map(({ what, status, says }: Inspected) => [
            `${style.mark("other", MARKS[status])} ${printable(what)}`,
            printable(says),
          ]),
          style,
        ),
        ...(accounts
          ? []
          : ["", "Neither the file nor --keys says whose accounts these are: roles and bond were not looked at."]),
      ].join("\n"),
    () => ({ network, chainId, status: failed ? "failed" : "passed", checks: checks.map((check) => ({ ...check })) }),
  );
  return failed ? EXIT.failed : EXIT.done;
}

/** The file's accounts, or those of the keys, which must be the same. */
async function accountsOf(world: World, flags: CheckFlags, { accounts }: ChainFile): Promise<ChainFile["accounts"]> {
  const folder = flags.keys ?? world.variable("ASSAY_CHAIN_KEYS");
  if (folder === undefined || folder === "") return accounts;
  const found = await accountsIn(absolute(world, folder));
  requireAccounts(accounts, found);
  const { settler, submitter, authorizer, facilitator } = found;
  return {
    settler: settler.address,
    submitter: submitter.address,
    authorizer: authorizer.address,
    facilitator: facilitator.address,
  };
}
