import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { canonicalAddresses, splitFactoryAddress } from "@assay/contracts";
import { bytesToHex } from "@assay/core";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createChain, openEmbeddedChain, refuseForeignDevelopment } from "../index.ts";
import type { ChainNodeEvent, EmbeddedChain, EmbeddedChainOptions } from "../index.ts";
import type { Transport } from "../rpc/transport.ts";
import { findChainBinary } from "./binary.ts";
import { MAX_RESTARTS } from "./embedded.ts";
import { MAX_FUNDING } from "./faucet.ts";
import { LINEAGE_ADDRESS, readRunFile } from "./lineage.ts";
import { freePort, nodeTransport } from "./node.ts";
import { MAX_OPERATORS, placeContracts } from "./place.ts";
import { chainProcesses, isChainProcess } from "./process.ts";
import { KEPT_BLOCKS, pruneState, stateFiles, stateToLoad } from "./state.ts";

const code = (value: string): object => expect.objectContaining({ code: value }) as object;
const account = (): `0x${string}` => `0x${bytesToHex(randomBytes(20))}`;
const keys = { deployer: account(), operators: [account()], submitter: account() };
const index = new URL("../index.ts", import.meta.url).href;

let root: string;
const open = new Set<EmbeddedChain>();
const children = new Set<ChildProcess>();

function fresh(): string {
  return join(root, randomBytes(4).toString("hex"));
}

async function start(directory: string, options: Partial<EmbeddedChainOptions> = {}): Promise<EmbeddedChain> {
  const chain = await openEmbeddedChain({ directory, profile: 31337, keys, ...options });
  open.add(chain);
  return chain;
}

/** What the chain says an account has. */
async function holdings(chain: EmbeddedChain, payer: `0x${string}`): Promise<readonly bigint[]> {
  const reads = createChain({ url: chain.rpcUrl, chainId: chain.chainId });
  const found = [await reads.balance(payer)];
  for (const { address } of chain.deployments.tokens)
    found.push((await reads.payerFacts({ payer, asset: address })).balance ?? -1n);
  return found;
}

/** Opens a chain, says so, and does nothing more; ends by itself if nobody kills it. */
const OWNER = `
const { openEmbeddedChain } = await import(process.argv[1]);
const [directory, keys, graceS] = process.argv.slice(2);
const chain = await openEmbeddedChain({ directory, profile: 31337, keys: JSON.parse(keys), orphanGraceS: Number(graceS) });
await chain.fund("0x00000000000000000000000000000000000000aa", { asset: "USDC", amountAtomic: 5n });
console.log((await chain.status()).pid);
setTimeout(() => chain.close().then(() => process.exit()), 60_000);
`;

/** Runs {@link OWNER} and kills it; gives the process id of the node that it leaves. */
async function orphan(directory: string, graceS: number): Promise<number> {
  const child = spawn(
    process.execPath,
    ["--conditions=assay-source", "--import", "tsx", "--input-type=module", "--eval", OWNER, index].concat([
      directory,
      JSON.stringify(keys),
      String(graceS),
    ]),
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  children.add(child);
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
  return Number(line);
}

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "assay-chain-"));
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  for (const chain of open) await chain.close();
  rmSync(root, { recursive: true, force: true });
});

