import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { canonicalAddresses, splitFactoryAddress } from "@assay/contracts";
import { bytesToHex } from "@assay/core";
import { addressOf, createChain, encryptKey, evmSigner, lockChainDirectory, nativeEvmSuite } from "@assay/driver-chain";
import { createPayer, paidFetch, spendLimit } from "@assay/sdk";
import type { Address } from "@assay/x402";
import { makeFakeHome } from "../../apps/assay/src/cli/testing/fake-world.ts";
import type { FakeHome, FakeStreams, Ran } from "../../apps/assay/src/cli/testing/fake-world.ts";
import type { World } from "../../apps/assay/src/cli/world.ts";
import { openChainPlace, readChainFile } from "../../apps/assay/src/server/money/chain-place.ts";
import {
  dollarAddress,
  giveDollars,
  giveEther,
  placeCanonical,
  setCode,
} from "../../packages/driver-chain/src/testing/canonical.ts";
import { startBareNode } from "../../packages/driver-chain/src/testing/node.ts";
import type { BareNode } from "../../packages/driver-chain/src/testing/node.ts";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { mintToken, openHome } from "./running-server.ts";

// From nothing to a settled payment and an anchored batch, on a chain that is not ours: its own number, what public chains
// have, and one account with ether. Everything an operator does is done with the commands that they would type.

const CHAIN_ID = 7_654_321;
const ETHER = 10n ** 18n;
const PASSPHRASE = "correct horse battery staple";
const repository = fileURLToPath(new URL("../..", import.meta.url));
const account = (): Address => `0x${bytesToHex(randomBytes(20))}`;

let node: BareNode;
let home: FakeHome;
let fresh: unknown;
/** Keystores are costly to make: the account is one for all tests, what it has is each test's. */
let keystore: string;
let deployer: Address;

beforeAll(async () => {
  node = await startBareNode(CHAIN_ID);
  await placeCanonical(node.rpc);
  const key = randomBytes(32);
  deployer = addressOf(key);
  keystore = await encryptKey(key, PASSPHRASE);
  await giveEther(node.rpc, deployer, ETHER);
  fresh = await node.rpc.request("evm_snapshot", []);
});
beforeEach(async () => {
  await node.rpc.request("evm_revert", [fresh]);
  fresh = await node.rpc.request("evm_snapshot", []);
  home = makeFakeHome();
  writeFileSync(join(home.home, "deployer.json"), keystore);
});
afterEach(() => home.remove());
afterAll(() => node.close());

const variables =
  (given: Readonly<Record<string, string>>): World["variable"] =>
  (name) =>
    given[name];
const run = (args: readonly string[], changes: Partial<World> & FakeStreams = {}): Promise<Ran> =>
  home.run(args, {
    fetch: (url, init) => fetch(url, init as RequestInit),
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    variable: variables({ ASSAY_WALLET_PASSPHRASE: PASSPHRASE }),
    columns: 200,
    ...changes,
  });
const deploying = (...more: readonly string[]): readonly string[] =>
  `chain deploy --rpc ${node.url} --wallet deployer.json --keys chain-keys --token ${dollarAddress} --out chain.json`
    .split(" ")
    .concat(more);
/** What a test begins with has to have worked. */
async function done(args: readonly string[]): Promise<void> {
  const { code, err } = await run(args);
  if (code !== 0) throw new Error(err);
}
const file = (): string => join(home.home, "chain.json");
const sent = async (): Promise<number> => createChain({ url: node.url, chainId: CHAIN_ID }).transactionCount(deployer);

describe("keys", () => {
  test("are made once, each for its owner's eyes alone", async () => {
    const made = await run(["chain", "keys", "chain-keys", "--json"]);
    expect(made.code).toBe(0);
    const { accounts } = JSON.parse(made.out) as { accounts: Record<string, string> };
    expect(new Set(Object.values(accounts)).size).toBe(4);
    const folder = join(home.home, "chain-keys");
    expect(readdirSync(folder).sort()).toEqual(["authorizer.hex", "facilitator.hex", "settler.hex", "submitter.hex"]);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(folder)) {
      expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
      const key = Buffer.from(readFileSync(join(folder, name), "utf8").trim(), "hex");
      expect(addressOf(key)).toBe(accounts[name.slice(0, -".hex".length)]);
      // What is printed is no secret.
      expect(made.out).not.toContain(bytesToHex(key));
    }
    const before = readFileSync(join(folder, "settler.hex"), "utf8");
    const again = await run(["chain", "keys", "chain-keys"]);
    expect([again.code, again.err]).toEqual([1, expect.stringContaining("never written over")]);
    expect(readFileSync(join(folder, "settler.hex"), "utf8")).toBe(before);
  });
});

