import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { bytesToHex } from "@assay/core";
import { nobleSuite } from "@assay/core/noble";
import {
  admitVoucher,
  applyCharge,
  applyDeposit,
  channelStateOf,
  checkPayment,
  encodePaymentRequired,
  encodeSettlementResponse,
  matchRequirement,
  offeredExtensions,
  openAccount,
  parsePaymentHeader,
  resyncFor,
  settlementDocument,
  toHex,
} from "@assay/x402";
import type {
  Address,
  ChannelAccount,
  Hex,
  PaymentPayload,
  PaymentRequirements,
  SettlementResponse,
} from "@assay/x402";
import { nobleEvmSuite } from "@assay/x402/noble";

const suite = nobleEvmSuite;

/** What a request is asked, and what it is charged when it is metered. */
export type Offer = {
  readonly accepts: readonly PaymentRequirements[];
  readonly chargeAtomic?: bigint;
  readonly sponsors?: boolean;
  readonly error?: string;
};

export type SellerOptions = {
  readonly offer: (request: { readonly path: string; readonly body: string }) => Offer;
  /** Writes the answer of a paid request; default a JSON text. */
  readonly answer?: (request: { readonly path: string; readonly body: string }, response: ServerResponse) => void;
  readonly stream?: boolean;
  /** Stands in the way: what it returns true for is over. Told how many payments of this id came before. */
  readonly before?: (seen: number, request: IncomingMessage, response: ServerResponse) => boolean;
  /** Awaited before a payment is looked at: lets a test choose the order in which payments arrive. */
  readonly arrive?: () => Promise<void>;
  /** Called when a request is paid; its answer waits for it. */
  readonly work?: () => Promise<void>;
  readonly settlement?: (honest: SettlementResponse) => SettlementResponse;
};

/** A server that asks for payment and checks it as a gateway does, without a chain: what was signed is all it looks at. */
export type Seller = {
  readonly url: string;
  /** Requests in all, and those without payment that were asked for one. */
  readonly counts: { requests: number; asked: number; refused: number };
  /** Payments that were taken by id, with what they were charged. */
  readonly sold: Map<string, { readonly amount: bigint; readonly payload: PaymentPayload; body: string }>;
  readonly accounts: Map<Hex, ChannelAccount>;
  readonly close: () => Promise<void>;
};

type Answered = { readonly status: number; readonly headers: Record<string, string>; readonly body: string };

