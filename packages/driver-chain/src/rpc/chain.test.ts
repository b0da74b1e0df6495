import { randomBytes } from "node:crypto";
import { canonicalAddresses, testUsdc, testWalletFactory, testWalletFactoryAddress } from "@assay/contracts";
import { bytesToHex, concatBytes, hexToBytes, isAssayError } from "@assay/core";
import { encodeFunctionData } from "viem";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createChain, evmSigner, isRevert, openEmbeddedChain, rpcFault } from "../index.ts";
import type { Chain, ChainEvent, ChainOptions, EmbeddedChain } from "../index.ts";
import { sendAs } from "../embedded/impersonate.ts";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import type { Fault, FaultProxy } from "../testing/fault-proxy.ts";
import { FAILURES_TO_OPEN, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, createBreaker } from "./breaker.ts";
import { MAX_FAULT_MESSAGE, MAX_REVERT_HEX, rpcError } from "./fault.ts";
import { MAX_PROGRAM_BYTES, readAnswer, readProgram } from "./program.ts";
import { MAX_FACTORY_CALL_BYTES, MAX_SIGNATURE_BYTES } from "./signatures.ts";
import { MAX_IN_FLIGHT, MAX_WAITING, createTransport } from "./transport.ts";
import type { Transport } from "./transport.ts";
import { MAX_LOGS } from "./types.ts";
import { nodeTransport } from "../embedded/node.ts";

const code = (value: string): object => expect.objectContaining({ code: value }) as object;
const account = (): `0x${string}` => `0x${bytesToHex(randomBytes(20))}`;
const hex = (bytes: Uint8Array): `0x${string}` => `0x${bytesToHex(bytes)}`;
const keys = { deployer: account(), operators: [account()], submitter: account() };

let directory: string;
let embedded: EmbeddedChain;
let proxy: FaultProxy;
let rpc: Transport;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-chain-rpc-"));
  embedded = await openEmbeddedChain({ directory, profile: 31337, keys });
  proxy = await startFaultProxy(embedded.rpcUrl);
  rpc = nodeTransport(Number(new URL(embedded.rpcUrl).port));
});
afterAll(async () => {
  await proxy.close();
  await embedded.close();
  rmSync(directory, { recursive: true, force: true });
});
afterEach(() => {
  proxy.fault = () => undefined;
});

function chain(options: Partial<ChainOptions> = {}): Chain {
  return createChain({ url: proxy.url, chainId: 31337, timeoutMs: 10_000, ...options });
}

const usdc = (): `0x${string}` => embedded.deployments.tokens[0]!.address;
const asy = (): `0x${string}` => embedded.deployments.tokens[1]!.address;

describe("a payer's facts", () => {
  it("are read in one call: balance, allowance, nonces and code", async () => {
    const payer = account();
    await embedded.fund(payer, { asset: "USDC", amountAtomic: 250n });
    const approve = encodeFunctionData({
      abi: testUsdc.abi,
      functionName: "approve",
      args: [canonicalAddresses.permit2, 77n],
    });
    await rpc.request("anvil_setBalance", [payer, "0xde0b6b3a7640000"]);
    await sendAs(rpc, { from: payer, to: usdc(), data: hexToBytes(approve.slice(2)) });
    const before = proxy.calls.length;
    const facts = await chain().payerFacts({
      payer,
      asset: usdc(),
      authorizationNonce: randomBytes(32),
      permit2Nonce: 2n ** 255n + 3n,
      permitNonce: true,
    });
    expect(proxy.calls.slice(before).map(({ method }) => method)).toEqual(["eth_call"]);
    expect(facts).toMatchObject({
      balance: 250n,
      allowance: 77n,
      authorizationUsed: false,
      permit2NonceUsed: false,
      permitNonce: 0n,
      payerCodeBytes: 0,
    });
    expect(facts.assetCodeBytes).toBe(hexToBytes(testUsdc.deployedBytecode.slice(2)).length);
    expect(facts.timestampS).toBeGreaterThan(1_700_000_000);
    expect(await chain().payerFacts({ payer, asset: usdc(), spender: account() })).toMatchObject({ allowance: 0n });
  });

  it("see used nonces: those that Permit2 has in its bitmap, and no others", async () => {
    const payer = account();
    await rpc.request("anvil_setBalance", [payer, "0xde0b6b3a7640000"]);
    const invalidate = concatBytes(
      hexToBytes("3ff9dcb1"),
      hexToBytes(7n.toString(16).padStart(64, "0")),
      hexToBytes((1n << 5n).toString(16).padStart(64, "0")),
    );
    await sendAs(rpc, { from: payer, to: canonicalAddresses.permit2, data: invalidate });
    const used = async (permit2Nonce: bigint) =>
      (await chain().payerFacts({ payer, asset: usdc(), permit2Nonce })).permit2NonceUsed;
    expect(await Promise.all([7n * 256n + 5n, 7n * 256n + 4n, 5n, 8n * 256n + 5n].map(used))).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });

  it("say what a token does not know, what is no token, and what kind of account it is", async () => {
    const payer = account();
    const query = { payer, authorizationNonce: randomBytes(32), permitNonce: true } as const;
    expect(await chain().payerFacts({ ...query, asset: asy() })).toMatchObject({
      balance: 0n,
      allowance: 0n,
      authorizationUsed: undefined,
      permitNonce: 0n,
    });
    expect(await chain().payerFacts({ ...query, asset: account() })).toMatchObject({
      balance: undefined,
      allowance: undefined,
      permitNonce: undefined,
      assetCodeBytes: 0,
    });
    // One that delegates (EIP-7702) has 23 bytes, which name its code.
    await rpc.request("anvil_setCode", [payer, `0xef0100${"11".repeat(20)}`]);
    expect((await chain().payerFacts({ payer, asset: usdc() })).payerCodeBytes).toBe(23);
  });

  it("of many payers share calls, and a token of bad will harms none of the others", async () => {
    const reads = chain();
    // Burns all gas that it is given.
    const hog = account();
    await rpc.request("anvil_setCode", [hog, "0x5b5f56"]);
    await reads.blockNumber();
    const before = proxy.calls.length;
    const payers = Array.from({ length: 60 }, account);
    const found = await Promise.all(
      payers.map((payer, i) => reads.payerFacts({ payer, asset: i === 7 ? hog : usdc() })),
    );
    expect(proxy.calls.length - before).toBe(3);
    expect(found.map(({ balance }) => balance)).toEqual(payers.map((_, i) => (i === 7 ? undefined : 0n)));
  });
});

