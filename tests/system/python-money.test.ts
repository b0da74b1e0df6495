import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ExactEvmScheme, toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { batchSettlement, paymentBatcher } from "@assay/contracts";
import { bytesToHex, hexToBytes } from "@assay/core";
import { createChain, nativeEvmSuite, paymentCall } from "@assay/driver-chain";
import { nodeSuite } from "@assay/driver-crypto";
import {
  PROFILE,
  decodeBundle,
  encodeBundle,
  parseTrust,
  receiptSubject,
  trustView,
  viewReceipt,
} from "@assay/receipts";
import type { Bundle, OpenMap, ReceiptView, ServiceClaims, Trust, Verdict } from "@assay/receipts";
import { createAnchorCheck, createChainChecks } from "@assay/service-ledger";
import { MOCK_TIME_MS, makeReceipt } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import { authorizeExact, authorizeUpto, noncePaymentId, permit2PaymentId } from "@assay/x402";
import { createPublicClient, createTestClient, createWalletClient, http, keccak256, toHex } from "viem";
import type { Address, Hex } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startFaultProxy } from "../../packages/driver-chain/src/testing/fault-proxy.ts";
import type { Fault } from "../../packages/driver-chain/src/testing/fault-proxy.ts";
import { openPayWorld, until } from "../service/pay-world.ts";
import type { Payer, PayWorld } from "../service/pay-world.ts";
import { assay, makeHome, needed, root, runProgram } from "./harness.ts";

// Receipts of a running gateway with real payments, and what becomes of them when one thing of the money is changed, before
// both verifiers: what `assay verify` is made of, and the one in Python.

const CHAT = "model:demo/chat";
const DOLLAR = 1_000_000n;
const NETWORK = "eip155:84532" as const;
const python = needed("ASSAY_SYSTEM_PYTHON");

/** What is asked of both. Without `chain` neither asks one. */
type Case = {
  readonly receipt: Uint8Array;
  readonly trust: Trust;
  readonly now: number;
  readonly chain?: string;
  readonly blobs?: readonly Uint8Array[];
};
/** Overall status and code, and status and code of the rows `anchor` and `payment`. */
type Judged = readonly [overall: string, anchor: string, payment: string];

let world: PayWorld;
let trust: Trust;
let rpcUrl: string;

beforeAll(async () => {
  world = await openPayWorld();
  rpcUrl = world.running.place.rpcUrl;
  await world.price(CHAT, { asset: "USDC", perCall: "0.001", perMillionOutputTokens: "10" });
  trust = parseTrust(await (await fetch(`${world.url}/v1/trust`)).text());
});
afterAll(() => world?.close());

async function ours({ receipt, trust: trusted, now, chain }: Case): Promise<Verdict> {
  const { deployments } = world.running.place;
  const checks = chain
    ? createChainChecks({ chain: createChain({ url: chain, chainId: deployments.chainId }), deployments })
    : { anchor: createAnchorCheck() };
  // As the command does: who names a chain wants to know what is on it.
  const taken = viewReceipt(nodeSuite, receipt);
  const view = "view" in taken ? taken.view : undefined;
  const isPaid = view?.service?.claims.payment !== undefined;
  const isAnchored = (view?.bundle.anchors?.length ?? 0) > 0;
  const require = [...(isPaid ? (["payment"] as const) : []), ...(isAnchored ? (["anchor"] as const) : [])];
  const policy = chain ? { require } : {};
  return createVerifier({ trust: trusted, suite: nodeSuite, checks, policy })(receipt, now);
}

type Theirs = {
  readonly status: string;
  readonly code: string;
  readonly rows: Readonly<Record<string, readonly [status: string, code: string, detail: string]>>;
};

/** One process of Python for all of them. It asks nodes that this process may be: nothing here may block. */
async function theirs(cases: readonly Case[]): Promise<readonly Theirs[]> {
  const child = spawn(python, [join(root, "tests/system/verify_many.py")], { stdio: ["pipe", "pipe", "pipe"] });
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
  child.stdin.end(
    JSON.stringify(
      cases.map(({ receipt, trust: trusted, now, chain, blobs }) => ({
        receipt: base64(receipt),
        trust: trustView(trusted),
        now,
        chain: chain ?? null,
        blobs: (blobs ?? []).map(base64),
      })),
    ),
  );
  const ended = new Promise((resolve) => child.once("close", resolve));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  expect([await ended, err]).toEqual([0, ""]);
  return JSON.parse(out) as readonly Theirs[];
}

