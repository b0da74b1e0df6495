import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  createPublicClient,
  createTestClient,
  encodeAbiParameters,
  erc20Abi,
  http,
  keccak256,
  pad,
  parseAbiParameters,
  toHex,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { eventually } from "@assay/testkit/eventually";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assay, assayJson, makeHome, needed, root, runProgram, startGateway } from "./harness.ts";
import type { Home } from "./harness.ts";

// Clients that others wrote and that npm's tests cannot bring: x402's of the first version, and OpenGradient's SDK for
// Python. Both know their chain by its number alone, so the embedded one carries it.

type Address = `0x${string}`;
type Chain = {
  readonly rpcUrl: string;
  readonly payTo: Address;
  readonly contracts: Readonly<Record<string, Address>>;
} & {
  readonly assets: readonly { readonly symbol: string; readonly address: Address }[];
};
/** What an answer said of itself. */
type Answer = {
  readonly receiptId: string;
  readonly grant: string;
  readonly payment: string | null;
  readonly transaction: Address | null;
  readonly blob: string | null;
  readonly text: string;
};
type Payment = {
  readonly paymentId: string;
  readonly state: string;
  readonly scheme: string;
  readonly payer: string;
  readonly amount: { readonly amountAtomic: string };
  readonly cap: { readonly amountAtomic: string };
  readonly transaction: Address | null;
  readonly logIndex: number;
};
type Settlement = {
  readonly success: boolean;
  readonly amount: string;
  readonly transaction: string;
  readonly payer: string;
};
type Row = { readonly check: string; readonly status: string; readonly code: string };
type Checked = { readonly status: string; readonly checks: readonly Row[] };

/** The first batch is anchored after a minute, and a payment is settled after seconds. */
const PATIENCE_MS = 150_000;
const LOOK_MS = 250;

function until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  return eventually("what was waited for", look, PATIENCE_MS, LOOK_MS);
}

const textOf = (answer: string): string =>
  (JSON.parse(answer) as { choices: readonly { message: { content: string } }[] }).choices[0]?.message.content ?? "";
const decoded = (header: string | null): Settlement =>
  JSON.parse(Buffer.from(header ?? "", "base64").toString()) as Settlement;

/** A gateway on a chain of its own that takes money. */
async function openShop(variables: Readonly<Record<string, string>>) {
  const home = makeHome(variables);
  const gateway = await startGateway(home);
  const chain = await until(() => {
    const found = assayJson(home, "chain", "status") as Chain & { readonly state: string };
    return found.state === "running" ? found : undefined;
  });
  const reading = createPublicClient({ transport: http(chain.rpcUrl) });
  return {
    home,
    gateway,
    chain,
    reading,
    test: createTestClient({ mode: "anvil", transport: http(chain.rpcUrl) }),
    json: (...args: readonly string[]): unknown => assayJson(home, ...args),
    balanceOf: (symbol: string, owner: string): Promise<bigint> =>
      reading.readContract({
        abi: erc20Abi,
        address: chain.assets.find((one) => one.symbol === symbol)?.address ?? "0x",
        functionName: "balanceOf",
        args: [owner as Address],
      }),
    async bundle({ receiptId, grant }: Pick<Answer, "receiptId" | "grant">): Promise<string> {
      const response = await fetch(`${gateway.url}/v1/receipts/${receiptId}/bundle?waitMs=5000`, {
        headers: { "assay-grant": grant },
      });
      if (!response.ok) throw new Error(await response.text());
      const path = join(home.path, `${receiptId}.receipt`);
      writeFileSync(path, new Uint8Array(await response.arrayBuffer()));
      return path;
    },
    /** The payment of a receipt, once it is settled. */
    settled: (receiptId: string): Promise<Payment> =>
      until(() => {
        const { payments } = assayJson(home, "pay", "ls") as {
          payments: readonly (Payment & { receiptId: string })[];
        };
        const found = payments.find((one) => one.receiptId === receiptId);
        if (found?.state === "dead") throw new Error(JSON.stringify(found));
        return found?.state === "settled" ? found : undefined;
      }),
    async close(): Promise<void> {
      await gateway.stop();
      home.remove();
    },
  };
}
type Shop = Awaited<ReturnType<typeof openShop>>;

/** What `assay verify --chain` says of a receipt. */
function verified(shop: Shop, path: string): Checked & { readonly row: (name: string) => readonly [string, string] } {
  const ran = assay(shop.home, "verify", path, "--chain", shop.chain.rpcUrl, "--json");
  const verdict = JSON.parse(ran.stdout) as Checked;
  return {
    ...verdict,
    row(name) {
      const found = verdict.checks.find(({ check }) => check === name);
      return [found?.status ?? "", found?.code ?? ""];
    },
  };
}