describe("contract accounts", () => {
  const key = randomBytes(32);
  const signer = evmSigner(key);
  const digest = randomBytes(32);

  const deploy = (salt: Uint8Array): Uint8Array =>
    hexToBytes(
      encodeFunctionData({
        abi: testWalletFactory.abi,
        functionName: "createWallet",
        args: [signer.address, hex(salt)],
      }).slice(2),
    );
  const accountOf = async (salt: Uint8Array): Promise<`0x${string}`> => {
    const data = encodeFunctionData({
      abi: testWalletFactory.abi,
      functionName: "walletOf",
      args: [signer.address, hex(salt)],
    });
    const answer = await chain().call({ to: testWalletFactoryAddress, data: hexToBytes(data.slice(2)) });
    return hex(answer.subarray(12)) as `0x${string}`;
  };

  it("are asked themselves (EIP-1271), and anything but their yes is a no", async () => {
    const salt = randomBytes(32);
    await sendAs(rpc, { from: keys.deployer, to: testWalletFactoryAddress, data: deploy(salt) });
    const wallet = await accountOf(salt);
    const signature = await signer.signDigest(digest);
    const reads = chain();
    expect(await reads.isValidSignature(wallet, digest, signature)).toBe(true);
    expect(await reads.isValidSignature(wallet, randomBytes(32), signature)).toBe(false);
    expect(await reads.isValidSignature(wallet, digest, new Uint8Array(65))).toBe(false);
    // A key's own account, a contract without the method, and one that answers everything with a one.
    expect(await reads.isValidSignature(signer.address, digest, signature)).toBe(false);
    expect(await reads.isValidSignature(usdc(), digest, signature)).toBe(false);
    const yes = account();
    await rpc.request("anvil_setCode", [yes, "0x60015f5260205ff3"]);
    expect(await reads.isValidSignature(yes, digest, signature)).toBe(false);
    const before = proxy.calls.length;
    expect(await reads.isValidSignature(wallet, digest, new Uint8Array(MAX_SIGNATURE_BYTES + 1))).toBe(false);
    expect(proxy.calls.length).toBe(before);
  });

  it("may sign before they exist (EIP-6492), if their factory is known", async () => {
    const salt = randomBytes(32);
    const wallet = await accountOf(salt);
    const signature = await signer.signDigest(digest);
    const undeployed = { factory: testWalletFactoryAddress, factoryData: deploy(salt), signature } as const;
    const reads = chain({ factories: [testWalletFactoryAddress.toUpperCase().replace("0X", "0x") as `0x${string}`] });
    expect(await reads.isValidUndeployed(wallet, digest, undeployed)).toBe(true);
    // It was deployed for the length of the call alone.
    expect((await reads.code(wallet)).length).toBe(0);
    expect(await reads.isValidUndeployed(wallet, randomBytes(32), undeployed)).toBe(false);
    expect(await reads.isValidUndeployed(account(), digest, undeployed)).toBe(false);
    expect(await reads.isValidUndeployed(wallet, digest, { ...undeployed, factoryData: new Uint8Array(4) })).toBe(
      false,
    );
    const before = proxy.calls.length;
    expect(await chain().isValidUndeployed(wallet, digest, undeployed)).toBe(false);
    for (const bad of [
      { ...undeployed, factory: account() },
      { ...undeployed, factoryData: new Uint8Array(MAX_FACTORY_CALL_BYTES + 1) },
      { ...undeployed, signature: new Uint8Array(MAX_SIGNATURE_BYTES + 1) },
    ])
      expect(await reads.isValidUndeployed(wallet, digest, bad)).toBe(false);
    expect(proxy.calls.length).toBe(before);
  });
});