describe("deploy", () => {
  beforeEach(() => done(["chain", "keys", "chain-keys"]));

  test("shows what it would do, does it when told to, and finds it the next time", async () => {
    const shown = await run(deploying());
    expect([shown.code, shown.err]).toEqual([0, expect.stringContaining("Nothing was sent.")]);
    expect(shown.out).toContain("7 transactions to be sent");
    expect(shown.out).toMatch(/PaymentBatcher +0x[0-9a-f]{40} +to be created/);
    expect(shown.out).toMatch(/permit2 +0x000000000022d473030f116ddee9f6b43ac78ba3 +published/);
    expect(await sent()).toBe(0);
    expect(readdirSync(home.home)).not.toContain("chain.json");

    const done = await run(deploying("--yes", "--json"));
    expect([done.code, done.err]).toEqual([0, expect.stringContaining("create PaymentBatcher")]);
    const said = JSON.parse(done.out) as { sent: boolean; steps: unknown[]; file: string; schemes: string[] };
    expect(said).toMatchObject({ sent: true, steps: [], file: file() });
    expect(said.schemes).toEqual(["exact", "upto", "batch-settlement"]);
    const { deployments, accounts } = await readChainFile(file());
    expect(deployments).toMatchObject({ chainId: CHAIN_ID, splitFactory: splitFactoryAddress });
    expect(deployments.tokens).toMatchObject([{ symbol: "USDC", decimals: 6, eip3009: true, eip2612: true }]);
    expect(shown.out).toContain(deployments.paymentBatcher);
    expect(Object.keys(accounts ?? {})).toEqual(["settler", "submitter", "authorizer", "facilitator"]);
    // Neither passphrase nor key leaves the files that they are in.
    expect(readFileSync(file(), "utf8") + done.out + done.err).not.toContain(PASSPHRASE);
    for (const name of readdirSync(join(home.home, "chain-keys")))
      expect(readFileSync(file(), "utf8") + done.out + done.err).not.toContain(
        readFileSync(join(home.home, "chain-keys", name), "utf8").trim(),
      );

    const before = await sent();
    const written = readFileSync(file(), "utf8");
    expect((await run(deploying("--yes"))).out).toContain("has what a gateway needs");
    expect(await sent()).toBe(before);
    expect(readFileSync(file(), "utf8")).toBe(written);

    const checked = await run(["chain", "check", "--rpc", node.url, "--file", "chain.json"]);
    expect([checked.code, checked.out]).toEqual([0, expect.stringContaining("is as its file says")]);
    // The same from the variables that the gateway has.
    const ASSAY_CHAIN_KEYS = join(home.home, "chain-keys");
    const variable = variables({ ASSAY_CHAIN: node.url, ASSAY_CHAIN_FILE: file(), ASSAY_CHAIN_KEYS });
    const configured = await run(["chain", "check", "--json"], { variable });
    expect([configured.code, (JSON.parse(configured.out) as { status: string }).status]).toEqual([0, "passed"]);

    await giveEther(node.rpc, accounts?.settler ?? account(), 0n);
    const poor = await run(["chain", "check", "--rpc", node.url, "--file", "chain.json"]);
    expect([poor.code, poor.out]).toEqual([1, expect.stringContaining("is not as it has to be")]);
    expect(poor.out).toMatch(/Ether of the settler +0x[0-9a-f]{40} has 0\./);
  });

  test("says which schemes cannot be offered, and why", async () => {
    await setCode(node.rpc, canonicalAddresses.uptoPermit2Proxy, new Uint8Array());
    await setCode(node.rpc, canonicalAddresses.batchSettlement, Uint8Array.of(1));
    const { code, out } = await run(deploying());
    expect(code).toBe(0);
    expect(out).toMatch(/Offered +exact\n/);
    expect(out).toContain("upto: the chain has no uptoPermit2Proxy");
    const hash = /--accept-code\s+(0x[0-9a-f]{64})/.exec(out)?.[1] ?? "";
    const vouched = await run(deploying("--accept-code", hash, "--yes"));
    expect(vouched.out).toMatch(/Offered +exact, batch-settlement\n/);
    expect(await readChainFile(file())).toMatchObject({
      acceptedCode: [hash],
      deployments: { schemes: ["exact", "batch-settlement"] },
    });
    const check = ["chain", "check", "--rpc", node.url, "--file", "chain.json"];
    expect((await run(check)).code).toBe(0);
    await setCode(node.rpc, canonicalAddresses.batchSettlement, Uint8Array.of(2));
    expect((await run(check)).code).toBe(1);
  });

  test("by an account with too little says how much is missing, and sends nothing", async () => {
    await giveEther(node.rpc, deployer, ETHER / 1000n);
    for (const more of [[], ["--yes"]]) {
      const { code, err } = await run(deploying(...more));
      expect([code, err]).toEqual([1, expect.stringMatching(new RegExp(`The account\\s+${deployer}\\s+lacks 0.0`))]);
    }
    const { out } = await run(deploying("--json"));
    const { missingWei, neededWei } = JSON.parse(out) as { missingWei: string; neededWei: string };
    expect(BigInt(missingWei)).toBe(BigInt(neededWei) - ETHER / 1000n);
    await giveEther(node.rpc, deployer, BigInt(neededWei));
    expect((await run(deploying())).code).toBe(0);
    expect(await sent()).toBe(0);
  });

  const without = (args: readonly string[], flag: string): readonly string[] => {
    const at = args.indexOf(flag);
    return [...args.slice(0, at), ...args.slice(at + 2)];
  };
  test.each([
    ["no node", () => without(deploying("--yes"), "--rpc"), 2, "which chain is meant"],
    ["no keys", () => without(deploying("--yes"), "--keys"), 2, "no keys were named"],
    [
      "keys that are not there",
      () => [...without(deploying("--yes"), "--keys"), "--keys", "nowhere"],
      1,
      "cannot be read",
    ],
    ["no token", () => without(deploying("--yes"), "--token"), 2, "No token is known"],
    [
      "another chain than was named",
      () => deploying("--yes", "--chain-id", "8453"),
      1,
      `of chain ${CHAIN_ID}, not of 8453`,
    ],
    [
      "a keystore that is not there",
      () => [...without(deploying("--yes"), "--wallet"), "--wallet", "no.json"],
      1,
      "no wallet",
    ],
    [
      "a token that is none",
      () => [...without(deploying("--yes"), "--token"), "--token", deployer],
      1,
      "there is no contract",
    ],
    ["an amount that is none", () => deploying("--yes", "--bond", "much"), 2, "is not an amount"],
    ["a bond of nothing", () => deploying("--yes", "--bond", "0"), 1, "a bond of 0 wei"],
    [
      "a price that the chain does not have",
      () => deploying("--yes", "--max-fee", "0.000000001"),
      1,
      "above the limit",
    ],
  ])("with %s is refused", async (_, args, exit, words) => {
    const { code, err } = await run(args());
    expect([code, err.toLowerCase()]).toEqual([exit, expect.stringContaining(words.toLowerCase())]);
    expect(await sent()).toBe(0);
    expect(readdirSync(home.home)).not.toContain("chain.json");
  });

  test("without the passphrase, or with another one, is refused", async () => {
    for (const [given, words] of [
      [{}, "none was given"],
      [{ ASSAY_WALLET_PASSPHRASE: "another" }, "does not open the wallet"],
    ] as const) {
      const { code, err } = await run(deploying("--yes"), { variable: variables(given) });
      expect([code, err]).toEqual([1, expect.stringContaining(words)]);
    }
    expect(await sent()).toBe(0);
  });

  test("beside another one of the same home is refused", async () => {
    const folder = join(home.home, "deployments", String(CHAIN_ID));
    mkdirSync(folder, { recursive: true });
    const unlock = await lockChainDirectory(folder);
    const { code, err } = await run(deploying("--yes"));
    await unlock();
    expect([code, err]).toEqual([1, expect.stringContaining("chain_directory_locked")]);
    expect(await sent()).toBe(0);
    await done(deploying("--yes"));
  });

  test("over another chain's file is refused", async () => {
    expect((await run(deploying("--yes"))).code).toBe(0);
    const other = { ...(JSON.parse(readFileSync(file(), "utf8")) as object), chainId: 8453 };
    writeFileSync(file(), JSON.stringify(other));
    const { code, err } = await run(deploying("--yes"));
    expect([code, err]).toEqual([1, expect.stringContaining("is of chain 8453")]);
    const checked = await run(["chain", "check", "--rpc", node.url, "--file", "chain.json"]);
    expect([checked.code, checked.err]).toEqual([1, expect.stringContaining("chain_mismatch")]);
    writeFileSync(file(), "{}");
    expect((await run(deploying("--yes"))).err).toContain("chain_file_invalid");
    expect(readFileSync(file(), "utf8")).toBe("{}");
  });

  test("with a wallet that opens without a passphrase is refused on a node that is elsewhere", async () => {
    const variable = variables({});
    expect((await run(["wallet", "new"], { variable })).code).toBe(0);
    const args = without(without(deploying("--yes"), "--wallet"), "--rpc");
    const asked: string[] = [];
    const { code, err } = await run([...args, "--rpc", "https://rpc.example/"], {
      variable,
      fetch: (url) => {
        asked.push(url);
        return Promise.resolve(Response.json({ jsonrpc: "2.0", id: 1, result: "0x14a34" }));
      },
    });
    expect([code, err]).toEqual([13, expect.stringContaining("may not be used on Base Sepolia")]);
    expect(asked).toEqual(["https://rpc.example/"]);
    // On this machine a public chain's number alone is enough to refuse it.
    const local = await startBareNode(84532);
    try {
      const here = await run([...args, "--rpc", local.url], { variable });
      expect([here.code, here.err]).toEqual([13, expect.stringContaining("development_key_refused")]);
    } finally {
      await local.close();
    }
  });
});