/** Both verdicts on every case, by name; fails where they differ. */
async function agreed(cases: Readonly<Record<string, Case>>): Promise<Readonly<Record<string, Judged>>> {
  const said = await theirs(Object.values(cases));
  const out: Record<string, Judged> = {};
  const apart: string[] = [];
  for (const [i, [name, one]] of Object.entries(cases).entries()) {
    const verdict = await ours(one);
    const row = (check: string): string => {
      const found = verdict.checks.find((other) => other.check === check);
      return `${found?.status} ${found?.code}`;
    };
    const mine: Judged = [`${verdict.status} ${verdict.code}`, row("anchor"), row("payment")];
    const other = said[i];
    const absent: Readonly<Record<string, string>> = { anchor: "no_anchor", payment: "no_payment" };
    const rowOf = (check: string): string => {
      const [status, code] = other?.rows[check] ?? [];
      return `${status} ${status === "absent" ? absent[check] : code}`;
    };
    const yours: Judged = [`${other?.status} ${other?.code}`, rowOf("anchor"), rowOf("payment")];
    if (mine.join() !== yours.join()) apart.push(`${name}: ours ${mine.join(", ")}; theirs ${yours.join(", ")}`);
    out[name] = mine;
  }
  expect(apart).toEqual([]);
  return out;
}

// --- Receipts of real payments ---------------------------------------------------------------------------------------

type Real = { readonly name: string; readonly receipt: Uint8Array; readonly view: ReceiptView };

function chat(headers: Readonly<Record<string, string>> = {}, stop = "never"): RequestInit {
  const messages = [{ role: "user", content: "What is 17 + 25?" }];
  return {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "demo/chat", messages, temperature: 0, max_tokens: 16, stop: [stop] }),
  };
}

const signerOf = ({ account }: Payer) => toClientEvmSigner(account, world.chain as never);

function viewOf(receipt: Uint8Array): ReceiptView {
  const taken = viewReceipt(nodeSuite, receipt);
  if ("fault" in taken) throw new Error(taken.fault.message);
  return taken.view;
}

/** The file as it is at first, and once payment and batch are stated in it. */
async function filesOf(name: string, response: Response): Promise<{ readonly early: Real; readonly late: Real }> {
  expect(response.status).toBe(200);
  await response.text();
  const [id, grant] = ["assay-receipt-id", "assay-grant"].map((header) => response.headers.get(header) ?? "");
  const bundle = async (): Promise<Real> => {
    const answer = await fetch(`${world.url}/v1/receipts/${id}/bundle?waitMs=5000`, {
      headers: { "assay-grant": grant ?? "" },
    });
    const receipt = new Uint8Array(await answer.arrayBuffer());
    return { name, receipt, view: viewOf(receipt) };
  };
  const early = await bundle();
  const late = await until(async () => {
    const now = await bundle();
    const isPrivate = now.view.service?.claims.payment?.settlement === "private";
    const isSettled = now.view.supplements.some(({ claims }) => claims.kind === "settlement");
    const isAnchored = now.view.bundle.anchors?.[0]?.["transaction"] !== undefined;
    return isSettled && (isPrivate || isAnchored) ? now : undefined;
  });
  return { early, late };
}

async function payReal(): Promise<Readonly<Record<string, Awaited<ReturnType<typeof filesOf>>>>> {
  const route = `${world.url}/v1/chat/completions`;
  const paying = async (name: string, scheme: (payer: Payer) => never) => {
    const payer = await world.payer(name, { USDC: DOLLAR });
    return wrapFetchWithPayment(fetch, new x402Client().register("eip155:*", scheme(payer)));
  };
  const exact = await paying("exact", ({ account }) => new ExactEvmScheme(account) as never);
  const upto = await paying("upto", (payer) => new UptoEvmScheme(signerOf(payer)) as never);
  const channel = await paying("channel", (payer) => new BatchSettlementEvmScheme(signerOf(payer)) as never);
  const asked = (mode: string): RequestInit => chat({ "x-settlement-type": mode });
  return {
    exact: await filesOf("exact", await exact(route, chat())),
    private: await filesOf("private", await exact(route, asked("private"))),
    individual: await filesOf("individual", await exact(route, asked("individual"))),
    upto: await filesOf("upto", await upto(route, chat())),
    "channel, first": await filesOf("channel, first", await channel(route, chat())),
    "channel, second": await filesOf("channel, second", await channel(route, chat({}, "other"))),
  };
}

