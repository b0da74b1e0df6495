// What settling costs on the chain: payments to the whole program, settled and anchored by its own settler on the embedded
// chain; gas from the receipts of the transactions that did it.
//   npx tsx --conditions=assay-source bench/gas.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { utf8ToBytes } from "@assay/core";
import { createChain } from "@assay/driver-chain";
import type { Chain, TxLog, TxReceipt } from "@assay/driver-chain";
import { batchList, paymentList, read } from "@assay/sdk";
import type { BatchDocument, PaymentDocument } from "@assay/sdk";
import { parseUnits, toHex } from "@assay/x402";
import type { EvmSigner, Hex, ParsedQuote, Scheme } from "@assay/x402";
import { makePayers, payFor, quoteOf, setPrice, sign, suite } from "./money/payers.ts";
import { bundleProgram, startProgram } from "./money/program.ts";
import type { Program } from "./money/program.ts";

const PAYERS = 100;
const PER_PAYER = 10;
const GROUP = 50;
const DAY_MS = 86_400_000;
const SIDE_BY_SIDE = 8;

/** Does `work` for each, a few at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let at = 0;
  const worker = async (): Promise<void> => {
    for (let item = items[at++]; item !== undefined; item = items[at++]) await work(item);
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
}

async function payments({ client }: Program): Promise<readonly PaymentDocument[]> {
  const all: PaymentDocument[] = [];
  let before: string | null = "";
  while (before !== null) {
    const path: string = `/v1/payments?limit=1000${before === "" ? "" : `&before=${encodeURIComponent(before)}`}`;
    const page = read(paymentList, await client.admin({ method: "GET", path }), "payments");
    all.push(...page.payments);
    before = page.next;
  }
  return all;
}

/** Has everything settled that is due; resolves once there are `expected` payments of the scheme, all of them settled. */
async function settleAll(program: Program, scheme: Scheme, expected: number): Promise<readonly PaymentDocument[]> {
  for (;;) {
    const found = (await payments(program)).filter((one) => one.scheme === scheme);
    const bad = found.find(({ state }) => state === "failed" || state === "dead");
    if (bad) throw new Error(`A payment is ${bad.state}: ${bad.error?.message ?? ""}`);
    if (found.length === expected && found.every(({ state }) => state === "settled")) return found;
    await pause(300);
    // Once all of them are in the rows, so that they are settled together.
    if (found.length === expected && found.every(({ state }) => state !== "taken"))
      await program.client.admin({ method: "POST", path: "/v1/payments/settle" });
  }
}

async function receiptsOf(chain: Chain, hashes: readonly (string | null)[]): Promise<readonly TxReceipt[]> {
  return Promise.all(
    [...new Set(hashes)].map(async (hash) => {
      const receipt = hash === null ? undefined : await chain.receipt(hash as Hex);
      if (!receipt?.ok) throw new Error("What was settled has no receipt of a transaction that succeeded.");
      return receipt;
    }),
  );
}

const topicOf = (signature: string): Hex => toHex(suite.keccak256(utf8ToBytes(signature)));
const sum = (receipts: readonly TxReceipt[]): number => receipts.reduce((gas, { gasUsed }) => gas + Number(gasUsed), 0);
const count = (value: number): string => Math.round(value).toLocaleString("en-US");

function judged(what: string, measured: number, goal: number): string {
  if (measured > goal) process.exitCode = 1;
  return `${count(measured)} ${what} (goal ${count(goal)})`;
}

type Place = { readonly program: Program; readonly chain: Chain; readonly quote: ParsedQuote };