describe("a first start", () => {
  it("has every contract in place, accounts with ether and a bonded submitter, and writes where things are", async () => {
    const directory = fresh();
    const chain = await start(directory);
    expect(chain).toMatchObject({ network: "eip155:31337", chainId: 31337, development: true, adopted: false });
    expect(chain.rpcUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(chain.deployments).toMatchObject({ ...canonicalAddresses, splitFactory: splitFactoryAddress });
    const reads = createChain({ url: chain.rpcUrl, chainId: 31337 });
    const { tokens, chainId: _id, network: _network, schemes: _schemes, ...contracts } = chain.deployments;
    for (const address of [...Object.values(contracts), ...tokens.map((token) => token.address)])
      expect((await reads.code(address)).length).toBeGreaterThan(20);
    for (const holder of [keys.deployer, keys.submitter, ...keys.operators])
      expect(await reads.balance(holder)).toBeGreaterThan(10n ** 18n);
    const [asy] = tokens.filter((token) => token.symbol === "ASY");
    expect((await reads.payerFacts({ payer: keys.deployer, asset: asy!.address })).balance).toBe(10n ** 27n);
    // Nobody but us listens: no accounts with known keys, no interface but loopback, files for the owner alone.
    expect(await reads.request("eth_accounts", [])).toEqual([]);
    expect(statSync(join(directory, "chain.json")).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(join(directory, "deployments.json"), "utf8"))).toEqual(chain.deployments);
    const { pid } = await chain.status();
    await chain.close();
    await chain.close();
    expect(await isChainProcess(pid, directory)).toBe(false);
    await expect(chain.fund(account(), { asset: "ETH", amountAtomic: 1n })).rejects.toThrow(code("chain_closed"));
  });

  it("keeps its state, its address and its lineage for the next one", async () => {
    const directory = fresh();
    const payer = account();
    const first = await start(directory);
    for (const asset of ["ETH", "USDC", "ASY"] as const) await first.fund(payer, { asset, amountAtomic: 11n });
    expect(await holdings(first, payer)).toEqual([11n, 11n, 11n]);
    const { rpcUrl, deployments } = first;
    const lineage = first.lineage();
    await first.close();
    const second = await start(directory);
    expect(second).toMatchObject({ rpcUrl, deployments, adopted: false });
    expect(second.lineage()).toBe(lineage);
    expect(await holdings(second, payer)).toEqual([11n, 11n, 11n]);
    await second.close();
  });

  it("serves the profiles of public chains, with the dollar of each at its address", async () => {
    for (const [profile, dollar] of [
      [84532, "0x036cbd53842c5426634e7929541ec2318f3dcf7e"],
      [8453, "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"],
    ] as const) {
      const chain = await start(fresh(), { profile });
      expect(chain.deployments.tokens[0]).toMatchObject({ symbol: "USDC", address: dollar });
      expect(await createChain({ url: chain.rpcUrl, chainId: profile }).blockNumber()).toBeGreaterThan(0);
      expect(new URL(chain.rpcUrl).hostname).toBe("127.0.0.1");
      const reads = createChain({ url: chain.rpcUrl, chainId: profile });
      await expect(refuseForeignDevelopment(reads, chain.rpcUrl)).resolves.toBeUndefined();
      await expect(refuseForeignDevelopment(reads, "http://example.com")).rejects.toThrow(
        code("development_key_refused"),
      );
      // A node of this machine with the public chain itself, or a copy of it.
      await nodeTransport(Number(new URL(chain.rpcUrl).port)).request("anvil_setCode", [LINEAGE_ADDRESS, "0x"]);
      await expect(refuseForeignDevelopment(reads, chain.rpcUrl)).rejects.toThrow(code("development_key_refused"));
      await chain.close();
    }
  });
});

describe("what goes wrong", () => {
  it("refuses a second process in one directory, another profile in it, and a port that is taken", async () => {
    const directory = fresh();
    const chain = await start(directory);
    await expect(start(directory)).rejects.toThrow(code("chain_directory_locked"));
    const port = Number(new URL(chain.rpcUrl).port);
    await expect(start(fresh(), { port })).rejects.toThrow(code("chain_port_taken"));
    await chain.close();
    await expect(start(directory, { profile: 8453 })).rejects.toThrow(code("chain_profile_changed"));
    const again = await start(directory);
    await again.close();
  });

  it("says that no binary is there, or that it cannot be run", async () => {
    expect(() => findChainBinary("plan9", "mips")).toThrow(code("chain_binary_missing"));
    await expect(start(fresh(), { binary: "/nowhere/anvil" })).rejects.toThrow(code("chain_start_failed"));
    await expect(start(fresh(), { binary: "/bin/false" })).rejects.toThrow(code("chain_start_failed"));
  });

  it("refuses to deploy for nobody, and for too many", async () => {
    const operators = Array.from({ length: MAX_OPERATORS + 1 }, account);
    for (const bad of [[], operators])
      await expect(start(fresh(), { keys: { ...keys, operators: bad } })).rejects.toThrow(
        code("chain_deployment_failed"),
      );
  });

  it("funds nobody beyond its limits", async () => {
    const chain = await start(fresh());
    for (const asset of ["ETH", "USDC", "ASY"] as const)
      for (const amountAtomic of [0n, -1n, MAX_FUNDING[asset] + 1n])
        await expect(chain.fund(account(), { asset, amountAtomic })).rejects.toThrow(code("chain_fund_refused"));
    await expect(chain.fund("0x12", { asset: "ETH", amountAtomic: 1n })).rejects.toThrow(code("chain_fund_refused"));
    await chain.close();
  });

  it("completes a deployment that was cut off anywhere, without doing a step twice", async () => {
    const directory = fresh();
    const owner = { ...keys, deployer: account() };
    const chain = await start(directory);
    const rpc = nodeTransport(Number(new URL(chain.rpcUrl).port));
    // Other keys: other addresses, so on this chain everything of ours is still to be deployed.
    let left = 0;
    const cut: Transport = {
      ...rpc,
      request: (method, ...rest) =>
        left-- > 0 ? rpc.request(method, ...rest) : Promise.reject(new Error("the process was killed")),
    };
    for (let steps = 1; steps < 200; steps += 7) {
      left = steps;
      await placeContracts(cut, 31337, owner).catch(() => undefined);
    }
    const placed = await placeContracts(rpc, 31337, owner);
    const height = (await chain.status()).blockNumber;
    expect(await placeContracts(rpc, 31337, owner)).toEqual(placed);
    const reads = createChain({ url: chain.rpcUrl, chainId: 31337 });
    for (const address of [placed.paymentBatcher, placed.receiptAnchor, placed.tokens[1]!.address])
      expect((await reads.code(address)).length).toBeGreaterThan(20);
    // A heartbeat at most: the second run sent nothing.
    expect((await chain.status()).blockNumber! - height!).toBeLessThan(3);
    await rpc.request("anvil_setCode", [placed.multicall3, "0x"]);
    await chain.close();
    rmSync(join(directory, "deployments.json"));
    const again = await start(directory);
    const repaired = createChain({ url: again.rpcUrl, chainId: 31337 });
    expect((await repaired.code(placed.multicall3)).length).toBeGreaterThan(20);
    expect(existsSync(join(directory, "deployments.json"))).toBe(true);
    await again.close();
  });
});