export async function openSeller(options: SellerOptions): Promise<Seller> {
  const counts = { requests: 0, asked: 0, refused: 0 };
  const sold: Seller["sold"] = new Map();
  const accounts: Seller["accounts"] = new Map();
  const seen = new Map<string, number>();
  const answers = new Map<string, Answered>();
  const running = new Set<string>();

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    counts.requests++;
    const chunks: Uint8Array[] = [];
    for await (const chunk of request as AsyncIterable<Uint8Array>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("utf8");
    const path = request.url ?? "/";
    const offer = options.offer({ path, body });
    const ask = (error: string, accepts = offer.accepts): void => {
      const required = {
        x402Version: 2 as const,
        error,
        resource: { url: `http://seller.test${path}` },
        accepts,
        ...(offer.sponsors === true ? { extensions: offeredExtensions({ eip2612: true, identifier: "none" }) } : {}),
      };
      response.writeHead(402, {
        "payment-required": encodePaymentRequired(suite, required),
        "content-type": "application/json",
      });
      response.end(JSON.stringify({ error }));
    };
    const header = request.headers["payment-signature"];
    if (offer.accepts.length === 0) {
      response.end("free");
      return;
    }
    if (typeof header !== "string") {
      counts.asked++;
      ask(offer.error ?? "payment required");
      return;
    }
    const key = bytesToHex(nobleSuite.sha256(Buffer.from(header))).slice(0, 32);
    const before = seen.get(key) ?? 0;
    seen.set(key, before + 1);
    if (options.before?.(before, request, response) === true) return;
    await options.arrive?.();
    const refuse = (code: string, accepts?: readonly PaymentRequirements[]): void => {
      counts.refused++;
      ask(code, accepts);
    };
    const kept = answers.get(key);
    if (kept) {
      response.writeHead(kept.status, { ...kept.headers, "assay-replayed": "true" });
      response.end(kept.body);
      return;
    }
    if (running.has(key)) {
      response.writeHead(409, { "retry-after": "1" });
      response.end();
      return;
    }
    const payload = parsePaymentHeader("payment-signature", header);
    const match = matchRequirement(payload, offer.accepts);
    if (!match.ok) return refuse(match.code);
    const { requirement } = match;
    const verdict = checkPayment(suite, payload, requirement, Math.floor(Date.now() / 1000));
    if (!verdict.ok) return refuse(verdict.code);
    const cap = BigInt(requirement.amount);
    const metered = offer.chargeAtomic === undefined || offer.chargeAtomic > cap ? cap : offer.chargeAtomic;
    const amount = requirement.scheme === "exact" ? cap : metered;
    const { payment } = payload;
    let channel: Hex | undefined;
    if (payment.kind === "voucher" || payment.kind === "deposit") {
      channel = toHex(payment.voucher.channelId);
      const had = accounts.get(channel) ?? openAccount({ balance: 0n, totalClaimed: 0n });
      const account = payment.kind === "deposit" ? applyDeposit(had, payment.amount) : had;
      const admitted = admitVoucher(account, payment.voucher, cap);
      if (!admitted.ok) {
        const extra = { ...requirement.extra, ...resyncFor(account, payment.voucher.channelId) };
        return refuse(admitted.code, [{ ...requirement, extra }]);
      }
      accounts.set(channel, admitted.account);
    }
    running.add(key);
    await options.work?.();
    const account = channel === undefined ? undefined : accounts.get(channel);
    if (channel !== undefined && account) accounts.set(channel, applyCharge(account, cap, amount));
    const charged = channel === undefined ? undefined : accounts.get(channel);
    sold.set(toHex(verdict.paymentId), { amount, payload, body });
    const honest: SettlementResponse = {
      success: true,
      transaction: "",
      network: requirement.network,
      payer: verdict.payer,
      ...(requirement.scheme === "batch-settlement" ? {} : { amount: amount.toString() }),
      ...(charged && payment.kind !== "eip3009" && "voucher" in payment
        ? {
            extra: {
              chargedAmount: amount.toString(),
              channelState: channelStateOf(charged, payment.voucher.channelId),
            },
          }
        : {}),
    };
    const settlement = options.settlement?.(honest) ?? honest;
    running.delete(key);
    if (options.stream === true) {
      const { amount: _amount, extra: _extra, ...early } = settlement;
      response.writeHead(200, {
        "content-type": "text/event-stream",
        [encodeSettlementResponse(suite, 2, early).name]: encodeSettlementResponse(suite, 2, early).value,
      });
      response.write('data: {"text":"a"}\n\n');
      const event = JSON.stringify(settlementDocument(suite, 2, settlement));
      response.end(`data: {"text":"b"}\n\nevent: x402-settlement\ndata: ${event}\n\ndata: [DONE]\n\n`);
      return;
    }
    const said = encodeSettlementResponse(suite, 2, settlement);
    const whole: Answered = { status: 200, headers: { [said.name]: said.value }, body: `answer to ${body}` };
    answers.set(key, whole);
    response.writeHead(whole.status, whole.headers);
    if (options.answer) options.answer({ path, body }, response);
    else response.end(whole.body);
  };

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      response.writeHead(500);
      response.end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    counts,
    sold,
    accounts,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

/** A token and the people of tests. */
export const USDC = {
  symbol: "USDC",
  address: "0x036cbd53842c5426634e7929541ec2318f3dcf7e" as Address,
  decimals: 6,
  network: "eip155:84532" as const,
  domain: { name: "USDC", version: "2" },
};
export const SELLER: Address = "0x1111111111111111111111111111111111111111";
const FACILITATOR: Address = "0x2222222222222222222222222222222222222222";

export function requirementOf(
  scheme: PaymentRequirements["scheme"],
  amount: string,
  changes: Partial<PaymentRequirements> = {},
): PaymentRequirements {
  return {
    scheme,
    network: USDC.network,
    amount,
    asset: USDC.address,
    payTo: SELLER,
    maxTimeoutSeconds: 900,
    extra: {
      ...USDC.domain,
      ...(scheme === "upto" ? { facilitatorAddress: FACILITATOR, assetTransferMethod: "permit2" as const } : {}),
      ...(scheme === "batch-settlement" ? { receiverAuthorizer: FACILITATOR, withdrawDelay: 900 } : {}),
    },
    ...changes,
  };
}
