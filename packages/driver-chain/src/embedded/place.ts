import {
  assayToken,
  batchSettlement,
  canonicalAddresses,
  create2Deployer,
  developmentProfiles,
  erc3009DepositCollector,
  exactPermit2Proxy,
  multicall3,
  paymentBatcher,
  permit2,
  permit2DepositCollector,
  receiptAnchor,
  splitFactory,
  splitFactoryAddress,
  testUsdCoin,
  testUsdc,
  testWalletFactory,
  testWalletFactoryAddress,
  uptoPermit2Proxy,
  zeroSalt,
} from "@assay/contracts";
import type { Artifact, Deployments, TokenInfo } from "@assay/contracts";
import { AssayError, concatBytes, equalBytes, isAssayError } from "@assay/core";
import type { Address } from "@assay/x402";
import { create2Address } from "../deploy/code.ts";
import type { Transport } from "../rpc/transport.ts";
import { calldata, selector } from "../rpc/selector.ts";
import { addressWord, data, fromHex, quantity, toHex, toQuantity, word, wordAt } from "../rpc/values.ts";
import type { ChainProfile } from "./embedded.ts";
import { sendAs } from "./impersonate.ts";

/** Accounts of an installation, whose keys it holds itself. */
export type DeploymentKeys = {
  /** Owns our contracts and all ASY. */
  readonly deployer: Address;
  /** May settle payments through the batcher; part of its address. At most {@link MAX_OPERATORS}. */
  readonly operators: readonly Address[];
  /** Posts to the anchor, with a bond. */
  readonly submitter: Address;
};

/** A settler uses one key for each of the transactions that it has under way; more than this it never has. */
export const MAX_OPERATORS = 64;
const ETHER = 10n ** 18n;
/** An account is given ether when it has less than the first, up to the second. */
const LEAST_ETHER = 100n * ETHER;
const FULL_ETHER = 10_000n * ETHER;
/** The anchor's terms on an embedded chain: a bond that can be seen, and a week in which it can still be taken. */
const MIN_BOND = ETHER;
const UNBONDING_DELAY_S = 7 * 24 * 3600;
/** What the submitter bonds: enough to lose some of it twice. */
const BOND = 10n * ETHER;

/**
 * Puts the contracts in place that a chain of ours has, gives its accounts ether and bonds the submitter. Every step looks
 * first whether it is done, so a run that was cut off is completed by the next. Throws `chain_deployment_failed`.
 */
export async function placeContracts(
  rpc: Transport,
  profile: ChainProfile,
  keys: DeploymentKeys,
): Promise<Deployments> {
  if (keys.operators.length === 0 || keys.operators.length > MAX_OPERATORS)
    throw failed(`${keys.operators.length} operators were given; 1 to ${MAX_OPERATORS} are possible`);
  const { usdc, artifact } = developmentProfiles[profile];
  try {
    for (const account of new Set([keys.deployer, keys.submitter, ...keys.operators])) await giveEther(rpc, account);
    const dollar: Artifact = artifact === "testUsdc" ? testUsdc : testUsdCoin;
    await Promise.all(
      (
        [
          [canonicalAddresses.exactPermit2Proxy, exactPermit2Proxy],
          [canonicalAddresses.uptoPermit2Proxy, uptoPermit2Proxy],
          [canonicalAddresses.batchSettlement, batchSettlement],
          [canonicalAddresses.erc3009DepositCollector, erc3009DepositCollector],
          [canonicalAddresses.permit2DepositCollector, permit2DepositCollector],
          [canonicalAddresses.multicall3, multicall3],
          [usdc.address, dollar],
        ] as const
      ).map(([at, code]) => setCode(rpc, at, code)),
    );
    const create = (
      code: Pick<Artifact, "name" | "bytecode">,
      salt: string,
      ...parameters: readonly Uint8Array[]
    ): Promise<Address> =>
      create2(rpc, keys.deployer, code.name, fromHex(salt), concatBytes(fromHex(code.bytecode), ...parameters));
    expectAt(canonicalAddresses.permit2, await create(permit2, permit2.salt));
    const token = await create(assayToken, zeroSalt, addressWord(keys.deployer));
    const batcher = await create(
      paymentBatcher,
      zeroSalt,
      // abi.encode(address owner, address[] operators)
      addressWord(keys.deployer),
      word(64),
      word(keys.operators.length),
      ...keys.operators.map(addressWord),
    );
    const anchor = await create(receiptAnchor, zeroSalt, word(MIN_BOND), word(UNBONDING_DELAY_S));
    expectAt(splitFactoryAddress, await create(splitFactory, zeroSalt));
    expectAt(testWalletFactoryAddress, await create(testWalletFactory, zeroSalt));
    await bond(rpc, anchor, keys.submitter);
    const asy: TokenInfo = {
      symbol: "ASY",
      address: token,
      decimals: 18,
      name: "Assay",
      version: "1",
      eip3009: false,
      eip2612: true,
    };
    return {
      chainId: profile,
      network: `eip155:${profile}`,
      ...canonicalAddresses,
      paymentBatcher: batcher,
      receiptAnchor: anchor,
      splitFactory: splitFactoryAddress,
      tokens: [usdc, asy],
    };
  } catch (error) {
    if (isAssayError(error) && error.code === "chain_rpc_error") throw failed(error.message, error);
    throw error;
  }
}