/** Channels opened, `PER_PAYER` vouchers on each, and all of it claimed at once. */
async function vouchers({ program, chain, quote }: Place, contract: Hex): Promise<void> {
  const payers = await makePayers(program, PAYERS, { usdc: "2" });
  const cap = BigInt(quote.required.accepts[0]?.amount ?? "0");
  const pay = async (payer: EvmSigner, nth: number, deposit?: bigint): Promise<void> => {
    const maxClaimable = cap * BigInt(nth);
    const voucher = { maxClaimable, ...(deposit === undefined ? {} : { deposit }) };
    await payFor(program, await sign(quote, "batch-settlement", payer, voucher));
  };
  const fromBlock = (await chain.blockNumber()) + 1;
  // The first voucher of a channel comes with the deposit that opens it; deposits go to the chain at once, each by itself.
  await each(payers, (payer) => pay(payer, 1, parseUnits("1", 6)));
  const topics = [topicOf("Deposited(bytes32,address,uint128,uint128)")];
  let deposits: readonly TxLog[] = [];
  while (deposits.length < PAYERS) {
    await pause(200);
    deposits = await chain.logs({ address: contract, topics, fromBlock, toBlock: "latest" });
  }
  const opened = await receiptsOf(
    chain,
    deposits.map(({ transactionHash }) => transactionHash),
  );
  for (let nth = 2; nth <= PER_PAYER; nth++) await each(payers, (payer) => pay(payer, nth));
  const settled = await settleAll(program, "batch-settlement", PAYERS * PER_PAYER);
  const receipts = await receiptsOf(
    chain,
    settled.map(({ transaction }) => transaction),
  );
  const gas = sum(receipts);
  console.log(
    `${settled.length} voucher payments of ${PAYERS} payers: claimed and paid out with ${count(gas)} gas in ${receipts.length} transaction(s), ` +
      `${judged("a payer", gas / PAYERS, 30_000)}, ${judged("a payment", gas / settled.length, 3_000)}; opening a channel by a deposit took ${count(sum(opened) / opened.length)} once`,
  );
}

/** The batch of the receipts so far. */
async function anchored({ program, chain }: Place, contract: Hex): Promise<void> {
  const leaves = PAYERS * PER_PAYER;
  let batch: BatchDocument | undefined;
  while (batch?.state !== "posted") {
    await pause(200);
    const list = read(
      batchList,
      await program.client.admin({ method: "GET", path: "/v1/batches?limit=10" }),
      "batches",
    );
    batch = list.batches.find(({ leafCount }) => leafCount === leaves);
  }
  const [posted] = await receiptsOf(chain, [batch.transaction]);
  if (!posted) throw new Error("The batch has no transaction.");
  const bonds = await chain.logs({
    address: contract,
    topics: [topicOf("Bonded(address,uint256,uint256)")],
    fromBlock: 0,
    toBlock: "latest",
  });
  const bond = await receiptsOf(
    chain,
    bonds.map(({ transactionHash }) => transactionHash),
  );
  console.log(
    `${leaves} receipts anchored in one entry, which names the one before it and stands behind the bond: ${count(sum([posted]))} gas, ` +
      `${judged("a receipt", sum([posted]) / leaves, 100)}; with all of the bond's deposit too, which is made once for every batch to come, ${count((sum([posted]) + sum(bond)) / leaves)}`,
  );
}

/** As many payments as the settler sends together. */
async function direct({ program, chain, quote }: Place, scheme: "upto" | "exact"): Promise<void> {
  const payers = await makePayers(program, GROUP, { usdc: "2", approved: "1" });
  await each(payers, async (payer) => payFor(program, await sign(quote, scheme, payer)));
  const settled = await settleAll(program, scheme, GROUP);
  const receipts = await receiptsOf(
    chain,
    settled.map(({ transaction }) => transaction),
  );
  console.log(
    `${GROUP} ${scheme} payments of as many payers in ${receipts.length} transaction(s): ${count(sum(receipts) / GROUP)} gas a payment`,
  );
}

const scratch = mkdtempSync(join(tmpdir(), "assay-bench-gas-"));
try {
  await bundleProgram();
  const program = await startProgram(join(scratch, "home"), {
    settling: {
      items: GROUP,
      afterMs: DAY_MS,
      claimAfterMs: DAY_MS,
      anchorEveryMs: DAY_MS,
      anchorLeaves: PAYERS * PER_PAYER,
    },
  });
  try {
    await setPrice(program, "0.001");
    const { rpcUrl, chainId, contracts } = await program.client.chain();
    const { batchSettlement, receiptAnchor } = contracts as Readonly<Record<string, Hex>>;
    if (rpcUrl === null || !batchSettlement || !receiptAnchor) throw new Error("The program has no chain.");
    const place = { program, chain: createChain({ url: rpcUrl, chainId }), quote: await quoteOf(program) };
    await vouchers(place, batchSettlement);
    await anchored(place, receiptAnchor);
    await direct(place, "upto");
    await direct(place, "exact");
  } finally {
    await program.stop();
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