describe("other reads", () => {
  it("give blocks, receipts and logs as they are", async () => {
    const reads = chain();
    const to = account();
    const fromBlock = (await reads.blockNumber()) + 1;
    await embedded.fund(to, { asset: "USDC", amountAtomic: 9n });
    const logs = await reads.logs({ address: usdc(), fromBlock, toBlock: "latest" });
    const [log] = logs.filter(({ topics }) => topics[2]?.endsWith(to.slice(2)));
    expect(log).toMatchObject({ address: usdc(), topics: expect.any(Array) as unknown });
    const receipt = await reads.receipt(log!.transactionHash);
    expect(receipt).toMatchObject({ ok: true, from: keys.deployer, to: usdc(), blockHash: log!.blockHash });
    const block = await reads.block(receipt!.blockNumber);
    expect(block).toMatchObject({ number: receipt!.blockNumber, hash: receipt!.blockHash });
    expect(await reads.block(10 ** 9)).toBeUndefined();
    expect(await reads.receipt(hex(randomBytes(32)))).toBeUndefined();
    expect(await reads.transactionCount(keys.deployer)).toBeGreaterThan(0);
  });

  it("tell a revert, with its data, from a failure of the node", async () => {
    const reverter = account();
    await rpc.request("anvil_setCode", [reverter, "0x60aa5f5260205ffd"]);
    const error = await chain()
      .call({ to: reverter })
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject(code("chain_rpc_error"));
    expect(isRevert(error)).toBe(true);
    expect(rpcFault(error)?.revertData).toBe(`0x${"aa".padStart(64, "0")}`);
    const unknown = await chain()
      .request("nothing_here", [])
      .catch((caught: unknown) => caught);
    expect(isRevert(unknown)).toBe(false);
    expect(rpcFault(unknown)?.rpcCode).toBe(-32601);
    expect(rpcFault(new Error("execution reverted"))).toBeUndefined();
  });
});

describe("a node of another chain", () => {
  it("is refused, whatever is asked of it", async () => {
    const other = chain({ chainId: 8453 });
    await expect(other.blockNumber()).rejects.toThrow(code("chain_mismatch"));
    await expect(other.sendRaw(randomBytes(10))).rejects.toThrow(code("chain_mismatch"));
    await expect(other.payerFacts({ payer: account(), asset: usdc() })).rejects.toThrow(code("chain_mismatch"));
    expect(proxy.calls.some(({ method }) => method === "eth_sendRawTransaction")).toBe(false);
  });

  it("is noticed when it takes the place of the right one", async () => {
    const reads = chain();
    await reads.blockNumber();
    proxy.fault = () => ({ kind: "cut" });
    await expect(reads.blockNumber()).rejects.toThrow(code("chain_unavailable"));
    proxy.fault = ({ method }) => (method === "eth_chainId" ? { kind: "result", result: "0x1" } : undefined);
    await expect(reads.blockNumber()).rejects.toThrow(code("chain_mismatch"));
    proxy.fault = () => undefined;
    expect(await reads.blockNumber()).toBeGreaterThan(0);
  });
});