describe("a node that dies", () => {
  it("is started again at its address, with its state, and given up when it keeps dying", async () => {
    const events: ChainNodeEvent[] = [];
    const directory = fresh();
    const payer = account();
    const chain = await start(directory, { onEvent: (event) => events.push(event) });
    const { rpcUrl } = chain;
    await chain.fund(payer, { asset: "USDC", amountAtomic: 3n });
    const { blockNumber = 0 } = await chain.status();
    await vi.waitFor(async () => expect((await chain.status()).savedBlock).toBeGreaterThanOrEqual(blockNumber), {
      timeout: 60_000,
    });
    for (let round = 1; round <= MAX_RESTARTS; round++) {
      process.kill((await chain.status()).pid, "SIGKILL");
      await vi.waitFor(async () => expect(await chain.status()).toMatchObject({ running: true, restarts: round }), {
        timeout: 60_000,
      });
    }
    expect(chain.rpcUrl).toBe(rpcUrl);
    expect((await holdings(chain, payer))[1]).toBe(3n);
    process.kill((await chain.status()).pid, "SIGKILL");
    await vi.waitFor(() => expect(events.at(-1)?.type).toBe("chain_given_up"), { timeout: 60_000 });
    expect(await chain.status()).toMatchObject({ running: false, blockNumber: undefined });
    await chain.close();
    expect(await chainProcesses(directory)).toEqual([]);
  });

  it("begins anew on reset: same address, same contracts, another lineage", async () => {
    const directory = fresh();
    const payer = account();
    const chain = await start(directory);
    const { rpcUrl, deployments } = chain;
    const lineage = chain.lineage();
    await chain.fund(payer, { asset: "USDC", amountAtomic: 3n });
    await chain.reset();
    expect(chain.rpcUrl).toBe(rpcUrl);
    expect(chain.lineage()).not.toBe(lineage);
    expect(await holdings(chain, payer)).toEqual([0n, 0n, 0n]);
    expect(JSON.parse(readFileSync(join(directory, "deployments.json"), "utf8"))).toEqual(deployments);
    await chain.close();
  });
});

