import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assayToken, canonicalAddresses, create2Deployer, splitFactoryAddress } from "@assay/contracts";
import { bytesToHex, utf8ToBytes } from "@assay/core";
import type { Address, EvmSigner } from "@assay/x402";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { evmSigner } from "../crypto/evm-suite.ts";
import { createChain } from "../rpc/chain.ts";
import type { Chain } from "../rpc/chain.ts";
import { calldata, selector, tailBytes } from "../rpc/selector.ts";
import { addressWord, fromHex, toHex, toQuantity, word } from "../rpc/values.ts";
import { createSender } from "../sender/sender.ts";
import { memoryJournal } from "../sender/memory-journal.ts";
import { dollarAddress, giveEther, placeCanonical, setCode } from "../testing/canonical.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import type { FaultProxy } from "../testing/fault-proxy.ts";
import { startBareNode } from "../testing/node.ts";
import type { BareNode } from "../testing/node.ts";
import { codeHash, readCode } from "./code.ts";
import { MAX_TRIES, deploy } from "./deploy.ts";
import type { DeployEvent } from "./deploy.ts";
import { openFileJournal } from "./file-journal.ts";
import { inspectDeployment } from "./inspect.ts";
import { planDeployment } from "./plan.ts";
import { MAX_TOKEN_TEXT, readToken } from "./tokens.ts";
import type { DeployPlan, DeployWish } from "./plan.ts";

// A chain that is nobody's: a number of its own, what is canonical, accounts that nobody knows.
const CHAIN_ID = 7_654_321;
const ETHER = 10n ** 18n;
const code = (value: string): object => expect.objectContaining({ code: value }) as object;
const saying = (value: string, words: string): object =>
  expect.objectContaining({ code: value, message: expect.stringContaining(words) as string }) as object;

let node: BareNode;
let proxy: FaultProxy;
let chain: Chain;
let fresh: unknown;
let directory: string;
let keys: { readonly deployer: Uint8Array; readonly submitter: Uint8Array };
let deployer: EvmSigner;
let submitter: EvmSigner;
const account = (): Address => `0x${bytesToHex(randomBytes(20))}`;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  node = await startBareNode(CHAIN_ID);
  proxy = await startFaultProxy(node.url);
  await placeCanonical(node.rpc);
  fresh = await node.rpc.request("evm_snapshot", []);
});
beforeEach(async () => {
  await node.rpc.request("evm_revert", [fresh]);
  fresh = await node.rpc.request("evm_snapshot", []);
  chain = createChain({ url: proxy.url, chainId: CHAIN_ID });
  before = proxy.calls.length;
  directory = mkdtempSync(join(tmpdir(), "assay-deploy-"));
  keys = { deployer: randomBytes(32), submitter: randomBytes(32) };
  deployer = evmSigner(keys.deployer);
  submitter = evmSigner(keys.submitter);
  await giveEther(node.rpc, deployer.address, ETHER);
});
afterEach(() => {
  proxy.fault = () => undefined;
  for (const child of children) child.kill("SIGKILL");
  children.clear();
  rmSync(directory, { recursive: true, force: true });
});
afterAll(async () => {
  await proxy.close();
  await node.close();
});

const wish = (changes: Partial<DeployWish> = {}): DeployWish => ({
  deployer: deployer.address,
  owner: deployer.address,
  settler: accounts.settler,
  submitter: submitter.address,
  facilitator: accounts.facilitator,
  bondWei: ETHER / 100n,
  gasWei: ETHER / 200n,
  ownToken: false,
  tokens: [dollarAddress],
  acceptedCode: [],
  ...changes,
});
const accounts = { settler: account(), facilitator: account() };

