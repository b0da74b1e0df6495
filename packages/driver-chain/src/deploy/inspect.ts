import {
  paymentBatcher,
  receiptAnchor,
  split,
  splitFactory,
  splitFactoryAddress,
  splitImplementationAddress,
} from "@assay/contracts";
import type { Deployments, TokenInfo } from "@assay/contracts";
import { isAssayError } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { calldata, selector } from "../rpc/selector.ts";
import { addressWord, wordAt } from "../rpc/values.ts";
import { neededBy, schemesOf, surveyCanonical } from "./canonical.ts";
import { codeHash, isCodeOf, readCode } from "./code.ts";
import { bondOf, ether } from "./plan.ts";
import { readToken } from "./tokens.ts";

/** One thing that was looked at. `warn`: it works, and somebody should look. */
export type Inspected = { readonly what: string; readonly status: "pass" | "warn" | "fail"; readonly says: string };

/** The accounts that an installation acts with. */
export type DeployedAccounts = {
  readonly settler: Address;
  readonly submitter: Address;
  readonly facilitator: Address;
};

/** Ether below which an account that sends is soon out of it, wei: some dozens of settlements at a gwei. */
const LOW_BALANCE_WEI = 10n ** 15n;

/**
 * Looks at everything that a gateway needs of a chain: code, roles, bond, balances, tokens and schemes. What is wrong is in the
 * rows; throws only what the chain's methods throw when the chain does not answer.
 */
export async function inspectDeployment(
  chain: Chain,
  deployments: Deployments,
  accounts: DeployedAccounts | undefined,
  acceptedCode: readonly Hex[] = [],
): Promise<readonly Inspected[]> {
  const look = async (what: string, ask: () => Promise<Omit<Inspected, "what">>): Promise<Inspected> => {
    try {
      return { what, ...(await ask()) };
    } catch (error) {
      if (!isAssayError(error) || error.code === "chain_unavailable" || error.code === "chain_mismatch") throw error;
      return { what, status: "fail", says: error.message };
    }
  };
  const { paymentBatcher: batcher, receiptAnchor: anchor, splitFactory: factory, tokens } = deployments;
  return (
    await Promise.all([
      look("PaymentBatcher", () => ownCode(chain, batcher, paymentBatcher, [])),
      ...(accounts ? [look("Operator", () => operator(chain, batcher, accounts.settler))] : []),
      look("ReceiptAnchor", () => anchorCode(chain, anchor)),
      ...(accounts ? [look("Bond", () => bond(chain, anchor, accounts.submitter))] : []),
      look("SplitFactory", () => factoryCode(chain, factory)),
      ...tokens.map((token) => look(token.symbol, () => sameToken(chain, token))),
      ...schemeRows(chain, deployments, acceptedCode, look),
      ...(accounts ? balanceRows(chain, accounts, look) : []),
    ])
  ).flat();
}

type Look = (what: string, ask: () => Promise<Omit<Inspected, "what">>) => Promise<Inspected>;
type Found = Omit<Inspected, "what">;
const pass = (says: string): Found => ({ status: "pass", says });
const warn = (says: string): Found => ({ status: "warn", says });
const fail = (says: string): Found => ({ status: "fail", says });

async function ownCode(
  chain: Chain,
  at: Address,
  artifact: { readonly deployedBytecode: Hex },
  immutables: readonly Uint8Array[],
): Promise<Found> {
  const code = await readCode(chain, at);
  if (code.length === 0) return fail(`There is no contract at ${at}.`);
  if (isCodeOf(artifact, code, immutables)) return pass(at);
  return fail(`The code at ${at} is another, with the hash ${codeHash(code)}.`);
}

async function operator(chain: Chain, batcher: Address, settler: Address): Promise<Found> {
  const answer = await chain.call({
    to: batcher,
    data: calldata(selector("isOperator(address)"), addressWord(settler)),
  });
  if (answer.length === 32 && wordAt(answer, 0) === 1n) return pass(`${settler} may settle.`);
  return fail(`${settler} may not settle: the batcher's owner has to call setOperator.`);
}

