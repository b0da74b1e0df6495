import { multicall3, split, splitAddressOf, splitFactory, testUsdc } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { Database } from "@assay/driver-postgres";
import type { ListedPayee } from "@assay/protocol";
import type { Address, EvmSuite } from "@assay/x402";
import { decodeFunctionResult, encodeFunctionData } from "viem";
import { decodeInstruction } from "../instruction.ts";
import type { JobHandler } from "./engine.ts";
import type { ChainReads, TransactionSender } from "./ports.ts";
import { together } from "./together.ts";
import type { AnyCall } from "./together.ts";
import { text } from "./values.ts";

export type PayoutModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly sender: TransactionSender;
  readonly contracts: Deployments;
  readonly suite: EvmSuite;
};

/** Splitters made to pay out in one transaction: each moves up to 16 times. */
const MAX_PAYOUTS = 10;
/** Splitters asked whether they hold something: those that were paid to last. */
const MAX_CANDIDATES = 500;

type Candidate = { readonly splitter: Address; readonly token: Address; readonly payees: readonly ListedPayee[] };

/** Splitters that hold something to pay out, at most {@link MAX_PAYOUTS}. */
export async function payable(modules: PayoutModules): Promise<readonly Candidate[]> {
  const { database, chain, contracts, suite } = modules;
  const { rows } = await database.query(
    `SELECT DISTINCT ON (pay_to, asset) pay_to, asset, instruction FROM
       (SELECT pay_to, asset, instruction, updated_at_ms FROM assay.payments WHERE state = 'settled' AND network = $1
        ORDER BY updated_at_ms DESC LIMIT 20000) AS recent
     ORDER BY pay_to, asset, updated_at_ms DESC LIMIT ${MAX_CANDIDATES}`,
    [contracts.network],
  );
  const candidates = rows.flatMap((row): readonly Candidate[] => {
    const bytes = row["instruction"];
    if (!(bytes instanceof Uint8Array)) return [];
    const { payees } = decodeInstruction(new Uint8Array(bytes));
    if (payees.length === 0) return [];
    const [splitter, token] = [text(row["pay_to"]) as Address, text(row["asset"]) as Address];
    // A splitter is made from its shares; one that these do not make is somebody else's business.
    return splitAddressOf(suite.keccak256, payees) === splitter ? [{ splitter, token, payees }] : [];
  });
  if (candidates.length === 0) return [];
  const answer = await chain.call({
    to: contracts.multicall3,
    data: encodeFunctionData({
      abi: multicall3.abi,
      functionName: "aggregate3",
      args: [
        candidates.map(({ splitter, token }) => ({
          target: token,
          allowFailure: true,
          callData: encodeFunctionData({ abi: testUsdc.abi, functionName: "balanceOf", args: [splitter] }),
        })),
      ],
    }),
  });
  if (!answer.ok) return [];
  const balances = decodeFunctionResult({ abi: multicall3.abi, functionName: "aggregate3", data: answer.data });
  return candidates
    .filter((_, i) => {
      const balance = balances[i];
      return balance?.success === true && balance.returnData.length >= 66 && BigInt(balance.returnData) > 0n;
    })
    .slice(0, MAX_PAYOUTS);
}

/** Makes splitters that hold something pay it out; those that are not on the chain yet are placed first. */
export function createPayoutHandler(modules: PayoutModules): JobHandler {
  const { chain, sender, contracts } = modules;
  return {
    async submit(jobId) {
      if ((await sender.outcome(jobId)).state !== "none") return true;
      const parts = (await payable(modules)).map((candidate) => payoutCalls(contracts, candidate));
      const transaction = await together(chain, sender.address, parts);
      if (!transaction) return false;
      await sender.submit({ jobId, ...transaction });
      return true;
    },
    apply: () => Promise.resolve(),
  };
}

function payoutCalls(contracts: Deployments, { splitter, token, payees }: Candidate): readonly AnyCall[] {
  return [
    {
      target: contracts.splitFactory,
      callData: encodeFunctionData({
        abi: splitFactory.abi,
        functionName: "createSplit",
        args: [payees.map(({ address }) => address), payees.map(({ basisPoints }) => basisPoints)],
      }),
    },
    {
      target: splitter,
      callData: encodeFunctionData({ abi: split.abi, functionName: "distribute", args: [token] }),
    },
  ];
}