async function giveEther(rpc: Transport, account: Address): Promise<void> {
  const has = quantity(await rpc.request("eth_getBalance", [account, "latest"]), "the balance");
  if (has < LEAST_ETHER) await rpc.request("anvil_setBalance", [account, toQuantity(FULL_ETHER)]);
}

async function setCode(rpc: Transport, at: Address, artifact: Artifact): Promise<void> {
  const present = data(await rpc.request("eth_getCode", [at, "latest"]), "the code");
  const wanted = fromHex(artifact.deployedBytecode);
  if (!equalBytes(present, wanted)) await rpc.request("anvil_setCode", [at, toHex(wanted)]);
}

async function create2(
  rpc: Transport,
  from: Address,
  name: string,
  salt: Uint8Array,
  initCode: Uint8Array,
): Promise<Address> {
  const at = create2Address(salt, initCode);
  const isThere = async (): Promise<boolean> =>
    data(await rpc.request("eth_getCode", [at, "latest"]), "the code").length > 0;
  if (await isThere()) return at;
  await sendAs(rpc, { from, to: create2Deployer, data: concatBytes(salt, initCode) });
  if (!(await isThere())) throw failed(`${name} left no code at ${at}`);
  return at;
}

const SUBMITTERS = selector("submitters(address)");
const BOND_CALL = selector("bond()");

async function bond(rpc: Transport, anchor: Address, submitter: Address): Promise<void> {
  const answer = data(
    await rpc.request("eth_call", [
      { to: anchor, data: toHex(calldata(SUBMITTERS, addressWord(submitter))) },
      "latest",
    ]),
    "the submitter",
  );
  // (uint80 bond, uint64 nextLeaf, uint64 logSize, uint40 withdrawableAt, bool convicted)
  const isConvicted = wordAt(answer, 128) !== 0n;
  if (isConvicted || wordAt(answer, 0) >= MIN_BOND) return;
  await sendAs(rpc, { from: submitter, to: anchor, data: BOND_CALL, value: BOND });
}

function expectAt(expected: Address, found: Address): void {
  if (expected !== found) throw failed(`a contract landed at ${found} instead of ${expected}`);
}

function failed(why: string, cause?: unknown): AssayError<"chain_deployment_failed"> {
  return new AssayError("chain_deployment_failed", `The contracts could not be placed on the embedded chain: ${why}.`, {
    hints: ["Reset the chain: assay chain reset."],
    ...(cause === undefined ? {} : { cause }),
  });
}
