import { permit2, splitAddressOf, testUsdc } from "@assay/contracts";
import { paymentCall, togetherCall } from "@assay/driver-chain";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import type { Hex } from "@assay/x402";
import { encodeFunctionData, toHex } from "viem";
import { afterAll, beforeAll, expect, it } from "vitest";
import { forgetChain } from "./forget.ts";
import { startSettler } from "./start.ts";
import type { Settler } from "./start.ts";
import { openFickleNode } from "./testing/fickle-node.ts";
import type { FickleNode } from "./testing/fickle-node.ts";
import { memoryHost, openDatabase, quickSettings, sourceEntry } from "./testing/host.ts";
import {
  account,
  approvePermit2,
  charge,
  openWorld,
  payer,
  send,
  signDeposit,
  signExact,
  signVoucher,
  suite,
  until,
  usdc,
  usdcOf,
} from "./testing/world.ts";
import type { Signed, World } from "./testing/world.ts";

let world: World;
let node: FickleNode;
let server: EmbeddedPostgres;
let database: Database;
let settler: Settler | undefined;
const host = memoryHost();
const events: { readonly type: string }[] = [];

beforeAll(async () => {
  world = await openWorld();
  node = await openFickleNode(world.embedded.rpcUrl);
  ({ server, database } = await openDatabase(world));
  await start();
});

afterAll(async () => {
  await settler?.close();
  await database?.close();
  await server?.close();
  await node?.close();
  await world?.close();
});

async function start(): Promise<void> {
  settler = await startSettler({
    ...quickSettings(world, server.url),
    rpcUrl: node.url,
    ...sourceEntry(),
    putBlob: host.putBlob,
    checkpoint: host.checkpoint,
    onSettled: host.writeSupplements,
    onEvent: (event) => void events.push(event),
  });
}

async function stop(): Promise<void> {
  await settler?.close();
  settler = undefined;
}

async function stateOf(id: Hex): Promise<Record<string, unknown>> {
  const { rows } = await database.query(
    "SELECT state, error_code, encode(tx_hash, 'hex') AS tx FROM assay.payments WHERE payment_id = decode($1, 'hex')",
    [id.slice(2)],
  );
  return rows[0] ?? {};
}

const isState = (id: Hex, state: string) => async (): Promise<boolean> => (await stateOf(id))["state"] === state;

/** Brings a signed EIP-3009 payment to the chain, as anybody may. */
async function frontRun(signed: Signed): Promise<string> {
  const { payment } = signed.payload;
  if (payment.kind !== "eip3009") throw new Error("Only EIP-3009 can be brought by anybody.");
  const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
  return send(
    world,
    account().address,
    usdc(world).address,
    encodeFunctionData({
      abi: testUsdc.abi,
      functionName: "transferWithAuthorization",
      args: [from, to, value, validAfter, validBefore, toHex(nonce), toHex(payment.signature)],
    }),
  );
}

it("counts a payment that somebody else brought to the chain as settled, by that transaction", async () => {
  await stop();
  const from = await payer(world, 10_000n);
  const before = await usdcOf(world, world.receiver.address);
  const signed = await signExact(world, from, 33n);
  const id = await charge(database, signed);
  const transaction = await frontRun(signed);
  await start();
  await until(isState(id, "settled"));
  expect(`0x${String((await stateOf(id))["tx"])}`).toBe(transaction);
  expect((await usdcOf(world, world.receiver.address)) - before).toBe(33n);
});