describe("x402-fetch 1.2.0, which knows the first version alone", () => {
  let shop: Shop;
  let directory: string;

  beforeAll(async () => {
    directory = needed("ASSAY_X402_V1_DIRECTORY");
    shop = await openShop({ ASSAY_CHAIN: "84532" });
    shop.json("model", "price", "demo/chat", "0.002");
  });
  afterAll(() => shop?.close());

  it("pays with its defaults and is answered; the chain has what the receipt says", async () => {
    const { address } = shop.json("wallet", "new") as { readonly address: string };
    shop.json("wallet", "fund", "--asset", "USDC", "--amount", "1");
    const { privateKey } = shop.json("wallet", "export", "--yes") as { readonly privateKey: Address };
    const before = await shop.balanceOf("USDC", address);
    const script = join(root, "tests/system/x402_v1.mjs");
    const ran = runProgram(process.execPath, [script, directory, shop.gateway.url, privateKey, "demo/chat"]);
    expect(ran.code, ran.stderr).toBe(0);
    const told = JSON.parse(ran.stdout) as {
      readonly status: number;
      readonly text: string;
      readonly receiptId: string;
      readonly grant: string;
      readonly payment: { readonly success: boolean; readonly network: string; readonly payer: string };
    };
    expect(told).toMatchObject({ status: 200, payment: { success: true, network: "base-sepolia" } });
    expect(told.payment.payer.toLowerCase()).toBe(address);
    expect(told.text).not.toBe("");
    const payment = await shop.settled(told.receiptId);
    expect(payment).toMatchObject({
      scheme: "exact",
      payer: address.toLowerCase(),
      amount: { amountAtomic: "2000" },
    });
    expect(before - (await shop.balanceOf("USDC", address))).toBe(2_000n);
    expect(await shop.balanceOf("USDC", shop.chain.payTo)).toBe(2_000n);
    const verdict = verified(shop, await shop.bundle(told));
    expect([verdict.status, verdict.row("payment")]).toEqual(["verified", ["pass", "payment_settled"]]);
  });

  it("pays nothing that it has not", async () => {
    const script = join(root, "tests/system/x402_v1.mjs");
    const ran = runProgram(process.execPath, [script, directory, shop.gateway.url, generatePrivateKey(), "demo/chat"]);
    expect(JSON.parse(ran.stdout)).toMatchObject({ status: 402, receiptId: null, payment: null });
  });
});