let reals: Awaited<ReturnType<typeof payReal>>;

describe("receipts of real payments before both verifiers", () => {
  beforeAll(async () => {
    reals = await payReal();
  });

  it("verify alike, without a chain and with one, as they were at first and refreshed", async () => {
    const cases: Record<string, Case> = {};
    for (const [name, { early, late }] of Object.entries(reals))
      for (const [when, { receipt }] of Object.entries({ early, late }))
        for (const [how, chain] of [
          ["offline", undefined],
          ["asked", rpcUrl],
        ] as const)
          cases[`${name}, ${when}, ${how}`] = { receipt, trust, now: Date.now(), ...(chain ? { chain } : {}) };
    const found = await agreed(cases);
    for (const name of Object.keys(reals)) {
      const paid = name.startsWith("channel") ? "pass payment_claimed" : "pass payment_settled";
      const isPrivate = name === "private";
      expect(found[`${name}, late, offline`], name).toEqual([
        "verified verified",
        isPrivate ? "absent no_anchor" : "inconclusive anchor_unchecked",
        "inconclusive payment_unchecked",
      ]);
      expect(found[`${name}, late, asked`], name).toEqual([
        "verified verified",
        isPrivate ? "absent no_anchor" : "pass anchored",
        paid,
      ]);
    }
  });

  it("and the two commands say the same", () => {
    const home = makeHome();
    try {
      const [file, trusted] = [join(home.path, "paid.receipt"), join(home.path, "their-trust.json")];
      writeFileSync(file, reals["exact"]?.late.receipt ?? "");
      writeFileSync(trusted, JSON.stringify(trustView(trust)));
      for (const more of [[], ["--chain", rpcUrl]]) {
        const options = [file, "--trust", trusted, ...more, "--json"];
        const [mine, yours] = [
          assay(home, "verify", ...options),
          runProgram(python, [join(root, "sdk-python/assay_verify.py"), ...options]),
        ];
        const [one, other] = [mine, yours].map(({ stdout }) => JSON.parse(stdout) as Said);
        expect([mine.code, yours.code, one?.status, other?.status]).toEqual([0, 0, "verified", "verified"]);
        const row = (said: Said | undefined, name: string): Said["checks"][number] | undefined =>
          said?.checks.find(({ check }) => check === name);
        for (const name of ["anchor", "payment"]) {
          expect(row(one, name)?.code).toBe(row(other, name)?.code);
          expect(row(one, name)?.status).toBe(row(other, name)?.result);
        }
        // Whose word it is, both say.
        const isAsked = more.length > 0;
        expect(one?.residualTrust.join("\n").includes("answers carry no proof")).toBe(isAsked);
        expect(row(other, "payment")?.detail?.includes("as the asked node says")).toBe(isAsked);
      }
    } finally {
      home.remove();
    }
  });

  it("an anchor with anything of it changed is judged alike", async () => {
    const { late } = reals["exact"] ?? {};
    if (!late) throw new Error("There is no receipt.");
    const [map] = late.view.bundle.anchors ?? [];
    if (!map) throw new Error("There is no anchor.");
    const cases: Record<string, Case> = {};
    const add = (name: string, anchors: readonly OpenMap[]): void => {
      const receipt = encodeBundle({ ...late.view.bundle, anchors });
      for (const chain of [undefined, rpcUrl])
        cases[`${name}${chain ? ", asked" : ""}`] = { receipt, trust, now: Date.now(), ...(chain ? { chain } : {}) };
    };
    for (const [name, changed] of mutations(map)) {
      add(name, [changed]);
      add(`${name}, behind a good one`, [map, changed]);
    }
    // As receipts of before had it, whose submitter's word is on the chain alone; and before the chain has it.
    const { signature: _signature, ...unsigned } = map;
    for (const [name, changed] of mutations(unsigned)) add(`unsigned, ${name}`, [changed]);
    const { transaction: _transaction, blockNumber: _blockNumber, ...unposted } = unsigned;
    add("unposted", [{ ...unposted, entry: { ...(map["entry"] as OpenMap), prev: new Uint8Array(32).fill(1) } }]);
    add("twice", [map, map]);
    add("of another receipt", reals["upto"]?.late.view.bundle.anchors ?? []);
    add("unknown before untrue", [{ type: "other/1" }, { ...map, proof: [] }]);
    const found = await agreed(cases);
    const codes = new Set(Object.values(found).map(([, anchor]) => anchor));
    for (const code of [
      "fail anchor_leaf_mismatch",
      "fail anchor_proof_invalid",
      "fail anchor_signature_invalid",
      "inconclusive anchor_unknown",
      "inconclusive anchor_unchecked",
      "inconclusive anchor_pending",
      "fail anchor_not_on_chain",
      "pass anchored",
    ])
      expect(codes).toContain(code);
    // Where it was posted is all that no digest holds.
    const harmless = /^(?:unsigned, )?(?:twice|blockNumber|transaction|signature gone)/;
    const passed = Object.entries(found).filter(([, [, anchor]]) => anchor === "pass anchored");
    expect(passed.map(([name]) => name).filter((name) => !harmless.test(name))).toEqual([]);
  });

  it("a batch can be made again out of its blob, and out of no other", async () => {
    const { late } = reals["individual"] ?? {};
    const [map] = late?.view.bundle.anchors ?? [];
    const digest = (map?.["entry"] as OpenMap | undefined)?.["blob"];
    if (!late || !(digest instanceof Uint8Array)) throw new Error("There is no anchor.");
    const answer = await fetch(`${world.url}/v1/blobs/${bytesToHex(digest)}`);
    const blob = new Uint8Array(await answer.arrayBuffer());
    const one = { receipt: late.receipt, trust, now: Date.now() };
    const damaged = Uint8Array.from(blob);
    damaged[40] = (damaged[40] ?? 0) ^ 1;
    const rows = (
      await theirs([
        { ...one, blobs: [blob] },
        { ...one, blobs: [damaged] },
        { ...one, chain: rpcUrl, blobs: [blob] },
      ])
    ).map(({ rows: { anchor } }) => anchor?.slice(0, 2));
    expect(rows).toEqual([
      ["inconclusive", "anchor_unchecked"],
      ["fail", "anchor_blob_invalid"],
      ["pass", "anchored"],
    ]);
  });

  it("a node that lies is believed by neither, or by both and named", async () => {
    const proxy = await startFaultProxy(rpcUrl);
    try {
      const receipt = reals["exact"]?.late.receipt ?? new Uint8Array();
      const judge = async (fault: (method: string) => Fault | undefined): Promise<Judged> => {
        proxy.fault = ({ method }) => fault(method);
        const { one } = await agreed({ one: { receipt, trust, now: Date.now(), chain: proxy.url } });
        if (!one) throw new Error("There is no verdict.");
        return one;
      };
      const result = (method: string, value: unknown) => (asked: string) =>
        asked === method ? ({ kind: "result", result: value } as const) : undefined;
      expect((await judge(() => undefined))[0]).toBe("verified verified");
      expect((await judge(result("eth_getTransactionReceipt", null)))[2]).toBe("fail payment_not_on_chain");
      expect((await judge(result("eth_getTransactionReceipt", {})))[2]).toBe("inconclusive chain_unavailable");
      expect((await judge(result("eth_call", `0x${"00".repeat(32)}`)))[1]).toBe("fail anchor_not_on_chain");
      expect((await judge(result("eth_call", "0x")))[1]).toBe("fail anchor_not_on_chain");
      expect((await judge(result("eth_call", "0x1234")))[1]).toBe("inconclusive chain_unavailable");
      expect((await judge(result("eth_call", `0x${"ff".repeat(32)}`)))[1]).toBe("pass anchored");
      const refused = await judge((method) =>
        method === "eth_getTransactionReceipt" ? { kind: "error", code: -32_000, message: "no" } : undefined,
      );
      expect(refused[2]).toBe("inconclusive chain_rpc_error");
    } finally {
      await proxy.close();
    }
  });
});