describe("a process that is killed", () => {
  const payer = "0x00000000000000000000000000000000000000aa";

  it("leaves a node that the next start takes over, with all that it knows", async () => {
    const directory = fresh();
    const pid = await orphan(directory, 30);
    expect(await isChainProcess(pid, directory)).toBe(true);
    const chain = await start(directory);
    expect(chain.adopted).toBe(true);
    expect((await chain.status()).pid).toBe(pid);
    expect((await holdings(chain, payer))[1]).toBe(5n);
    // Watched like a child: when it dies it is started again.
    process.kill(pid, "SIGKILL");
    await vi.waitFor(async () => expect((await chain.status()).restarts).toBe(1), { timeout: 60_000 });
    await vi.waitFor(async () => expect((await chain.status()).running).toBe(true), { timeout: 60_000 });
    await chain.close();
    expect(await chainProcesses(directory)).toEqual([]);
  });

  it("leaves a node that may end while it is taken over: then another is started with what it saved", async () => {
    const directory = fresh();
    const pid = await orphan(directory, 30);
    const lease = readFileSync(join(directory, "lease"), "utf8");
    const opening = start(directory);
    // From here on the watchdog of the process before does nothing to it, and everything else still can.
    await vi.waitFor(() => expect(readFileSync(join(directory, "lease"), "utf8")).not.toBe(lease), {
      timeout: 60_000,
      interval: 1,
    });
    process.kill(pid, "SIGKILL");
    const chain = await opening;
    await vi.waitFor(async () => expect((await chain.status()).running).toBe(true), { timeout: 60_000 });
    expect((await chain.status()).pid).not.toBe(pid);
    await chain.close();
    expect(await chainProcesses(directory)).toEqual([]);
  });

  it("leaves a node that ends by itself, with its state written, when nobody comes", async () => {
    const directory = fresh();
    const pid = await orphan(directory, 0);
    await vi.waitFor(async () => expect(await isChainProcess(pid, directory)).toBe(false), { timeout: 60_000 });
    const chain = await start(directory);
    expect(chain.adopted).toBe(false);
    expect((await holdings(chain, payer))[1]).toBe(5n);
    await chain.close();
  });

  it("does not take over a node that cannot prove its lineage: it is ended, and the saved state loaded", async () => {
    const directory = fresh();
    const pid = await orphan(directory, 30);
    const { port } = (await readRunFile(directory))!;
    await nodeTransport(port).request("anvil_setCode", [LINEAGE_ADDRESS, "0x00"]);
    const chain = await start(directory);
    expect(chain.adopted).toBe(false);
    expect(await isChainProcess(pid, directory)).toBe(false);
    await chain.close();
  });

  it("is not mistaken for a stranger's node that answers at the remembered port", async () => {
    const directory = fresh();
    const first = await start(directory);
    await first.close();
    const foreign = await start(fresh());
    const port = Number(new URL(foreign.rpcUrl).port);
    const known = (await readRunFile(directory))!;
    writeFileSync(join(directory, "chain.json"), JSON.stringify({ ...known, port }));
    const second = await start(directory);
    expect(second.adopted).toBe(false);
    expect(second.rpcUrl).not.toBe(foreign.rpcUrl);
    expect(second.lineage()).toBe(known.lineage);
    await second.close();
    await foreign.close();
  });
});

describe("the state's files", () => {
  it("drops a torn file of an ended node and loads the last whole one", async () => {
    const directory = fresh();
    const chain = await start(directory);
    await chain.close();
    const files = stateFiles(directory);
    const whole = readFileSync(files.left, "utf8");
    writeFileSync(files.left, whole.slice(0, whole.length / 2));
    const again = await start(directory);
    expect(again.lineage()).toBe((await readRunFile(directory))!.lineage);
    expect(again.lineage()).toBe(chain.lineage());
    await again.close();
  });

  it("begins a new chain when there is no file", async () => {
    const directory = root;
    expect(await stateToLoad(stateFiles(join(directory, "nothing")))).toBeUndefined();
  });

  it("forgets old empty blocks, and only those", () => {
    const block = (number: number, transactions: readonly string[] = []): object => ({
      header: { number: `0x${number.toString(16)}` },
      transactions,
    });
    const best = KEPT_BLOCKS + 10;
    const blocks = Array.from({ length: best + 1 }, (_, number) => block(number, number === 3 ? ["tx"] : []));
    const state = { best_block_number: best, blocks, accounts: {} } as never;
    const kept = (pruneState(state) as unknown as { blocks: { header: { number: string } }[] }).blocks;
    expect(kept.map(({ header }) => Number(header.number))).toEqual([
      0,
      3,
      ...Array.from({ length: KEPT_BLOCKS }, (_, i) => best - KEPT_BLOCKS + 1 + i),
    ]);
    expect(pruneState({ best_block_number: 1, blocks: [block(0), block(1)] } as never)).toBeUndefined();
    // A number that JSON cannot carry exactly must not be written back.
    expect(pruneState({ best_block_number: best, blocks, total: 2 ** 60 } as never)).toBeUndefined();
  });

  it("finds ports that can be listened to", async () => {
    expect(await freePort()).toBeGreaterThan(1_023);
  });
});