async function run(
  wanted: DeployWish = wish(),
  lagMs = 30_000,
): Promise<{ readonly plan: DeployPlan; readonly events: readonly DeployEvent[] }> {
  const events: DeployEvent[] = [];
  const journal = await openFileJournal(join(directory, "journal.jsonl"));
  try {
    const plan = await deploy(wanted, {
      chain,
      deployer,
      submitter,
      journal,
      onEvent: (event) => events.push(event),
      signal: AbortSignal.timeout(60_000),
      pollMs: 10,
      lagMs,
    });
    return { plan, events };
  } finally {
    await journal.close();
  }
}

/** Transactions that were sent through the proxy since it was empty. */
const sendsOf = ({ calls }: FaultProxy): number =>
  calls.slice(before).filter(({ method }) => method === "eth_sendRawTransaction").length;
let before = 0;
const nonceOf = (of: Address): Promise<number> => chain.transactionCount(of);
const inspected = (plan: DeployPlan, acceptedCode: readonly `0x${string}`[] = []) =>
  inspectDeployment(chain, plan.deployments, { ...accounts, submitter: submitter.address }, acceptedCode);
const rowsOf = async (plan: DeployPlan): Promise<Readonly<Record<string, string>>> =>
  Object.fromEntries((await inspected(plan)).map(({ what, status, says }) => [what, `${status} ${says}`]));

async function sendAs(signer: EvmSigner, to: Address, data: Uint8Array): Promise<void> {
  const sender = createSender({ chain, signer, journal: memoryJournal(), options: { pollMs: 10 } });
  await sender.submit({ jobId: "one", to, data });
  expect((await sender.wait("one")).state).toBe("final");
  await sender.close();
}

