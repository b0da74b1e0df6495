import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import OpenAI from "openai";
import { wrapAxiosWithPayment, x402Client as AxiosClient } from "@x402/axios";
import { ExactEvmScheme, toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { receiptAnchor } from "@assay/contracts";
import { bytesToHex } from "@assay/core";
import { nativeEvmSuite } from "@assay/driver-chain";
import type { OpenMap } from "@assay/receipts";
import { createPayer, paidFetch, spendLimit } from "@assay/sdk";
import type { Address, Hex } from "@assay/x402";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blobDigest, channelOf, openPayWorld, settledEvents, until } from "./pay-world.ts";
import type { Answered, Payer, PayWorld, Settled, Settlement } from "./pay-world.ts";
import { ask } from "./running-server.ts";

// Clients that others wrote, unmodified, pay the whole program: server, ledger, settler and a chain with the number of
// Base Sepolia. What they were charged is what their receipts say, and what the chain moved: the last test adds it up.

const CHAT = "model:demo/chat";
const DIGITS = "model:demo/digits";
const EMBED = "model:demo/embed";
const DOLLAR = 1_000_000n;
const ASY = 10n ** 18n;
const NETWORK = "eip155:84532";
const AUTHOR: Address = `0x${"a1".repeat(20)}`;
const NODE: Address = `0x${"b2".repeat(20)}`;

let world: PayWorld;
/** What the model says when nothing is in the way. */
let said = "";

beforeAll(async () => {
  world = await openPayWorld();
  said = textOf(await (await fetch(`${world.url}/v1/chat/completions`, chat())).text());
  await world.price(CHAT, { asset: "USDC", perCall: "0.001", perMillionOutputTokens: "10" });
  await world.price(DIGITS, { asset: "ASY", perCall: "0.25" });
  await world.price(EMBED, {
    asset: "USDC",
    perCall: "0.001",
    payees: [
      { address: AUTHOR, basisPoints: 6_000 },
      { address: NODE, basisPoints: 2_500 },
    ],
  });
});
afterAll(() => world?.close());

const QUESTION = { role: "user" as const, content: "What is 17 + 25?" };
const TOKENS = 32;

function post(body: unknown, headers: Readonly<Record<string, string>> = {}): RequestInit & { readonly body: string } {
  return {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  };
}

function chat(headers?: Readonly<Record<string, string>>, more: object = {}): RequestInit & { readonly body: string } {
  return post({ model: "demo/chat", messages: [QUESTION], temperature: 0, max_tokens: TOKENS, ...more }, headers);
}

const digit = (): RequestInit =>
  post({
    inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data: Array.from({ length: 64 }, () => 0) }],
  });

function textOf(answer: string): string {
  const { choices } = JSON.parse(answer) as { choices?: readonly { message: { content: string } }[] };
  return choices?.[0]?.message.content ?? "";
}

type Seen = { readonly status: number; readonly headers: Headers; readonly text: () => Promise<string> };

/** A fetch that keeps what came back, so that a client's own reading of it hides nothing. */
function watching(): { readonly fetch: typeof fetch; readonly seen: readonly Seen[] } {
  const seen: Seen[] = [];
  return {
    seen,
    fetch: async (...asked) => {
      const response = await fetch(...asked);
      const text = response.clone().text();
      seen.push({ status: response.status, headers: response.headers, text: () => text });
      return response;
    },
  };
}

const settlementOf = (header: string): Settlement => decodePaymentResponseHeader(header) as unknown as Settlement;

/** Writes down what an answer says that it cost: its header, or a stream's event. */
async function answered(
  payer: Payer,
  scheme: Answered["scheme"],
  seen: Pick<Seen, "headers" | "text">,
  about: Pick<Answered, "symbol" | "subject"> = { symbol: "USDC", subject: CHAT },
): Promise<Answered> {
  const header = seen.headers.get("payment-response");
  if (header === null) throw new Error(`Nothing is said of the payment: ${await seen.text()}`);
  const event = /event: x402-settlement\ndata: (.*)\n/.exec(await seen.text())?.[1];
  const response =
    event === undefined
      ? settlementOf(header)
      : settlementOf((JSON.parse(event) as { paymentResponse: string }).paymentResponse);
  const { amount, extra } = response;
  return world.note({
    payer,
    scheme,
    ...about,
    receiptId: seen.headers.get("assay-receipt-id") ?? "",
    grant: seen.headers.get("assay-grant") ?? "",
    amount: BigInt((scheme === "batch-settlement" ? extra?.["chargedAmount"] : amount) as string),
    response,
  });
}

