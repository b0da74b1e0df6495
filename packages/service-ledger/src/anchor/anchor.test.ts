import { createHash } from "node:crypto";
import { PGlite } from "@electric-sql/pglite";
import { receiptAnchor } from "@assay/contracts";
import { createSender } from "@assay/driver-chain";
import type { Sender } from "@assay/driver-chain";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import { readAnchor } from "@assay/receipts";
import { decodeFunctionResult, encodeFunctionData, toHex } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { anchorProof, listBatches, showBatch, verifyBatch } from "../reports/batches.ts";
import { chainReads } from "../settle/chain-reads.ts";
import { createTxJournal } from "../settle/journal.ts";
import { transactionSender } from "../settle/sender.ts";
import { memoryHost } from "../settle/testing/host.ts";
import { charge, openWorld, payer, signExact, suite, until } from "../settle/testing/world.ts";
import type { Signed, World } from "../settle/testing/world.ts";
import { createAnchor, entryTuple } from "./anchor.ts";
import type { Anchor, AnchorEvent } from "./anchor.ts";
import { decodeBatch, encodeBatch } from "./entry.ts";

let world: World;
let database: Database;
let sender: Sender;
let anchor: Anchor;
const host = memoryHost();
const events: AnchorEvent[] = [];
const getBlob = (sha256: string): Promise<Uint8Array | undefined> => Promise.resolve(host.blobs.get(sha256));
const logRoot = (size: number): Promise<Uint8Array> =>
  Promise.resolve(new Uint8Array(createHash("sha256").update(`${size}`).digest()));

beforeAll(async () => {
  world = await openWorld();
  database = databaseFromPglite(new PGlite());
  await migrateDatabase(database);
  start();
});

afterAll(async () => {
  await sender?.close();
  await database?.close();
  await world?.close();
});

/** As a new process would: nothing is remembered but what is written down. */
function start(blobs: typeof getBlob = getBlob): void {
  sender = createSender({
    chain: world.chain,
    signer: world.submitter.signer,
    journal: createTxJournal(database),
    options: { pollMs: 30, resendMs: 200 },
  });
  anchor = createAnchor(
    {
      database,
      chain: chainReads(world.chain),
      sender: transactionSender(sender),
      signer: world.submitter.signer,
      suite,
      deployments: world.embedded.deployments,
      putBlob: host.putBlob,
      getBlob: blobs,
      checkpoint: host.checkpoint,
      now: () => Date.now(),
      onEvent: (event) => void events.push(event),
    },
    { everyMs: 0, leaves: 1_000 },
  );
}

async function paid(count: number, mode: "batch" | "private" | "individual" = "batch"): Promise<readonly Signed[]> {
  const from = await payer(world, 0n);
  const made: Signed[] = [];
  for (let i = 0; i < count; i++) {
    const signed = await signExact(world, from, 10n);
    await charge(database, signed, { mode });
    made.push(signed);
  }
  await database.query(
    "UPDATE assay.ledger_state SET watermark = (SELECT COALESCE(MAX(log_index), 0) + 1 FROM assay.payments)",
  );
  return made;
}

async function posted(number: number): Promise<boolean> {
  await anchor.turn();
  return (await showBatch(database, world.embedded.network, number))?.state === "posted";
}

async function leafOf(signed: Signed) {
  const { rows } = await database.query(
    `SELECT encode(execution_digest, 'hex') AS execution, encode(service_digest, 'hex') AS service, log_index
     FROM assay.payments WHERE payment_id = decode($1, 'hex')`,
    [signed.paymentId.slice(2)],
  );
  const row = rows[0] ?? {};
  const bytes = (hex: unknown): Uint8Array => new Uint8Array(Buffer.from(String(hex), "hex"));
  return {
    execution: String(row["execution"]),
    leaf: {
      executionDigest: bytes(row["execution"]),
      serviceDigest: bytes(row["service"]),
      paymentId: bytes(signed.paymentId.slice(2)),
      amountAtomic: 10n,
      logIndex: Number(row["log_index"]),
    },
  };
}

async function isProved(execution: string, change: (leaf: { amountAtomic: bigint }) => void = () => undefined) {
  const map = await anchorProof({ database, suite, deployments: world.embedded.deployments, getBlob }, execution);
  const found = map && readAnchor(map);
  if (!found) return undefined;
  const leaf = { ...found.leaf };
  change(leaf);
  const { abi } = receiptAnchor;
  const answer = await chainReads(world.chain).call({
    to: found.contract,
    data: encodeFunctionData({
      abi,
      functionName: "verifyReceipt",
      args: [
        entryTuple(found.entry),
        {
          executionDigest: toHex(leaf.executionDigest),
          serviceDigest: toHex(leaf.serviceDigest),
          paymentId: toHex(leaf.paymentId),
          amountAtomic: leaf.amountAtomic,
          logIndex: BigInt(leaf.logIndex),
        },
        found.proof.map((sibling) => toHex(sibling)),
      ],
    }),
  });
  return decodeFunctionResult({ abi, functionName: "verifyReceipt", data: answer.data });
}