describe("a plan", () => {
  it("names every address, transaction and cost before anything is sent", async () => {
    const plan = await planDeployment(chain, wish());
    expect(plan.steps.map(({ says }) => says.split(" ").slice(0, 2).join(" "))).toEqual([
      "create PaymentBatcher",
      "create ReceiptAnchor",
      "create SplitFactory",
      "send ether",
      "send ether",
      "send ether",
      "bond the",
    ]);
    expect(plan.deployments).toMatchObject({
      ...canonicalAddresses,
      chainId: CHAIN_ID,
      splitFactory: splitFactoryAddress,
      schemes: ["exact", "upto", "batch-settlement"],
      tokens: [
        {
          symbol: "USDC",
          address: dollarAddress,
          decimals: 6,
          name: "USDC",
          version: "2",
          eip3009: true,
          eip2612: true,
        },
      ],
    });
    expect(plan.transfersWei).toBe((3n * ETHER) / 200n + ETHER / 100n);
    expect(plan.gasCostWei).toBe(plan.gas * plan.feeWei);
    expect(plan.neededWei).toBeGreaterThan(plan.transfersWei);
    expect(await nonceOf(deployer.address)).toBe(0);
    // Owner, settler and bond are part of the addresses, and nothing else is.
    const same = await planDeployment(chain, wish({ gasWei: 5n, submitter: account(), facilitator: account() }));
    expect(same.deployments.paymentBatcher).toBe(plan.deployments.paymentBatcher);
    for (const changes of [{ owner: account() }, { settler: account() }])
      expect((await planDeployment(chain, wish(changes))).deployments.paymentBatcher).not.toBe(
        plan.deployments.paymentBatcher,
      );
    const dearer = await planDeployment(chain, wish({ bondWei: ETHER }));
    expect(dearer.deployments.receiptAnchor).not.toBe(plan.deployments.receiptAnchor);
  });

  it("says which schemes lack what, and takes code that the operator vouches for", async () => {
    await setCode(node.rpc, canonicalAddresses.uptoPermit2Proxy, new Uint8Array());
    await setCode(node.rpc, canonicalAddresses.batchSettlement, Uint8Array.of(0x60, 0));
    const plan = await planDeployment(chain, wish());
    expect(plan.deployments.schemes).toEqual(["exact"]);
    expect(plan.withheld).toEqual([
      { scheme: "upto", lacks: ["uptoPermit2Proxy"] },
      { scheme: "batch-settlement", lacks: ["batchSettlement"] },
    ]);
    const hash = codeHash(Uint8Array.of(0x60, 0));
    expect(plan.canonical.find(({ name }) => name === "batchSettlement")).toMatchObject({
      state: "unknown",
      codeHash: hash,
    });
    const vouched = await planDeployment(chain, wish({ acceptedCode: [hash] }));
    expect(vouched.deployments.schemes).toEqual(["exact", "batch-settlement"]);
  });

  it.each([
    ["no proxy to deploy through", new Uint8Array(), "chain_deployer_missing", "has no deterministic deployment proxy"],
    ["something else there", Uint8Array.of(0), "chain_deployer_missing", "is not the deterministic deployment proxy"],
  ])("with %s is refused", async (_, there, refused, words) => {
    await setCode(node.rpc, create2Deployer, there);
    await expect(planDeployment(chain, wish())).rejects.toEqual(saying(refused, words));
  });

  it.each([
    ["a bond of nothing", () => ({ bondWei: 1n }), "a bond of 1 wei"],
    ["a bond beyond what is kept", () => ({ bondWei: 2n ** 80n }), "a bond of"],
    ["one account for two", () => ({ settler: submitter.address }), "four accounts"],
    ["a deployer that also settles", () => ({ settler: deployer.address }), "four accounts"],
    ["no token", () => ({ tokens: [] }), "no token"],
    ["a token twice", () => ({ tokens: [dollarAddress, dollarAddress] }), "two tokens are called USDC"],
  ] as const)("with %s is refused", async (_, changes, words) => {
    await expect(planDeployment(chain, wish(changes()))).rejects.toEqual(saying("chain_deployment_failed", words));
  });

  it("with a token that is none, or that nothing can settle, is refused", async () => {
    await expect(planDeployment(chain, wish({ tokens: [account()] }))).rejects.toEqual(
      saying("chain_token_unsuitable", "there is no contract"),
    );
    await expect(planDeployment(chain, wish({ tokens: [canonicalAddresses.multicall3] }))).rejects.toEqual(
      saying("chain_token_unsuitable", "its symbol"),
    );
    await setCode(node.rpc, canonicalAddresses.permit2, new Uint8Array());
    await expect(planDeployment(chain, wish({ ownToken: true }))).rejects.toEqual(
      saying("chain_token_unsuitable", "Nothing can be paid in ASY"),
    );
    expect((await planDeployment(chain, wish())).deployments.schemes).toEqual(["exact", "batch-settlement"]);
  });

  it("with a node that lies about code is refused, in whichever answer it lies", async () => {
    const { deployments } = await planDeployment(chain, wish());
    const lie = (method: string, answer: string, of: (params: readonly unknown[]) => boolean): void => {
      proxy.fault = (call) =>
        call.method === method && of(call.params) ? { kind: "result", result: answer } : undefined;
    };
    lie("eth_getCode", "0x6000", ([at]) => at === deployments.paymentBatcher);
    await expect(planDeployment(chain, wish())).rejects.toEqual(code("chain_node_contradictory"));
    const proxyCode = toHex(await createChain({ url: node.url, chainId: CHAIN_ID }).code(create2Deployer));
    lie("eth_getCode", proxyCode, ([at]) => at === canonicalAddresses.permit2);
    await expect(planDeployment(chain, wish())).rejects.toEqual(code("chain_node_contradictory"));
    lie("eth_getCode", "0x", ([at]) => at === canonicalAddresses.permit2);
    await expect(planDeployment(chain, wish())).rejects.toEqual(code("chain_node_contradictory"));
    lie("eth_chainId", "0x1", () => true);
    const another = createChain({ url: proxy.url, chainId: CHAIN_ID });
    await expect(planDeployment(another, wish())).rejects.toEqual(code("chain_mismatch"));
  });

  it("with other code where ours belongs is refused", async () => {
    const { deployments } = await planDeployment(chain, wish());
    for (const at of [deployments.paymentBatcher, deployments.receiptAnchor, deployments.splitFactory]) {
      await setCode(node.rpc, at, fromHex(assayToken.deployedBytecode));
      await expect(planDeployment(chain, wish())).rejects.toEqual(code("chain_code_different"));
      await setCode(node.rpc, at, new Uint8Array());
    }
  });

  it("at a price above the limit is refused", async () => {
    await expect(planDeployment(chain, wish({ maxFeePerGas: 1n }))).rejects.toEqual(
      code("transaction_fee_above_limit"),
    );
  });
});

