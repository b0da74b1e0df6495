import { rm } from "node:fs/promises";
import { testWalletFactory, testWalletFactoryAddress } from "@assay/contracts";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import type { Hex } from "@assay/x402";
import { encodeAbiParameters, encodeFunctionData, hexToBytes, toHex } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSettler } from "./start.ts";
import type { Settler } from "./start.ts";
import type { SettlerEvent } from "./settler.ts";
import { memoryHost, openDatabase, quickSettings, sourceEntry } from "./testing/host.ts";
import {
  approvePermit2,
  charge,
  openWorld,
  payer,
  signDeposit,
  signExact,
  signUpto,
  signVoucher,
  statesOf,
  until,
  usdcOf,
} from "./testing/world.ts";
import type { World } from "./testing/world.ts";

let world: World;
let server: EmbeddedPostgres;
let database: Database;
let settler: Settler;
const host = memoryHost();
const events: unknown[] = [];

beforeAll(async () => {
  world = await openWorld();
  ({ server, database } = await openDatabase(world));
  settler = await startSettler({
    ...quickSettings(world, server.url),
    ...sourceEntry(),
    putBlob: host.putBlob,
    checkpoint: host.checkpoint,
    onSettled: host.writeSupplements,
    onEvent: (event: SettlerEvent | { type: string }) => void events.push(event),
  });
});

afterAll(async () => {
  await settler?.close();
  await database?.close();
  await server?.close();
  await world?.close();
  if (world) await rm(world.directory, { recursive: true, force: true });
});

const settled = async (count: number): Promise<boolean> => ((await statesOf(database))["settled"] ?? 0) >= count;

async function rowOf(paymentId: string): Promise<Record<string, unknown>> {
  const { rows } = await database.query(
    `SELECT state, error_code, attempts, supplement_index, encode(tx_hash, 'hex') AS tx_hash, block_number FROM assay.payments
     WHERE payment_id = decode($1, 'hex')`,
    [paymentId.slice(2)],
  );
  return rows[0] ?? {};
}