async function expectPaid(paid: Answered, settlement: "batch" | "individual" | "private" = "batch"): Promise<Settled> {
  const { payer, scheme, symbol, subject, amount, response } = paid;
  const settled = await world.settled(paid);
  const { address } = world.tokenOf(symbol);
  const { digest, payTo } = (await ask(world.url, `/v1/prices/${encodeURIComponent(subject)}`)).body;
  const { claim, price, payment, verdict, row, view } = settled;
  expect(claim).toEqual({
    payer: payer.address,
    paymentId: payment.paymentId,
    scheme,
    network: NETWORK,
    amountAtomic: amount.toString(),
    asset: address,
    settlement,
    payTo,
  });
  expect(price).toMatchObject({ amountAtomic: amount.toString(), rateSource: `listing:${String(digest)}` });
  expect(view.service?.claims.route).toBeDefined();
  expect(response).toMatchObject({ success: true, network: NETWORK });
  expect(response.payer?.toLowerCase()).toBe(payer.address);
  expect(payment).toMatchObject({ state: "settled", scheme, payer: payer.address, receiptId: paid.receiptId });
  expect(payment.amount?.amountAtomic).toBe(amount.toString());
  expect(row("payment")).toEqual(["pass", scheme === "batch-settlement" ? "payment_claimed" : "payment_settled"]);
  expect(row("anchor")).toEqual(settlement === "private" ? ["absent", "no_anchor"] : ["pass", "anchored"]);
  expect(verdict.status, JSON.stringify(verdict.checks)).toBe("verified");
  // Who asks without a token is known by what they pay with.
  expect(view.execution.claims.principal).toEqual({
    caller: `${NETWORK}:${payer.address}`,
    authentication: "payment",
  });
  return settled;
}

const exactOf = ({ account }: Payer): x402Client => new x402Client().register("eip155:*", new ExactEvmScheme(account));
const signerOf = ({ account }: Payer) => toClientEvmSigner(account, world.chain as never);