describe("a deployment", () => {
  it("puts everything in place, and a second run finds it", async () => {
    const { plan, events } = await run(wish({ ownToken: true }));
    // What was asked for is what was planned, and no less than what it took.
    for (const event of events) if (event.type === "done") expect(event.step.gas).toBeGreaterThanOrEqual(event.gasUsed);
    expect(events.filter(({ type }) => type === "done")).toHaveLength(8);
    expect(await inspected(plan)).toEqual(
      [
        "PaymentBatcher",
        "Operator",
        "ReceiptAnchor",
        "Bond",
        "SplitFactory",
        "USDC",
        "ASY",
        "exact",
        "upto",
        "batch-settlement",
        "Ether of the settler",
        "Ether of the submitter",
        "Ether of the facilitator",
      ].map((what) => expect.objectContaining({ what, status: "pass" }) as object),
    );
    expect(await chain.balance(accounts.settler)).toBe(ETHER / 200n);
    // The owner has the token's supply; the submitter what is left of its gas.
    const [token] = plan.deployments.tokens.slice(1);
    const facts = await chain.payerFacts({ payer: deployer.address, asset: token?.address ?? dollarAddress });
    expect(facts.balance).toBe(10n ** 27n);

    const before = [await nonceOf(deployer.address), await nonceOf(submitter.address)];
    expect(before).toEqual([7, 1]);
    const again = await run(wish({ ownToken: true }));
    expect(again.events).toEqual([]);
    expect(again.plan.steps).toEqual([]);
    expect(again.plan.deployments).toEqual(plan.deployments);
    expect([await nonceOf(deployer.address), await nonceOf(submitter.address)]).toEqual(before);
  });

  it("sends nothing when the account has too little, and says how much is missing", async () => {
    const { neededWei } = await planDeployment(chain, wish());
    await giveEther(node.rpc, deployer.address, neededWei / 2n);
    await expect(run()).rejects.toEqual(saying("transaction_unfunded", "lacks 0.0"));
    expect(await nonceOf(deployer.address)).toBe(0);
    await giveEther(node.rpc, deployer.address, neededWei);
    expect((await run()).plan.steps).toEqual([]);
  });

  it("gives back what was used up, and bonds again what was asked back", async () => {
    const { plan } = await run();
    await giveEther(node.rpc, accounts.settler, 1n);
    await sendAs(submitter, plan.deployments.receiptAnchor, selector("requestWithdraw()"));
    expect((await rowsOf(plan))["Bond"]).toContain("fail");
    const { events } = await run();
    expect(events.flatMap((event) => (event.type === "done" ? [event.step.id] : []))).toEqual([
      `fund:${accounts.settler}`,
      `bond:${plan.deployments.receiptAnchor}:${submitter.address}`,
    ]);
    expect((await rowsOf(plan))["Bond"]).toContain("pass");
  });

  it("by a submitter that was convicted is refused", async () => {
    const { plan } = await run();
    const words = [0n, 0n, 0n, 0n, 1n].map((value) => bytesToHex(word(value))).join("");
    const asked = bytesToHex(calldata(selector("submitters(address)"), addressWord(submitter.address)));
    proxy.fault = ({ method, params }) =>
      method === "eth_call" && JSON.stringify(params).includes(asked)
        ? { kind: "result", result: `0x${words}` }
        : undefined;
    await expect(run()).rejects.toEqual(saying("chain_deployment_failed", "convicted"));
    expect((await rowsOf(plan))["Bond"]).toContain("convicted");
  });

  it("whose step reverts says which, and goes on where it stopped", async () => {
    // Enough for everything that is estimated, and the chain then takes it away.
    let sent = 0;
    proxy.fault = ({ method }) => {
      if (method !== "eth_estimateGas" || ++sent !== 4) return undefined;
      return { kind: "error", code: 3, message: "execution reverted" };
    };
    await expect(run()).rejects.toEqual(code("transaction_reverts"));
    proxy.fault = () => undefined;
    expect((await run()).plan.steps).toEqual([]);
  });

  it("waits for nodes that lag behind the one that took a transaction", async () => {
    const { deployments } = await planDeployment(chain, wish());
    const anchor = deployments.receiptAnchor;
    // Of both ways to ask for code, now one answer is old and now the other.
    let old = 6;
    proxy.fault = ({ method, params }) => {
      if (sendsOf(proxy) < 2 || old === 0) return undefined;
      if (method === "eth_getCode" && params[0] === anchor && old-- % 2 === 0) return { kind: "result", result: "0x" };
      const asked = method === "eth_call" ? (params[0] as { data: string }).data : "";
      if (!asked.startsWith(`0x73${anchor.slice(2)}3f`) || old % 3 === 0) return undefined;
      return { kind: "result", result: `0x${"00".repeat(64)}` };
    };
    const { plan } = await run();
    expect(old).toBe(0);
    expect(plan.steps).toEqual([]);
    expect(await nonceOf(deployer.address)).toBe(6);

    // The next run finds a node that has not seen the last one's end, and does nothing over.
    const height = await chain.blockNumber();
    let asked = 0;
    proxy.fault = ({ method }) =>
      method === "eth_blockNumber" && asked++ < 3 ? { kind: "result", result: toQuantity(height - 1) } : undefined;
    expect((await run()).events).toEqual([]);
    expect(asked).toBe(4);
  });

  it("whose contract never shows is no success", async () => {
    const { deployments } = await planDeployment(chain, wish());
    const gone = deployments.paymentBatcher;
    proxy.fault = ({ method, params }) => {
      if (method === "eth_getCode" && params[0] === gone) return { kind: "result", result: "0x" };
      const asked = method === "eth_call" ? (params[0] as { data: string }).data : "";
      return asked.startsWith(`0x73${gone.slice(2)}3f`)
        ? { kind: "result", result: `0x${"00".repeat(64)}` }
        : undefined;
    };
    await expect(run(wish(), 0)).rejects.toEqual(saying("chain_deployment_failed", "left no code"));
    expect(await nonceOf(deployer.address)).toBe(1);
  });

  it("gives a step up that was tried too often", async () => {
    await run();
    const journal = await openFileJournal(join(directory, "journal.jsonl"));
    for (let n = 2; n <= MAX_TRIES; n++)
      await journal.append({
        jobId: `fund:${accounts.settler}#${n}`,
        attempt: n,
        network: chain.network,
        sender: deployer.address,
        nonce: 0,
        hash: `0x${"00".repeat(32)}`,
        raw: Uint8Array.of(2),
        maxFee: 1n,
        state: "dropped",
        createdAtMs: 0,
        updatedAtMs: 0,
      });
    await journal.close();
    await giveEther(node.rpc, accounts.settler, 0n);
    const before = await nonceOf(deployer.address);
    await expect(run()).rejects.toEqual(saying("chain_deployment_failed", `tried ${MAX_TRIES} times`));
    expect(await nonceOf(deployer.address)).toBe(before);
  });

  it("that was killed at any moment is completed by the next run, and nothing is sent twice", async () => {
    const expected = await planDeployment(chain, wish());
    // The process ends as a transaction is on its way: before the node has it, or after.
    for (const [nth, after] of [
      [1, false],
      [1, true],
      [2, true],
      [2, false],
    ] as const) {
      let sends = 0;
      const child = startDeployer();
      const ended = once(child, "exit");
      proxy.fault = ({ method }) => {
        if (method !== "eth_sendRawTransaction" || ++sends !== nth) return undefined;
        child.kill("SIGKILL");
        return { kind: "cut", after };
      };
      expect((await ended)[1]).toBe("SIGKILL");
    }
    proxy.fault = () => undefined;
    const { plan, events } = await run();
    expect(events[0]?.type).toBe("resumed");
    expect(plan.deployments).toEqual(expected.deployments);
    expect(plan.steps).toEqual([]);
    expect(await nonceOf(deployer.address)).toBe(expected.steps.filter(({ from }) => from === "deployer").length);
    expect(await nonceOf(submitter.address)).toBe(1);
    expect(await chain.balance(accounts.settler)).toBe(ETHER / 200n);
    expect((await inspected(plan)).every(({ status }) => status === "pass")).toBe(true);
  });
});

