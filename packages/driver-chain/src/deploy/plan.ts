import { canonicalAddresses, create2Deployer, zeroSalt } from "@assay/contracts";
import type { Deployments, TokenInfo } from "@assay/contracts";
import { AssayError, concatBytes } from "@assay/core";
import { formatUnits } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { calldata, selector } from "../rpc/selector.ts";
import { addressWord, fromHex, wordAt } from "../rpc/values.ts";
import { suggestFees } from "../sender/fees.ts";
import { TRANSFER_GAS } from "../sender/transaction.ts";
import { neededBy, schemesOf, surveyCanonical, usable } from "./canonical.ts";
import type { CanonicalContract } from "./canonical.ts";
import { MAX_BOND_WEI, isPlaced, ownContracts, ownTokenInfo, requireDeployer } from "./contracts.ts";
import type { OwnContract, Placement } from "./contracts.ts";
import { readToken } from "./tokens.ts";

/** What an operator wants to have on a chain. */
export type DeployWish = Omit<Placement, "chainId"> & {
  /** Pays for everything. */
  readonly deployer: Address;
  readonly submitter: Address;
  /** Settles for others. */
  readonly facilitator: Address;
  /** Ether that settler, submitter and facilitator are brought up to, wei. */
  readonly gasWei: bigint;
  /** Tokens that are taken, the first as the network's dollar. */
  readonly tokens: readonly Address[];
  /** Hashes of code at canonical addresses that the operator knows to be right. */
  readonly acceptedCode: readonly Hex[];
  /** Most that a unit of gas may cost, wei. */
  readonly maxFeePerGas?: bigint;
};

/** One transaction of a deployment. */
export type DeployStep = {
  readonly id: string;
  readonly says: string;
  readonly from: "deployer" | "submitter";
  readonly to: Address;
  readonly data: Uint8Array;
  readonly valueWei: bigint;
  /** What it is expected to use. */
  readonly gas: bigint;
  /** What is there once it is done. */
  readonly creates?: OwnContract;
};

export type DeployPlan = {
  readonly network: Deployments["network"];
  readonly chainId: number;
  readonly contracts: readonly { readonly contract: OwnContract; readonly placed: boolean }[];
  readonly canonical: readonly CanonicalContract[];
  readonly deployments: Deployments;
  /** Schemes that cannot be offered, and what they lack. */
  readonly withheld: ReturnType<typeof schemesOf>["withheld"];
  /** What is left to do, in order; empty once everything is in place. */
  readonly steps: readonly DeployStep[];
  readonly gas: bigint;
  /** What a unit of gas is expected to cost at most, wei. */
  readonly feeWei: bigint;
  /** Gas at that price. */
  readonly gasCostWei: bigint;
  /** What goes to the installation's own accounts, the bond included. */
  readonly transfersWei: bigint;
  /** What the deployer has to have, room for estimates that were too low included. */
  readonly neededWei: bigint;
  readonly balanceWei: bigint;
};

/** Measured for one bond on a fresh contract and rounded up; it cannot be rehearsed before the contract is there. */
const BOND_GAS = 60_000n;
/** As the sender's limit is above its estimate. */
const ROOM = { numerator: 5n, denominator: 4n };
const SUBMITTERS = selector("submitters(address)");
const BOND = selector("bond()");

/**
 * Reads a chain and says what is left to do until it has what `wish` asks for. Sends nothing. Throws `chain_deployer_missing`,
 * `chain_code_different`, `chain_node_contradictory`, `chain_token_unsuitable`, `chain_deployment_failed` for a submitter that
 * was convicted or accounts that are not apart, `transaction_fee_above_limit`, and what the chain's methods throw.
 */