describe("@x402/fetch", () => {
  test("with exact and not one option", async () => {
    const payer = await world.payer("exact", { USDC: DOLLAR });
    const { fetch: watched, seen } = watching();
    const response = await wrapFetchWithPayment(watched, exactOf(payer))(`${world.url}/v1/chat/completions`, chat());
    expect(seen.map(({ status }) => status)).toEqual([402, 200]);
    expect(textOf(await response.text())).toBe(said);
    const paid = await answered(payer, "exact", { headers: response.headers, text: () => Promise.resolve("") });
    // A call, and all the tokens that it may write.
    expect(paid.amount).toBe(1_000n + 10n * BigInt(TOKENS));
    await expectPaid(paid);
  });

  test("with upto: by a permit first, and by an allowance later", async () => {
    const payer = await world.payer("upto", { USDC: DOLLAR });
    const client = new x402Client().register("eip155:*", new UptoEvmScheme(signerOf(payer)));
    const { fetch: watched, seen } = watching();
    const pay = wrapFetchWithPayment(watched, client);
    const ask402 = async (): Promise<Answered> => {
      const response = await pay(`${world.url}/v1/chat/completions`, chat());
      expect([response.status, textOf(await response.text())]).toEqual([200, said]);
      const last = seen.at(-1);
      if (!last) throw new Error("Nothing was seen.");
      return answered(payer, "upto", last);
    };
    const first = await ask402();
    const { completion_tokens: used } = (
      JSON.parse((await seen.at(-1)?.text()) ?? "") as { usage: { completion_tokens: number } }
    ).usage;
    // What was written, and not what could have been.
    expect([first.amount, used < TOKENS]).toEqual([1_000n + 10n * BigInt(used), true]);
    const { payment } = await expectPaid(first);
    expect(payment.cap.amountAtomic).toBe((1_000n + 10n * BigInt(TOKENS)).toString());
    // The permit was of exactly the cap: what was not charged is all that may still be taken.
    expect(await world.allowanceOf("USDC", payer.address)).toBe(10n * BigInt(TOKENS - used));
    await world.approve(payer, "USDC", 100_000n);
    await expectPaid(await ask402());
    expect(await world.allowanceOf("USDC", payer.address)).toBe(100_000n - first.amount);
    expect(seen.map(({ status }) => status)).toEqual([402, 200, 402, 200]);
  });

  test("with a channel: deposit, vouchers, two at a time, and the rest back", async () => {
    const payer = await world.payer("channel", { USDC: DOLLAR });
    const scheme = new BatchSettlementEvmScheme(signerOf(payer));
    const client = new x402Client().register("eip155:*", scheme);
    const { fetch: watched, seen } = watching();
    const pay = wrapFetchWithPayment(watched, client);
    const one = async (stop = "never"): Promise<Answered> => {
      const response = await pay(`${world.url}/v1/chat/completions`, chat({}, { stop: [stop] }));
      const text = await response.text();
      expect([response.status, textOf(text)]).toEqual([200, said]);
      return answered(payer, "batch-settlement", { headers: response.headers, text: () => Promise.resolve("") });
    };
    const first = await one();
    await expectPaid(first);
    const second = await one();
    const state = second.response.extra?.["channelState"] as {
      readonly channelId: string;
      readonly balance: string;
      readonly chargedCumulativeAmount: string;
    };
    expect(state.chargedCumulativeAmount).toBe((first.amount + second.amount).toString());
    await expectPaid(second);
    // Both sign the same voucher, and for one of them it is the other's: that one is told what it has to be.
    const both = await Promise.all([one("this"), one("that")]);
    for (const paid of both) await expectPaid(paid);
    expect(seen.filter(({ status }) => status !== 200 && status !== 402)).toEqual([]);
    const charged = first.amount + second.amount + both[0].amount + both[1].amount;
    expect((await channelOf(world, state.channelId)).totalClaimed).toBe(charged);
    const before = await world.balanceOf("USDC", payer.address);
    const refunded = await scheme.refund(`${world.url}/v1/chat/completions?model=demo/chat`, { fetch: watched });
    expect(refunded).toMatchObject({ success: true, network: NETWORK });
    const given = BigInt(state.balance) - charged;
    expect((await world.balanceOf("USDC", payer.address)) - before).toBe(given);
    expect(await world.balanceOf("USDC", payer.address)).toBe(DOLLAR - charged);
    expect(await channelOf(world, state.channelId)).toEqual({ balance: charged, totalClaimed: charged });
  });

  test("with a channel, the same request twice side by side: one answer for both, charged once", async () => {
    const payer = await world.payer("twice", { USDC: DOLLAR });
    const client = new x402Client().register("eip155:*", new BatchSettlementEvmScheme(signerOf(payer)));
    // Both are signed before either is sent: whoever signs later would have heard of the first one's charge.
    let gather = 1;
    let sent: (() => void)[] = [];
    const { fetch: watched, seen } = watching();
    const together: typeof fetch = async (...asked) => {
      const request = new Request(...asked);
      if (request.headers.has("payment-signature")) {
        const all = new Promise<void>((resolve) => sent.push(resolve));
        if (sent.length === gather) for (const resolve of sent.splice(0)) resolve();
        await all;
      }
      return watched(request);
    };
    const pay = wrapFetchWithPayment(together, client);
    const ask200 = async (): Promise<Response> => {
      const response = await pay(`${world.url}/v1/chat/completions`, chat());
      expect(response.status).toBe(200);
      return response;
    };
    const note = (response: Response): Promise<Answered> =>
      answered(payer, "batch-settlement", { headers: response.headers, text: () => Promise.resolve("") });
    const first = await note(await ask200());
    gather = 2;
    const both = await Promise.all([ask200(), ask200()]);
    expect(both.filter(({ headers }) => headers.get("assay-replayed") === "true")).toHaveLength(1);
    expect(new Set(both.map(({ headers }) => headers.get("assay-receipt-id"))).size).toBe(1);
    const [one, other] = await Promise.all(both.map(async (response) => Buffer.from(await response.arrayBuffer())));
    expect([one?.equals(other ?? Buffer.of()), textOf(String(one))]).toEqual([true, said]);
    const second = await note(both[0]);
    gather = 1;
    sent = [];
    // The client has counted one charge, and so have we: its next voucher is right at once.
    const third = await note(await ask200());
    const state = third.response.extra?.["channelState"] as { readonly chargedCumulativeAmount: string };
    expect(state.chargedCumulativeAmount).toBe((first.amount + second.amount + third.amount).toString());
    expect(seen.map(({ status }) => status)).toEqual([402, 200, 402, 402, 200, 200, 402, 200]);
    for (const paid of [first, second, third]) await expectPaid(paid);
  });

  test("with the network's token, which it has to be told of, through Permit2", async () => {
    const payer = await world.payer("asy", { ASY: 10n * ASY });
    const { address } = world.tokenOf("ASY");
    const about = { symbol: "ASY", subject: DIGITS } as const;
    const route = `${world.url}/v2/models/demo%2Fdigits/infer`;
    // Tokens that it does not know it does not pay.
    await expect(wrapFetchWithPayment(fetch, exactOf(payer))(route, digit())).rejects.toThrow(/payment/i);
    for (const [scheme, registered] of [
      ["upto", new UptoEvmScheme(signerOf(payer))],
      ["exact", new ExactEvmScheme(signerOf(payer))],
    ] as const) {
      const client = new x402Client()
        .register(NETWORK, registered)
        .setSpendControls({ allowedAssets: [{ network: NETWORK, asset: address, maxAmountPerPayment: String(ASY) }] });
      if (scheme === "exact") await world.approve(payer, "ASY", ASY / 4n);
      const response = await wrapFetchWithPayment(fetch, client)(route, digit());
      const answer = (await response.json()) as { readonly outputs: readonly unknown[] };
      expect([response.status, answer.outputs.length]).toEqual([200, 3]);
      const paid = await answered(payer, scheme, { headers: response.headers, text: () => Promise.resolve("") }, about);
      expect(paid.amount).toBe(ASY / 4n);
      await expectPaid(paid);
      // Permit or approval: of exactly what was paid, and nothing of it is left.
      expect(await world.allowanceOf("ASY", payer.address)).toBe(0n);
    }
  });
});