describe("a token", () => {
  const said = (text: string): string => {
    const bytes = utf8ToBytes(text);
    return `0x${bytesToHex(word(32))}${bytesToHex(tailBytes(bytes))}`;
  };
  const says = (signature: string, result: string): void => {
    const asked = toHex(selector(signature));
    proxy.fault = ({ method, params }) =>
      method === "eth_call" && (params[0] as { data: string }).data === asked ? { kind: "result", result } : undefined;
  };

  it.each([
    ["symbol()", said("usdc"), "its symbol"],
    ["symbol()", said("A\u0007"), "its symbol"],
    ["symbol()", toHex(word(1)), "its symbol"],
    ["name()", said("N".repeat(MAX_TOKEN_TEXT + 1)), "its name"],
    ["name()", said("U\u202eSD"), "its name"],
    ["name()", `0x${bytesToHex(word(32))}${bytesToHex(word(2))}${"ff".repeat(32)}`, "its name"],
    ["name()", "0x", "its name"],
    ["decimals()", toHex(word(37)), "how it divides"],
    ["decimals()", "0x06", "how it divides"],
  ])("that answers %s with %s is refused", async (signature, result, words) => {
    says(signature, result);
    await expect(readToken(chain, dollarAddress)).rejects.toEqual(saying("chain_token_unsuitable", words));
  });

  it("takes a name of the greatest length", async () => {
    says("name()", said("N".repeat(MAX_TOKEN_TEXT)));
    expect((await readToken(chain, dollarAddress)).name).toHaveLength(MAX_TOKEN_TEXT);
  });

  it("has neither authorizations nor permits when its domain is another than it says, or nothing refuses", async () => {
    const plain = { eip3009: false, eip2612: false };
    says("DOMAIN_SEPARATOR()", toHex(word(1)));
    expect(await readToken(chain, dollarAddress)).toMatchObject(plain);
    says("version()", said("1"));
    expect(await readToken(chain, dollarAddress)).toMatchObject({ ...plain, version: "1" });
    // A contract that swallows whatever it is sent.
    const [move, permit] = [
      "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
      "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
    ].map((signature) => toHex(selector(signature)));
    proxy.fault = ({ method, params }) => {
      const data = method === "eth_call" ? (params[0] as { data: string }).data : "";
      return data.startsWith(move ?? "-") || data.startsWith(permit ?? "-")
        ? { kind: "result", result: "0x" }
        : undefined;
    };
    expect(await readToken(chain, dollarAddress)).toMatchObject(plain);
    proxy.fault = () => undefined;
    expect(await readToken(chain, dollarAddress)).toMatchObject({ eip3009: true, eip2612: true });
  });
});