export async function planDeployment(chain: Chain, wish: DeployWish): Promise<DeployPlan> {
  checkWish(wish);
  await requireDeployer(chain);
  const own = ownContracts({ ...wish, chainId: chain.chainId });
  const all = [own.paymentBatcher, own.receiptAnchor, own.splitFactory, ...(own.assayToken ? [own.assayToken] : [])];
  const [placed, canonical, named, fees, balanceWei] = await Promise.all([
    Promise.all(all.map((contract) => isPlaced(chain, contract))),
    surveyCanonical(chain, wish.acceptedCode),
    Promise.all(wish.tokens.map((token) => readToken(chain, token))),
    suggestFees(chain, wish.maxFeePerGas ?? DEFAULT_FEE_LIMIT),
    chain.balance(wish.deployer),
  ]);
  const tokens = [...named, ...(own.assayToken ? [ownTokenInfo(own.assayToken.address)] : [])];
  checkTokens(tokens, canonical);
  const { schemes, withheld } = schemesOf(canonical, tokens);

  const contracts = all.map((contract, i) => ({ contract, placed: placed[i] === true }));
  const creating = await Promise.all(
    contracts.filter((one) => !one.placed).map(({ contract }) => createStep(chain, wish.deployer, contract)),
  );
  const bond = await bondStep(chain, wish, own.receiptAnchor, placed[1] === true);
  const funding = await fundSteps(chain, wish, bond?.valueWei ?? 0n);
  const steps = [...creating, ...funding, ...(bond ? [bond] : [])];

  const gas = steps.reduce((sum, step) => sum + step.gas, 0n);
  const mine = steps.filter(({ from }) => from === "deployer");
  const transfersWei = mine.reduce((sum, { valueWei }) => sum + valueWei, 0n);
  const gasRoom = mine.reduce((sum, step) => sum + roomFor(step.gas), 0n);
  return {
    network: chain.network,
    chainId: chain.chainId,
    contracts,
    canonical,
    deployments: {
      ...canonicalAddresses,
      chainId: chain.chainId,
      network: chain.network,
      paymentBatcher: own.paymentBatcher.address,
      receiptAnchor: own.receiptAnchor.address,
      splitFactory: own.splitFactory.address,
      tokens,
      schemes,
    },
    withheld,
    steps,
    gas,
    feeWei: fees.maxFee,
    gasCostWei: gas * fees.maxFee,
    transfersWei,
    neededWei: transfersWei + gasRoom * fees.maxFee,
    balanceWei,
  };
}

/** As the sender has it. */
const DEFAULT_FEE_LIMIT = 500_000_000_000n;

/** Throws `transaction_unfunded` when the deployer has less than the plan may take. */
export function requireFunds({ neededWei, balanceWei }: DeployPlan, deployer: Address): void {
  if (balanceWei >= neededWei) return;
  const missing = ether(neededWei - balanceWei);
  throw new AssayError("transaction_unfunded", `The account ${deployer} lacks ${missing} ether for the deployment.`, {
    hints: [
      `It has ${ether(balanceWei)} and may need ${ether(neededWei)}, what goes to your other accounts included.`,
      `Send it ${missing} ether, and run the command again.`,
    ],
  });
}

/** Wei as ether. */
export function ether(wei: bigint): string {
  return formatUnits(wei, 18);
}

function checkWish(wish: DeployWish): void {
  if (wish.bondWei < 2n || wish.bondWei > MAX_BOND_WEI)
    throw failed(`a bond of ${wish.bondWei} wei is not between 2 wei and 2^80`);
  const apart = [wish.settler, wish.submitter, wish.facilitator];
  // Each has nonces of its own, and one that another sends from would lose transactions.
  if (new Set([...apart, wish.deployer]).size <= apart.length)
    throw failed("deployer, settler, submitter and facilitator have to be four accounts");
  if (wish.tokens.length === 0 && !wish.ownToken) throw failed("there is no token to be paid in");
}

