import { afterEach, describe, expect, test } from "vitest";
import { isAssayError } from "@assay/core";
import type { SpendPolicy } from "@assay/x402";
import { nobleEvmSigner, nobleEvmSuite } from "@assay/x402/noble";
import { openSeller, requirementOf, USDC } from "../testing/seller.ts";
import type { Seller, SellerOptions } from "../testing/seller.ts";
import { createPayer, paidFetch } from "./payer.ts";
import type { PayerOptions } from "./payer.ts";
import { spendLimit } from "./policy.ts";
import { textPayStore } from "./state.ts";

const signer = nobleEvmSigner(new Uint8Array(32).fill(7));
const policy: SpendPolicy = { assets: [spendLimit(USDC, { perCall: "0.01", perHour: "0.05" })] };

const sellers: Seller[] = [];
afterEach(async () => {
  await Promise.all(sellers.splice(0).map((one) => one.close()));
});
async function sells(options: SellerOptions): Promise<Seller> {
  const seller = await openSeller(options);
  sellers.push(seller);
  return seller;
}
const exact = (amount: string) => () => ({ accepts: [requirementOf("exact", amount)] });
const payerOf = (options: Partial<PayerOptions> = {}) =>
  createPayer({ signer, suite: nobleEvmSuite, policy, sleep: () => Promise.resolve(), ...options });
const post = (body: string): RequestInit => ({ method: "POST", body });

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return isAssayError(error) ? error.code : String(error);
  }
}

/** A text in memory, as a file would be. */
function textStore() {
  const kept = { text: undefined as string | undefined };
  return {
    kept,
    open: () =>
      textPayStore({
        read: () => Promise.resolve(kept.text),
        write: (text) => {
          kept.text = text;
          return Promise.resolve();
        },
      }),
  };
}

describe("one call", () => {
  test("what is free is not paid", async () => {
    const seller = await sells({ offer: () => ({ accepts: [] }) });
    const payer = payerOf();
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect([await response.text(), payer.paymentOf(response)]).toEqual(["free", undefined]);
    expect(await payer.spends()).toEqual([]);
  });

  test("a 402 is answered with a payment, and the next call is paid unasked", async () => {
    const seller = await sells({ offer: exact("2000") });
    const payer = payerOf();
    const fetch = paidFetch(undefined, payer);
    const first = await fetch(`${seller.url}/a`, post("x"));
    expect(await first.text()).toBe("answer to x");
    expect(payer.paymentOf(first)).toMatchObject({
      payer: signer.address,
      scheme: "exact",
      capAtomic: 2000n,
      charged: { amountAtomic: 2000n },
    });
    expect(seller.sold.has(payer.paymentOf(first)?.paymentId ?? "")).toBe(true);
    expect(seller.counts).toEqual({ requests: 2, asked: 1, refused: 0 });
    await fetch(`${seller.url}/a`, post("y"));
    // Another size of body may cost something else, so it is asked for once more before the price is taken for flat.
    await fetch(`${seller.url}/a`, post("longer"));
    await fetch(`${seller.url}/a`, post("longest of all"));
    expect(seller.counts).toEqual({ requests: 6, asked: 2, refused: 0 });
    expect(seller.sold.size).toBe(4);
    const spends = await payer.spends();
    expect(spends.reduce((sum, { amount }) => sum + Number(amount), 0)).toBe(8000);
  });

  test("a price that changed is signed for anew, once", async () => {
    let price = "1000";
    const seller = await sells({ offer: () => ({ accepts: [requirementOf("exact", price)] }) });
    const fetch = paidFetch(undefined, payerOf());
    await fetch(`${seller.url}/a`, post("x"));
    price = "2000";
    expect((await fetch(`${seller.url}/a`, post("y"))).status).toBe(200);
    expect(seller.counts).toEqual({ requests: 4, asked: 1, refused: 1 });
  });

  test("a server that never takes a payment gets no third one", async () => {
    const seller = await sells({
      offer: exact("1000"),
      before: (_seen, _request, response) => {
        response.writeHead(402, { "payment-required": "" });
        response.end();
        return true;
      },
    });
    const response = codeOf(paidFetch(undefined, payerOf())(`${seller.url}/a`, post("x")));
    expect(await response).toBe("payment_quote_malformed");
    expect(seller.counts.requests).toBe(2);
  });

  test("who brings a payment pays by it", async () => {
    const seller = await sells({ offer: exact("1000") });
    const payer = payerOf();
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, {
      ...post("x"),
      headers: { "payment-signature": "mine" },
    });
    expect(response.status).toBe(500);
    expect(await payer.spends()).toEqual([]);
  });
});