async function anchorCode(chain: Chain, at: Address): Promise<Found> {
  const terms = await Promise.all(
    ["MIN_BOND()", "UNBONDING_DELAY()"].map((name) => chain.call({ to: at, data: selector(name) })),
  );
  const found = await ownCode(chain, at, receiptAnchor, terms);
  const [least, delay] = terms.map((term) => (term.length === 32 ? wordAt(term, 0) : 0n));
  if (found.status !== "pass") return found;
  return pass(`${at}, at least ${ether(least ?? 0n)} ether, ${delay} s until a bond is free.`);
}

async function factoryCode(chain: Chain, at: Address): Promise<Found> {
  // Gateways compute splits' addresses from this one.
  if (at !== splitFactoryAddress) return fail(`Splits belong to the factory at ${splitFactoryAddress}, not ${at}.`);
  const found = await ownCode(chain, at, splitFactory, [addressWord(splitImplementationAddress)]);
  if (found.status !== "pass") return found;
  const created = await ownCode(chain, splitImplementationAddress, split, []);
  return created.status === "pass" ? found : created;
}

async function bond(chain: Chain, anchor: Address, submitter: Address): Promise<Found> {
  const least = await chain.call({ to: anchor, data: selector("MIN_BOND()") });
  const { bondWei, withdrawableAtS, convicted } = await bondOf(chain, anchor, submitter);
  if (convicted) return fail(`${submitter} was convicted: nothing is anchored by it any more.`);
  if (withdrawableAtS !== 0) return fail(`${submitter} asked for its bond back, so it may not post.`);
  if (bondWei < wordAt(least, 0)) return fail(`${submitter} has bonded ${ether(bondWei)} ether, which is too little.`);
  return pass(`${submitter} has bonded ${ether(bondWei)} ether.`);
}

async function sameToken(chain: Chain, token: TokenInfo): Promise<Found> {
  const found = await readToken(chain, token.address);
  const differs = (["symbol", "decimals", "name", "version", "eip3009", "eip2612"] as const).filter(
    (name) => found[name] !== token[name],
  );
  if (differs.length === 0) return pass(token.address);
  return fail(
    `${token.address} says otherwise: ${differs.map((name) => `${name} ${String(found[name])}`).join(", ")}.`,
  );
}

/** A scheme that the file offers has to work; one that it does not offer and that would work is worth a word. */
function schemeRows(
  chain: Chain,
  { tokens, schemes }: Deployments,
  acceptedCode: readonly Hex[],
  look: Look,
): readonly Promise<Inspected>[] {
  const surveyed = surveyCanonical(chain, acceptedCode);
  return (["exact", "upto", "batch-settlement"] as const).map((scheme) =>
    look(scheme, async () => {
      const survey = await surveyed;
      const works = schemesOf(survey, tokens).schemes.includes(scheme);
      const offered = schemes?.includes(scheme) ?? true;
      if (works) return offered ? pass("Offered.") : warn("Not offered, though everything for it is there.");
      const needed = new Set(tokens.flatMap((token) => neededBy(scheme, token)));
      const lacks = survey
        .filter(({ name, state }) => needed.has(name) && (state === "missing" || state === "unknown"))
        .map(({ name, state, codeHash: hash }) => (state === "missing" ? `${name} is missing` : `${name} is ${hash}`));
      return offered ? fail(`Offered, but ${lacks.join(", ")}.`) : pass(`Not offered: ${lacks.join(", ")}.`);
    }),
  );
}

function balanceRows(chain: Chain, accounts: DeployedAccounts, look: Look): readonly Promise<Inspected>[] {
  return (["settler", "submitter", "facilitator"] as const).map((role) =>
    look(`Ether of the ${role}`, async () => {
      const has = await chain.balance(accounts[role]);
      const says = `${accounts[role]} has ${ether(has)}.`;
      // Others' payments are settled by an account of their own: without it nothing of this gateway's fails.
      if (has === 0n) return role === "facilitator" ? warn(says) : fail(says);
      return has < LOW_BALANCE_WEI ? warn(says) : pass(says);
    }),
  );
}