describe("an inspection", () => {
  it("finds what is wrong", async () => {
    const { plan } = await run();
    const { deployments } = plan;
    await sendAs(
      deployer,
      deployments.paymentBatcher,
      calldata(selector("setOperator(address,bool)"), addressWord(accounts.settler), word(0)),
    );
    await giveEther(node.rpc, accounts.settler, 0n);
    await giveEther(node.rpc, accounts.facilitator, 5n);
    await setCode(node.rpc, canonicalAddresses.uptoPermit2Proxy, new Uint8Array());
    const rows = await rowsOf(plan);
    expect(rows["Operator"]).toMatch(/^fail .* may not settle/);
    expect(rows["Ether of the settler"]).toMatch(/^fail/);
    expect(rows["Ether of the facilitator"]).toMatch(/^warn/);
    expect(rows["upto"]).toBe("fail Offered, but uptoPermit2Proxy is missing.");
    expect(rows["exact"]).toMatch(/^pass/);
    const wary = await rowsOf({ ...plan, deployments: { ...deployments, schemes: ["exact"] } });
    expect(wary["upto"]).toBe("pass Not offered: uptoPermit2Proxy is missing.");
    expect(wary["batch-settlement"]).toMatch(/^warn/);

    const wrong = await rowsOf({
      ...plan,
      deployments: {
        ...deployments,
        paymentBatcher: deployments.receiptAnchor,
        receiptAnchor: account(),
        splitFactory: deployments.paymentBatcher,
        tokens: deployments.tokens.map((token) => ({ ...token, version: "1" })),
      },
    });
    expect(wrong["PaymentBatcher"]).toMatch(/^fail The code at/);
    expect(wrong["ReceiptAnchor"]).toMatch(/^fail There is no contract/);
    expect(wrong["Bond"]).toMatch(/^fail/);
    expect(wrong["SplitFactory"]).toMatch(/^fail Splits belong/);
    expect(wrong["USDC"]).toBe(`fail ${dollarAddress} says otherwise: version 2.`);
    proxy.fault = ({ method }) => (method === "eth_getCode" ? { kind: "result", result: "0x60" } : undefined);
    expect((await rowsOf(plan))["PaymentBatcher"]).toMatch(/^fail The node says two different things/);
    proxy.fault = () => ({ kind: "cut" });
    await expect(inspected(plan)).rejects.toEqual(code("chain_unavailable"));
  });
});