// The letters are those of OpenGradient's list of what a compatible server does. This version of their SDK has the schemes
// exact and upto: C09 to C12, channels, are with the client that their next version is made of, in
// tests/service/pay-clients.test.ts.
describe("OpenGradient's Python SDK on a chain with the number of Base", () => {
  const OPG: Address = "0xFbC2051AE2265686a469421b2C5A2D5462FbF5eB";
  const FUNDS = 10n ** 19n;
  const key = generatePrivateKey();
  const unapproved = generatePrivateKey();
  const payer = privateKeyToAccount(key).address;
  const modes = ["private", "batch", "individual"] as const;
  let shop: Shop;
  let files: Home;
  let free: string;
  let told: {
    readonly allowance: readonly [string, string, string];
    readonly approvals: readonly [string, string | null];
    readonly answers: Readonly<Record<(typeof modes)[number], Answer>>;
    readonly streamed: Answer & { readonly finals: number };
    readonly completion: Answer;
    readonly raw: Answer;
    readonly exact: Answer;
    readonly refused: string;
  };
  let quoted: {
    readonly accepts: readonly {
      readonly scheme: string;
      readonly network: string;
      readonly amount: string;
      readonly asset: string;
      readonly payTo: string;
      readonly extra: Readonly<Record<string, unknown>>;
    }[];
    readonly extensions?: Readonly<Record<string, unknown>>;
  };

  const asked = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "gpt-5-mini",
      messages: [{ role: "user", content: "What is 17 + 25?" }],
      max_tokens: 32,
      temperature: 0,
    }),
  };

  beforeAll(async () => {
    const python = needed("ASSAY_TEXT_PYTHON");
    // Any ERC-20 by configuration: theirs, at the address that their SDK has built in.
    files = makeHome();
    const file = join(files.path, "chain.json");
    const token = { symbol: "OPG", address: OPG, decimals: 18, name: "OpenGradient", version: "1" };
    writeFileSync(file, JSON.stringify({ tokens: [{ ...token, eip3009: false, eip2612: false }] }));
    shop = await openShop({ ASSAY_CHAIN: "8453", ASSAY_CHAIN_FILE: file });
    const { reading, test, chain, gateway } = shop;
    const asy = chain.assets.find(({ symbol }) => symbol === "ASY")?.address ?? "0x";
    await test.setCode({ address: OPG, bytecode: (await reading.getCode({ address: asy })) ?? "0x" });
    for (const owner of [payer, privateKeyToAccount(unapproved).address]) {
      // Balances are the first thing that the token keeps.
      const slot = keccak256(encodeAbiParameters(parseAbiParameters("address, uint256"), [owner, 0n]));
      await test.setStorageAt({ address: OPG, index: slot, value: pad(toHex(FUNDS)) });
      await test.setBalance({ address: owner, value: 10n ** 18n });
    }
    shop.json("route", "set", "gpt-5-mini", "demo/chat");
    free = textOf(await (await fetch(`${gateway.url}/v1/chat/completions`, asked)).text());
    shop.json("model", "price", "demo/chat", "1", "--asset", "OPG", "--per", "1k-tokens");
    const unpaid = await fetch(`${gateway.url}/v1/chat/completions`, asked);
    const header = unpaid.headers.get("payment-required") ?? "";
    quoted = JSON.parse(Buffer.from(header, "base64").toString()) as typeof quoted;
    const script = join(root, "tests/system/opengradient_pay.py");
    const ran = runProgram(python, [script, gateway.url, key, unapproved], {
      ...process.env,
      BASE_MAINNET_RPC: chain.rpcUrl,
    });
    if (ran.code !== 0) throw new Error(ran.stderr);
    told = JSON.parse(ran.stdout) as typeof told;
  });
  afterAll(async () => {
    await shop?.close();
    files?.remove();
  });

  const all = (): readonly Answer[] => [
    ...Object.values(told.answers),
    told.streamed,
    told.completion,
    told.raw,
    told.exact,
  ];

  it("C06: is quoted upto, a channel and exact, in this order, and takes upto", async () => {
    expect(quoted.accepts.map(({ scheme, network }) => [scheme, network])).toEqual(
      ["upto", "batch-settlement", "exact"].map((scheme) => [scheme, "eip155:8453"]),
    );
    for (const { asset, extra } of quoted.accepts)
      expect([asset, extra["name"], extra["version"], extra["assetTransferMethod"]]).toEqual([
        OPG,
        "OpenGradient",
        "1",
        "permit2",
      ]);
    // It would sign an approval without a limit if that were offered.
    expect(Object.keys(quoted.extensions ?? {})).not.toContain("erc20ApprovalGasSponsoring");
    for (const mode of modes) expect((await shop.settled(told.answers[mode].receiptId)).scheme).toBe("upto");
  });

  it("C07: what it signs is the quote: Permit2 recovers the payer, and the proxy knows our contract as the facilitator", async () => {
    const [upto] = quoted.accepts;
    expect(upto?.extra["facilitatorAddress"]).toMatch(new RegExp(`^${shop.chain.contracts["paymentBatcher"]}$`, "i"));
    const payment = await shop.settled(told.answers.batch.receiptId);
    expect([payment.cap.amountAtomic, payment.payer]).toEqual([upto?.amount, payer.toLowerCase()]);
    // Neither contract moves anything for another signature, spender or caller.
    const receipt = await shop.reading.getTransactionReceipt({ hash: payment.transaction ?? "0x" });
    expect([receipt.status, receipt.to]).toEqual(["success", shop.chain.contracts["paymentBatcher"]]);
  });

  it("C08: is charged less than it signed, by header and on the chain", async () => {
    let sum = 0n;
    for (const answer of all()) {
      const { amount, cap, scheme } = await shop.settled(answer.receiptId);
      sum += BigInt(amount.amountAtomic);
      if (scheme === "upto") expect(BigInt(amount.amountAtomic)).toBeLessThan(BigInt(cap.amountAtomic));
      const said = decoded(answer.payment);
      expect([said.success, said.payer]).toEqual([true, payer]);
      // The head of a stream comes before its cost is known.
      if (answer !== told.streamed && answer !== told.raw) expect(said.amount).toBe(amount.amountAtomic);
    }
    expect(FUNDS - (await shop.balanceOf("OPG", payer))).toBe(sum);
    expect(await shop.balanceOf("OPG", shop.chain.payTo)).toBe(sum);
  });

  it("C13: with exact alone it pays its price through Permit2", async () => {
    expect(told.exact.text).toBe(free);
    const payment = await shop.settled(told.exact.receiptId);
    expect([payment.scheme, payment.amount]).toEqual(["exact", payment.cap]);
    expect(payment.cap.amountAtomic).toBe(quoted.accepts[2]?.amount);
  });

  it("C14: without an allowance it is refused, and its error says why", async () => {
    expect(told.refused).toContain("402");
    expect(told.refused).toContain("permit2_allowance_required");
    expect(await shop.balanceOf("OPG", privateKeyToAccount(unapproved).address)).toBe(FUNDS);
  });

  it("C20: a stream says what it cost before its end; its own clients see one final chunk", async () => {
    expect([told.streamed.text, told.streamed.finals]).toEqual([free, 1]);
    const event = /\nevent: x402-settlement\ndata: (.*)\n\n(?:: .*\n\n)?data: \[DONE\]\n\n$/.exec(told.raw.text)?.[1];
    const said = decoded((JSON.parse(event ?? "{}") as { readonly paymentResponse: string }).paymentResponse);
    expect([said.success, said.amount]).toEqual([true, (await shop.settled(told.raw.receiptId)).amount.amountAtomic]);
  });

  it("C22: individual is a transaction and a blob of its own", async () => {
    const { transaction, blob, text, receiptId, grant } = told.answers.individual;
    expect(text).toBe(free);
    const receipt = await shop.reading.waitForTransactionReceipt({ hash: transaction ?? "0x" });
    expect([receipt.status, receipt.to]).toEqual(["success", shop.chain.contracts["receiptAnchor"]]);
    const response = await fetch(`${shop.gateway.url}/v1/blobs/${blob}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(createHash("sha256").update(bytes).digest("base64url")).toBe(blob);
    const { leaves } = JSON.parse(new TextDecoder().decode(bytes)) as { leaves: readonly { paymentId: string }[] };
    const { paymentId } = await shop.settled(receiptId);
    expect(leaves.map((leaf) => `0x${leaf.paymentId}`)).toEqual([paymentId]);
    const verdict = verified(shop, await shop.bundle({ receiptId, grant }));
    expect([verdict.status, verdict.row("payment"), verdict.row("anchor")]).toEqual([
      "verified",
      ["pass", "payment_settled"],
      ["pass", "anchored"],
    ]);
  });

  it("C24: the batch's root on the chain is that of its blob; C23: private is in none", async () => {
    const open = await shop.settled(told.answers.batch.receiptId);
    const secret = await shop.settled(told.answers.private.receiptId);
    for (const mode of ["batch", "private"] as const)
      expect([told.answers[mode].text, told.answers[mode].transaction, told.answers[mode].blob]).toEqual([
        free,
        null,
        null,
      ]);
    type Batch = { readonly number: number; readonly state: string; readonly blob: string };
    const batches = async (): Promise<readonly (Batch & { readonly content: string })[]> => {
      const found = (shop.json("batch", "ls") as { readonly batches: readonly Batch[] }).batches;
      return Promise.all(
        found.map(async (batch) => ({
          ...batch,
          content: await (await fetch(`${shop.gateway.url}/v1/blobs/${batch.blob}`)).text(),
        })),
      );
    };
    const holds = (content: string, { paymentId }: Payment): boolean => content.includes(paymentId.slice(2));
    const found = await until(async () =>
      (await batches()).find(({ state, content }) => state === "posted" && holds(content, open)),
    );
    expect(shop.json("batch", "verify", String(found.number))).toMatchObject({ status: "verified" });
    const logged = JSON.parse(found.content) as { readonly toIndex: number };
    expect(logged.toIndex).toBeGreaterThan(secret.logIndex);
    for (const { content } of await batches()) expect(holds(content, secret)).toBe(false);
    const hidden = verified(shop, await shop.bundle(told.answers.private));
    expect([hidden.status, hidden.row("anchor")]).toEqual(["verified", ["absent", "no_anchor"]]);
    const shown = verified(shop, await shop.bundle(told.answers.batch));
    expect([shown.status, shown.row("anchor")]).toEqual(["verified", ["pass", "anchored"]]);
  });

  it("C45: its own approval works on our chain, once and of what was asked", async () => {
    const [before, after, again] = told.allowance;
    expect([before, after, again]).toEqual(["0", String(5n * 10n ** 18n), String(5n * 10n ** 18n)]);
    const [approval, none] = told.approvals;
    expect(none).toBeNull();
    const hash: Address = `0x${approval.replace(/^0x/, "")}`;
    expect((await shop.reading.getTransactionReceipt({ hash })).status).toBe("success");
  });

  it("and completions are paid like chats", () => {
    expect(told.completion.text).not.toBe("");
    expect(new Set(all().map(({ receiptId }) => receiptId)).size).toBe(7);
  });
});
