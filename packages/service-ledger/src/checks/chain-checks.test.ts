import { PGlite } from "@electric-sql/pglite";
import { paymentBatcher } from "@assay/contracts";
import { bytesToHex } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import {
  claimCall,
  createChain,
  createSender,
  depositCall,
  memoryJournal,
  paymentCall,
  togetherCall,
} from "@assay/driver-chain";
import type { Sender } from "@assay/driver-chain";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import { EMPTY_TRUST, viewReceipt } from "@assay/receipts";
import type { OpenMap, ReceiptView } from "@assay/receipts";
import { makeReceipt } from "@assay/testkit";
import type { Hex } from "@assay/x402";
import { encodeAbiParameters, encodeEventTopics, encodeFunctionData, parseAbiParameters } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAnchor } from "../anchor/anchor.ts";
import { anchorProof, showBatch } from "../reports/batches.ts";
import { chainReads } from "../settle/chain-reads.ts";
import { itemOf } from "../settle/items.ts";
import { rowById } from "../settle/rows.ts";
import { transactionSender } from "../settle/sender.ts";
import { settlementDraft } from "../settle/supplements.ts";
import { memoryHost } from "../settle/testing/host.ts";
import {
  account,
  charge,
  openWorld,
  payer,
  send,
  signDeposit,
  signExact,
  suite,
  until,
} from "../settle/testing/world.ts";
import type { Account, Signed, World } from "../settle/testing/world.ts";
import { createAnchorCheck, createChainChecks } from "./chain-checks.ts";

let world: World;
let database: Database;
let sender: Sender;
const host = memoryHost();
const context = { suite: nodeSuite, trust: EMPTY_TRUST, nowMs: Date.now() };

beforeAll(async () => {
  world = await openWorld();
  database = databaseFromPglite(new PGlite());
  await migrateDatabase(database);
  sender = createSender({
    chain: world.chain,
    signer: world.submitter.signer,
    journal: memoryJournal(),
    options: { pollMs: 30 },
  });
});

afterAll(async () => {
  await sender?.close();
  await database?.close();
  await world?.close();
});

const getBlob = (sha256: string): Promise<Uint8Array | undefined> => Promise.resolve(host.blobs.get(sha256));

function claimOf(signed: Signed, amount: bigint) {
  return {
    payer: signed.payer,
    paymentId: signed.paymentId,
    scheme: signed.requirement.scheme,
    network: signed.requirement.network,
    amountAtomic: amount.toString(),
    asset: signed.requirement.asset,
    settlement: "batch",
    payTo: signed.requirement.payTo,
  };
}

/** A receipt whose service statement names a payment, that payment's row, and the transaction that settles it. */
async function paidReceipt(
  change: (claim: ReturnType<typeof claimOf>) => Partial<ReturnType<typeof claimOf>> = () => ({}),
): Promise<{ view: ReceiptView; from: Account; signed: Signed; settle: () => Promise<Hex> }> {
  const from = await payer(world, 10_000n);
  const signed = await signExact(world, from, 25n);
  const claim = claimOf(signed, 25n);
  const made = await makeReceipt({ service: { payment: { ...claim, ...change(claim) } } });
  const taken = viewReceipt(nodeSuite, made.bytes);
  if (!("view" in taken) || !taken.view.service) throw new Error("The receipt cannot be read.");
  const { view } = taken;
  const id = await charge(database, signed, {
    receipt: {
      execution: bytesToHex(view.execution.statement.digest),
      service: bytesToHex(view.service?.statement.digest ?? new Uint8Array()),
      logIndex: view.bundle.log?.[0]?.index ?? 0,
    },
  });
  return {
    view,
    from,
    signed,
    async settle() {
      const row = await rowById(database, id, Date.now());
      if (!row) throw new Error("The payment has no row.");
      const data = encodeFunctionData({ abi: paymentBatcher.abi, functionName: "settle", args: [[itemOf(row)]] });
      return (await send(world, world.operator.address, world.embedded.deployments.paymentBatcher, data)) as Hex;
    },
  };
}