type Said = {
  readonly status: string;
  readonly residualTrust: readonly string[];
  readonly checks: readonly {
    readonly check: string;
    readonly code: string;
    readonly status?: string;
    readonly result?: string;
    readonly detail?: string;
  }[];
};

/** A map with one value changed, or one member gone; those of inner maps and lists too. */
function* mutations(map: OpenMap, path = ""): Generator<readonly [name: string, changed: OpenMap]> {
  for (const [key, value] of Object.entries(map)) {
    const name = `${path}${key}`;
    const { [key]: _gone, ...rest } = map;
    yield [`${name} gone`, rest];
    if (value instanceof Uint8Array) {
      const flipped = Uint8Array.from(value);
      flipped[value.length >> 1] = (flipped[value.length >> 1] ?? 0) ^ 1;
      yield [`${name} flipped`, { ...map, [key]: flipped }];
      yield [`${name} short`, { ...map, [key]: value.slice(1) }];
    } else if (typeof value === "number") {
      yield [`${name} raised`, { ...map, [key]: value + 1 }];
      yield [`${name} a text`, { ...map, [key]: String(value) }];
    } else if (typeof value === "string") {
      yield [`${name} changed`, { ...map, [key]: value.replace(/.$/, (last) => (last === "1" ? "2" : "1")) }];
      if (/[a-z]/.test(value)) yield [`${name} shouted`, { ...map, [key]: value.toUpperCase() }];
      yield [`${name} empty`, { ...map, [key]: "" }];
    } else if (Array.isArray(value)) {
      yield [`${name} longer`, { ...map, [key]: [...(value as readonly Uint8Array[]), new Uint8Array(32)] }];
      yield [`${name} odd`, { ...map, [key]: [new Uint8Array(31)] }];
    } else if (typeof value === "object") {
      for (const [inner, changed] of mutations(value as OpenMap, `${name}.`)) yield [inner, { ...map, [key]: changed }];
    }
  }
}

