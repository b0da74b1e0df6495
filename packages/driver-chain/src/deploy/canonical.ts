import {
  batchSettlement,
  batchSettlementDomain,
  canonicalAddresses,
  erc3009DepositCollector,
  exactPermit2Proxy,
  multicall3,
  permit2DepositCollector,
  publicBatchSettlementTemplate,
  publicCodeHashes,
  uptoPermit2Proxy,
} from "@assay/contracts";
import type { PaymentScheme, TokenInfo } from "@assay/contracts";
import type { Address, Hex } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { fromHex } from "../rpc/values.ts";
import { codeHash, eip712Immutables, permit2Code, readCode, templateHash } from "./code.ts";

/** A contract that has the same address on every chain. */
export type CanonicalName = keyof typeof canonicalAddresses;

/**
 * `published`: the code that public chains have. `rebuilt`: this project's, which embedded chains have. `accepted`: the
 * operator said that it is right. `unknown`: some code. `missing`: none.
 */
type CanonicalState = "published" | "rebuilt" | "accepted" | "unknown" | "missing";

export type CanonicalContract = {
  readonly name: CanonicalName;
  readonly address: Address;
  readonly state: CanonicalState;
  /** Of the code that is there. */
  readonly codeHash: Hex | undefined;
};

const NAMES = Object.keys(canonicalAddresses) as readonly CanonicalName[];
const REBUILT: Partial<Record<CanonicalName, Hex>> = {
  exactPermit2Proxy: hashOf(exactPermit2Proxy),
  uptoPermit2Proxy: hashOf(uptoPermit2Proxy),
  batchSettlement: hashOf(batchSettlement),
  erc3009DepositCollector: hashOf(erc3009DepositCollector),
  permit2DepositCollector: hashOf(permit2DepositCollector),
  multicall3: hashOf(multicall3),
};

function hashOf({ deployedBytecode }: { readonly deployedBytecode: Hex }): Hex {
  return codeHash(fromHex(deployedBytecode));
}

/**
 * What stands at the canonical addresses of a chain. Code that is not known counts only when its hash is among `accepted`.
 * Throws `chain_node_contradictory`, and what the chain's methods throw.
 */
export async function surveyCanonical(
  chain: Pick<Chain, "chainId" | "code" | "call">,
  accepted: readonly Hex[] = [],
): Promise<readonly CanonicalContract[]> {
  const published: Partial<Record<CanonicalName, Hex>> = {
    ...publicCodeHashes,
    permit2: codeHash(permit2Code(chain.chainId, canonicalAddresses.permit2)),
  };
  const { name: domain, version } = batchSettlementDomain;
  const channels = eip712Immutables(domain, version, chain.chainId, canonicalAddresses.batchSettlement);
  return Promise.all(
    NAMES.map(async (name): Promise<CanonicalContract> => {
      const address = canonicalAddresses[name];
      const code = await readCode(chain, address);
      const found = { name, address, codeHash: code.length === 0 ? undefined : codeHash(code) };
      if (found.codeHash === undefined) return { ...found, state: "missing" };
      if (found.codeHash === published[name]) return { ...found, state: "published" };
      if (name === "batchSettlement" && templateHash(code, channels) === publicBatchSettlementTemplate)
        return { ...found, state: "published" };
      if (found.codeHash === REBUILT[name]) return { ...found, state: "rebuilt" };
      return { ...found, state: accepted.includes(found.codeHash) ? "accepted" : "unknown" };
    }),
  );
}

/** The contracts of a survey that may be relied on. */
export function usable(survey: readonly CanonicalContract[]): ReadonlySet<CanonicalName> {
  return new Set(survey.filter(({ state }) => state !== "missing" && state !== "unknown").map(({ name }) => name));
}

/** What each scheme calls when it settles a payment in `token`. */
export function neededBy(scheme: PaymentScheme, { eip3009 }: Pick<TokenInfo, "eip3009">): readonly CanonicalName[] {
  switch (scheme) {
    case "exact":
      return eip3009 ? [] : ["permit2", "exactPermit2Proxy"];
    case "upto":
      return ["permit2", "uptoPermit2Proxy"];
    case "batch-settlement":
      // Claims of many channels and their sweep go through Multicall3.
      return eip3009
        ? ["batchSettlement", "erc3009DepositCollector", "multicall3"]
        : ["batchSettlement", "permit2DepositCollector", "permit2", "multicall3"];
  }
}

/** The schemes that can be settled in every one of `tokens`, and for the others what they lack. */
export function schemesOf(
  survey: readonly CanonicalContract[],
  tokens: readonly Pick<TokenInfo, "eip3009">[],
): {
  readonly schemes: readonly PaymentScheme[];
  readonly withheld: readonly { readonly scheme: PaymentScheme; readonly lacks: readonly CanonicalName[] }[];
} {
  const there = usable(survey);
  const all = (["exact", "upto", "batch-settlement"] as const).map((scheme) => ({
    scheme,
    lacks: [...new Set(tokens.flatMap((token) => neededBy(scheme, token)))].filter((name) => !there.has(name)),
  }));
  return {
    schemes: all.filter(({ lacks }) => lacks.length === 0).map(({ scheme }) => scheme),
    withheld: all.filter(({ lacks }) => lacks.length > 0),
  };
}