function withSupplement(view: ReceiptView, body: OpenMap): ReceiptView {
  const [first] = view.statements;
  if (!first) throw new Error("The receipt has no statement.");
  const claims = {
    profile: "urn:assay:supplement:1",
    supplementId: new Uint8Array(16),
    refersTo: view.service?.statement.digest ?? new Uint8Array(32),
    kind: "settlement",
    issuedAtMs: 0,
    body,
  } as const;
  return {
    ...view,
    supplements: [{ statement: first, claims: claims as ReceiptView["supplements"][number]["claims"] }],
  };
}

/** The body of the supplement that names a receipt's settlement. */
function settlementOf(view: ReceiptView, transaction: string): OpenMap {
  const claim = view.service?.claims.payment;
  if (!claim) throw new Error("The receipt names no payment.");
  const { payer: from, paymentId, scheme, network, amountAtomic, asset, payTo } = claim;
  const contract = world.embedded.deployments.paymentBatcher;
  return {
    payer: from,
    paymentId,
    scheme,
    network,
    amountAtomic,
    asset,
    payTo: payTo ?? "",
    transaction,
    blockNumber: "1",
    contract,
  };
}

const checks = (deployments = world.embedded.deployments) => createChainChecks({ chain: world.chain, deployments });

describe("the payment of a receipt", () => {
  it("is found on the chain, by its supplement or by its id", async () => {
    const { view, settle } = await paidReceipt();
    expect(await checks().payment(view, context)).toMatchObject({ status: "inconclusive", code: "payment_unsettled" });
    const transaction = await settle();
    expect(await checks().payment(view, context)).toMatchObject({ status: "pass", code: "payment_settled" });
    const stated = withSupplement(view, settlementOf(view, transaction));
    for (const blocksAbove of ["0", "1"]) {
      expect(await checks().payment(stated, context)).toMatchObject({
        status: "pass",
        code: "payment_settled",
        facts: { transaction, blocksAbove },
      });
      await world.chain.request("anvil_mine", ["0x1"]);
    }
  });

  it.each([
    ["payment_payer_mismatch", { payer: `0x${"11".repeat(20)}` }],
    ["payment_amount_mismatch", { amountAtomic: "24" }],
    ["payment_asset_mismatch", { asset: `0x${"22".repeat(20)}` }],
    ["payment_pay_to_mismatch", { payTo: `0x${"33".repeat(20)}` }],
  ] as const)("fails with %s when the statement says otherwise", async (code, change) => {
    const { view, settle } = await paidReceipt(() => change);
    await settle();
    expect(await checks().payment(view, context)).toMatchObject({ status: "fail", code });
  });

  it("fails when the payment names another receipt", async () => {
    const { view, settle } = await paidReceipt();
    await settle();
    const service = view.service;
    if (!service) throw new Error("No service statement.");
    const other = { ...view, service: { ...service, statement: { ...service.statement, digest: new Uint8Array(32) } } };
    expect(await checks().payment(other, context)).toMatchObject({ status: "fail", code: "payment_receipt_mismatch" });
  });

  it("fails when what is stated of it is untrue, and is open when the chain is another or away", async () => {
    const { view, settle } = await paidReceipt();
    const { settle: another } = await paidReceipt();
    const foreign = await another();
    const judge = async (transaction: string, change: OpenMap = {}): Promise<unknown> =>
      (await checks().payment(withSupplement(view, { ...settlementOf(view, transaction), ...change }), context)).code;
    const nowhere = `0x${"ab".repeat(32)}`;
    expect(await judge(nowhere)).toBe("payment_not_on_chain");
    expect(await judge(foreign)).toBe("payment_not_settled");
    expect(await judge(foreign, { paymentId: `0x${"cd".repeat(32)}` })).toBe("settlement_mismatch");
    expect(await judge("0x12")).toBe("settlement_mismatch");
    const own = await settle();
    // A chain took the block back, and the payment is in another one: the batcher's event still names it.
    for (const transaction of [nowhere, foreign]) {
      const moved = withSupplement(view, settlementOf(view, transaction));
      expect(await checks().payment(moved, context)).toMatchObject({
        status: "pass",
        code: "payment_settled",
        facts: { transaction: own },
      });
    }
    // What contradicts the claim is untrue wherever the payment is.
    expect(await judge(own, { amountAtomic: "24" })).toBe("settlement_mismatch");
    expect(await judge(own, { payTo: `0x${"33".repeat(20)}` })).toBe("settlement_mismatch");
    const { deployments } = world.embedded;
    const base = checks({ ...deployments, network: "eip155:8453" });
    expect(await base.payment(view, context)).toMatchObject({ status: "inconclusive", code: "payment_other_network" });
    const away = createChainChecks({
      chain: createChain({ url: "http://127.0.0.1:1/", chainId: deployments.chainId }),
      deployments,
    });
    expect(await away.payment(view, context)).toMatchObject({ status: "inconclusive", code: "chain_unavailable" });
  });

  it("is not what the payer used the same signature's number for", async () => {
    const { view, from, signed } = await paidReceipt();
    const { payment } = signed.payload;
    if (payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
    const { nonce } = payment.authorization;
    const oneself = await signExact(world, from, 1n, { payTo: from.address, nonce });
    // Beside it, what pays for something else: the amount and the receiver are the same.
    const other = await signExact(world, from, 25n);
    const parts = [oneself, other].map(({ payload }) => {
      if (payload.payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
      const { to: target, data: callData } = paymentCall(payload.payment, signed.requirement.asset, 0n);
      return { target, callData, allowFailure: false };
    });
    const { to, data } = togetherCall(parts);
    const transaction = await send(world, world.operator.address, to, data);
    const stated = withSupplement(view, settlementOf(view, transaction));
    expect(await checks().payment(stated, context)).toMatchObject({ status: "fail", code: "payment_not_settled" });
  });

  it("is not what a batcher says that moved nothing", async () => {
    const { view } = await paidReceipt();
    const claim = view.service?.claims.payment;
    if (!claim) throw new Error("The receipt names no payment.");
    // A contract that logs what it is told to, which an operator may put into the trust file as well as any other.
    const forger = account().address;
    await world.chain.request("anvil_setCode", [forger, "0x365f5f376060356040356020355f35608036036080a400"]);
    const event = {
      paymentId: claim.paymentId as Hex,
      receiptDigest: `0x${bytesToHex(view.service?.statement.digest ?? new Uint8Array())}`,
      payer: claim.payer as Hex,
    } as const;
    const topics = encodeEventTopics({ abi: paymentBatcher.abi, eventName: "PaymentSettled", args: event });
    const told = encodeAbiParameters(parseAbiParameters("address, address, uint256, bool, bytes"), [
      claim.asset as Hex,
      (claim.payTo ?? "0x") as Hex,
      BigInt(claim.amountAtomic),
      true,
      "0x",
    ]);
    const data = `0x${[...topics, told].map((part) => String(part).slice(2)).join("")}` as const;
    await send(world, world.operator.address, forger, data);
    const trusting = checks({ ...world.embedded.deployments, paymentBatcher: forger });
    expect(await trusting.payment(view, context)).toMatchObject({
      status: "fail",
      code: "payment_not_settled",
      message: expect.stringContaining("the token did not move") as unknown,
    });
    expect(await checks().payment(view, context)).toMatchObject({ code: "payment_unsettled" });
  });

  it("is covered by what was claimed of its channel, and says whose word it is that it is in the sum", async () => {
    const from = await payer(world, 10_000n);
    const signed = await signDeposit(world, from, 1_000n, 40n);
    const { payment } = signed.payload;
    if (payment.kind !== "deposit") throw new Error("No deposit.");
    const opening = depositCall(payment);
    await send(world, world.operator.address, opening.to, opening.data);
    const { channel, voucher } = payment;
    const claiming = claimCall([{ channel, ...voucher, totalClaimed: 25n }]);
    const transaction = await send(world, world.operator.address, claiming.to, claiming.data);
    const judge = async (change: Partial<ReturnType<typeof claimOf>>, where = transaction) => {
      const made = await makeReceipt({ service: { payment: { ...claimOf(signed, 25n), ...change } } });
      const taken = viewReceipt(nodeSuite, made.bytes);
      if (!("view" in taken)) throw new Error("The receipt cannot be read.");
      const { view } = taken;
      return checks().payment(withSupplement(view, settlementOf(view, where)), context);
    };
    expect(await judge({})).toMatchObject({
      status: "pass",
      code: "payment_claimed",
      facts: {
        transaction,
        totalClaimed: "25",
        channelId: `0x${bytesToHex(voucher.channelId)}`,
        voucher: "this payment's",
      },
    });
    // Another charge of the same channel: its sum is there, and nothing says of what.
    expect(await judge({ paymentId: `0x${"12".repeat(32)}`, amountAtomic: "20" })).toMatchObject({
      status: "pass",
      code: "payment_claimed",
      message: expect.stringContaining("the gateway's word") as unknown,
      facts: { voucher: "another" },
    });
    for (const amountAtomic of ["26", "", " ", "0x1", "1.5", "-1", "00"])
      expect(await judge({ amountAtomic }), amountAtomic).toMatchObject({ code: "payment_amount_mismatch" });
    for (const change of [{ payer: world.receiver.address }, { asset: from.address }, { payTo: from.address }])
      expect(await judge(change)).toMatchObject({ status: "fail", code: "payment_not_settled" });
    const { settle } = await paidReceipt();
    expect(await judge({}, await settle())).toMatchObject({
      status: "inconclusive",
      code: "payment_contract_unknown",
    });
  });

  it("is stated by a supplement that is the same each time", async () => {
    const { signed } = await paidReceipt();
    const row = await rowById(database, signed.paymentId, Date.now());
    if (!row) throw new Error("No row.");
    const contractOf = (): string => world.embedded.deployments.paymentBatcher;
    expect(settlementDraft(row, contractOf)).toBeUndefined();
    const settled = { ...row, transaction: `0x${"ab".repeat(32)}` as Hex, blockNumber: 7 };
    const draft = settlementDraft(settled, contractOf);
    expect(draft).toEqual(settlementDraft(settled, contractOf));
    expect(draft?.body).toMatchObject({ paymentId: signed.paymentId, amountAtomic: "25", blockNumber: "7" });
    expect(settlementDraft({ ...settled, blockNumber: 8 }, contractOf)?.supplementId).not.toEqual(draft?.supplementId);
  });
});

describe("the anchor of a receipt", () => {
  it("leads to an entry that the contract has, and nowhere else", async () => {
    const { view } = await paidReceipt();
    await database.query("UPDATE assay.ledger_state SET watermark = 1000");
    const { deployments } = world.embedded;
    const anchor = createAnchor(
      {
        database,
        chain: chainReads(world.chain),
        sender: transactionSender(sender),
        signer: world.submitter.signer,
        suite,
        deployments,
        putBlob: host.putBlob,
        checkpoint: host.checkpoint,
        now: () => Date.now(),
        onEvent: () => undefined,
      },
      { everyMs: 0, leaves: 1 },
    );
    await database.query(
      "DELETE FROM assay.payments WHERE execution_digest <> decode($1, 'hex') OR log_index IS NULL",
      [bytesToHex(view.execution.statement.digest)],
    );
    await database.query("DELETE FROM assay.payments WHERE service_digest <> decode($1, 'hex')", [
      bytesToHex(view.service?.statement.digest ?? new Uint8Array()),
    ]);
    const proofOf = () =>
      anchorProof({ database, suite, deployments, getBlob }, bytesToHex(view.execution.statement.digest));
    expect(await proofOf()).toBeUndefined();
    await anchor.flush();
    const pending = await proofOf();
    if (!pending) throw new Error("The batch was not made.");
    await until(async () => {
      await anchor.turn();
      return (await showBatch(database, deployments.network, 0))?.state === "posted";
    });
    const map = await proofOf();
    if (!map) throw new Error("The batch has no proof.");
    const withAnchor = (anchors: readonly OpenMap[]): ReceiptView => ({ ...view, bundle: { ...view.bundle, anchors } });
    const judge = async (anchors: readonly OpenMap[], chosen = checks()): Promise<string> =>
      (await chosen.anchor(withAnchor(anchors), context)).code;

    expect(await checks().anchor(withAnchor([map]), context)).toMatchObject({ status: "pass", code: "anchored" });
    expect(await judge([])).toBe("anchor_unknown");
    expect(await judge([{ ...map, type: "something/1" }])).toBe("anchor_unknown");
    expect(await judge([{ ...map, proof: [new Uint8Array(31)] }])).toBe("anchor_unknown");
    expect(await judge([map, { ...map, proof: [new Uint8Array(32)] }])).toBe("anchor_proof_invalid");
    // What is not known hides nothing that is untrue.
    expect(await judge([{ type: "something/1" }, { ...map, proof: [new Uint8Array(32)] }])).toBe(
      "anchor_proof_invalid",
    );
    expect(await judge([map, { type: "something/1" }])).toBe("anchor_unknown");
    const entry = map["entry"] as OpenMap;
    const leaf = map["leaf"] as OpenMap;
    expect(await judge([{ ...map, leaf: { ...leaf, amountAtomic: "26" } }])).toBe("anchor_leaf_mismatch");
    expect(await judge([{ ...map, leaf: { ...leaf, executionDigest: new Uint8Array(32) } }])).toBe(
      "anchor_leaf_mismatch",
    );
    expect(await judge([{ ...map, leaf: { ...leaf, logIndex: 77 } }])).toBe("anchor_leaf_mismatch");
    expect(await judge([{ ...map, entry: { ...entry, blob: new Uint8Array(32) } }])).toBe("anchor_signature_invalid");
    const { signature: _signed, ...bare } = map;
    expect(await judge([{ ...bare, entry: { ...entry, blob: new Uint8Array(32) } }])).toBe("anchor_not_on_chain");
    expect(await judge([map], checks({ ...deployments, receiptAnchor: deployments.paymentBatcher }))).toBe(
      "anchor_contract_unknown",
    );
    expect(await judge([map], checks({ ...deployments, network: "eip155:1" }))).toBe("anchor_other_network");
    // The entry is its submitter's own word, which needs no chain; that it was posted does.
    expect(map["signature"]).toHaveLength(65);
    const other = { ...map, signature: await world.operator.signer.signDigest(new Uint8Array(32)) };
    expect(await judge([other])).toBe("anchor_signature_invalid");
    const { signature: _signature, ...unsigned } = map;
    expect(await judge([unsigned])).toBe("anchored");
    const unasked = async (anchors: readonly OpenMap[]): Promise<unknown> => {
      const { code, message } = await createAnchorCheck()(withAnchor(anchors), context);
      return [code, message.includes("submitter signed")];
    };
    expect(await unasked([map])).toEqual(["anchor_unchecked", true]);
    expect(await unasked([unsigned])).toEqual(["anchor_unchecked", false]);
    expect(await unasked([])).toEqual(["anchor_unchecked", false]);
    expect(await unasked([other])).toEqual(["anchor_signature_invalid", false]);
    expect(await unasked([{ ...map, proof: [new Uint8Array(32)] }])).toEqual(["anchor_proof_invalid", false]);
    expect(await unasked([{ ...map, entry: { ...entry, leafCount: 0 } }])).toEqual(["anchor_proof_invalid", false]);
    expect(await unasked([{ ...map, entry: { ...entry, prev: new Uint8Array(32).fill(1) } }])).toEqual([
      "anchor_signature_invalid",
      false,
    ]);
    const { transaction: _transaction, signature: _late, ...unposted } = map;
    expect(await judge([{ ...unposted, entry: { ...entry, blob: new Uint8Array(32) } }])).toBe("anchor_pending");
  });
});
