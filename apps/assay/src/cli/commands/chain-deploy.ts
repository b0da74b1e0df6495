import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { developmentProfiles } from "@assay/contracts";
import { isAssayError } from "@assay/core";
import {
  addressOf,
  createChain,
  decryptKey,
  deploy,
  evmSigner,
  lockChainDirectory,
  openFileJournal,
  planDeployment,
  refuseForeignDevelopment,
} from "@assay/driver-chain";
import type { Chain, DeployEvent, DeployPlan, DeployWish } from "@assay/driver-chain";
import { createChainReader } from "@assay/sdk";
import { parseUnits } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { chainFileText, readChainFile } from "../../server/money/chain-place.ts";
import { accountsIn } from "../../server/money/keys.ts";
import type { ChainAccounts } from "../../server/money/keys.ts";
import { ether, planJson, planText } from "../chain-plan-text.ts";
import { rpcOf } from "../chain-rpc.ts";
import type { RpcFlags } from "../chain-rpc.ts";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute, readWhole, writeWhole } from "../files.ts";
import { cliError } from "../render-error.ts";
import { printable } from "../style.ts";
import { openWallet } from "../wallet.ts";
import type { OpenWallet } from "../wallet.ts";
import type { World } from "../world.ts";

export type DeployFlags = RpcFlags & {
  readonly chainId?: number;
  readonly wallet?: string;
  readonly keys?: string;
  readonly token?: readonly Address[];
  readonly ownToken: boolean;
  readonly owner?: Address;
  readonly bond: string;
  readonly gas: string;
  readonly maxFee?: string;
  readonly acceptCode?: readonly Hex[];
  readonly out?: string;
  readonly yes: boolean;
};

const MAX_WALLET_BYTES = 64 * 1024;
const ETHER_DECIMALS = 18;
const GWEI_DECIMALS = 9;

/** `assay chain deploy`: the plan, and with `--yes` everything in it. */
export async function deployChain(cli: Cli, flags: DeployFlags): Promise<number> {
  const { world, output } = cli;
  const url = rpcOf(world, flags);
  const accounts = await gatewayAccounts(world, flags);
  output.progress("asking the chain");
  const chainId = await createChainReader({ url, fetch: world.fetch }).chainId();
  const out = absolute(world, flags.out ?? `chain-${chainId}.json`);
  await requireSameChain(flags, chainId, out);
  const chain = createChain({ url, chainId });
  const wallet = await walletOf(world, flags);
  // One that opens without a passphrase is for development: whoever reads the home has it.
  if (wallet.protection === "local secret") await refuseForeignDevelopment(chain, url);
  const wish = wishOf(flags, chainId, wallet.address, accounts);
  const plan = flags.yes ? await carryOut(cli, wish, { chain, wallet, accounts }) : await planDeployment(chain, wish);
  if (flags.yes) {
    const { deployments } = plan;
    const addresses = {
      settler: accounts.settler.address,
      submitter: accounts.submitter.address,
      authorizer: accounts.authorizer.address,
      facilitator: accounts.facilitator.address,
    };
    // It holds no secret, and a gateway under another user has to read it.
    writeWhole(out, chainFileText({ deployments, accounts: addresses, acceptedCode: wish.acceptedCode }), 0o644);
  }
  const file = flags.yes ? out : undefined;
  output.answer(
    () => planText(plan, wish, file, output.style),
    () => planJson(plan, wish, file),
  );
  if (flags.yes) return EXIT.done;
  const missing = plan.neededWei - plan.balanceWei;
  if (missing > 0n) {
    output.note(`The account ${wish.deployer} lacks ${ether(missing)} ether for it.`);
    return EXIT.failed;
  }
  output.note("Nothing was sent. Say that you mean it: --yes.");
  return EXIT.done;
}

/** The keys that the gateway will act with: their accounts are part of what is deployed. */
async function gatewayAccounts(world: World, flags: DeployFlags): Promise<ChainAccounts> {
  const folder = flags.keys ?? world.variable("ASSAY_CHAIN_KEYS");
  if (folder !== undefined && folder !== "") return accountsIn(absolute(world, folder));
  throw cliError("usage_invalid", "The contracts are made for the accounts of a gateway, and no keys were named.", {
    hints: ["Make them: `assay chain keys chain-keys`.", "Then name them: --keys chain-keys, or in ASSAY_CHAIN_KEYS."],
  });
}

