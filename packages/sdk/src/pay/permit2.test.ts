import { afterEach, describe, expect, test } from "vitest";
import { isAssayError } from "@assay/core";
import { PERMIT2 } from "@assay/x402";
import type { PaymentRequirements } from "@assay/x402";
import { nobleEvmSigner, nobleEvmSuite } from "@assay/x402/noble";
import { openSeller, requirementOf, USDC } from "../testing/seller.ts";
import type { Offer, Seller } from "../testing/seller.ts";
import type { Fetch } from "../transport.ts";
import { approvalData } from "./approval.ts";
import { createPayer, paidFetch } from "./payer.ts";
import { spendLimit } from "./policy.ts";

const RPC = "http://chain.test";
const signer = nobleEvmSigner(new Uint8Array(32).fill(7));
const permit2 = (amount: string): PaymentRequirements =>
  requirementOf("exact", amount, { extra: { ...USDC.domain, assetTransferMethod: "permit2" } });

const sellers: Seller[] = [];
afterEach(async () => {
  await Promise.all(sellers.splice(0).map((one) => one.close()));
});

/** A chain with one token, and what it was asked. */
function chainOf(state: { allowance: bigint; nonce: bigint; down?: boolean }) {
  const asked: string[] = [];
  const ask: Fetch = (_url, init) => {
    if (state.down === true) return Promise.reject(new TypeError("connection refused"));
    const { params } = JSON.parse(init.body as string) as { params: [{ to: string; data: string }] };
    const [{ data }] = params;
    const isAllowance = data.startsWith("0xdd62ed3e");
    asked.push(isAllowance ? "allowance" : "nonce");
    expect(data.toLowerCase()).toContain(signer.address.slice(2));
    if (isAllowance) expect(data.toLowerCase()).toContain(PERMIT2.slice(2));
    const value = isAllowance ? state.allowance : state.nonce;
    return Promise.resolve(
      Response.json({ jsonrpc: "2.0", id: 1, result: `0x${value.toString(16).padStart(64, "0")}` }),
    );
  };
  return { ask, asked, state };
}

async function over(offer: Offer, chain: ReturnType<typeof chainOf>, sleep = () => Promise.resolve()) {
  const seller = await openSeller({ offer: () => offer });
  sellers.push(seller);
  const payer = createPayer({
    signer,
    suite: nobleEvmSuite,
    policy: { assets: [spendLimit(USDC, { perCall: "0.01", perHour: "1" })] },
    rpcUrl: RPC,
    fetch: chain.ask,
    sleep,
  });
  const ask = (body: string): Promise<Response> =>
    paidFetch(undefined, payer)(`${seller.url}/a`, { method: "POST", body });
  return { seller, payer, ask };
}
const kinds = ({ sold }: Seller) =>
  [...sold.values()].map(({ payload: { payment } }) => [payment.kind, "sponsored" in payment ? "permit" : "none"]);

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return isAssayError(error) ? error.code : String(error);
  }
}

describe("upto", () => {
  const both = { accepts: [requirementOf("upto", "1000"), requirementOf("exact", "1000")], chargeAtomic: 400n };

  test("with an allowance: what was used is what is counted", async () => {
    const { seller, payer, ask } = await over(both, chainOf({ allowance: 5_000n, nonce: 0n }));
    const response = await ask("x");
    expect(payer.paymentOf(response)).toMatchObject({
      scheme: "upto",
      capAtomic: 1000n,
      charged: { amountAtomic: 400n },
    });
    expect(kinds(seller)).toEqual([["upto", "none"]]);
    expect((await payer.spends()).map(({ amount }) => amount)).toEqual(["400"]);
  });

  test("without one, and without a permit being taken, exact pays", async () => {
    const { payer, ask } = await over(both, chainOf({ allowance: 999n, nonce: 0n }));
    expect(payer.paymentOf(await ask("x"))?.scheme).toBe("exact");
  });

  test("with a chain that does not answer exact pays, and nothing else is lost", async () => {
    const { payer, ask } = await over(both, chainOf({ allowance: 0n, nonce: 0n, down: true }));
    expect(payer.paymentOf(await ask("x"))?.scheme).toBe("exact");
  });

  test("an allowance is read once for many, and spent as it is signed for", async () => {
    const chain = chainOf({ allowance: 2_500n, nonce: 0n });
    const { seller, ask } = await over(both, chain);
    for (const body of ["x", "y", "z"]) await ask(body);
    expect(kinds(seller).map(([kind]) => kind)).toEqual(["upto", "upto", "eip3009"]);
    expect(chain.asked).toEqual(["allowance"]);
  });

  test("where a permit is taken one of exactly the amount is signed, one at a time", async () => {
    const chain = chainOf({ allowance: 0n, nonce: 4n });
    const { seller, ask } = await over({ ...both, sponsors: true }, chain);
    await ask("x");
    // The first permit has not reached the chain: another would have the same nonce.
    await ask("y");
    chain.state.nonce = 5n;
    await ask("z");
    expect(kinds(seller)).toEqual([
      ["upto", "permit"],
      ["eip3009", "none"],
      ["upto", "permit"],
    ]);
    const permits = [...seller.sold.values()].flatMap(({ payload: { payment } }) =>
      payment.kind === "upto" && payment.sponsored ? [payment.sponsored] : [],
    );
    expect(permits.map(({ amount, nonce, spender }) => [amount, nonce, spender])).toEqual([
      [1000n, 4n, PERMIT2],
      [1000n, 5n, PERMIT2],
    ]);
  });

  test("what can be paid by a permit alone waits for the one before it", async () => {
    const chain = chainOf({ allowance: 0n, nonce: 4n });
    let waits = 0;
    const { seller, ask } = await over({ accepts: [permit2("1000")], sponsors: true }, chain, () => {
      waits++;
      chain.state.nonce = 5n;
      return Promise.resolve();
    });
    await ask("x");
    await ask("y");
    expect([waits, kinds(seller)]).toEqual([
      1,
      [
        ["permit2", "permit"],
        ["permit2", "permit"],
      ],
    ]);
  });

  test("with neither it cannot be paid, and says what would help", async () => {
    const { seller, ask } = await over({ accepts: [permit2("1000")] }, chainOf({ allowance: 0n, nonce: 0n }));
    expect(await codeOf(ask("x"))).toBe("payment_unpayable");
    expect(seller.counts.requests).toBe(1);
  });

  test("an answer of the chain that is no number is no allowance", async () => {
    const chain = chainOf({ allowance: 0n, nonce: 0n });
    const lying: Fetch = () => Promise.resolve(Response.json({ jsonrpc: "2.0", id: 1, result: "0x" }));
    const { payer, ask } = await over(both, { ...chain, ask: lying });
    expect(payer.paymentOf(await ask("x"))?.scheme).toBe("exact");
  });
});

describe("an approval", () => {
  test("is of exactly the amount", () => {
    expect(approvalData(PERMIT2, 5n)).toBe(`0x095ea7b3${PERMIT2.slice(2).padStart(64, "0")}${"5".padStart(64, "0")}`);
    expect(approvalData(PERMIT2, 0n)).toMatch(/0{64}$/);
  });

  test.each([2n ** 96n - 1n, 2n ** 96n, 2n ** 256n - 1n, -1n])("is never of %i", (amount) => {
    expect(() => approvalData(PERMIT2, amount)).toThrow(/never without a limit/);
  });

  test("is never for nobody", () => {
    expect(() => approvalData(`0x${"0".repeat(40)}`, 1n)).toThrow(/names whom/);
    expect(() => approvalData("0x12", 1n)).toThrow(/names whom/);
  });
});
