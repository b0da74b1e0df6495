import { defineCommand } from "./command.ts";
import { one, text } from "./flags.ts";
import * as parse from "./parse-flags.ts";
import type { CheckFlags } from "./commands/chain-check.ts";
import type { DeployFlags } from "./commands/chain-deploy.ts";

const off = { kind: "boolean", default: false, withNegated: false } as const;
const rpc = { rpc: text("url", "Node of the chain (the address in ASSAY_CHAIN)") } as const;
const keys = { keys: text("folder", "Keys that a gateway acts with there (ASSAY_CHAIN_KEYS)") } as const;

/** `assay chain deploy`. */
export const chainDeploy = defineCommand<DeployFlags>({
  brief: "Put the contracts that payments need on a chain that others run",
  examples: [
    "chain deploy --rpc https://rpc.example/base --wallet deployer.json --keys chain-keys",
    "chain deploy --rpc https://rpc.example/base --wallet deployer.json --keys chain-keys --out base.json --yes",
  ],
  json: "{network, chainId, sent, deployer, contracts, canonical, schemes, withheld, steps, gas, gasCostWei, transfersWei, neededWei, balanceWei, missingWei, file}",
  flags: {
    ...rpc,
    chainId: {
      kind: "parsed",
      parse: parse.count,
      optional: true,
      placeholder: "number",
      brief: "The chain that it has to be",
    },
    wallet: text("file", "Keystore of the account that pays (this home's wallet)"),
    ...keys,
    token: {
      kind: "parsed",
      parse: parse.evmAddress,
      optional: true,
      variadic: true,
      placeholder: "address",
      brief: "Token to be paid in, the dollar first (USDC of Base and Base Sepolia)",
    },
    ownToken: { ...off, brief: "Create the network's token ASY as well; the owner has all of it" },
    owner: {
      kind: "parsed",
      parse: parse.evmAddress,
      optional: true,
      placeholder: "address",
      brief: "Who appoints operators of the batcher (the account that pays)",
    },
    bond: {
      kind: "parsed",
      parse: String,
      default: "0.01",
      placeholder: "ether",
      brief: "What who posts batches stands to lose",
    },
    gas: {
      kind: "parsed",
      parse: String,
      default: "0.005",
      placeholder: "ether",
      brief: "What settler, submitter and facilitator are brought up to",
    },
    maxFee: {
      kind: "parsed",
      parse: String,
      optional: true,
      placeholder: "gwei",
      brief: "Most that a unit of gas may cost",
    },
    acceptCode: {
      kind: "parsed",
      parse: parse.hash,
      optional: true,
      variadic: true,
      placeholder: "hash",
      brief: "Code at a canonical address that you know to be right",
    },
    out: text("file", "Where the chain's file is written (chain-NUMBER.json)"),
    yes: { ...off, brief: "Send it; without it the plan is shown" },
  },
  load: async () => (await import("./commands/chain-deploy.ts")).deployChain,
});

/** `assay chain check`. */
export const chainCheck = defineCommand<CheckFlags>({
  brief: "Look whether a chain has what its file says, and what is wrong",
  examples: ["chain check --rpc https://rpc.example/base --file base.json", "chain check --json"],
  json: "{network, chainId, status, checks: [{what, status, says}]}",
  flags: { ...rpc, file: text("file", "The chain's file (ASSAY_CHAIN_FILE)"), ...keys },
  load: async () => (await import("./commands/chain-check.ts")).checkChain,
});

/** `assay chain keys`. */
export const chainKeys = defineCommand<Record<string, never>, [string]>({
  brief: "Make the keys that a gateway acts with on a chain that others run",
  examples: ["chain keys /etc/assay/chain-keys", "chain keys chain-keys --json"],
  json: "{folder, accounts: {settler, submitter, authorizer, facilitator}}",
  flags: {},
  positional: one("folder", "Where they are written"),
  load: async () => (await import("./commands/chain-keys.ts")).makeKeys,
});