// --- Statements signed anew ------------------------------------------------------------------------------------------

type Claim = NonNullable<ServiceClaims["payment"]>;

/** A receipt of other signers that names a payment, with settlements stated. No log has the latter, and the verdict says so. */
async function stated(
  claim: Claim,
  settlements: (service: Uint8Array, execution: Uint8Array) => readonly { refersTo: Uint8Array; body: OpenMap }[],
): Promise<{ readonly receipt: Uint8Array; readonly trust: Trust; readonly now: number }> {
  const made = await makeReceipt({ service: { payment: claim }, open: false });
  const { execution, service } = viewOf(made.bytes);
  const digest = service?.statement.digest ?? new Uint8Array();
  const statements: Bundle["statements"][number][] = [...made.bundle.statements];
  for (const [i, { refersTo, body }] of settlements(digest, execution.statement.digest).entries()) {
    const issuedAtMs = MOCK_TIME_MS + 60_000;
    const { statement, claims } = await made.gateway.state(
      "supplement",
      {
        profile: PROFILE.supplement,
        supplementId: new Uint8Array(16).fill(i),
        refersTo,
        kind: "settlement",
        issuedAtMs,
        body,
      },
      { subject: receiptSubject(execution.claims.receiptId), issuedAtMs },
    );
    statements.push({ envelope: statement.envelope, claims });
  }
  const receipt = encodeBundle({ ...made.bundle, statements });
  expect(decodeBundle(receipt).statements).toHaveLength(statements.length);
  return { receipt, trust: { ...made.trust, chains: trust.chains }, now: made.now };
}