function checkTokens(tokens: readonly TokenInfo[], canonical: readonly CanonicalContract[]): void {
  const there = usable(canonical);
  for (const token of tokens) {
    if (tokens.filter(({ symbol }) => symbol === token.symbol).length > 1)
      throw failed(`two tokens are called ${token.symbol}, so that a price in it could mean either`);
    const lacks = neededBy("exact", token).filter((name) => !there.has(name));
    if (lacks.length > 0)
      throw new AssayError("chain_token_unsuitable", `Nothing can be paid in ${token.symbol} on this chain.`, {
        hints: [`It takes no authorizations (EIP-3009), and the chain lacks ${lacks.join(" and ")}.`],
      });
  }
}

async function createStep(chain: Chain, from: Address, contract: OwnContract): Promise<DeployStep> {
  const { name, address, initCode } = contract;
  const data = concatBytes(fromHex(zeroSalt), initCode);
  return {
    id: `create:${address}`,
    says: `create ${name} at ${address}`,
    from: "deployer",
    to: create2Deployer,
    data,
    valueWei: 0n,
    gas: await chain.estimateGas({ from, to: create2Deployer, data }),
    creates: contract,
  };
}

async function bondStep(
  chain: Chain,
  { submitter, bondWei }: DeployWish,
  anchor: OwnContract,
  placed: boolean,
): Promise<DeployStep | undefined> {
  const has = placed ? await bondOf(chain, anchor.address, submitter) : NO_BOND;
  if (has.convicted)
    throw failed(`the submitter ${submitter} was convicted by this anchor and never posts to it again`);
  if (has.bondWei >= bondWei && has.withdrawableAtS === 0) return undefined;
  return {
    id: `bond:${anchor.address}:${submitter}`,
    says: `bond the submitter ${submitter}`,
    from: "submitter",
    to: anchor.address,
    data: BOND,
    // A wei takes back a withdrawal that was asked for.
    valueWei: has.bondWei >= bondWei ? 1n : bondWei - has.bondWei,
    gas: BOND_GAS,
  };
}

/** Ether for the accounts that send, so that one wallet has to be filled and no more. */
async function fundSteps(chain: Chain, wish: DeployWish, bondWei: bigint): Promise<readonly DeployStep[]> {
  const { gasWei, settler, submitter, facilitator } = wish;
  const wanted: readonly (readonly [string, Address, bigint])[] = [
    ["settler", settler, 0n],
    ["submitter", submitter, bondWei],
    ["facilitator", facilitator, 0n],
  ];
  const steps = await Promise.all(
    wanted.map(async ([role, account, extra]): Promise<readonly DeployStep[]> => {
      const has = await chain.balance(account);
      // Half of it is left for long: gas that was used since is no reason to send some.
      const enough = has >= extra + gasWei / 2n;
      if (enough) return [];
      return [
        {
          id: `fund:${account}`,
          says: `send ether to the ${role} ${account}`,
          from: "deployer",
          to: account,
          data: new Uint8Array(),
          valueWei: extra + gasWei - has,
          gas: TRANSFER_GAS,
        },
      ];
    }),
  );
  return steps.flat();
}

const NO_BOND = { bondWei: 0n, withdrawableAtS: 0, convicted: false };

/** What an anchor keeps of a submitter. */
export async function bondOf(
  chain: Pick<Chain, "call">,
  anchor: Address,
  submitter: Address,
): Promise<{ readonly bondWei: bigint; readonly withdrawableAtS: number; readonly convicted: boolean }> {
  // (uint80 bond, uint64 nextLeaf, uint64 logSize, uint40 withdrawableAt, bool convicted)
  const answer = await chain.call({ to: anchor, data: calldata(SUBMITTERS, addressWord(submitter)) });
  if (answer.length !== 160) throw failed("the anchor does not say what it keeps of the submitter");
  return {
    bondWei: wordAt(answer, 0),
    withdrawableAtS: Number(wordAt(answer, 96)),
    convicted: wordAt(answer, 128) !== 0n,
  };
}

function roomFor(gas: bigint): bigint {
  return (gas * ROOM.numerator) / ROOM.denominator;
}

export function failed(why: string): AssayError<"chain_deployment_failed"> {
  return new AssayError("chain_deployment_failed", `The contracts cannot be put on the chain: ${why}.`);
}
