// Payers that go on whatever happens to the server: each call is sent with one payment until it is answered, and
// everything that was sent and heard is written down.
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Deployments } from "@assay/contracts";
import { createChain, evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import type { Chain } from "@assay/driver-chain";
import { createPayer, spendLimit } from "@assay/sdk";
import type { Payer } from "@assay/sdk";
import { parsePaymentHeader, paymentIdOf, toHex } from "@assay/x402";
import type { Address, EvmSigner, Hex } from "@assay/x402";
import { encodeFunctionData, parseAbi } from "viem";

export type PayerKind = "exact" | "upto" | "voucher";

/** What one payment header was sent for, and every whole answer to it. */
type SentPayment = {
  readonly paymentId: Hex;
  readonly channelId: Hex | undefined;
  readonly header: string;
  readonly answers: { readonly body: Buffer; readonly receiptId: string; readonly replayed: boolean }[];
};

/** One request of a payer. Its body is of no other, so that the payer knows it again. */
export type PaidCall = {
  readonly payer: Address;
  readonly kind: PayerKind;
  readonly body: string;
  readonly sent: Map<string, SentPayment>;
  /** What was sent and heard, in order: for whoever has to find out what went wrong. */
  readonly history: string[];
  /** The payment that it was answered for, as its caller got it. */
  answered: { readonly payment: SentPayment; readonly body: Buffer; readonly receiptId: string } | undefined;
};

/** Money of a payer, and what it did with it. */
export type PayingParty = { readonly address: Address; readonly kind: PayerKind };

export type Payers = {
  readonly parties: readonly PayingParty[];
  readonly calls: readonly PaidCall[];
  /** What callers heard instead of an answer, by status and code, or by the kind of failure. */
  readonly heard: ReadonlyMap<string, number>;
  /** Ends when every call that was begun is answered. No new one begins. */
  readonly finish: () => Promise<void>;
  /** Begins nothing and repeats nothing any more: to be told when the server is about to end. */
  readonly stop: () => Promise<void>;
};

export type PayersOptions = {
  readonly url: string;
  readonly rpcUrl: string;
  readonly deployments: Deployments;
  /** One payer each. */
  readonly kinds: readonly PayerKind[];
  /** Calls that each payer has under way. */
  readonly lanes: number;
  readonly model: string;
  /** Every so many answers one is thrown away as if the connection had broken under it; 0 for none. */
  readonly loseEvery: number;
  /** Pause between two calls of a lane, milliseconds. */
  readonly thinkMs?: number;
  readonly onAnswer?: (call: PaidCall) => void;
};

/** What each payer has in the beginning, and what it allows Permit2: atomic USDC. */
export const FUNDS = 50_000_000n;
const ALLOWED = 40_000_000n;
const LIMITS = { perCall: "1", perHour: "1000", perDeposit: "40" };
/** Least time between two tries, milliseconds. */
const RETRY_MS = 150;
const TOKEN = parseAbi(["function mint(address,uint256)", "function approve(address,uint256)"]);
const suite = nativeEvmSuite();

/** The chain of a server that was started for a test. */
export function chainAt(rpcUrl: string, deployments: Deployments): Chain {
  return createChain({ url: rpcUrl, chainId: deployments.chainId });
}

/** Starts payers with money of their own. */
export async function startPayers(options: PayersOptions): Promise<Payers> {
  const { url, rpcUrl, deployments, kinds, model } = options;
  const [usdc] = deployments.tokens;
  if (!usdc) throw new Error("The chain has no dollar.");
  const signers = kinds.map((kind) => ({ kind, signer: evmSigner(new Uint8Array(randomBytes(32))) }));
  await giveMoney(chainAt(rpcUrl, deployments), deployments, signers);

  const calls: PaidCall[] = [];
  const heard = new Map<string, number>();
  const hear = (what: string): void => void heard.set(what, (heard.get(what) ?? 0) + 1);
  const stopping = new AbortController();
  const finishing = new AbortController();
  let answers = 0;

  const paymentOf = (header: string): SentPayment => {
    const payload = parsePaymentHeader("payment-signature", header);
    const { payment } = payload;
    const onChannel = payment.kind === "voucher" || payment.kind === "deposit";
    return {
      paymentId: toHex(paymentIdOf(suite, payload, { asset: usdc.address })),
      channelId: onChannel ? toHex(payment.voucher.channelId) : undefined,
      header,
      answers: [],
    };
  };

  /** A fetch that writes down what one call was sent with and answered, and loses an answer now and then. */
  const fetchFor =
    (call: PaidCall) =>
    async (to: string, init: RequestInit = {}): Promise<Response> => {
      const header = new Headers(init.headers).get("payment-signature");
      const sent = header === null ? undefined : call.sent.get(header);
      const name = sent ? `${sent.channelId ? "voucher" : "payment"} ${sent.paymentId.slice(0, 10)}` : "unpaid";
      const response = await fetch(to, init).catch((error: unknown) => {
        call.history.push(`${name}: ${nameOf(error)}`);
        throw error;
      });
      call.history.push(`${name}: ${response.status}`);
      if (!sent || response.status !== 200) return response;
      const body = Buffer.from(await response.arrayBuffer());
      sent.answers.push({
        body,
        receiptId: response.headers.get("assay-receipt-id") ?? "",
        replayed: response.headers.get("assay-replayed") === "true",
      });
      if (options.loseEvery > 0 && ++answers % options.loseEvery === 0) throw new TypeError("the answer is lost");
      return new Response(body, { status: 200, headers: response.headers });
    };
  /** Written down before it is sent: what is signed may be taken, whatever is heard. */
  const recording =
    (call: PaidCall) =>
    (to: string, init: RequestInit = {}): Promise<Response> => {
      const header = new Headers(init.headers).get("payment-signature");
      if (header !== null && !call.sent.has(header)) call.sent.set(header, paymentOf(header));
      return fetchFor(call)(to, init);
    };

  /** Tries once; the time to wait before the next try, milliseconds, when there has to be one. */
  const attempt = async (payer: Payer, call: PaidCall): Promise<number> => {
    const response = await payer.send(recording(call), `${url}/v2/models/${encodeURIComponent(model)}/infer`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: call.body,
    });
    const body = Buffer.from(await response.arrayBuffer());
    if (response.status !== 200) {
      const what = `${response.status} ${codeIn(body)}`;
      call.history.push(what);
      hear(what);
      return Number(response.headers.get("retry-after") ?? 0) * 1000 * (0.5 + Math.random());
    }
    const id = payer.paymentOf(response)?.paymentId;
    const payment = [...call.sent.values()].find(({ paymentId }) => paymentId === id);
    if (!payment) throw new Error("An answer was given for no payment.");
    call.answered = { payment, body, receiptId: response.headers.get("assay-receipt-id") ?? "" };
    options.onAnswer?.(call);
    return 0;
  };

  let next = 0;
  const lane = async (payer: Payer, kind: PayerKind): Promise<void> => {
    while (!finishing.signal.aborted && !stopping.signal.aborted) {
      const call: PaidCall = {
        payer: payer.address,
        kind,
        body: bodyOf(next++),
        sent: new Map(),
        history: [],
        answered: undefined,
      };
      calls.push(call);
      while (!call.answered && !stopping.signal.aborted) {
        const waitMs = await attempt(payer, call).catch((error: unknown) => {
          hear(nameOf(error));
          return 0;
        });
        if (!call.answered) await pause(Math.max(RETRY_MS, waitMs));
      }
      if (options.thinkMs !== undefined) await pause(options.thinkMs);
    }
  };
  const lanes = signers.flatMap(({ kind, signer }) => {
    const payer = createPayer({
      signer,
      suite,
      policy: { assets: [spendLimit({ ...usdc, network: deployments.network, domain: usdc }, LIMITS)] },
      channels: kind === "voucher" ? "always" : "never",
      // Without a chain to ask there is no way but an authorization of the whole price.
      ...(kind === "exact" ? {} : { rpcUrl }),
    });
    return Array.from({ length: options.lanes }, () => lane(payer, kind));
  });
  const over = Promise.all(lanes);
  over.catch(() => undefined);
  return {
    parties: signers.map(({ kind, signer }) => ({ kind, address: signer.address })),
    calls,
    heard,
    async finish() {
      finishing.abort();
      await over;
    },
    async stop() {
      stopping.abort();
      await over;
    },
  };
}

