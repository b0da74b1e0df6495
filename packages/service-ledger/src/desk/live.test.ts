import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { testWallet1271, testWalletFactoryAddress } from "@assay/contracts";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import type { OpenPayment } from "@assay/protocol";
import {
  authorizeDeposit,
  authorizeExact,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
  channelIdOf,
  toHex,
  wrapErc6492,
} from "@assay/x402";
import type { Address, EvmSigner, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { encodeDeployData } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDatabase } from "../settle/testing/host.ts";
import { approvePermit2, openWorld, payer, suite, until } from "../settle/testing/world.ts";
import type { Account, World } from "../settle/testing/world.ts";
import { createDeskChain } from "./chain.ts";
import { headersOf, openShop } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";

// The desk over a real database server and a real chain.

let world: World;
let server: EmbeddedPostgres;
let database: Database;
let shop: Shop;

beforeAll(async () => {
  world = await openWorld();
  ({ server, database } = await openDatabase(world));
  shop = await openShop(database, {
    modules: { chain: createDeskChain(world.chain, world.embedded.deployments), now: () => Date.now() },
    options: {
      deployments: world.embedded.deployments,
      payTo: world.receiver.address,
      receiverAuthorizer: world.operator.address,
      factories: [testWalletFactoryAddress],
    },
  });
});

afterAll(async () => {
  await shop?.desk.close();
  await database?.close();
  await server?.close();
  await world?.close();
  if (world) await rm(world.directory, { recursive: true, force: true });
});

type Answer = Awaited<ReturnType<Shop["take"]>>;
const nonce = (): Uint8Array => new Uint8Array(randomBytes(32));
const nowS = (): number => Math.floor(Date.now() / 1000);
const sign = (signer: EvmSigner, scheme: "exact" | "upto"): Promise<PaymentPayload> =>
  (scheme === "exact" ? authorizeExact : authorizeUpto)({
    suite,
    signer,
    requirement: shop.offer(shop.quote(), scheme),
    nonce: nonce(),
    nowS: nowS(),
  });
const pay = async (payload: PaymentPayload, body: string = randomBytes(8).toString("hex")): Promise<Answer> =>
  shop.take(shop.quote(), headersOf(payload), body);

function opened(answer: Answer): OpenPayment {
  if (answer.kind !== "open") throw new Error(`not open: ${JSON.stringify(answer)}`);
  return answer;
}

const codeOf = (answer: Answer): string => (answer.kind === "problem" ? answer.problem.code : answer.kind);

