import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ExactEvmScheme, toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openPayWorld, until } from "./pay-world.ts";
import type { Answered, Payer, PayWorld, Settlement } from "./pay-world.ts";
import { ask, mintToken } from "./running-server.ts";

// A caller may have what opens its receipt kept, which has a price of its own. One payment of each scheme pays for the
// answer and for that, the receipt says how much of it is what, and the chain moves the sum.

const DOLLAR = 1_000_000n;
const CALL = 2_000n;
const OPENING = 500n;
const PER_SECOND = 10_000n;

let world: PayWorld;
beforeAll(async () => {
  world = await openPayWorld();
  await world.price("model:demo/digits", { asset: "USDC", perCall: "0.002", perSecond: "0.01" });
  await world.price("service:openings", { asset: "USDC", perCall: "0.0005" });
  await world.price("model:demo/embed", { asset: "ASY", perCall: "0.25" });
});
afterAll(() => world?.close());

const KEEP = { "assay-retention": "server-encrypted" };
const digit = (headers: Readonly<Record<string, string>> = KEEP): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify({
    inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data: Array.from({ length: 64 }, () => 0) }],
  }),
});
const signerOf = ({ account }: Payer) => toClientEvmSigner(account, world.chain as never);
const SCHEMES = {
  exact: (payer: Payer) => new ExactEvmScheme(payer.account),
  upto: (payer: Payer) => new UptoEvmScheme(signerOf(payer)),
  "batch-settlement": (payer: Payer) => new BatchSettlementEvmScheme(signerOf(payer)),
} as const;

async function pay(payer: Payer, scheme: Answered["scheme"], init: RequestInit): Promise<Answered> {
  const client = new x402Client().register("eip155:*", SCHEMES[scheme](payer));
  const response = await wrapFetchWithPayment(fetch, client)(`${world.url}/v2/models/demo%2Fdigits/infer`, init);
  expect(response.status, await response.clone().text()).toBe(200);
  const settlement = decodePaymentResponseHeader(
    response.headers.get("payment-response") ?? "",
  ) as unknown as Settlement;
  const charged = scheme === "batch-settlement" ? settlement.extra?.["chargedAmount"] : settlement.amount;
  return world.note({
    payer,
    scheme,
    symbol: "USDC",
    subject: "model:demo/digits",
    receiptId: response.headers.get("assay-receipt-id") ?? "",
    grant: response.headers.get("assay-grant") ?? "",
    amount: BigInt(charged as string),
    response: settlement,
  });
}

describe("a file that is stored", () => {
  test("is paid for by its days, and has its time written down; the operator's stays for good", async () => {
    await world.price("service:storage", { asset: "USDC", perCall: "0.001", perGigabyteDay: "1" });
    const payer = await world.payer("storage", { USDC: DOLLAR });
    const bytes = randomBytes(1_000_000);
    const sha256 = createHash("sha256").update(bytes);
    const digest = sha256.copy().digest("hex");
    const headers = {
      "content-type": "application/octet-stream",
      "content-digest": `sha-256=:${sha256.digest("base64")}:`,
      "assay-keep-days": "3",
    };
    const beforeMs = Date.now();
    const client = new x402Client().register("eip155:*", SCHEMES.exact(payer));
    const init = { method: "POST", headers, body: bytes };
    const response = await wrapFetchWithPayment(fetch, client)(`${world.url}/v1/blobs`, init);
    const stored = (await response.json()) as { readonly sha256: string; readonly keptUntilMs: number };
    expect([response.status, stored.sha256]).toEqual([200, digest]);
    const days = (stored.keptUntilMs - beforeMs) / 86_400_000;
    expect([Math.floor(days), days < 3.5]).toEqual([3, true]);
    const settlement = decodePaymentResponseHeader(
      response.headers.get("payment-response") ?? "",
    ) as unknown as Settlement;
    // One upload, and a thousandth of a gigabyte for three days.
    expect(settlement.amount).toBe("4000");
    const until = join(world.home.directory, "blobs-until");
    expect(readFileSync(join(until, digest), "utf8")).toBe(`${stored.keptUntilMs}\n`);
    const token = await mintToken(world.url, world.home.operator);
    const own = { ...init, headers: { ...headers, authorization: `Bearer ${token}` } };
    expect(await (await fetch(`${world.url}/v1/blobs`, own)).json()).toEqual({ sha256: digest, sizeBytes: 1_000_000 });
    expect(readdirSync(until)).toEqual([]);
  });
});