describe("a gateway over it", () => {
  const payTo = account();
  beforeEach(async () => {
    await done(["chain", "keys", "chain-keys"]);
    await done(deploying("--yes"));
  });
  const config = () => ({
    kind: "rpc" as const,
    url: node.url,
    file: file(),
    keys: join(home.home, "chain-keys"),
    payTo,
  });

  test("is refused keys that the contracts do not know", async () => {
    expect((await run(["chain", "keys", "other-keys"])).code).toBe(0);
    const keys = join(home.home, "other-keys");
    await expect(openChainPlace({ ...config(), keys }, {} as never)).rejects.toMatchObject({
      code: "chain_keys_invalid",
    });
    const checked = await run(["chain", "check", "--rpc", node.url, "--file", "chain.json", "--keys", "other-keys"]);
    expect([checked.code, checked.err]).toEqual([1, expect.stringContaining("chain_keys_invalid")]);
    const place = await openChainPlace(config(), {} as never);
    expect(place.development).toBe(false);
  });

  test("settles a payment and anchors its receipt, and the chain shows both to whoever verifies", async () => {
    const server = await openHome({
      ...sourceChild(),
      seed: true,
      money: {
        chain: config(),
        settler: { entry: join(repository, "apps/assay/dist/settler.js") },
        settling: { afterMs: 100, tickMs: 50, pollMs: 50, anchorEveryMs: 300 },
        eager: true,
      },
    });
    try {
      const { url, money } = server.server;
      const running = await money?.ready();
      const token = await mintToken(url, server.operator);
      const priced = await fetch(`${url}/v1/prices/${encodeURIComponent("model:demo/digits")}`, {
        method: "PUT",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify({ asset: "USDC", perCall: "0.001" }),
      });
      expect(priced.status).toBe(200);

      const said = (await (await fetch(`${url}/v1/chain`)).json()) as { contracts: Readonly<Record<string, unknown>> };
      expect(said).toMatchObject({ chainId: CHAIN_ID, development: false, state: "running", payTo });
      for (const at of Object.values(said.contracts)) expect(at).toMatch(/^0x[0-9a-f]{40}$/);

      const signer = evmSigner(randomBytes(32));
      await giveDollars(node.rpc, signer.address, 1_000_000n);
      const [usdc] = running?.place.deployments.tokens ?? [];
      if (!usdc) throw new Error("There are no dollars.");
      const payer = createPayer({
        signer,
        suite: nativeEvmSuite(),
        policy: {
          assets: [
            spendLimit(
              { symbol: "USDC", network: `eip155:${CHAIN_ID}`, address: usdc.address, decimals: 6, domain: usdc },
              { perCall: "0.1", perHour: "1" },
            ),
          ],
          hosts: [new URL(url).host],
        },
        rpcUrl: node.url,
        channels: "never",
      });
      const response = await paidFetch(undefined, payer)(`${url}/v2/models/demo%2Fdigits/infer`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data: Array.from({ length: 64 }, () => 0) }],
        }),
      });
      expect([response.status, await response.text()]).toEqual([200, expect.any(String)]);
      expect(payer.paymentOf(response)?.scheme).toBe("upto");

      const receipt = join(home.home, "paid.receipt");
      const trust = await (await fetch(`${url}/v1/trust`)).text();
      writeFileSync(join(home.home, "trust.json"), trust);
      const rows = async (): Promise<Readonly<Record<string, string>>> => {
        const bundle = await fetch(
          `${url}/v1/receipts/${response.headers.get("assay-receipt-id")}/bundle?waitMs=5000`,
          {
            headers: { "assay-grant": response.headers.get("assay-grant") ?? "" },
          },
        );
        writeFileSync(receipt, new Uint8Array(await bundle.arrayBuffer()));
        const args = ["verify", "paid.receipt", "--trust", "trust.json", "--chain", node.url, "--json"];
        const { out } = await run(args);
        const { checks } = JSON.parse(out) as { checks: { check: string; status: string; code: string }[] };
        return Object.fromEntries(checks.map(({ check, status, code }) => [check, `${status} ${code}`]));
      };
      await expect
        .poll(rows, { timeout: 60_000, interval: 250 })
        .toMatchObject({ payment: "pass payment_settled", anchor: expect.stringMatching(/^pass /) });
      const chain = createChain({ url: node.url, chainId: CHAIN_ID });
      expect((await chain.payerFacts({ payer: payTo, asset: usdc.address })).balance).toBe(1_000n);
    } finally {
      await server.close();
    }
  });
});