/** Throws `chain_mismatch` when the node is of another chain than the one that was named, or that the file is of. */
async function requireSameChain({ chainId: wanted }: DeployFlags, chainId: number, out: string): Promise<void> {
  if (wanted !== undefined && wanted !== chainId)
    throw cliError("chain_mismatch", `The node is of chain ${chainId}, not of ${wanted}.`);
  if (!existsSync(out)) return;
  const { deployments } = await readChainFile(out);
  if (deployments.chainId === chainId) return;
  throw cliError("chain_mismatch", `${out} is of chain ${deployments.chainId}, and the node of ${chainId}.`, {
    hints: ["Name another file: --out."],
  });
}

/** The account that pays: a keystore of its own behind a passphrase, or this home's wallet. */
async function walletOf(world: World, { wallet }: DeployFlags): Promise<OpenWallet> {
  if (wallet === undefined) return openWallet(world);
  const text = new TextDecoder().decode(await readWhole(absolute(world, wallet), MAX_WALLET_BYTES, "wallet"));
  const given = world.variable("ASSAY_WALLET_PASSPHRASE");
  const passphrase =
    given === undefined || given === "" ? await world.readSecret?.("Passphrase of the wallet: ") : given;
  if (passphrase === undefined || passphrase === "")
    throw cliError("wallet_locked", "The wallet is behind a passphrase, and none was given.", {
      hints: ["Set ASSAY_WALLET_PASSPHRASE, or run the command on a terminal."],
    });
  const privateKey = await decryptKey(text, passphrase);
  return { address: addressOf(privateKey), signer: evmSigner(privateKey), privateKey, protection: "passphrase" };
}

function wishOf(flags: DeployFlags, chainId: number, deployer: Address, accounts: ChainAccounts): DeployWish {
  const known = Object.values(developmentProfiles).find((profile) => profile.chainId === chainId);
  const tokens = flags.token ?? (known && chainId !== 31337 ? [known.usdc.address] : []);
  if (tokens.length === 0 && !flags.ownToken)
    throw cliError("usage_invalid", "No token is known on this chain that could be paid in.", {
      hints: ["Name one: --token 0xADDRESS, the dollar first if there are several."],
    });
  return {
    deployer,
    owner: flags.owner ?? deployer,
    settler: accounts.settler.address,
    submitter: accounts.submitter.address,
    facilitator: accounts.facilitator.address,
    bondWei: parseUnits(flags.bond, ETHER_DECIMALS),
    gasWei: parseUnits(flags.gas, ETHER_DECIMALS),
    ownToken: flags.ownToken,
    tokens,
    acceptedCode: flags.acceptCode ?? [],
    ...(flags.maxFee === undefined ? {} : { maxFeePerGas: parseUnits(flags.maxFee, GWEI_DECIMALS) }),
  };
}

/** Sends what is left to do. The journal lies in the home: the same command there goes on where a killed one stopped. */
async function carryOut(
  { world, output }: Cli,
  wish: DeployWish,
  { chain, wallet, accounts }: { readonly chain: Chain; readonly wallet: OpenWallet; readonly accounts: ChainAccounts },
): Promise<DeployPlan> {
  const folder = join(world.home, "deployments", String(chain.chainId));
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const unlock = await lockChainDirectory(folder);
  try {
    const journal = await openFileJournal(join(folder, "journal.jsonl"));
    try {
      return await deploy(wish, {
        chain,
        deployer: wallet.signer,
        submitter: evmSigner(Buffer.from(accounts.submitter.key.slice(2), "hex")),
        journal,
        signal: world.interrupt,
        onEvent: (event) => tell(output, event),
      });
    } catch (error) {
      if (isAssayError(error) || world.interrupt.aborted)
        output.note("What is done stays done: run the command again.");
      throw error;
    } finally {
      await journal.close();
    }
  } finally {
    await unlock();
  }
}

function tell(output: Cli["output"], event: DeployEvent): void {
  switch (event.type) {
    case "resumed":
      return output.note(`going on with ${event.jobId}`);
    case "sending":
      return output.progress(event.step.says);
    case "done":
      return output.note(`${event.step.says}: ${event.gasUsed} gas, ${event.transaction}`);
    case "trouble":
      return output.note(printable(event.message));
  }
}