describe("a node that is down, slow or lies", () => {
  it("gives no answer in time, at all, or of any form: chain_unavailable", async () => {
    const faults: readonly Fault[] = [
      { kind: "cut" },
      { kind: "silence" },
      { kind: "body", body: "<html>" },
      { kind: "body", body: "[]" },
      { kind: "body", body: `{"jsonrpc":"2.0","id":-1,"result":"0x1"}` },
      { kind: "body", body: `{"jsonrpc":"2.0"}` },
      { kind: "body", status: 503, body: "{}" },
      { kind: "body", status: 429, body: `{"error":{"code":-32005,"message":"slow down"}}` },
      { kind: "body", body: `"${"x".repeat(5_000)}"` },
      { kind: "body", body: `${"[".repeat(100)}${"]".repeat(100)}` },
      { kind: "result", result: 5 },
      { kind: "result", result: "0x" },
      { kind: "result", result: "latest" },
      { kind: "result", result: `0x${"f".repeat(64)}` },
      { kind: "result", result: null },
    ];
    for (const fault of faults) {
      const isSilent = fault.kind === "silence";
      const reads = chain({ timeoutMs: isSilent ? 150 : 10_000, maxAnswerBytes: 4_096 });
      if (!isSilent) await reads.blockNumber();
      proxy.fault = () => fault;
      await expect(reads.blockNumber(), JSON.stringify(fault).slice(0, 60)).rejects.toThrow(code("chain_unavailable"));
      proxy.fault = () => undefined;
    }
  });

  it("answers something else than was asked: not believed", async () => {
    const reads = chain();
    await reads.blockNumber();
    const answers: readonly (readonly [unknown, () => Promise<unknown>])[] = [
      ["0x", () => reads.payerFacts({ payer: account(), asset: usdc() })],
      [`0x${"00".repeat(96)}`, () => reads.payerFacts({ payer: account(), asset: usdc() })],
      [{ number: "0x1" }, () => reads.block("latest")],
      [[], () => reads.block("latest")],
      [{ status: "0x2" }, () => reads.receipt(hex(randomBytes(32)))],
      [{}, () => reads.logs({ fromBlock: 0, toBlock: "latest" })],
      [[{ topics: ["0x12"] }], () => reads.logs({ fromBlock: 0, toBlock: "latest" })],
      [Array(MAX_LOGS + 1).fill(0), () => reads.logs({ fromBlock: 0, toBlock: "latest" })],
      ["0x123", () => reads.sendRaw(randomBytes(4))],
      ["0x123", () => reads.code(account())],
    ];
    for (const [result, ask] of answers) {
      proxy.fault = ({ method }) => (method === "eth_chainId" ? undefined : { kind: "result", result });
      await expect(ask()).rejects.toThrow(code("chain_unavailable"));
    }
    // A receipt, but of another transaction.
    proxy.fault = () => undefined;
    const [log] = await reads.logs({ address: usdc(), fromBlock: 0, toBlock: "latest" });
    const other = await rpc.request("eth_getTransactionReceipt", [log!.transactionHash]);
    proxy.fault = ({ method }) => (method === "eth_chainId" ? undefined : { kind: "result", result: other });
    await expect(reads.receipt(hex(randomBytes(32)))).rejects.toThrow(code("chain_unavailable"));
  });

  it("is not asked for a while, and tried again by itself", async () => {
    const events: ChainEvent[] = [];
    let now = 1_000_000;
    const reads = chain({ nowMs: () => now, onEvent: (event) => events.push(event) });
    await reads.blockNumber();
    proxy.fault = () => ({ kind: "cut" });
    for (let i = 0; i < FAILURES_TO_OPEN; i++)
      await expect(reads.blockNumber()).rejects.toThrow(code("chain_unavailable"));
    expect(events.map(({ type }) => type)).toEqual(["down"]);
    expect(reads.health()).toMatchObject({ down: true, retryAfterMs: FIRST_PAUSE_MS });
    const before = proxy.calls.length;
    await expect(reads.blockNumber()).rejects.toThrow(code("chain_unavailable"));
    expect(proxy.calls.length).toBe(before);
    proxy.fault = () => undefined;
    now += FIRST_PAUSE_MS;
    expect(await reads.blockNumber()).toBeGreaterThan(0);
    expect(events.map(({ type }) => type)).toEqual(["down", "up"]);
    expect(reads.health()).toMatchObject({ down: false, retryAfterMs: 0 });
  });

  it("goes back: said, with both heights", async () => {
    const events: ChainEvent[] = [];
    const reads = chain({ onEvent: (event) => events.push(event) });
    const from = await reads.blockNumber();
    proxy.fault = ({ method }) => (method === "eth_blockNumber" ? { kind: "result", result: "0x1" } : undefined);
    expect(await reads.blockNumber()).toBe(1);
    expect(events).toEqual([{ type: "regressed", from, to: 1 }]);
  });

  it("says things that could forge a log, or are too long", () => {
    const fault = rpcFault(
      rpcError("eth_call", {
        code: "x",
        message: `a\n\u0000b${"c".repeat(1_000)}`,
        data: `0x${"00".repeat(MAX_REVERT_HEX)}`,
      }),
    );
    expect(fault?.rpcMessage.startsWith("a bccc")).toBe(true);
    expect(fault?.rpcMessage.length).toBe(MAX_FAULT_MESSAGE);
    expect(fault).not.toHaveProperty("revertData");
    expect(rpcFault(rpcError("eth_call", "nonsense"))).toEqual({ rpcCode: 0, rpcMessage: "no reason was given" });
    expect(rpcFault(rpcError("eth_call", { code: 3, message: "m", data: { data: "0xAB" } }))?.revertData).toBe("0xab");
  });

  it("is left when its caller no longer waits, without counting against it", async () => {
    const reads = chain();
    await reads.blockNumber();
    proxy.fault = () => ({ kind: "silence" });
    for (let i = 0; i <= FAILURES_TO_OPEN; i++) {
      const aborter = new AbortController();
      const asked = reads.request("eth_blockNumber", [], { signal: aborter.signal });
      aborter.abort();
      await expect(asked).rejects.toThrow("aborted");
    }
    expect(reads.health().down).toBe(false);
  });
});

