import { randomBytes } from "node:crypto";
import { createChain, createSender, evmSigner, memoryJournal, nativeEvmSuite } from "@assay/driver-chain";
import { approvalData } from "@assay/sdk";
import {
  PERMIT2,
  authorizeDeposit,
  authorizeExact,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
  encodePayment,
  fromHex,
  parsePaymentRequired,
  parseUnits,
} from "@assay/x402";
import type { EvmSigner, ParsedQuote, PaymentPayload, PaymentRequirements, Scheme } from "@assay/x402";
import { callInit, pathOf } from "./program.ts";
import type { Program } from "./program.ts";

export const suite = nativeEvmSuite();

export type PaymentHeader = { readonly name: string; readonly value: string };

/** Accounts with money on the program's chain. */
export async function makePayers(
  program: Program,
  count: number,
  funds: { readonly usdc: string; readonly approved?: string },
): Promise<readonly EvmSigner[]> {
  const signers = Array.from({ length: count }, () => evmSigner(new Uint8Array(randomBytes(32))));
  const document = await program.client.chain();
  const usdc = document.assets.find(({ symbol }) => symbol === "USDC");
  if (document.rpcUrl === null || !usdc) throw new Error("The program has no chain.");
  const chain = createChain({ url: document.rpcUrl, chainId: document.chainId });
  for (const { address } of signers) {
    await fund(program, address, "USDC", funds.usdc);
    if (funds.approved === undefined) continue;
    await fund(program, address, "ETH", "1");
  }
  if (funds.approved === undefined) return signers;
  const data = fromHex(approvalData(PERMIT2, parseUnits(funds.approved, 6)));
  await Promise.all(
    signers.map(async (signer) => {
      const sender = createSender({ chain, signer, journal: memoryJournal() });
      await sender.submit({ jobId: "approve", to: usdc.address as `0x${string}`, data });
      await sender.wait("approve", { until: "mined" });
      await sender.close();
    }),
  );
  return signers;
}

async function fund({ client }: Program, address: string, asset: string, amount: string): Promise<void> {
  await client.admin({ method: "POST", path: "/v1/chain/fund", body: { address, asset, amount } });
}

/** Gives bench/paid a price, in USDC a call. */
export async function setPrice({ client }: Program, perCall: string): Promise<void> {
  await client.admin({
    method: "PUT",
    path: "/v1/prices/model:bench%2Fpaid",
    body: { asset: "USDC", perCall },
  });
}

/** What the program asks for bench/paid. */
export async function quoteOf(program: Program): Promise<ParsedQuote> {
  const response = await fetch(`${program.url}${pathOf("paid")}`, callInit());
  await response.arrayBuffer();
  const header = response.headers.get("payment-required");
  if (response.status !== 402 || header === null) throw new Error(`No 402 but ${response.status}.`);
  return parsePaymentRequired({ header });
}

export function requirementOf(quote: ParsedQuote, scheme: Scheme): PaymentRequirements {
  const found = quote.required.accepts.find((one) => one.scheme === scheme);
  if (!found) throw new Error(`${scheme} is not offered.`);
  return found;
}

/** Signs as the SDK does: `maxClaimable` for a voucher, `deposit` with it for the first on a channel. */
export async function sign(
  quote: ParsedQuote,
  scheme: Scheme,
  signer: EvmSigner,
  voucher: { readonly maxClaimable: bigint; readonly deposit?: bigint } = { maxClaimable: 0n },
): Promise<PaymentHeader> {
  const requirement = requirementOf(quote, scheme);
  const from = {
    suite,
    signer,
    requirement,
    nonce: new Uint8Array(randomBytes(32)),
    nowS: Math.floor(Date.now() / 1000),
    version: quote.version,
  };
  let payload: PaymentPayload;
  if (scheme === "exact") payload = await authorizeExact(from);
  else if (scheme === "upto") payload = await authorizeUpto(from);
  else {
    const use = { ...from, channel: channelFor(requirement, signer.address), maxClaimable: voucher.maxClaimable };
    payload =
      voucher.deposit === undefined
        ? await authorizeVoucher(use)
        : await authorizeDeposit({ ...use, payer: signer }, voucher.deposit);
  }
  const { wire } = quote;
  const accepted = wire.accepts[quote.required.accepts.indexOf(requirement)];
  return encodePayment(suite, payload, {
    ...(accepted === undefined ? {} : { accepted }),
    ...(wire.resource === undefined ? {} : { resource: wire.resource }),
    ...(wire.extensions === undefined ? {} : { extensions: wire.extensions }),
  });
}

/** A paid call that has to be answered. */
export async function payFor(program: Program, payment: PaymentHeader): Promise<void> {
  const response = await fetch(`${program.url}${pathOf("paid")}`, callInit(payment));
  const text = await response.text();
  if (response.status !== 200) throw new Error(`A paid call got ${response.status}: ${text.slice(0, 400)}`);
}