it("code is read whatever its hash begins with", async () => {
  // A node refuses what begins with 0xef where a contract's code would be.
  const codes = Array.from({ length: 4096 }, (_, n) => Uint8Array.of(0x61, n >> 8, n & 0xff));
  const odd = codes.find((one) => codeHash(one).startsWith("0xef"));
  const at = account();
  await setCode(node.rpc, at, odd ?? Uint8Array.of());
  expect(await readCode(chain, at)).toEqual(odd);
  expect(await readCode(chain, account())).toEqual(Uint8Array.of());
});

/** Deploys in a process of its own; ends by itself if nobody kills it. */
const DEPLOYER = `
const [index, url, chainId, path, keys, wish] = process.argv.slice(1);
const { createChain, deploy, evmSigner, openFileJournal } = await import(index);
const { deployer, submitter } = JSON.parse(keys);
const big = (name, value) => (typeof value === "string" && /^\\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value);
setTimeout(() => process.exit(3), 60_000).unref();
const journal = await openFileJournal(path);
await deploy(JSON.parse(wish, big), {
  chain: createChain({ url, chainId: Number(chainId) }),
  deployer: evmSigner(Buffer.from(deployer, "hex")),
  submitter: evmSigner(Buffer.from(submitter, "hex")),
  journal,
  onEvent: () => undefined,
  signal: AbortSignal.timeout(50_000),
  pollMs: 10,
});
await journal.close();
`;

function startDeployer(): ChildProcess {
  const index = new URL("../index.ts", import.meta.url).href;
  const child = spawn(
    process.execPath,
    [
      "--conditions=assay-source",
      "--import",
      "tsx",
      "--input-type=module",
      "--eval",
      DEPLOYER,
      index,
      proxy.url,
      String(CHAIN_ID),
      join(directory, "journal.jsonl"),
      JSON.stringify({ deployer: bytesToHex(keys.deployer), submitter: bytesToHex(keys.submitter) }),
      JSON.stringify(wish(), (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)),
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  children.add(child);
  return child;
}
