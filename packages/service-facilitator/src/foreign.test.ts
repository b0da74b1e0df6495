import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import { createWalletClient, http, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { canonicalJson, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { createExternalFacilitator } from "./external.ts";
import { key, lower, openShop, token } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";

let open: Shop;
let server: Server;
let url: string;
const wire = (value: unknown): JsonValue => parseJson(canonicalJson(value as JsonValue));

/** The reference facilitator of x402 over HTTP, on the same chain. */
beforeAll(async () => {
  open = await openShop(31337);
  const account = privateKeyToAccount(key());
  await open.embedded.fund(lower(account.address), { asset: "ETH", amountAtomic: 10n ** 18n });
  const transport = http(open.embedded.rpcUrl);
  const wallet = createWalletClient({ account, transport, pollingInterval: 20 }).extend(publicActions);
  const signer = toFacilitatorEvmSigner({
    address: account.address,
    ...wallet,
    writeContract: (args: object) => wallet.writeContract({ ...args, chain: null } as never),
    sendTransaction: (args: object) => wallet.sendTransaction({ ...args, chain: null } as never),
  } as never);
  const reference = new x402Facilitator()
    .register(open.embedded.network, new ExactEvmScheme(signer))
    .register(open.embedded.network, new UptoEvmScheme(signer));
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const answer = async (): Promise<unknown> => {
        if (request.url === "/supported") return reference.getSupported();
        const { paymentPayload, paymentRequirements } = JSON.parse(Buffer.concat(chunks).toString()) as never;
        return request.url === "/verify"
          ? reference.verify(paymentPayload, paymentRequirements)
          : reference.settle(paymentPayload, paymentRequirements);
      };
      void answer().then(
        (value) => response.end(JSON.stringify(value)),
        () => {
          response.statusCode = 500;
          response.end(JSON.stringify({ error: "Internal server error" }));
        },
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server?.close();
  await open?.close();
});

test("the reference facilitator verifies and settles for us", async () => {
  const foreign = createExternalFacilitator({ endpoints: [{ url }] });
  const { kinds } = await foreign.supported();
  const facilitatorAddress = kinds.find(({ scheme }) => scheme === "upto")?.extra?.["facilitatorAddress"];
  expect(facilitatorAddress).toMatch(/^0x/);
  const { quote, pay } = await open.shop();
  const exact = await quote("exact", "USDC", "1000");
  const { stock } = await open.payer("USDC", 5000n);
  const [payload, requirements] = [wire(await pay(stock, exact)), wire(exact)];
  expect(await foreign.verify(payload, requirements)).toMatchObject({ isValid: true });
  const before = await open.balanceOf("USDC", open.receiver);
  const settled = await foreign.settle(payload, requirements);
  expect(settled).toMatchObject({ success: true, network: open.embedded.network });
  expect(settled.transaction).toMatch(/^0x[0-9a-f]{64}$/);
  expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 1000n);
  expect(await foreign.verify(payload, requirements)).toMatchObject({ isValid: false });
  expect(await foreign.settle(payload, requirements)).toMatchObject({ success: false, transaction: "" });

  const upto = await quote("upto", "ASY", "5000");
  const named = { ...upto, extra: { ...upto.extra, facilitatorAddress } };
  const { stock: other, approve } = await open.payer("ASY", 10n ** 18n);
  await approve();
  const metered = wire(await pay(other, named));
  expect(await foreign.verify(metered, wire(named))).toMatchObject({ isValid: true });
  expect(await foreign.settle(metered, wire({ ...named, amount: "1234" }))).toMatchObject({
    success: true,
    amount: "1234",
  });
  // What names the reference's key is not ours to settle.
  expect(await open.facilitator.verify(metered, wire(named))).toMatchObject({
    invalidReason: "upto_facilitator_mismatch",
  });
});

test("both decide alike on payments that were changed", async () => {
  const foreign = createExternalFacilitator({ endpoints: [{ url }] });
  const { quote, pay } = await open.shop();
  const exact = await quote("exact", "USDC", "1000");
  const { stock } = await open.payer("USDC", 5000n);
  const payload = (await pay(stock, exact)) as unknown as {
    payload: { signature: string; authorization: Record<string, string> };
  };
  const { signature, authorization } = payload.payload;
  const changes: Record<string, unknown>[] = [
    {},
    { to: `0x${"77".repeat(20)}` },
    { from: `0x${"77".repeat(20)}` },
    { value: "999" },
    { validBefore: "1" },
    { validAfter: "99999999999" },
    { nonce: `0x${"00".repeat(32)}` },
    { signature: `${signature.slice(0, -2)}${signature.endsWith("1b") ? "1c" : "1b"}` },
    { signature: `0x${"11".repeat(65)}` },
    { signature: `${signature}00` },
  ];
  for (const { signature: changed = signature, ...more } of changes) {
    const document = wire({
      ...payload,
      payload: { signature: changed, authorization: { ...authorization, ...more } },
    });
    const [theirs, ours] = await Promise.all([
      foreign.verify(document, wire(exact)),
      open.facilitator.verify(document, wire(exact)),
    ]);
    expect({ isValid: ours.isValid, of: more }).toEqual({ isValid: theirs.isValid, of: more });
  }
});

test("ours is another's external one, behind one that is away", async () => {
  const authorization = `Bearer ${token}`;
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const gone = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
  await new Promise((resolve) => closed.close(resolve));
  const foreign = createExternalFacilitator({
    endpoints: [{ url: gone }, { url: open.url, authorization }],
  });
  const { quote, pay } = await open.shop();
  const exact = await quote("exact", "USDC", "1000");
  const { stock } = await open.payer("USDC", 5000n);
  const [payload, requirements] = [wire(await pay(stock, exact)), wire(exact)];
  expect(await foreign.verify(payload, requirements)).toMatchObject({ isValid: true });
  expect(await foreign.settle(payload, requirements)).toMatchObject({ success: true });
  expect(await foreign.health()).toMatchObject({ status: "ok" });
  expect(await foreign.discovery()).toMatchObject({ pagination: { offset: 0 } });
  const stranger = createExternalFacilitator({ endpoints: [{ url: open.url }] });
  await expect(stranger.settle(payload, requirements)).rejects.toMatchObject({ code: "facilitator_refused" });
});