/** Gives every payer dollars, and lets Permit2 move those of the ones that need it. */
export async function giveMoney(
  chain: Chain,
  { tokens, permit2 }: Deployments,
  signers: readonly { readonly kind: PayerKind; readonly signer: EvmSigner }[],
): Promise<void> {
  const to = tokens[0]?.address;
  const sendAs = async (from: Address, data: Hex): Promise<Hex> =>
    (await chain.request("eth_sendTransaction", [{ from, to, data }])) as Hex;
  for (const { kind, signer } of signers) {
    const from = signer.address;
    await chain.request("anvil_setBalance", [from, "0xde0b6b3a7640000"]);
    await chain.request("anvil_impersonateAccount", [from]);
    const mint = encodeFunctionData({ abi: TOKEN, functionName: "mint", args: [from, FUNDS] });
    let last = await sendAs(from, mint);
    if (kind === "upto")
      last = await sendAs(from, encodeFunctionData({ abi: TOKEN, functionName: "approve", args: [permit2, ALLOWED] }));
    for (let receipt = await chain.receipt(last); !receipt?.ok; receipt = await chain.receipt(last)) {
      if (receipt) throw new Error("A payer got no money.");
      await pause(5);
    }
    await chain.request("anvil_stopImpersonatingAccount", [from]);
  }
}

/** Tensors of `tiny-mlp` in JSON, others for every `i`. */
function bodyOf(i: number): string {
  const data = Array.from({ length: 16 }, (_, j) => Math.fround(Math.sin(i + j)));
  return JSON.stringify({ id: `call-${i}`, inputs: [{ name: "x", datatype: "FP32", shape: [1, 16], data }] });
}

function codeIn(body: Buffer): string {
  try {
    return String((JSON.parse(body.toString("utf8")) as { code?: unknown }).code);
  } catch {
    return "";
  }
}

function nameOf(error: unknown): string {
  if (error instanceof Error && "code" in error) return String(error.code);
  return error instanceof TypeError ? "connection lost" : String(error);
}