describe("@x402/axios", () => {
  test("pays as it is", async () => {
    const payer = await world.payer("axios", { USDC: DOLLAR });
    // The package brings axios for itself.
    const from = createRequire(createRequire(import.meta.url).resolve("@x402/axios"));
    const { create } = from("axios") as { readonly create: () => Parameters<typeof wrapAxiosWithPayment>[0] };
    const client = new AxiosClient().register("eip155:*", new ExactEvmScheme(payer.account) as never);
    const { data, headers } = await wrapAxiosWithPayment(create(), client).post<object>(
      `${world.url}/v1/chat/completions`,
      JSON.parse(chat().body),
    );
    expect(textOf(JSON.stringify(data))).toBe(said);
    const got = new Headers(headers as Record<string, string>);
    await expectPaid(await answered(payer, "exact", { headers: got, text: () => Promise.resolve("") }));
  });
});

describe("OpenAI's client over a fetch that pays", () => {
  test("whole and as a stream", async () => {
    const payer = await world.payer("openai", { USDC: DOLLAR });
    const { fetch: watched, seen } = watching();
    const client = new OpenAI({
      baseURL: `${world.url}/v1`,
      apiKey: "unused",
      maxRetries: 0,
      fetch: wrapFetchWithPayment(watched, exactOf(payer)),
    });
    const asked = { model: "demo/chat", messages: [QUESTION], temperature: 0, max_tokens: TOKENS };
    const whole = await client.chat.completions.create(asked);
    expect(whole.choices[0]?.message.content).toBe(said);
    // As many loops do: the first choice of every frame, whatever the frame is.
    let streamed = "";
    for await (const { choices } of await client.chat.completions.create({ ...asked, stream: true })) {
      expect(choices).toHaveLength(1);
      streamed += choices[0]?.delta.content ?? "";
    }
    expect(streamed).toBe(said);
    const legacy = { model: "demo/chat", prompt: "17 + 25 =", temperature: 0, max_tokens: 8 };
    const completed = await client.completions.create(legacy);
    let continued = "";
    for await (const { choices } of await client.completions.create({ ...legacy, stream: true }))
      continued += (choices[0] as OpenAI.CompletionChoice).text;
    expect(continued).toBe(completed.choices[0]?.text);
    const paid = seen.filter(({ status }) => status === 200);
    expect(paid).toHaveLength(4);
    for (const one of paid) await expectPaid(await answered(payer, "exact", one));
    // The head of a stream says only that it is paid.
    expect(settlementOf(paid[1]?.headers.get("payment-response") ?? "")).toMatchObject({
      success: true,
      transaction: "",
    });
  });
});