describe("on a real chain", () => {
  it("a payer is good for what it has, and no more", async () => {
    const rich = await payer(world, 5_000n);
    opened(await pay(await sign(rich.signer, "exact")));
    opened(await pay(await sign(rich.signer, "exact")));
    expect(codeOf(await pay(await sign(rich.signer, "exact")))).toBe("invalid_exact_evm_insufficient_balance");
    expect(codeOf(await pay(await sign((await payer(world, 0n)).signer, "exact")))).toBe(
      "invalid_exact_evm_insufficient_balance",
    );
  });

  it("upto needs an approval of Permit2", async () => {
    const from = await payer(world, 50_000n);
    expect(codeOf(await pay(await sign(from.signer, "upto")))).toBe("permit2_allowance_required");
    await approvePermit2(world, from.address);
    opened(await pay(await sign(from.signer, "upto")));
  });

  it("a contract answers for its account, and one that is still to be deployed brings how", async () => {
    const owner = await payer(world, 0n);
    const wallet = await deployWallet(owner.address);
    await world.embedded.fund(wallet, { asset: "USDC", amountAtomic: 10_000n });
    const through = (signer: Account): EvmSigner => ({ address: wallet, signDigest: signer.signer.signDigest });
    opened(await pay(await sign(through(owner), "exact")));
    expect(codeOf(await pay(await sign(through(await payer(world, 0n)), "exact")))).toBe("invalid_payment_signature");
    // The same, when no contract is there yet: not one of the allowed factories, then nobody's.
    const absent = await payer(world, 0n);
    const wrapped = (factory: Address): EvmSigner => ({
      address: `0x${randomBytes(20).toString("hex")}`,
      signDigest: async (digest) =>
        wrapErc6492({ factory, calldata: Uint8Array.of(1, 2, 3, 4) }, await absent.signer.signDigest(digest)),
    });
    expect(codeOf(await pay(await sign(wrapped(owner.address), "exact")))).toBe("eip6492_factory_not_allowed");
    expect(codeOf(await pay(await sign(wrapped(testWalletFactoryAddress), "exact")))).toBe("invalid_payment_signature");
  });

  it("fifty copies at once over real connections run one", async () => {
    const from = await payer(world, 50_000n);
    const other = await openShop(database, {
      over: shop,
      modules: { chain: createDeskChain(world.chain, world.embedded.deployments), now: () => Date.now() },
      options: {
        deployments: world.embedded.deployments,
        payTo: world.receiver.address,
        receiverAuthorizer: world.operator.address,
        gateway: "second",
      },
    });
    try {
      const payload = await sign(from.signer, "exact");
      const told: string[] = [];
      const answers = await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          const at = i % 2 === 0 ? shop : other;
          const answer = await at.take(shop.quote(), headersOf(payload));
          if (answer.kind === "problem") told.push(codeOf(answer));
          if (answer.kind !== "open") return answer.kind;
          // Its own copies wait for it; those of the other gateway hear so.
          await expect.poll(() => [at.desk.status().waiting, told.length], { timeout: 60_000 }).toEqual([24, 25]);
          await at.finish(answer);
          return answer.kind;
        }),
      );
      expect(answers.toSorted()).toEqual(["open", ...Array(25).fill("problem"), ...Array(24).fill("replay")]);
      expect(told).toEqual(Array.from({ length: 25 }, () => "payment_in_flight"));
    } finally {
      await other.desk.close();
    }
  });

  it("vouchers of one channel run side by side at two gateways, within what it holds", async () => {
    const from = await payer(world, 100_000n);
    const requirement: PaymentRequirements = shop.offer(shop.quote(), "batch-settlement");
    const channel = channelFor(requirement, from.address);
    const common = { suite, signer: from.signer, requirement, nowS: nowS(), channel };
    const first = await authorizeDeposit(
      { ...common, maxClaimable: 2000n, payer: from.signer, nonce: nonce() },
      20_000n,
    );
    await shop.finish(opened(await pay(first)), { outputTokens: 0 });
    await shop.desk.ingested(shop.log.size());
    const vouchers = await Promise.all(
      Array.from({ length: 9 }, (_, i) => authorizeVoucher({ ...common, maxClaimable: 1000n + BigInt(i + 1) * 2000n })),
    );
    const answers = await Promise.all(vouchers.toReversed().map((payload) => pay(payload)));
    // All came at once and in the wrong order: what covers the most is taken, and the rest hears where the channel stands.
    expect(answers.filter(({ kind }) => kind === "open").length).toBeGreaterThanOrEqual(1);
    for (const answer of answers) if (answer.kind === "open") await shop.finish(answer, { outputTokens: 1000 });
    await shop.desk.ingested(shop.log.size());
    const id = toHex(channelIdOf(suite, world.embedded.chainId, channel));
    const { rows } = await database.query(
      "SELECT charged <= signed_max AS covered, signed_max <= balance AS held FROM assay.channels WHERE channel_id = decode($1, 'hex')",
      [id.slice(2)],
    );
    expect(rows).toEqual([{ covered: true, held: true }]);
    // On the chain there is nothing yet: the deposit's signature alone was good for it.
    const onChain = await createDeskChain(world.chain, world.embedded.deployments).channel(id);
    expect(onChain).toEqual({
      balance: 0n,
      totalClaimed: 0n,
      withdrawAmount: 0n,
      withdrawRequestedAt: 0,
      refundNonce: 0n,
    });
  });

  async function deployWallet(owner: Address): Promise<Address> {
    const from = world.operator.address;
    const data = encodeDeployData({ abi: testWallet1271.abi, bytecode: testWallet1271.bytecode, args: [owner] });
    await world.chain.request("anvil_setBalance", [from, "0xde0b6b3a7640000"]);
    await world.chain.request("anvil_impersonateAccount", [from]);
    const hash = (await world.chain.request("eth_sendTransaction", [{ from, data }])) as `0x${string}`;
    await world.chain.request("anvil_stopImpersonatingAccount", [from]);
    const receipt = await until(() => world.chain.receipt(hash));
    if (!receipt.contractAddress) throw new Error("no contract");
    return receipt.contractAddress;
  }
});