describe("anchored batches", () => {
  it("prove each of their receipts on the chain, and no other", async () => {
    const made = await paid(5);
    const kept = await paid(1, "private");
    await anchor.turn();
    await until(() => posted(0));
    for (const signed of made) {
      const { execution } = await leafOf(signed);
      expect(await isProved(execution)).toBe(true);
      expect(await isProved(execution, (leaf) => (leaf.amountAtomic += 1n))).toBe(false);
    }
    const [hidden] = kept;
    if (!hidden) throw new Error("No private payment.");
    expect(await isProved((await leafOf(hidden)).execution)).toBeUndefined();
    expect(await showBatch(database, world.embedded.network, 0)).toMatchObject({
      leafCount: 5,
      firstLeaf: 0,
      kind: "batch",
    });
  });

  it("are made again from their blobs and agree with the chain", async () => {
    const modules = {
      database,
      chain: chainReads(world.chain),
      suite,
      deployments: world.embedded.deployments,
      getBlob,
    };
    expect(await verifyBatch({ ...modules, logRoot }, 0)).toMatchObject({ status: "verified", code: "verified" });
    expect(await verifyBatch(modules, 0)).toMatchObject({ status: "inconclusive", code: "log_unchecked" });
    expect(await verifyBatch({ ...modules, getBlob: () => Promise.resolve(undefined) }, 0)).toMatchObject({
      status: "inconclusive",
      code: "blob_missing",
    });
    const forged = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array([123, 125]));
    expect(await verifyBatch({ ...modules, getBlob: forged }, 0)).toMatchObject({
      status: "failed",
      code: "blob_corrupt",
    });
    const wrong = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array(32));
    expect(await verifyBatch({ ...modules, logRoot: wrong }, 0)).toMatchObject({
      status: "failed",
      code: "log_root_mismatch",
    });
    expect(await verifyBatch(modules, 99)).toBeUndefined();
  });

  it("hold one individual receipt whose transaction and blob are known before any block", async () => {
    const [signed] = await paid(1, "individual");
    if (!signed) throw new Error("No payment.");
    const { leaf, execution } = await leafOf(signed);
    const prepared = await anchor.prepareIndividual(leaf);
    expect(host.blobs.has(Buffer.from(prepared.blob).toString("hex"))).toBe(true);
    expect(prepared.transaction).toMatch(/^0x[0-9a-f]{64}$/);
    await until(() => posted(prepared.batch));
    expect(await showBatch(database, world.embedded.network, prepared.batch)).toMatchObject({
      kind: "individual",
      leafCount: 1,
      transaction: prepared.transaction,
    });
    expect(await isProved(execution)).toBe(true);
  });

  it("go on from what is written down, and none is signed twice differently", async () => {
    const before = await listBatches(database, world.embedded.network);
    await paid(2);
    await sender.close();
    start();
    await anchor.flush();
    const last = before.batches[0]?.number ?? 0;
    await until(() => posted(last + 1));
    const after = await listBatches(database, world.embedded.network, { limit: 1 });
    expect(after.batches[0]?.prev).toBe(before.batches[0]?.entryHash);
    expect(after.next).toBe(last + 1);
    const verdict = await verifyBatch(
      { database, chain: chainReads(world.chain), suite, deployments: world.embedded.deployments, getBlob, logRoot },
      last + 1,
    );
    expect(verdict?.status).toBe("verified");
  });

  it("are posted again, the same ones, when the chain takes them back", async () => {
    const snapshot = await world.chain.request("evm_snapshot", []);
    await paid(1);
    await anchor.flush();
    const number = (await listBatches(database, world.embedded.network)).batches[0]?.number ?? -1;
    await until(() => posted(number));
    const before = await showBatch(database, world.embedded.network, number);
    await world.chain.request("evm_revert", [snapshot]);
    await until(async () => {
      await anchor.turn();
      const { batches } = await listBatches(database, world.embedded.network);
      const verdict = await verifyBatch(
        { database, chain: chainReads(world.chain), suite, deployments: world.embedded.deployments, getBlob, logRoot },
        number,
      );
      return batches[0]?.state === "posted" && verdict?.status === "verified";
    });
    expect((await showBatch(database, world.embedded.network, number))?.entryHash).toBe(before?.entryHash);
  });

  it("refuse pages that are none", async () => {
    await expect(listBatches(database, world.embedded.network, { limit: 0 })).rejects.toMatchObject({
      code: "report_filter_invalid",
    });
  });

  const table = async (): Promise<readonly unknown[]> =>
    (
      await database.query(
        `SELECT seq, kind, submitter, first_leaf, leaf_count, root, log_size, log_root, blob_sha256, prev, entry_hash, signature,
           from_index, to_index, state, tx_hash, block_number FROM assay.anchor_batches ORDER BY seq`,
      )
    ).rows;
  /** A new process, which remembers nothing of what it did not find. */
  async function restart(blobs: typeof getBlob = getBlob): Promise<void> {
    await sender.close();
    events.length = 0;
    start(blobs);
  }

  it("that the database lost are put back from the chain and their blobs, all or the latest, and go on", async () => {
    await paid(1, "individual");
    const before = await table();
    expect(before.length).toBeGreaterThan(3);
    for (const from of [0, 2]) {
      await database.query("DELETE FROM assay.anchor_batches WHERE seq >= $1", [from]);
      await restart();
      await anchor.turn();
      expect(await table()).toEqual(before);
      expect(events).toEqual([{ type: "anchor_recovered", batches: before.length - from }]);
    }
    const [signed] = await paid(1);
    if (!signed) throw new Error("No payment.");
    await anchor.flush();
    await until(() => posted(before.length));
    expect(await isProved((await leafOf(signed)).execution)).toBe(true);
  });

  it("that were sent and are in no block are put back from the journal, and not signed differently", async () => {
    const before = await table();
    await world.chain.request("evm_setAutomine", [false]);
    await paid(2);
    await anchor.flush();
    const sent = await table();
    expect(sent).toHaveLength(before.length + 1);
    await until(async () => sender.status().open === 1);
    await world.chain.request("anvil_dropAllTransactions", []);
    await database.query("DELETE FROM assay.anchor_batches WHERE seq >= 1");
    await restart();
    await anchor.turn();
    const after = await table();
    const hashes = (rows: readonly unknown[]): readonly unknown[] =>
      rows.map((row) => (row as Record<string, unknown>)["entry_hash"]);
    expect(hashes(after)).toEqual(hashes(sent));
    await world.chain.request("evm_setAutomine", [true]);
    await until(() => posted(before.length));
  });

  it.each<[string, () => Promise<unknown>, (() => Promise<Uint8Array | undefined>) | undefined]>([
    ["when a blob is missing", () => Promise.resolve(), () => Promise.resolve(undefined)],
    ["when a blob is another's", () => Promise.resolve(), () => Promise.resolve([...host.blobs.values()][0])],
    ["when a leaf is not this ledger's", () => change(-1n), undefined],
  ])("stop, and nothing is signed, when the chain has an entry that cannot be put back: %s", async (_, harm, blobs) => {
    const last = (await table()).length - 1;
    await until(() => posted(last));
    const before = await table();
    await harm();
    await database.query("DELETE FROM assay.anchor_batches");
    await restart(blobs);
    const [signed] = await paid(1, "individual");
    if (!signed) throw new Error("No payment.");
    const { leaf } = await leafOf(signed);
    await expect(anchor.prepareIndividual(leaf)).rejects.toMatchObject({ code: "anchor_diverged" });
    await paid(1);
    await anchor.flush();
    expect(events.map(({ type }) => type)).toEqual(["anchor_diverged"]);
    expect(await table()).toEqual([]);
    if (blobs === undefined) await change(1n);
    await restart();
    await anchor.turn();
    expect((await table()).slice(0, before.length)).toEqual(before);
  });

  /** What a payment of a batch was, as if the log had another. */
  const change = (by: bigint): Promise<unknown> =>
    database.query(
      `UPDATE assay.payments SET amount_atomic = amount_atomic + $1::numeric
       WHERE log_index = (SELECT MIN(log_index) FROM assay.payments WHERE settlement = 'batch')`,
      [by.toString()],
    );
});

describe("a batch's blob", () => {
  it("is refused unless it is the one encoding of what it says", () => {
    const [blob] = [...host.blobs.values()];
    if (!blob) throw new Error("No blob.");
    const batch = decodeBatch(blob);
    expect(encodeBatch(batch)).toEqual(blob);
    const text = Buffer.from(blob).toString();
    for (const other of [
      text.replace("{", "{ "),
      text.replace('"fromIndex":', '"from":'),
      text.replace("assay/anchor-batch/1", "assay/anchor-batch/2"),
      text.replace(/"amountAtomic":"10"/, '"amountAtomic":"010"'),
      text.replace(/"amountAtomic":"10"/, '"amountAtomic":10'),
      text.replace(/}$/, ',"zz":1}'),
      text.slice(0, -1),
      "[]",
      "",
    ])
      expect(() => decodeBatch(new TextEncoder().encode(other)), other.slice(0, 40)).toThrow(
        expect.objectContaining({ code: "anchor_blob_invalid" }) as Error,
      );
  });
});