describe("a settler in its thread", () => {
  it("settles what was charged, each payment once, whatever its scheme", async () => {
    const before = await usdcOf(world, world.receiver.address);
    const from = await payer(world, 1_000_000n);
    await approvePermit2(world, from.address);
    for (let i = 0; i < 5; i++) await charge(database, await signExact(world, from, 1_000n));
    await charge(database, await signExact(world, from, 2_000n, { permit2: true }));
    for (let i = 0; i < 3; i++) await charge(database, await signUpto(world, from, 1_000n), { amount: 600n });
    await charge(database, await signDeposit(world, from, 10_000n, 300n), { amount: 100n });
    await charge(database, await signVoucher(world, from, 400n), { amount: 150n });
    await until(() => settled(11));
    expect((await usdcOf(world, world.receiver.address)) - before).toBe(5_000n + 2_000n + 1_800n + 250n);
    expect(await usdcOf(world, from.address)).toBe(1_000_000n - 8_800n - 10_000n);
  });

  it("has every settlement stated in the log, once, naming transaction and contract", async () => {
    await until(async () => {
      const { rows } = await database.query(
        "SELECT COUNT(*) AS open FROM assay.payments WHERE supplement_index IS NULL",
      );
      return Number(rows[0]?.["open"]) === 0;
    });
    const ids = host.drafts.map(({ supplementId }) => Buffer.from(supplementId).toString("hex"));
    expect(new Set(ids).size).toBe(ids.length);
    expect(host.drafts).toHaveLength(11);
    const { paymentBatcher, batchSettlement } = world.embedded.deployments;
    for (const { body } of host.drafts) {
      expect(body.transaction).toMatch(/^0x[0-9a-f]{64}$/);
      expect(body.contract).toBe(body.scheme === "batch-settlement" ? batchSettlement : paymentBatcher);
    }
  });

  it("settles a payment of nothing without a transaction", async () => {
    const from = await payer(world, 10n);
    await approvePermit2(world, from.address);
    const id = await charge(database, await signUpto(world, from, 10n), { amount: 0n });
    await until(async () => (await rowOf(id))["state"] === "settled");
    expect(await rowOf(id)).toMatchObject({ tx_hash: null });
  });

  it("lets a payment that cannot move hinder no other, and tries it again", async () => {
    const [rich, poor] = [await payer(world, 10_000n), await payer(world, 0n)];
    const bad = await charge(database, await signExact(world, poor, 7n));
    const good = await charge(database, await signExact(world, rich, 7n));
    await until(async () => (await rowOf(good))["state"] === "settled");
    await until(async () => (await rowOf(bad))["error_code"] === "insufficient_funds");
    await world.embedded.fund(poor.address, { asset: "USDC", amountAtomic: 7n });
    await until(async () => (await rowOf(bad))["state"] === "settled");
    expect(await usdcOf(world, poor.address)).toBe(0n);
  });

  it("gives up what can never be settled, and says why", async () => {
    const from = await payer(world, 10_000n);
    const late = await charge(database, await signExact(world, from, 7n, { agoS: 1_200 }));
    await until(async () => (await rowOf(late))["state"] === "dead");
    expect(await rowOf(late)).toMatchObject({ error_code: "authorization_expired" });
    expect(events).toContainEqual({ type: "payment_dead", paymentId: late, code: "authorization_expired" });
  });

  it("takes at once what is individual, whatever the others wait for", async () => {
    const from = await payer(world, 10_000n);
    const id = await charge(database, await signExact(world, from, 7n), { mode: "individual" });
    await until(async () => (await rowOf(id))["state"] === "settled");
  });

  it("settles for an account that is made only then, as its payer's signature says (ERC-6492)", async () => {
    const owner = await payer(world, 0n);
    const salt: Hex = `0x${"07".repeat(32)}`;
    const { abi } = testWalletFactory;
    const asked = await world.chain.call({
      to: testWalletFactoryAddress,
      data: hexToBytes(encodeFunctionData({ abi, functionName: "walletOf", args: [owner.address, salt] })),
    });
    const wallet: Hex = `0x${Buffer.from(asked.subarray(12)).toString("hex")}`;
    expect(await world.chain.code(wallet)).toHaveLength(0);
    await world.embedded.fund(wallet, { asset: "USDC", amountAtomic: 50n });
    const signed = await signExact(world, { ...owner, signer: { ...owner.signer, address: wallet } }, 21n);
    const { payment } = signed.payload;
    if (payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
    const make = encodeFunctionData({ abi, functionName: "createWallet", args: [owner.address, salt] });
    const wrapped = encodeAbiParameters(
      [{ type: "address" }, { type: "bytes" }, { type: "bytes" }],
      [testWalletFactoryAddress, make, toHex(payment.signature)],
    );
    const signature = hexToBytes(`${wrapped}${"6492".repeat(16)}`);
    const id = await charge(database, {
      ...signed,
      payload: { ...signed.payload, payment: { ...payment, signature } },
    });
    await until(async () => (await rowOf(id))["state"] === "settled");
    expect(await usdcOf(world, wallet)).toBe(29n);
  });

  it("refuses a second settler of the same database", async () => {
    await expect(
      startSettler({
        ...quickSettings(world, server.url, { lockWaitMs: 200 }),
        ...sourceEntry(),
        putBlob: host.putBlob,
        checkpoint: host.checkpoint,
      }),
    ).rejects.toMatchObject({ code: "settler_running" });
  });

  it("refuses options out of range", async () => {
    await expect(
      startSettler({
        ...quickSettings(world, server.url, { items: 0 }),
        ...sourceEntry(),
        putBlob: host.putBlob,
        checkpoint: host.checkpoint,
      }),
    ).rejects.toMatchObject({ code: "settler_options_invalid" });
  });
});