describe("what the policy refuses is never signed", () => {
  const refused: [string, Parameters<typeof requirementOf>, Partial<SpendPolicy>, string][] = [
    ["too much for a call", ["exact", "10001"], {}, "spend_over_call"],
    ["more than all there is", ["exact", (2n ** 256n - 1n).toString()], {}, "spend_over_call"],
    ["an unknown token", ["exact", "1", { asset: `0x${"9".repeat(40)}` }], {}, "spend_asset_unknown"],
    ["a chain elsewhere", ["exact", "1", { network: "eip155:1" }], {}, "spend_asset_unknown"],
    ["another network", ["exact", "1"], { networks: ["eip155:1"] }, "spend_network_refused"],
    ["a foreign payee", ["exact", "1"], { payees: [`0x${"3".repeat(40)}`] }, "spend_payee_refused"],
    ["a foreign host", ["exact", "1"], { hosts: ["example.com"] }, "spend_host_refused"],
    ["a signature for ever", ["exact", "1", { maxTimeoutSeconds: 31_536_000 }], {}, "spend_timeout_refused"],
    [
      "a token under another name",
      ["exact", "1", { extra: { name: "Other", version: "2" } }],
      {},
      "spend_asset_unknown",
    ],
  ];
  test.each(refused)("%s", async (_what, [scheme, amount, changes], more, code) => {
    let signatures = 0;
    const seller = await sells({ offer: () => ({ accepts: [requirementOf(scheme, amount, changes)] }) });
    const payer = payerOf({
      policy: { ...policy, ...more },
      signer: {
        address: signer.address,
        signDigest: (digest) => {
          signatures++;
          return signer.signDigest(digest);
        },
      },
    });
    expect(await codeOf(paidFetch(undefined, payer)(`${seller.url}/a`, post("x")))).toBe(code);
    expect([signatures, seller.sold.size, seller.counts.requests]).toEqual([0, 0, 1]);
    expect(await payer.spends()).toEqual([]);
  });

  test("the limit of the call itself", async () => {
    const seller = await sells({ offer: exact("2000") });
    const fetch = paidFetch(undefined, payerOf(), { maxSpend: "0.001" });
    expect(await codeOf(fetch(`${seller.url}/a`, post("x")))).toBe("spend_over_call");
    expect((await paidFetch(undefined, payerOf(), { maxSpend: "0.002" })(`${seller.url}/a`, post("x"))).status).toBe(
      200,
    );
  });

  test("the limit of the hour, also for calls at once", async () => {
    const seller = await sells({ offer: exact("10000") });
    const fetch = paidFetch(undefined, payerOf());
    const codes = await Promise.all(
      Array.from({ length: 12 }, (_, i) => codeOf(fetch(`${seller.url}/a`, post(`${i}`.padStart(2))))),
    );
    expect(codes.filter((code) => code === "none")).toHaveLength(5);
    expect(codes.filter((code) => code === "spend_over_hour")).toHaveLength(7);
    expect(seller.sold.size).toBe(5);
  });

  test("an hour later there is room again", async () => {
    let nowMs = Date.now();
    const seller = await sells({ offer: exact("10000") });
    const fetch = paidFetch(undefined, payerOf({ now: () => nowMs }));
    for (let i = 0; i < 5; i++) await fetch(`${seller.url}/a`, post("x"));
    expect(await codeOf(fetch(`${seller.url}/a`, post("x")))).toBe("spend_over_hour");
    nowMs += 3_600_001;
    // The server's clock stands where it was, so the signature begins in its future: that it was made is what counts.
    await fetch(`${seller.url}/a`, post("x"));
    expect(seller.counts.refused + seller.sold.size).toBeGreaterThan(5);
  });

  test("a restart does not lift the limit of the hour", async () => {
    const seller = await sells({ offer: exact("10000") });
    const text = textStore();
    for (let i = 0; i < 5; i++)
      await paidFetch(undefined, payerOf({ store: text.open() }))(`${seller.url}/a`, post("x"));
    const again = paidFetch(undefined, payerOf({ store: text.open() }));
    expect(await codeOf(again(`${seller.url}/a`, post("x")))).toBe("spend_over_hour");
  });

  test.each(["{", '{"version":2}', '{"version":1,"spends":[{}],"channels":[],"unresolved":[]}'])(
    "a store that cannot be read is no clean slate: %s",
    async (kept) => {
      const seller = await sells({ offer: exact("1000") });
      const text = textStore();
      text.kept.text = kept;
      const fetch = paidFetch(undefined, payerOf({ store: text.open() }));
      expect(await codeOf(fetch(`${seller.url}/a`, post("x")))).toBe("pay_state_invalid");
    },
  );

  test("ways that cannot be signed are said to be", async () => {
    const seller = await sells({ offer: () => ({ accepts: [requirementOf("upto", "1000")] }) });
    expect(await codeOf(paidFetch(undefined, payerOf())(`${seller.url}/a`, post("x")))).toBe("payment_unpayable");
    expect(seller.counts.requests).toBe(1);
  });

  test("of several ways the first that is allowed is taken", async () => {
    const seller = await sells({
      offer: () => ({
        accepts: [
          requirementOf("upto", "1000"),
          requirementOf("exact", "900000"),
          requirementOf("exact", "1000", { payTo: `0x${"4".repeat(40)}` }),
        ],
      }),
    });
    const payer = payerOf();
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect(payer.paymentOf(response)).toMatchObject({ scheme: "exact", payTo: `0x${"4".repeat(40)}` });
  });
});

