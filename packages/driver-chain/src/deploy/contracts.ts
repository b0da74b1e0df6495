import {
  assayToken,
  create2Deployer,
  paymentBatcher,
  publicCodeHashes,
  receiptAnchor,
  split,
  splitFactory,
  splitFactoryAddress,
  splitImplementationAddress,
  zeroSalt,
} from "@assay/contracts";
import type { Artifact, TokenInfo } from "@assay/contracts";
import { AssayError, concatBytes } from "@assay/core";
import type { Address } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { addressWord, fromHex, word } from "../rpc/values.ts";
import { codeHash, create2Address, eip712Immutables, isCodeOf, readCode } from "./code.ts";

/** Seconds in which a bond can still be taken after its withdrawal was asked for: a week, as on the embedded chain. */
const UNBONDING_DELAY_S = 7 * 24 * 3600;
/** What `ReceiptAnchor` keeps a bond in. */
export const MAX_BOND_WEI = 2n ** 80n - 1n;

/** A contract of ours as it will be, or is, on a chain. */
export type OwnContract = {
  readonly name: string;
  readonly address: Address;
  readonly initCode: Uint8Array;
  readonly artifact: Pick<Artifact, "name" | "deployedBytecode">;
  /** What its immutables may hold, 32 bytes each. */
  readonly immutables: readonly Uint8Array[];
  /** What it creates when it is created: has to be there whenever it is. */
  readonly creates?: { readonly address: Address; readonly artifact: Pick<Artifact, "name" | "deployedBytecode"> };
};

export type OwnContracts = {
  readonly paymentBatcher: OwnContract;
  readonly receiptAnchor: OwnContract;
  readonly splitFactory: OwnContract;
  /** The network's token, where the deployment brings one. */
  readonly assayToken: OwnContract | undefined;
};

/** What decides our contracts' addresses. */
export type Placement = {
  readonly chainId: number;
  /** Appoints operators of the batcher, and holds the whole supply of an own token. */
  readonly owner: Address;
  readonly settler: Address;
  /** The anchor's least bond, wei. */
  readonly bondWei: bigint;
  readonly ownToken: boolean;
};

/**
 * Our contracts with the addresses that follow from init code and arguments: the same placement gives the same addresses on
 * every run, before anything is deployed.
 */
export function ownContracts({ chainId, owner, settler, bondWei, ownToken }: Placement): OwnContracts {
  const made = (
    artifact: Pick<Artifact, "name" | "bytecode" | "deployedBytecode">,
    parameters: readonly Uint8Array[],
    immutables: (address: Address) => readonly Uint8Array[] = () => [],
  ): OwnContract => {
    const initCode = concatBytes(fromHex(artifact.bytecode), ...parameters);
    const address = create2Address(fromHex(zeroSalt), initCode);
    return { name: artifact.name, address, initCode, artifact, immutables: immutables(address) };
  };
  const factory = made(splitFactory, [], () => [addressWord(splitImplementationAddress)]);
  if (factory.address !== splitFactoryAddress) throw new TypeError("The factory of splits is elsewhere.");
  return {
    // abi.encode(address owner, address[] operators)
    paymentBatcher: made(paymentBatcher, [addressWord(owner), word(64), word(1), addressWord(settler)]),
    receiptAnchor: anchor(bondWei, UNBONDING_DELAY_S),
    splitFactory: { ...factory, creates: { address: splitImplementationAddress, artifact: split } },
    assayToken: ownToken
      ? made(assayToken, [addressWord(owner)], (at) => eip712Immutables("Assay", "1", chainId, at))
      : undefined,
  };

  function anchor(minBond: bigint, delayS: number): OwnContract {
    const terms = [word(minBond), word(delayS)];
    return made(receiptAnchor, terms, () => terms);
  }
}

/** The token as prices name it. */
export function ownTokenInfo(address: Address): TokenInfo {
  return { symbol: "ASY", address, decimals: 18, name: "Assay", version: "1", eip3009: false, eip2612: true };
}

type Asking = Pick<Chain, "code" | "call">;

/**
 * Whether a contract of ours is on the chain. Throws `chain_code_different` when something else is at its address,
 * `chain_node_contradictory`, and what the chain's methods throw.
 */
export async function isPlaced(chain: Asking, contract: OwnContract): Promise<boolean> {
  const code = await readCode(chain, contract.address);
  if (code.length === 0) return false;
  if (!isCodeOf(contract.artifact, code, contract.immutables)) throw different(contract.name, contract.address, code);
  if (contract.creates === undefined) return true;
  const { address, artifact } = contract.creates;
  const created = await readCode(chain, address);
  if (!isCodeOf(artifact, created)) throw different(artifact.name, address, created);
  return true;
}

/** Throws `chain_deployer_missing` when the chain lacks the proxy through which everything of ours is deployed. */
export async function requireDeployer(chain: Asking): Promise<void> {
  const code = await readCode(chain, create2Deployer);
  if (codeHash(code) === publicCodeHashes.create2Deployer) return;
  throw new AssayError(
    "chain_deployer_missing",
    code.length === 0
      ? `The chain has no deterministic deployment proxy at ${create2Deployer}.`
      : `What the chain has at ${create2Deployer} is not the deterministic deployment proxy.`,
    {
      hints: [
        "Without it the contracts' addresses could not be known before, and splits would have none: nothing was sent.",
        "Its author published one signed transaction that puts it on any chain that takes transactions without a chain id.",
      ],
    },
  );
}

function different(name: string, at: Address, code: Uint8Array): AssayError<"chain_code_different"> {
  return new AssayError("chain_code_different", `What the chain has at ${at} is not ${name}.`, {
    hints: [
      code.length === 0 ? "There is no code." : `Its code has the hash ${codeHash(code)}.`,
      "An address that follows from code cannot hold other code: the node does not tell the truth, or the versions differ.",
    ],
  });
}