describe("statements of a payment that are signed anew, one thing of them changed", () => {
  let claim: Claim;
  let transaction: Hex;
  let contract: string;

  const bodyOf = (paid: Claim, where: string = transaction): OpenMap => ({
    paymentId: paid.paymentId,
    payer: paid.payer,
    network: paid.network,
    asset: paid.asset,
    amountAtomic: paid.amountAtomic,
    payTo: paid.payTo ?? "",
    scheme: paid.scheme,
    transaction: where,
    blockNumber: "1",
    contract,
  });

  // The payer signs a transfer, and the batcher settles it for the digest of a receipt that is made here.
  beforeAll(async () => {
    const { deployments } = world.running.place;
    contract = deployments.paymentBatcher;
    const payer = await world.payer("anew", { USDC: DOLLAR, ETH: 10n ** 18n });
    const { address, name, version } = world.tokenOf("USDC");
    const payTo: Address = `0x${"c1".repeat(20)}`;
    const nonce = toHex(new Uint8Array(randomBytes(32)));
    const [amount, validAfter, deadline] = [25n, 0n, 2n ** 48n];
    const signature = await payer.account.signTypedData({
      domain: { name, version, chainId: deployments.chainId, verifyingContract: address },
      types: {
        TransferWithAuthorization: [
          { name: "from", type: "address" },
          { name: "to", type: "address" },
          { name: "value", type: "uint256" },
          { name: "validAfter", type: "uint256" },
          { name: "validBefore", type: "uint256" },
          { name: "nonce", type: "bytes32" },
        ],
      },
      primaryType: "TransferWithAuthorization",
      message: { from: payer.address, to: payTo, value: amount, validAfter, validBefore: deadline, nonce },
    });
    const pad = (hex: string): string => hex.slice(2).padStart(64, "0");
    const words = `${deployments.chainId.toString(16).padStart(64, "0")}${pad(address)}${pad(payer.address)}${pad(nonce)}`;
    claim = {
      payer: payer.address,
      paymentId: keccak256(`0x${words}`),
      scheme: "exact",
      network: NETWORK,
      amountAtomic: String(amount),
      asset: address,
      settlement: "private",
      payTo,
    };
    const { receipt } = await stated(claim, () => []);
    const reading = createPublicClient({ transport: http(rpcUrl) });
    const test = createTestClient({ mode: "anvil", transport: http(rpcUrl) });
    const batcher = deployments.paymentBatcher;
    const owner = await reading.readContract({ abi: paymentBatcher.abi, address: batcher, functionName: "owner" });
    await test.impersonateAccount({ address: owner });
    await test.setBalance({ address: owner, value: 10n ** 18n });
    const asOwner = createWalletClient({ account: owner, transport: http(rpcUrl) });
    await reading.waitForTransactionReceipt({
      hash: await asOwner.writeContract({
        chain: null,
        abi: paymentBatcher.abi,
        address: batcher,
        functionName: "setOperator",
        args: [owner, true],
      }),
    });
    const digest = viewOf(receipt).service?.statement.digest ?? new Uint8Array();
    const item = {
      kind: 0,
      receiptDigest: toHex(digest),
      token: address,
      payer: payer.address,
      payTo,
      amount,
      permitted: 0n,
      validAfter,
      deadline,
      nonce,
      signature,
      permit2612: "0x",
    } as const;
    transaction = await asOwner.writeContract({
      chain: null,
      abi: paymentBatcher.abi,
      address: batcher,
      functionName: "settle",
      args: [[item]],
    });
    await reading.waitForTransactionReceipt({ hash: transaction });
    await test.stopImpersonatingAccount({ address: owner });
  });

  const wrong: Readonly<Record<string, string>> = {
    payer: `0x${"11".repeat(20)}`,
    paymentId: `0x${"12".repeat(32)}`,
    scheme: "batch-settlement",
    network: "eip155:8453",
    amountAtomic: "26",
    asset: `0x${"13".repeat(20)}`,
    payTo: `0x${"14".repeat(20)}`,
  };

  it("are judged alike: payments, settlements, and what both say of each other", async () => {
    const cases: Record<string, Case> = {};
    const add = async (name: string, made: ReturnType<typeof stated>): Promise<void> => {
      for (const chain of [undefined, rpcUrl])
        cases[`${name}${chain ? ", asked" : ""}`] = { ...(await made), ...(chain ? { chain } : {}) };
    };
    const about = (body: OpenMap) => (refersTo: Uint8Array) => [{ refersTo, body }];
    await add(
      "as it is, unstated",
      stated(claim, () => []),
    );
    await add("as it is", stated(claim, about(bodyOf(claim))));
    await add(
      "nothing charged",
      stated({ ...claim, amountAtomic: "0" }, () => []),
    );
    for (const amountAtomic of ["025", "", "0x19", "25.0", "-25"])
      await add(
        `amount ${amountAtomic}`,
        stated({ ...claim, amountAtomic }, () => []),
      );
    for (const [name, value] of Object.entries(wrong)) {
      const changed = { ...claim, [name]: value };
      await add(
        `claim, other ${name}`,
        stated(changed, () => []),
      );
      await add(`claim and settlement, other ${name}`, stated(changed, about(bodyOf(changed))));
      await add(`settlement, other ${name}`, stated(claim, about({ ...bodyOf(claim), [name]: value })));
    }
    for (const name of Object.keys(bodyOf(claim))) {
      const { [name]: _gone, ...rest } = bodyOf(claim);
      await add(`settlement without ${name}`, stated(claim, about(rest)));
      await add(`settlement, ${name} no text`, stated(claim, about({ ...bodyOf(claim), [name]: 7 })));
    }
    const { payTo: _payTo, ...unnamed } = claim;
    await add(
      "no recipient claimed",
      stated(unnamed, () => []),
    );
    for (const name of ["payer", "asset", "payTo"] as const) {
      const shouted = { ...claim, [name]: `0x${(claim[name] ?? "").slice(2).toUpperCase()}` };
      await add(`claim, ${name} shouted`, stated(shouted, about(bodyOf(claim))));
    }
    const elsewhere = `0x${"ab".repeat(32)}`;
    const foreign = settledAt(reals["exact"]?.late);
    await add("a transaction that is nowhere", stated(claim, about(bodyOf(claim, elsewhere))));
    await add("another payment's transaction", stated(claim, about(bodyOf(claim, foreign))));
    await add("no transaction", stated(claim, about(bodyOf(claim, "0x12"))));
    await add(
      "of the execution",
      stated(claim, (_service, refersTo) => [{ refersTo, body: bodyOf(claim) }]),
    );
    await add(
      "untrue and then true",
      stated(claim, (refersTo) => [
        { refersTo, body: { ...bodyOf(claim), amountAtomic: "26" } },
        { refersTo, body: bodyOf(claim) },
      ]),
    );
    await add(
      "moved by the chain",
      stated(claim, (refersTo) => [
        { refersTo, body: bodyOf(claim, elsewhere) },
        { refersTo, body: bodyOf(claim) },
      ]),
    );
    await add(
      "of another form",
      stated(claim, (refersTo) => [{ refersTo, body: { note: "hello" } }]),
    );
    const real = reals["exact"]?.late.view.service?.claims.payment;
    if (!real) throw new Error("There is no payment.");
    await add("a payment of another receipt", stated(real, about(bodyOf(real, foreign))));

    const found = await agreed(cases);
    for (const name of ["as it is", "as it is, unstated", "moved by the chain"])
      expect(found[`${name}, asked`]?.[2], name).toBe("pass payment_settled");
    // The event names one receipt, and what says less of the payment is another one.
    for (const name of ["a payment of another receipt", "no recipient claimed"])
      expect(found[`${name}, asked`]?.[2], name).toBe("fail payment_receipt_mismatch");
    const codes = new Set(Object.values(found).map(([, , payment]) => payment));
    for (const code of [
      "inconclusive payment_unchecked",
      "inconclusive payment_other_network",
      "inconclusive payment_unsettled",
      "pass payment_of_nothing",
      "fail settlement_mismatch",
      "fail payment_payer_mismatch",
      "fail payment_asset_mismatch",
      "fail payment_amount_mismatch",
      "fail payment_pay_to_mismatch",
      "fail payment_receipt_mismatch",
    ])
      expect(codes).toContain(code);
  });

  it("of payments that somebody else brought to the chain", async () => {
    const suite = nativeEvmSuite();
    const { deployments } = world.running.place;
    const payer = await world.payer("others", { USDC: DOLLAR, ETH: 10n ** 18n });
    await world.approve(payer, "USDC", DOLLAR);
    const { address, name, version } = world.tokenOf("USDC");
    const payTo: Address = `0x${"c2".repeat(20)}`;
    const sender = createWalletClient({ account: payer.account, transport: http(rpcUrl) });
    const reading = createPublicClient({ transport: http(rpcUrl) });
    const cases: Record<string, Case> = {};
    const brought: string[] = [];
    for (const scheme of ["exact", "permit2", "upto"] as const) {
      const requirement = {
        scheme: scheme === "upto" ? ("upto" as const) : ("exact" as const),
        network: NETWORK,
        amount: "25",
        asset: address,
        payTo,
        maxTimeoutSeconds: 900,
        extra: {
          name,
          version,
          ...(scheme === "permit2" ? { assetTransferMethod: "permit2" as const } : {}),
          ...(scheme === "upto" ? { facilitatorAddress: payer.address } : {}),
        },
      };
      const nonce = new Uint8Array(randomBytes(32));
      const given = { suite, signer: payer.signer, requirement, nonce, nowS: Math.floor(Date.now() / 1000) };
      const { payment } = await (scheme === "upto" ? authorizeUpto(given) : authorizeExact(given));
      if (payment.kind !== "eip3009" && payment.kind !== "permit2" && payment.kind !== "upto")
        throw new Error("No transfer.");
      const id =
        payment.kind === "eip3009"
          ? noncePaymentId(suite, deployments.chainId, address, payer.address, payment.authorization.nonce)
          : permit2PaymentId(suite, deployments.chainId, payer.address, payment.permit.nonce);
      const where = await sender.sendTransaction({ chain: null, ...paymentCall(payment, address, 25n) });
      await reading.waitForTransactionReceipt({ hash: where });
      const mine: Claim = {
        payer: payer.address,
        paymentId: `0x${bytesToHex(id)}`,
        scheme: requirement.scheme,
        network: NETWORK,
        amountAtomic: "25",
        asset: address,
        settlement: "private",
        payTo,
      };
      const changes: readonly (readonly [string, Partial<Claim>])[] = [
        ["", {}],
        ...Object.entries(wrong).map(([key, value]) => [`, other ${key}`, { [key]: value }] as const),
      ];
      for (const [what, change] of changes) {
        const changed = { ...mine, ...change };
        const made = await stated(changed, (refersTo) => [{ refersTo, body: bodyOf(changed, where) }]);
        cases[`${scheme}${what}`] = { ...made, chain: rpcUrl };
      }
      brought.push(scheme);
    }
    const found = await agreed(cases);
    for (const scheme of brought) {
      expect(found[scheme]?.[2], scheme).toBe("pass payment_settled");
      expect(found[`${scheme}, other paymentId`]?.[2], scheme).toBe("inconclusive payment_unlinked");
      expect(found[`${scheme}, other payTo`]?.[2], scheme).toBe("fail payment_not_settled");
    }
  });

  it("of a channel too", async () => {
    const paid = reals["channel, second"]?.late.view.service?.claims.payment;
    const first = reals["channel, first"]?.late;
    const own = settledAt(reals["channel, second"]?.late);
    if (!paid || !first) throw new Error("There is no payment.");
    const cases: Record<string, Case> = {};
    const add = async (name: string, changed: Claim, where = own): Promise<void> => {
      const made = await stated(changed, (refersTo) => [{ refersTo, body: bodyOf(changed, where) }]);
      for (const chain of [undefined, rpcUrl])
        cases[`${name}${chain ? ", asked" : ""}`] = { ...made, ...(chain ? { chain } : {}) };
    };
    await add("as it is", paid);
    for (const [name, value] of Object.entries(wrong)) await add(`other ${name}`, { ...paid, [name]: value });
    for (const amountAtomic of ["999999999", "", "0x1", "1.5"])
      await add(`amount ${amountAtomic}`, { ...paid, amountAtomic });
    await add("in no block", paid, `0x${"ab".repeat(32)}`);
    await add("in another contract's", paid, settledAt(reals["exact"]?.late));
    await add("as a transfer", { ...paid, scheme: "exact" });
    const { payTo: _payTo, ...unnamed } = paid;
    await add("no recipient claimed", unnamed);
    const found = await agreed(cases);
    expect(found["as it is, asked"]?.[2]).toBe("pass payment_claimed");
    for (const amount of ["999999999", "", "0x1", "1.5"])
      expect(found[`amount ${amount}, asked`]?.[2]).toBe("fail payment_amount_mismatch");
    expect(found["in no block, asked"]?.[2]).toBe("fail payment_not_on_chain");
    expect(found["in another contract's, asked"]?.[2]).toBe("inconclusive payment_contract_unknown");
    // What the chain has of it, straight from its contract.
    const reading = createPublicClient({ transport: http(rpcUrl) });
    const logs = await reading.getContractEvents({
      abi: batchSettlement.abi,
      address: world.running.place.deployments.batchSettlement,
      eventName: "Claimed",
      fromBlock: 0n,
    });
    expect(logs.map(({ transactionHash }) => transactionHash)).toContain(own);
    expect(hexToBytes(paid.paymentId.slice(2))).toHaveLength(32);
  });
});

/** The transaction that a receipt's file says it was settled in. */
function settledAt(real: Real | undefined): Hex {
  const bodies = real?.view.supplements.flatMap(({ claims }) => (claims.kind === "settlement" ? [claims.body] : []));
  const transaction = bodies?.at(-1)?.["transaction"];
  if (typeof transaction !== "string") throw new Error("The receipt states no settlement.");
  return transaction as Hex;
}