it("does not count another transfer of the same amount", async () => {
  const from = await payer(world, 10_000n);
  await stop();
  const [paid, cancelled] = [await signExact(world, from, 44n), await signExact(world, from, 44n)];
  await frontRun(paid);
  const { payment } = cancelled.payload;
  if (payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
  const id = await charge(database, cancelled);
  await send(
    world,
    from.address,
    usdc(world).address,
    encodeFunctionData({
      abi: testUsdc.abi,
      functionName: "transfer",
      args: [world.receiver.address, 44n],
    }),
  );
  await world.chain.request("anvil_setBalance", [usdc(world).address, "0x0"]);
  // What is left does not cover it, so that it cannot be settled.
  await send(
    world,
    from.address,
    usdc(world).address,
    encodeFunctionData({
      abi: testUsdc.abi,
      functionName: "transfer",
      args: [account().address, 10_000n - 88n],
    }),
  );
  await start();
  await until(async () => (await stateOf(id))["error_code"] === "insufficient_funds");
  expect((await stateOf(id))["state"]).not.toBe("settled");
});

it("does not take one transfer for two payments, though the payer used up both signatures beside it", async () => {
  const from = await payer(world, 10_000n);
  await stop();
  const [paid, lost] = [await signExact(world, from, 55n), await signExact(world, from, 55n)];
  const { payment } = lost.payload;
  if (payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
  const { nonce } = payment.authorization;
  const oneself = await signExact(world, from, 1n, { payTo: from.address, nonce });
  const parts = [oneself, paid].map(({ payload }) => {
    if (payload.payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
    const { to: target, data: callData } = paymentCall(payload.payment, usdc(world).address, 0n);
    return { target, callData, allowFailure: false };
  });
  const { to, data } = togetherCall(parts);
  await send(world, account().address, to, data);
  const ids = [await charge(database, lost), await charge(database, paid)] as const;
  await start();
  await until(isState(ids[1], "settled"));
  await until(async () => (await stateOf(ids[0]))["error_code"] === "authorization_used");
  expect((await stateOf(ids[0]))["state"]).toBe("failed");
});

it("does not take a transfer for a payment through Permit2 whose number the payer gave up", async () => {
  const from = await payer(world, 10_000n);
  await approvePermit2(world, from.address);
  await stop();
  const lost = await signExact(world, from, 66n, { permit2: true });
  const { payment } = lost.payload;
  if (payment.kind !== "permit2") throw new Error("Not Permit2.");
  const { nonce } = payment.permit;
  const { abi } = permit2;
  const args = [nonce >> 8n, 1n << (nonce & 0xffn)] as const;
  const data = encodeFunctionData({ abi, functionName: "invalidateUnorderedNonces", args });
  await send(world, from.address, world.embedded.deployments.permit2, data);
  // Another payment of the same amount to the same receiver, which is not put down as settled yet.
  await frontRun(await signExact(world, from, 66n));
  const id = await charge(database, lost);
  await start();
  await until(async () => (await stateOf(id))["error_code"] === "authorization_used");
  expect((await stateOf(id))["state"]).toBe("failed");
});

it("waits while the node is away, and loses nothing", async () => {
  const from = await payer(world, 10_000n);
  node.down = true;
  const ids = [
    await charge(database, await signExact(world, from, 5n)),
    await charge(database, await signExact(world, from, 6n)),
  ];
  await until(() => Promise.resolve(events.some(({ type }) => type === "waiting")));
  for (const id of ids) expect((await stateOf(id))["state"]).not.toBe("settled");
  node.down = false;
  for (const id of ids) await until(isState(id, "settled"));
  expect(await usdcOf(world, from.address)).toBe(9_989n);
});

it("settles again what a chain took back, and only that", async () => {
  const from = await payer(world, 10_000n);
  const kept = await charge(database, await signExact(world, from, 1n));
  await until(isState(kept, "settled"));
  const before = await stateOf(kept);
  const snapshot = await world.chain.request("evm_snapshot", []);
  const id = await charge(database, await signExact(world, from, 2n));
  await until(isState(id, "settled"));
  await world.chain.request("evm_revert", [snapshot]);
  expect(await usdcOf(world, from.address)).toBe(9_999n);
  await until(async () => (await usdcOf(world, from.address)) === 9_997n);
  await until(isState(id, "settled"));
  expect(await stateOf(kept)).toEqual(before);
});

it("gives a channel's rest back to its payer, after claiming what was charged", async () => {
  const from = await payer(world, 10_000n);
  const before = await usdcOf(world, world.receiver.address);
  const deposit = await signDeposit(world, from, 8_000n, 100n);
  const opened = await charge(database, deposit, { amount: 70n });
  await until(isState(opened, "settled"));
  const last = await charge(database, await signVoucher(world, from, 200n), { amount: 30n });
  const channelId: Hex = `0x${Buffer.from(deposit.channelId ?? []).toString("hex")}`;
  const refunded = await settler?.refund(channelId);
  expect(refunded?.amountAtomic).toBe(7_900n);
  expect(await usdcOf(world, from.address)).toBe(9_900n);
  await until(isState(last, "settled"));
  expect((await usdcOf(world, world.receiver.address)) - before).toBe(100n);
  await expect(settler?.refund(`0x${"1".repeat(64)}`)).rejects.toMatchObject({ code: "refund_failed" });
});

it("makes splitters pay out their payees' shares", async () => {
  const [node_, author] = [account(), account()];
  const payees = [
    { address: node_.address, basisPoints: 7_000 },
    { address: author.address, basisPoints: 3_000 },
  ];
  const payTo = splitAddressOf(suite.keccak256, payees);
  const from = await payer(world, 10_000n);
  const ids = [
    await charge(database, await signExact(world, from, 100n, { payTo }), { payees }),
    await charge(database, await signExact(world, from, 1n, { payTo }), { payees }),
  ];
  for (const id of ids) await until(isState(id, "settled"));
  await settler?.payout();
  await until(async () => (await usdcOf(world, node_.address)) === 70n);
  expect(await usdcOf(world, author.address)).toBe(31n);
  expect(await usdcOf(world, payTo)).toBe(0n);
});

it("pauses for a chain that is begun anew, and settles on the new one", async () => {
  const from = await payer(world, 10_000n);
  const signed = await signExact(world, from, 8n);
  const early = await charge(database, await signExact(world, from, 9n));
  await until(isState(early, "settled"));
  await settler?.paused(async () => {
    await world.embedded.reset();
    await forgetChain(database, world.embedded.network, Date.now());
  });
  await world.embedded.fund(from.address, { asset: "USDC", amountAtomic: 100n });
  const id = await charge(database, signed);
  await until(isState(id, "settled"));
  expect(await usdcOf(world, from.address)).toBe(92n);
  expect((await stateOf(early))["state"]).toBe("settled");
});

it("says that it is gone when it was closed", async () => {
  const closed = settler;
  await stop();
  await expect(closed?.status()).rejects.toMatchObject({ code: "settler_gone" });
});