describe("calls to a node that does not keep up", () => {
  it("wait for their turn, so many and no more, and are not kept waiting once it is known to be down", async () => {
    const transport = createTransport({ url: proxy.url, timeoutMs: 2_000 });
    await transport.request("eth_chainId", []);
    proxy.fault = () => ({ kind: "silence" });
    const before = proxy.calls.length;
    const asked = Array.from({ length: MAX_IN_FLIGHT + MAX_WAITING }, () =>
      transport.request("eth_chainId", []).catch((error: unknown) => error),
    );
    await expect(transport.request("eth_chainId", [])).rejects.toThrow("too many calls wait");
    for (const answer of await Promise.all(asked)) expect(answer).toMatchObject(code("chain_unavailable"));
    // Only those that had their turn reached the node.
    expect(proxy.calls.length - before).toBeLessThanOrEqual(MAX_IN_FLIGHT + FAILURES_TO_OPEN);
  });
});

describe("addresses of nodes", () => {
  it("are http or https, and their credentials travel in a header and appear in no error", async () => {
    for (const url of ["", "nonsense", "ws://127.0.0.1:1", "file:///etc/passwd"])
      expect(() => createChain({ url, chainId: 1 })).toThrow(code("chain_url_invalid"));
    const url = proxy.url.replace("http://", "http://user:hunter2@");
    expect(await createTransport({ url }).request("eth_chainId", [])).toBe("0x7a69");
    const away = createTransport({ url: "http://user:hunter2@127.0.0.1:1/key-123", timeoutMs: 500 });
    const error = await away.request("eth_chainId", []).catch((caught: unknown) => caught);
    expect(isAssayError(error) && `${error.message} ${error.hints.join(" ")}`).not.toMatch(/hunter2|key-123/);
  });
});

describe("a read program", () => {
  it("has bounds", () => {
    const step = { kind: "call", to: account(), data: new Uint8Array(100), words: 1 } as const;
    expect(() => readProgram(Array.from({ length: 400 }, () => step))).toThrow(code("chain_read_too_large"));
    expect(() => readProgram([{ ...step, data: new Uint8Array(MAX_PROGRAM_BYTES) }])).toThrow(
      code("chain_read_too_large"),
    );
    expect(readAnswer([step], new Uint8Array(159))).toBeUndefined();
    expect(readAnswer([step], new Uint8Array(160))?.results).toEqual([{ ok: false, words: [] }]);
    expect(readAnswer([], new Uint8Array(96).fill(255))).toBeUndefined();
  });
});

describe("the circuit breaker", () => {
  it("opens after failures in a row, lets one try at a time, and waits longer each time", () => {
    let now = 0;
    const breaker = createBreaker(() => now);
    for (let i = 1; i < FAILURES_TO_OPEN; i++) breaker.failed();
    breaker.succeeded();
    for (let i = 1; i < FAILURES_TO_OPEN; i++) breaker.failed();
    expect(breaker.isOpen()).toBe(false);
    let expected = FIRST_PAUSE_MS;
    for (let round = 0; round < 12; round++) {
      breaker.failed();
      expect(breaker.pauseMs()).toBe(expected);
      now += expected;
      expect(breaker.pauseMs()).toBe(0);
      expect(breaker.pauseMs()).toBeGreaterThan(0);
      expected = Math.min(expected * 2, LONGEST_PAUSE_MS);
    }
    breaker.undecided();
    expect(breaker.pauseMs()).toBe(0);
    breaker.succeeded();
    expect(breaker.retryInMs()).toBe(0);
  });
});