describe("an opening that is kept", () => {
  test.each(["exact", "upto", "batch-settlement"] as const)("is paid with the answer by %s", async (scheme) => {
    const payer = await world.payer(`opening-${scheme}`, { USDC: 10n * DOLLAR });
    const before = await world.balanceOf("USDC", world.running.place.payTo);
    const paid = await pay(payer, scheme, digit());
    const { price, claim, payment, verdict, row, view } = await world.settled(paid);
    const { digest: model } = (await ask(world.url, "/v1/prices/model%3Ademo%2Fdigits")).body;
    const { digest: openings } = (await ask(world.url, "/v1/prices/service%3Aopenings")).body;
    expect(price.rateSource).toBe("parts");
    expect(price.parts?.map(({ subject, rateSource }) => [subject, rateSource])).toEqual([
      ["model:demo/digits", `listing:${String(model)}`],
      ["service:openings", `listing:${String(openings)}`],
    ]);
    const [answer, opening] = (price.parts ?? []).map(({ amountAtomic }) => BigInt(amountAtomic));
    expect([opening, (answer ?? 0n) + OPENING]).toEqual([OPENING, paid.amount]);
    // The longest that an inference may run is a minute: exact pays for that.
    if (scheme === "exact") expect(answer).toBe(CALL + 60n * PER_SECOND);
    else expect([(answer ?? 0n) > CALL, (answer ?? 0n) < CALL + 60n * PER_SECOND]).toEqual([true, true]);
    expect([claim.amountAtomic, payment.amount?.amountAtomic]).toEqual([String(paid.amount), String(paid.amount)]);
    expect([verdict.status, row("payment")[0], row("commitments")[0]]).toEqual(["verified", "pass", "pass"]);
    expect(view.service?.claims.retention).toBe("server-encrypted");
    // The chain has moved what the receipt says; a channel's is claimed a moment later.
    const moved = await until(async () => {
      const now = (await world.balanceOf("USDC", world.running.place.payTo)) - before;
      return now >= paid.amount ? now : undefined;
    });
    expect(moved).toBe(paid.amount);
  });

  test("costs nothing where it is not asked for", async () => {
    const payer = await world.payer("plain", { USDC: 10n * DOLLAR });
    const paid = await pay(payer, "exact", digit({}));
    const { price } = await world.settled(paid);
    expect([paid.amount, price.parts]).toEqual([CALL + 60n * PER_SECOND, undefined]);
  });

  test("beside a model of another token is refused, with what can be done about it", async () => {
    const body = { model: "demo/embed", input: "one" };
    const asked = await fetch(`${world.url}/v1/embeddings`, {
      method: "POST",
      headers: { "content-type": "application/json", ...KEEP },
      body: JSON.stringify(body),
    });
    const { code, hints } = (await asked.json()) as { readonly code: string; readonly hints: readonly string[] };
    expect([asked.status, code]).toEqual([503, "payment_unavailable"]);
    expect(hints.join(" ")).toMatch(/assay-retention.*service:openings in ASY/);
  });
});

describe("a receipt that is anchored by itself", () => {
  test("is paid with the answer and with what else was asked for, each part named", async () => {
    await world.price("service:anchoring", { asset: "USDC", perCall: "0.003" });
    const payer = await world.payer("alone", { USDC: 10n * DOLLAR });
    const paid = await pay(payer, "upto", digit({ ...KEEP, "x-settlement-type": "individual" }));
    const { price, verdict, row } = await world.settled(paid);
    expect(price.parts?.map(({ subject }) => subject)).toEqual([
      "model:demo/digits",
      "service:openings",
      "service:anchoring",
    ]);
    const [answer, ...beside] = (price.parts ?? []).map(({ amountAtomic }) => BigInt(amountAtomic));
    expect([beside, (answer ?? 0n) + OPENING + 3_000n]).toEqual([[OPENING, 3_000n], paid.amount]);
    expect([verdict.status, row("payment")[0], row("anchor")[0]]).toEqual(["verified", "pass", "pass"]);
  });
});