describe("our own payer", () => {
  test("twenty at a time over one channel, and nobody hears that it is busy", async () => {
    const payer = await world.payer("sdk", { USDC: DOLLAR });
    const { address, name, version } = world.tokenOf("USDC");
    const usdc = { symbol: "USDC", network: NETWORK, address, decimals: 6, domain: { name, version } } as const;
    const paying = createPayer({
      signer: payer.signer,
      suite: nativeEvmSuite(),
      policy: { assets: [spendLimit(usdc, { perCall: "0.01", perHour: "1" })], hosts: [new URL(world.url).host] },
      rpcUrl: world.running.place.rpcUrl,
      channels: "always",
    });
    const { fetch: watched, seen } = watching();
    const pay = paidFetch(watched, paying);
    // The answer alone opens the channel; then all of them at once.
    const responses = [await pay(`${world.url}/v1/chat/completions`, chat())];
    const asked = seen.length;
    responses.push(
      ...(await Promise.all(Array.from({ length: 20 }, () => pay(`${world.url}/v1/chat/completions`, chat())))),
    );
    expect(seen.slice(asked).map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    const paid: Answered[] = [];
    for (const response of responses) {
      expect([response.status, textOf(await response.clone().text())]).toEqual([200, said]);
      paid.push(
        await answered(payer, "batch-settlement", { headers: response.headers, text: () => Promise.resolve("") }),
      );
    }
    const channels = await paying.channels();
    expect(channels).toHaveLength(1);
    for (const one of paid) await expectPaid(one);
    const charged = paid.reduce((sum, { amount }) => sum + amount, 0n);
    expect((await channelOf(world, channels[0]?.channelId ?? "")).totalClaimed).toBe(charged);
    expect((await paying.spends()).reduce((sum, { amount }) => sum + BigInt(amount), 0n)).toBe(charged);
  });
});

describe("ways to settle", () => {
  const settle = async (payer: Payer, how: string): Promise<{ paid: Answered; headers: Headers }> => {
    const pay = wrapFetchWithPayment(fetch, exactOf(payer));
    const { status, headers } = await pay(
      `${world.url}/v1/chat/completions`,
      chat({ "x-settlement-type": how }, { max_tokens: 8 }),
    );
    expect(status).toBe(200);
    return { paid: await answered(payer, "exact", { headers, text: () => Promise.resolve("") }), headers };
  };
  const blobOf = async (id: string): Promise<{ readonly leaves: readonly Record<string, unknown>[] }> => {
    const response = await fetch(`${world.url}/v1/blobs/${id}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(response.status).toBe(200);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(id.length === 64 ? id : blobDigest(id));
    return JSON.parse(new TextDecoder().decode(bytes)) as { leaves: readonly Record<string, unknown>[] };
  };
  const hex = (value: unknown): Hex => `0x${bytesToHex(value as Uint8Array)}`;

  /** Asks the contract whether a bundle's leaf is under its root. */
  async function onChain({ view }: Settled, change: { readonly amountAtomic?: bigint } = {}): Promise<boolean> {
    const [anchor] = view.bundle.anchors ?? [];
    if (!anchor) throw new Error("There is no anchor.");
    const entry = anchor["entry"] as OpenMap;
    const leaf = anchor["leaf"] as OpenMap;
    return world.chain.readContract({
      abi: receiptAnchor.abi,
      address: world.running.place.deployments.receiptAnchor,
      functionName: "verifyReceipt",
      args: [
        {
          submitter: entry["submitter"] as Hex,
          firstLeaf: BigInt(entry["firstLeaf"] as number),
          leafCount: BigInt(entry["leafCount"] as number),
          root: hex(entry["root"]),
          logSize: BigInt(entry["logSize"] as number),
          logRoot: hex(entry["logRoot"]),
          blob: hex(entry["blob"]),
          prev: hex(entry["prev"]),
        },
        {
          executionDigest: hex(leaf["executionDigest"]),
          serviceDigest: hex(leaf["serviceDigest"]),
          paymentId: hex(leaf["paymentId"]),
          amountAtomic: change.amountAtomic ?? BigInt(leaf["amountAtomic"] as string),
          logIndex: BigInt(leaf["logIndex"] as number),
        },
        (anchor["proof"] as readonly unknown[]).map(hex),
      ],
    });
  }

  const executionOf = ({ view }: Settled): string => bytesToHex(view.execution.statement.digest);

  test("individual: a batch of its own, named before the answer; blob and contract have its leaf", async () => {
    const { paid, headers } = await settle(await world.payer("individual", { USDC: DOLLAR }), "individual");
    const transaction = headers.get("x-settlement-tx-hash") as Hex;
    const id = headers.get("x-settlement-walrus-blob-id") ?? "";
    const settled = await expectPaid(paid, "individual");
    const { leaves } = await blobOf(id);
    expect(leaves).toEqual([
      expect.objectContaining({
        executionDigest: executionOf(settled),
        paymentId: settled.claim.paymentId.slice(2),
        amountAtomic: paid.amount.toString(),
      }),
    ]);
    const receipt = await world.chain.waitForTransactionReceipt({ hash: transaction });
    expect([receipt.status, receipt.to]).toEqual(["success", world.running.place.deployments.receiptAnchor]);
    expect(settled.view.bundle.anchors?.[0]).toMatchObject({ transaction });
    expect([await onChain(settled), await onChain(settled, { amountAtomic: paid.amount + 1n })]).toEqual([true, false]);
  });

  test("batch: its leaf is in the next batch; private: in none", async () => {
    const secret = await settle(await world.payer("private", { USDC: DOLLAR }), "private");
    const open = await settle(await world.payer("batch", { USDC: DOLLAR }), "batch");
    for (const { headers } of [secret, open])
      expect([headers.get("x-settlement-tx-hash"), headers.get("x-settlement-walrus-blob-id")]).toEqual([null, null]);
    const shown = await expectPaid(open.paid);
    const hidden = await expectPaid(secret.paid, "private");
    expect(await onChain(shown)).toBe(true);
    const entry = shown.view.bundle.anchors?.[0]?.["entry"] as OpenMap;
    const digest = bytesToHex(entry["blob"] as Uint8Array);
    const { leaves } = await blobOf(Buffer.from(digest, "hex").toString("base64url"));
    expect(leaves.map(({ executionDigest }) => executionDigest)).toContain(executionOf(shown));
    // Ids stand on the chain, and one of a private payment leads nobody to its receipt.
    const publicly = async (id: string): Promise<readonly unknown[]> => {
      const { body } = await ask(world.url, `/v1/payments/${id}`);
      return [body["state"], body["receiptId"], body["logIndex"]];
    };
    expect((await settledEvents(world)).get(hidden.claim.paymentId)).toBe(1);
    expect(await publicly(hidden.claim.paymentId)).toEqual(["settled", null, null]);
    expect(await publicly(shown.claim.paymentId)).toEqual(["settled", open.paid.receiptId, shown.payment.logIndex]);
    // Its place in the log is before the other's, so the batches have passed it by.
    expect(hidden.payment.logIndex).toBeLessThan(shown.payment.logIndex ?? 0);
    const { batches } = (await ask(world.url, "/v1/batches?limit=1000")).body as {
      batches: readonly { readonly number: number; readonly blob: string }[];
    };
    expect(batches.map(({ blob }) => blob)).toContain(digest);
    for (const { blob, number } of batches) {
      const text = JSON.stringify(await blobOf(blob));
      expect(text).not.toContain(executionOf(hidden));
      expect(text).not.toContain(hidden.claim.paymentId.slice(2));
      const found = await until(async () => {
        const { body } = await ask(world.url, `/v1/batches/${number}/verify`, { json: {} });
        return body["status"] === "inconclusive" ? undefined : body;
      });
      expect(found).toMatchObject({ status: "verified", code: "verified" });
    }
  });

  test("no other blob is given away, and no settlement that nobody knows is taken", async () => {
    const { manifest } = (await ask(world.url, "/v1/models/demo%2Fchat")).body as {
      manifest: { readonly layers: readonly { readonly digest: string }[] };
    };
    const [layer] = manifest.layers;
    const stored = layer?.digest.replace("sha256:", "") ?? "";
    expect(stored).toMatch(/^[0-9a-f]{64}$/);
    for (const id of [
      stored,
      Buffer.from(stored, "hex").toString("base64url"),
      "ab".repeat(32),
      "x",
      "..%2f..%2fkeys",
      `${"A".repeat(42)}B`,
    ]) {
      const { status, body } = await ask(world.url, `/v1/blobs/${id}`);
      expect([id, status, body["code"]]).toEqual([id, 404, "blob_missing"]);
    }
    const { status, body } = await ask(world.url, "/v1/chat/completions", {
      json: { model: "demo/chat", messages: [QUESTION] },
      headers: { "x-settlement-type": "sometimes" },
    });
    expect([status, body["code"]]).toEqual([400, "header_invalid"]);
  });
});

describe("a listing with payees", () => {
  test("is paid to both as it says, and the rest to the gateway", async () => {
    const payer = await world.payer("split", { USDC: DOLLAR });
    const pay = wrapFetchWithPayment(fetch, exactOf(payer));
    const { payTo } = (await ask(world.url, `/v1/prices/${encodeURIComponent(EMBED)}`)).body;
    expect(payTo).not.toBe(world.running.place.payTo);
    let sum = 0n;
    for (const input of ["one", "two", "three"]) {
      const { status, headers } = await pay(`${world.url}/v1/embeddings`, post({ model: "demo/embed", input }));
      expect(status).toBe(200);
      const about = { symbol: "USDC", subject: EMBED } as const;
      const paid = await answered(payer, "exact", { headers, text: () => Promise.resolve("") }, about);
      sum += paid.amount;
      await expectPaid(paid);
    }
    await until(async () => ((await world.balanceOf("USDC", AUTHOR)) >= (sum * 6n) / 10n ? true : undefined));
    const balances = await Promise.all([AUTHOR, NODE, String(payTo)].map((one) => world.balanceOf("USDC", one)));
    expect(balances).toEqual([(sum * 6n) / 10n, sum / 4n, 0n]);
  });
});

test("in all, nothing is lost and nothing doubled", async () => {
  const events = await settledEvents(world);
  const { payTo } = world.running.place;
  const earned: Record<string, bigint> = { USDC: 0n, ASY: 0n };
  const payers = new Set(world.answers.map(({ payer }) => payer));
  expect(payers.size).toBeGreaterThanOrEqual(10);
  const ids = new Set<string>();
  for (const paid of world.answers) {
    const { claim } = await world.settled(paid);
    ids.add(claim.paymentId);
    if (paid.scheme !== "batch-settlement") expect(events.get(claim.paymentId)).toBe(1);
    earned[paid.symbol] = (earned[paid.symbol] ?? 0n) + paid.amount;
  }
  expect(ids.size).toBe(world.answers.length);
  expect([...events.keys()].filter((id) => !ids.has(id))).toEqual([]);

  const channels = new Map<Payer, string>();
  for (const { payer, response } of world.answers) {
    const state = response.extra?.["channelState"] as { readonly channelId: string } | undefined;
    if (state) channels.set(payer, state.channelId);
  }
  for (const payer of payers)
    for (const symbol of ["USDC", "ASY"]) {
      const spent = world.answers
        .filter((paid) => paid.payer === payer && paid.symbol === symbol)
        .reduce((sum, { amount }) => sum + amount, 0n);
      const channel = symbol === "USDC" ? channels.get(payer) : undefined;
      const { balance, totalClaimed } = channel ? await channelOf(world, channel) : { balance: 0n, totalClaimed: 0n };
      // What was deposited and not claimed is the payer's.
      const held = (await world.balanceOf(symbol, payer.address)) + balance - totalClaimed;
      expect([payer.name, symbol, held]).toEqual([payer.name, symbol, (payer.funded[symbol] ?? 0n) - spent]);
    }
  for (const symbol of ["USDC", "ASY"]) {
    const shares = symbol === "USDC" ? [AUTHOR, NODE, payTo] : [payTo];
    const sum = await until(async () => {
      const balances = await Promise.all(shares.map((one) => world.balanceOf(symbol, one)));
      const all = balances.reduce((a, b) => a + b, 0n);
      return all >= (earned[symbol] ?? 0n) ? all : undefined;
    });
    expect([symbol, sum]).toEqual([symbol, earned[symbol]]);
  }
});