describe("when the connection is lost", () => {
  test("the very same payment is sent again, and is charged once", async () => {
    const seller = await sells({
      offer: exact("1000"),
      before: (seen, request) => {
        if (seen > 0) return false;
        request.socket.destroy();
        return true;
      },
    });
    const response = await paidFetch(undefined, payerOf())(`${seller.url}/a`, post("x"));
    expect([response.status, seller.sold.size, seller.counts.requests]).toEqual([200, 1, 3]);
  });

  test("what was answered already is given again", async () => {
    let lost = false;
    const seller = await sells({
      offer: exact("1000"),
      answer: (_request, response) => {
        lost = true;
        response.socket?.destroy();
      },
    });
    const payer = payerOf();
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect([lost, await response.text(), response.headers.get("assay-replayed")]).toEqual([
      true,
      "answer to x",
      "true",
    ]);
    expect((await payer.spends()).map(({ amount }) => amount)).toEqual(["1000"]);
  });

  test("given up, the payment waits for the same request; another is paid by another", async () => {
    let up = false;
    const seller = await sells({
      offer: exact("1000"),
      before: (_seen, request) => {
        if (up) return false;
        request.socket.destroy();
        return true;
      },
    });
    const text = textStore();
    const nonce = { headers: { "assay-client-nonce": "aa".repeat(16) } };
    const first = paidFetch(undefined, payerOf({ store: text.open() }));
    expect(await codeOf(first(`${seller.url}/a`, { ...post("x"), ...nonce }))).toContain("TypeError");
    up = true;
    // Another process, with another nonce for its request: the answer is the one to the first.
    const payer = payerOf({ store: text.open() });
    const second = await paidFetch(undefined, payer)(`${seller.url}/a`, {
      ...post("x"),
      headers: { "assay-client-nonce": "bb".repeat(16) },
    });
    expect([second.status, seller.sold.size, seller.counts.asked]).toEqual([200, 1, 1]);
    expect(payer.paymentOf(second)?.clientNonce).toBe("aa".repeat(16));
    await paidFetch(undefined, payer)(`${seller.url}/a`, post("y"));
    await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect(seller.sold.size).toBe(3);
    expect((await payer.spends()).reduce((sum, { amount }) => sum + Number(amount), 0)).toBe(3000);
  });

  test("a server that failed gets the same payment with the same request", async () => {
    let broken = true;
    const headers = new Set<string>();
    const seller = await sells({
      offer: exact("1000"),
      before: (_seen, request, response) => {
        headers.add(String(request.headers["payment-signature"]));
        if (!broken) return false;
        response.writeHead(503);
        response.end();
        return true;
      },
    });
    const payer = payerOf();
    const fetch = paidFetch(undefined, payer);
    expect((await fetch(`${seller.url}/a`, post("x"))).status).toBe(503);
    // It may still be taken, so it counts.
    expect(await payer.spends()).toHaveLength(1);
    broken = false;
    expect((await fetch(`${seller.url}/a`, post("x"))).status).toBe(200);
    expect([headers.size, (await payer.spends()).length]).toEqual([1, 1]);
  });

  test("one that is bound to something else is not sent for ever", async () => {
    let times = 0;
    const seller = await sells({
      offer: exact("1000"),
      before: (_seen, _request, response) => {
        times++;
        if (times > 2) return false;
        response.writeHead(times === 1 ? 503 : 409);
        response.end();
        return true;
      },
    });
    const fetch = paidFetch(undefined, payerOf());
    expect((await fetch(`${seller.url}/a`, post("x"))).status).toBe(503);
    expect((await fetch(`${seller.url}/a`, post("x"))).status).toBe(409);
    expect((await fetch(`${seller.url}/a`, post("x"))).status).toBe(200);
    expect(seller.sold.size).toBe(1);
  });

  test("one that is still worked on is waited for", async () => {
    let times = 0;
    const waits: number[] = [];
    const seller = await sells({
      offer: exact("1000"),
      before: (_seen, _request, response) => {
        times++;
        if (times > 2) return false;
        response.writeHead(409, { "retry-after": "2" });
        response.end();
        return true;
      },
    });
    const payer = payerOf({ sleep: (ms) => Promise.resolve(void waits.push(ms)) });
    expect((await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"))).status).toBe(200);
    expect(waits).toEqual([2000, 2000]);
  });
});

describe("what an answer says of its payment", () => {
  const wrong: [string, NonNullable<SellerOptions["settlement"]>][] = [
    ["it failed", (honest) => ({ ...honest, success: false, errorReason: "nope" })],
    ["another payer", (honest) => ({ ...honest, payer: `0x${"5".repeat(40)}` })],
    ["another network", (honest) => ({ ...honest, network: "eip155:1" })],
    ["more than was signed", (honest) => ({ ...honest, amount: "1001" })],
    ["less than a fixed price", (honest) => ({ ...honest, amount: "1" })],
  ];
  test.each(wrong)("%s: held back, and counted in full", async (_what, settlement) => {
    const seller = await sells({ offer: exact("1000"), settlement });
    const payer = payerOf();
    expect(await codeOf(paidFetch(undefined, payer)(`${seller.url}/a`, post("x")))).toBe("payment_response_invalid");
    expect((await payer.spends()).map(({ amount, openUntilMs }) => [amount, openUntilMs !== undefined])).toEqual([
      ["1000", true],
    ]);
  });

  test("no header at all: a fixed price was charged", async () => {
    const seller = await sells({ offer: exact("1000") });
    const payer = payerOf();
    const response = await payer.send(
      async (url, init) => {
        const inner = await fetch(url, init);
        const headers = new Headers(inner.headers);
        headers.delete("payment-response");
        return new Response(inner.body, { status: inner.status, headers });
      },
      `${seller.url}/a`,
      post("x"),
    );
    expect(payer.paymentOf(response)?.charged?.amountAtomic).toBe(1000n);
  });
});

describe("channels", () => {
  const channel = (amount: string, chargeAtomic?: bigint) => () => ({
    accepts: [requirementOf("batch-settlement", amount), requirementOf("exact", amount)],
    ...(chargeAtomic === undefined ? {} : { chargeAtomic }),
  });

  test("are not opened for a single call, and are after several", async () => {
    const seller = await sells({ offer: channel("100") });
    const payer = payerOf();
    const fetch = paidFetch(undefined, payer);
    const schemes: string[] = [];
    for (let i = 0; i < 6; i++) {
      const response = await fetch(`${seller.url}/a`, post("x"));
      schemes.push(payer.paymentOf(response)?.scheme ?? "");
    }
    expect(schemes).toEqual(["exact", "exact", "exact", "batch-settlement", "batch-settlement", "batch-settlement"]);
    expect(seller.accounts.size).toBe(1);
    expect([...seller.accounts.values()][0]).toMatchObject({ charged: 300n, reserved: 0n, balance: 1000n });
  });

  test("are paid for what was used", async () => {
    const seller = await sells({ offer: channel("100", 30n) });
    const payer = payerOf({ channels: "always" });
    const fetch = paidFetch(undefined, payer);
    for (let i = 0; i < 3; i++) await fetch(`${seller.url}/a`, post("x"));
    expect([...seller.accounts.values()][0]).toMatchObject({ charged: 90n, signed: 160n });
    expect(await payer.channels()).toMatchObject([{ charged: "90", signed: "160", balance: "1000" }]);
    expect((await payer.spends()).map(({ amount }) => amount)).toEqual(["90"]);
  });

  test("carry many requests at once; none is refused for being one of many", async () => {
    let waiting = 0;
    let free = (): void => undefined;
    const all = new Promise<void>((resolve) => {
      free = resolve;
    });
    const seller = await sells({
      offer: channel("10", 4n),
      work: async () => {
        waiting++;
        // The deposit comes first and alone; of the others ten are there before any of them is answered.
        if (waiting === 1) return;
        if (waiting === 10) free();
        await all;
      },
    });
    const payer = payerOf({ channels: "always" });
    const fetch = paidFetch(undefined, payer);
    await fetch(`${seller.url}/a`, post("x"));
    const account = () => [...seller.accounts.values()][0];
    expect(account()).toMatchObject({ balance: 100n, charged: 4n });
    // 49 of 10 atomic units need more than is deposited: one of them brings the rest, and the others wait for it.
    const responses = await Promise.all(Array.from({ length: 49 }, () => fetch(`${seller.url}/a`, post("x"))));
    expect(responses.map(({ status }) => status)).toEqual(Array(49).fill(200));
    expect(account()).toMatchObject({ charged: 200n, reserved: 0n });
    expect(seller.sold.size).toBe(50);
    expect((await payer.channels())[0]).toMatchObject({ charged: "200" });
  });

  test("whose vouchers arrive the wrong way round are signed anew, and every request is answered", async () => {
    const waiting: (() => void)[] = [];
    let turned = 0;
    const seller = await sells({
      offer: () => ({
        accepts: [
          requirementOf("batch-settlement", "10", {
            extra: { ...requirementOf("batch-settlement", "1").extra, minDeposit: "5000" },
          }),
        ],
        chargeAtomic: 7n,
      }),
      // Ten at a time, the last one first.
      arrive: () =>
        turned === 0 || turned > 10
          ? Promise.resolve(void turned++)
          : new Promise((resolve) => {
              waiting.push(resolve);
              if (waiting.length < 10) return;
              turned = 11;
              for (const go of waiting.splice(0).toReversed()) go();
            }),
    });
    const payer = payerOf({ channels: "always" });
    const fetch = paidFetch(undefined, payer);
    await fetch(`${seller.url}/a`, post("x"));
    const responses = await Promise.all(Array.from({ length: 10 }, () => fetch(`${seller.url}/a`, post("x"))));
    expect(responses.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect([...seller.accounts.values()][0]).toMatchObject({ charged: 77n, reserved: 0n, balance: 5000n });
    expect(seller.counts.refused).toBeLessThanOrEqual(20);
    // What is known of the channel is what was charged: nothing drifts.
    await fetch(`${seller.url}/a`, post("x"));
    expect((await payer.channels())[0]).toMatchObject({ charged: "84" });
  });

  test("are taken up where the other side stands after the books were lost", async () => {
    const seller = await sells({ offer: channel("100") });
    for (let i = 0; i < 2; i++)
      await paidFetch(undefined, payerOf({ channels: "always" }))(`${seller.url}/a`, post("x"));
    // The second payer knew of nothing: its deposit's voucher was too low, and the answer showed why.
    const account = [...seller.accounts.values()][0];
    expect(account?.charged).toBe(200n);
    expect(seller.counts.refused).toBe(1);
  });

  test("are not taken up at a sum that nobody signed", async () => {
    const stranger = nobleEvmSigner(new Uint8Array(32).fill(9));
    const seller = await sells({ offer: channel("100") });
    const payer = payerOf({ channels: "always" });
    const fetch = paidFetch(undefined, payer);
    await fetch(`${seller.url}/a`, post("x"));
    const [id, account] = [...seller.accounts.entries()][0] ?? [];
    if (id === undefined || !account) throw new Error("there is a channel");
    const signature = await stranger.signDigest(new Uint8Array(32));
    seller.accounts.set(id, { ...account, charged: 900n, signed: 900n, signature });
    expect((await fetch(`${seller.url}/a`, post("x"))).status).toBe(402);
    expect((await payer.channels())[0]).toMatchObject({ charged: "100" });
  });

  test("get no deposit above the policy's", async () => {
    const seller = await sells({
      offer: () => ({
        accepts: [
          requirementOf("batch-settlement", "1000", {
            extra: { ...requirementOf("batch-settlement", "1").extra, minDeposit: "50001" },
          }),
          requirementOf("exact", "1000"),
        ],
      }),
    });
    const payer = payerOf({ channels: "always" });
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect(payer.paymentOf(response)?.scheme).toBe("exact");
    expect(seller.accounts.size).toBe(0);
  });
});

describe("streams", () => {
  test("the settlement event is read and taken out, and what it says is charged", async () => {
    const offer = () => ({ accepts: [requirementOf("batch-settlement", "1000")], chargeAtomic: 321n });
    const seller = await sells({ offer, stream: true });
    const payer = payerOf({ channels: "always" });
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect(payer.paymentOf(response)?.charged).toBeUndefined();
    expect(await response.text()).toBe('data: {"text":"a"}\n\ndata: {"text":"b"}\n\ndata: [DONE]\n\n');
    expect(payer.paymentOf(response)?.charged?.amountAtomic).toBe(321n);
    expect((await payer.channels())[0]).toMatchObject({ charged: "321" });
  });

  test("one that was left counts in full", async () => {
    const offer = () => ({ accepts: [requirementOf("batch-settlement", "1000")], chargeAtomic: 321n });
    const seller = await sells({ offer, stream: true });
    const payer = payerOf({ channels: "always" });
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    await response.body?.cancel();
    expect((await payer.channels())[0]).toMatchObject({ charged: "1000" });
  });

  test("an event that charges more than was signed breaks the stream", async () => {
    const seller = await sells({
      offer: () => ({ accepts: [requirementOf("batch-settlement", "1000")] }),
      stream: true,
      settlement: (honest) => ({ ...honest, extra: { chargedAmount: "1001" } }),
    });
    const payer = payerOf({ channels: "always" });
    const response = await paidFetch(undefined, payer)(`${seller.url}/a`, post("x"));
    expect(await codeOf(response.text())).toBe("payment_response_invalid");
  });
});
