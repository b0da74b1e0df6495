import { bytesToHex, utf8ToBytes } from "@assay/core";
import { nobleSuite } from "@assay/core/noble";
import { parsePaymentRequired } from "@assay/x402";
import type { Address, EvmSigner, EvmSuite, ParsedQuote, SpendPolicy } from "@assay/x402";
import { pause } from "../pause.ts";
import type { Fetch } from "../transport.ts";
import { readBody } from "../transport.ts";
import { createChallenges } from "./challenges.ts";
import { createChannelBook } from "./channels.ts";
import type { VoucherEnd } from "./channels.ts";
import { createSpendLedger } from "./ledger.ts";
import { DEADLINE_MARGIN_MS, MAX_CHALLENGE_BYTES, MAX_CORRECTIONS, MAX_UNRESOLVED } from "./limits.ts";
import { readRequest } from "./read-request.ts";
import type { ReadRequest } from "./read-request.ts";
import { createChainReader } from "./rpc.ts";
import { sendPaid } from "./send-paid.ts";
import { settlementFilter } from "./settlement-filter.ts";
import { chargedByEvent, chargedByHeader } from "./settlement.ts";
import type { Charged, SignedPayment } from "./settlement.ts";
import { createPaymentSigner, restoreSigned, storedSigned } from "./signing.ts";
import type { SignContext, Signed } from "./signing.ts";
import { memoryPayStore } from "./state.ts";
import type { KeptChannel, PayStore, Spend } from "./state.ts";

/** A key of a payer: it signs 32-byte digests and never leaves where it lives. */
export type Wallet = EvmSigner;

export type PayerOptions = {
  readonly signer: Wallet;
  /** What may be paid ({@link spendLimit}). What it does not name is refused. */
  readonly policy: SpendPolicy;
  /** Hashes and signatures; `@assay/x402/noble` has one that runs everywhere. */
  readonly suite: EvmSuite;
  /** Where spends and channels are remembered; default this process. */
  readonly store?: PayStore;
  /** JSON-RPC of the chain: needed for allowances and permits, so without it neither `upto` nor tokens beside USDC. */
  readonly rpcUrl?: string;
  /**
   * When payments go through a channel: `auto` (default) once a payee was paid several times in the hour, `always` or
   * `never`.
   */
  readonly channels?: "auto" | "always" | "never";
  /** What asks the chain; default the platform's. */
  readonly fetch?: Fetch;
  readonly now?: () => number;
  readonly randomBytes?: (length: number) => Uint8Array;
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** Told of every payment once it is known what was charged. */
  readonly onPayment?: (payment: CallPayment) => void;
};

/** The limits of one call, beside the policy's. */
export type CallLimits = {
  /** Most that the call may cost, decimal text in units of the asset that is paid. */
  readonly maxSpend?: string | undefined;
};

/** The payment of one call. What was charged is known at the end of a stream. */
export type CallPayment = SignedPayment & {
  /** Undefined until the answer said it. */
  readonly charged: Charged | undefined;
  /** The nonce of the request that it was first sent with: an answer that is given again carries that one. */
  readonly clientNonce: string | undefined;
};

/** Pays what is asked, within a policy. */
export type Payer = {
  readonly address: Address;
  /** Sends a request, and pays for it when that is asked. Throws what the policy refuses, and what `fetch` throws. */
  readonly send: (fetch: Fetch, url: string, init: RequestInit, limits?: CallLimits) => Promise<Response>;
  /** The payment of a response that `send` gave; undefined when it was free. */
  readonly paymentOf: (response: Response) => CallPayment | undefined;
  /** What was spent in the last hour, and what is signed for. */
  readonly spends: () => Promise<readonly Spend[]>;
  readonly channels: () => Promise<readonly KeptChannel[]>;
};

/** The platform's `fetch`, as far as callers use it. */
type AnyFetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/**
 * A payer. One request to a priced route costs two round trips the first time and one after it: what was asked is
 * remembered, and later requests of the same kind are paid unasked. A request whose connection was lost is sent again
 * with the same payment, and so is the same request later: nobody is paid twice for it.
 *
 * @example
 * const payer = createPayer({ signer, suite, policy: { assets: [spendLimit(usdc, { perCall: "0.01", perHour: "1" })] } });
 * const assay = new Assay({ payer });
 */
export function createPayer(options: PayerOptions): Payer {
  const now = options.now ?? Date.now;
  const sleep = options.sleep ?? pause;
  const randomBytes = options.randomBytes ?? ((length) => globalThis.crypto.getRandomValues(new Uint8Array(length)));
  const store = options.store ?? memoryPayStore();
  const ledger = createSpendLedger(store, now);
  const channels = createChannelBook(store, now);
  const challenges = createChallenges();
  const chain =
    options.rpcUrl === undefined
      ? undefined
      : createChainReader({ url: options.rpcUrl, ...(options.fetch ? { fetch: options.fetch } : {}) });
  const signing = createPaymentSigner({
    signer: options.signer,
    suite: options.suite,
    policy: options.policy,
    use: options.channels ?? "auto",
    ledger,
    channels,
    store,
    chain,
    now,
    sleep,
    randomBytes,
  });
  const payments = new WeakMap<Response, CallPayment>();

  // A store may bring some from before.
  let mayBeUnresolved = options.store !== undefined;
  /** The payment of a request that was sent before and never answered. It belongs to whoever takes it. */
  const takeUnresolved = async (request: ReadRequest): Promise<Signed | undefined> => {
    const key = requestKey(request);
    return store.update((state) => {
      const at = state.unresolved.findIndex((one) => one.request === key && one.untilMs > now() + DEADLINE_MARGIN_MS);
      const kept = state.unresolved[at];
      mayBeUnresolved = state.unresolved.length > (kept ? 1 : 0);
      if (!kept) return undefined;
      state.unresolved.splice(at, 1);
      return restoreSigned(kept);
    });
  };
  const keepUnresolved = (request: ReadRequest, signed: Signed, nonce: string | undefined): Promise<void> =>
    store.update((state) => {
      state.unresolved.push(storedSigned(signed, requestKey(request), nonce));
      if (state.unresolved.length > MAX_UNRESOLVED) state.unresolved.shift();
    });

  const send: Payer["send"] = async (fetch, url, init, limits = {}) => {
    const asked = await readRequest(url, init);
    const headers = new Headers(asked.init.headers);
    // Whoever brings a payment of their own pays it.
    if (headers.has("payment-signature") || headers.has("x-payment")) return fetch(url, init);
    const request: ReadRequest = { ...asked, init: { ...asked.init, headers } };
    const host = new URL(asked.url).host;
    const signal = asked.init.signal ?? undefined;
    const nonce = headers.get("assay-client-nonce") ?? undefined;

    const earlier = mayBeUnresolved ? await takeUnresolved(request) : undefined;
    if (earlier) {
      if (earlier.nonce !== undefined) headers.set("assay-client-nonce", earlier.nonce);
      const response = await attempt(fetch, request, earlier, earlier.nonce);
      if (response.status !== 402) return response;
      // It was taken for something else, or it is worth nothing any more: the request is asked for anew.
      await response.body?.cancel().catch(() => undefined);
      if (nonce !== undefined) headers.set("assay-client-nonce", nonce);
    }

    const known = challenges.find(request, now());
    if (known) return pay(fetch, request, known, { host, limits, signal }, nonce, true);
    const response = await fetch(asked.url, request.init);
    if (response.status !== 402) return response;
    const first = await quoteOf(response);
    if (!first.quote) return first.response;
    await first.response.body?.cancel().catch(() => undefined);
    challenges.keep(request, first.quote, now());
    return pay(fetch, request, first.quote, { host, limits, signal }, nonce, false);
  };

  /** Pays a quote, or the one that is given in its place; `unasked` is whether it is one that was remembered. */
  const pay = async (
    fetch: Fetch,
    request: ReadRequest,
    quote: ParsedQuote,
    context: SignContext,
    nonce: string | undefined,
    unasked: boolean,
  ): Promise<Response> => {
    let mayRequote = unasked;
    let asked = quote;
    for (let corrections = 0; ;) {
      const signed = await signing.sign(asked, context);
      const response = await attempt(fetch, request, signed, nonce);
      if (response.status !== 402) return response;
      const next = await quoteOf(response);
      if (!next.quote) return next.response;
      if (corrections < MAX_CORRECTIONS && (await signing.resync(next.quote, signed))) corrections++;
      // What was remembered is not what is asked now; once is a change of price, twice a refusal.
      else if (mayRequote) mayRequote = false;
      else {
        challenges.forget(request);
        return next.response;
      }
      await next.response.body?.cancel().catch(() => undefined);
      asked = next.quote;
      challenges.keep(request, asked, now());
    }
  };

  /** Sends a request with a payment, and keeps the books by what becomes of it. */
  const attempt = async (
    fetch: Fetch,
    request: ReadRequest,
    signed: Signed,
    nonce: string | undefined,
  ): Promise<Response> => {
    let response: Response;
    try {
      response = await sendPaid({ fetch, url: request.url, init: request.init, header: signed.header, now, sleep });
    } catch (error) {
      await unresolved(request, signed, nonce);
      throw error;
    }
    if (response.status === 402) {
      await finish(signed, { kind: "refused" });
      return response;
    }
    if (response.status === 409) {
      // It is bound to something else, or its answer is gone: sending it again would change nothing.
      await finish(signed, { kind: "unknown" });
      return response;
    }
    if (!response.ok) {
      // It may have been taken and given back; the same request goes with the same payment again.
      await unresolved(request, signed, nonce);
      return response;
    }
    try {
      return await answered(request, response, signed, nonce);
    } catch (error) {
      response.body?.cancel().catch(() => undefined);
      await finish(signed, { kind: "unknown" });
      throw error;
    }
  };

  const unresolved = async (request: ReadRequest, signed: Signed, nonce: string | undefined): Promise<void> => {
    mayBeUnresolved = true;
    await signed.end({ kind: "unknown" });
    await keepUnresolved(request, signed, nonce);
  };

  const finish = async (signed: Signed, end: VoucherEnd): Promise<void> => {
    await signed.end(end);
    if (end.kind === "charged") await ledger.settle(signed.spendId, end.amountAtomic);
    // A refused voucher promises nothing new. Every other signature can be used until its time is over.
    else if (end.kind === "refused" && signed.payment.scheme === "batch-settlement")
      await ledger.release(signed.spendId);
  };

  const answered = async (
    request: ReadRequest,
    response: Response,
    signed: Signed,
    nonce: string | undefined,
  ): Promise<Response> => {
    let charged: Charged | undefined;
    let over = false;
    const settle = async (by: Charged | undefined): Promise<void> => {
      if (over) return;
      over = true;
      if (by) {
        charged = by;
        await finish(signed, {
          kind: "charged",
          amountAtomic: by.amountAtomic,
          chargedAtomic: by.channelChargedAtomic,
        });
        options.onPayment?.(payment);
      } else await finish(signed, { kind: "unknown" });
    };
    const payment: CallPayment = {
      ...signed.payment,
      clientNonce: nonce,
      get charged() {
        return charged;
      },
    };
    const isStream = (response.headers.get("content-type") ?? "").toLowerCase().startsWith("text/event-stream");
    const said = response.headers.get("payment-response") ?? response.headers.get("x-payment-response");
    const early = said === null ? undefined : chargedByHeader(said, signed.payment);
    // The header of a stream goes out before anything was used: its event has the last word.
    if (!isStream || signed.payment.scheme === "exact") await settle(early ?? fixed(signed.payment));
    if (!response.body) {
      payments.set(response, payment);
      return response;
    }
    const watched = watch(isStream ? response.body.pipeThrough(filterOf(signed, settle)) : response.body, {
      done: () => settle(undefined),
      broken: () =>
        over && isStream ? Promise.resolve() : unresolvedBody(request, signed, nonce, () => (over = true)),
    });
    const { status, statusText } = response;
    const out = new Response(watched, { status, statusText, headers: response.headers });
    payments.set(out, payment);
    return out;
  };

  /** The answer was lost on its way: the same request gets it again for the same payment. */
  const unresolvedBody = async (
    request: ReadRequest,
    signed: Signed,
    nonce: string | undefined,
    mark: () => void,
  ): Promise<void> => {
    mark();
    await unresolved(request, signed, nonce);
  };

  return {
    address: options.signer.address,
    send,
    paymentOf: (response) => payments.get(response),
    spends: () => ledger.spends(),
    channels: () => channels.all(),
  };
}

/** A `fetch` that pays what is asked of it. What the policy refuses is thrown before anything is signed. */
export function paidFetch(fetch: Fetch | undefined, payer: Payer, limits: CallLimits = {}): AnyFetch {
  const inner: Fetch = fetch ?? ((url, init) => globalThis.fetch(url, init));
  return async (input, init = {}) => {
    const request = await readRequest(input, init);
    return payer.send(inner, request.url, request.init, limits);
  };
}

function fixed(payment: SignedPayment): Charged | undefined {
  return payment.scheme === "exact" ? { amountAtomic: payment.capAtomic } : undefined;
}

function filterOf(signed: Signed, settle: (by: Charged) => Promise<void>): TransformStream<Uint8Array, Uint8Array> {
  return settlementFilter(async (data) => {
    const by = chargedByEvent(data, signed.payment);
    if (by) await settle(by);
  });
}

/** A body that tells when it is over. Leaving it is its reader's decision, and no fault. */
function watch(
  body: ReadableStream<Uint8Array>,
  told: { readonly done: () => Promise<void>; readonly broken: () => Promise<void> },
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) {
            controller.enqueue(value);
            return;
          }
          await told.done();
          controller.close();
        } catch (error) {
          await told.broken().catch(() => undefined);
          controller.error(error);
        }
      },
      async cancel(reason) {
        await Promise.all([reader.cancel(reason), told.done()]);
      },
    },
    { highWaterMark: 0 },
  );
}

/** The quote of a 402, and the response with its body still to be read. */
async function quoteOf(
  response: Response,
): Promise<{ readonly quote: ParsedQuote | undefined; readonly response: Response }> {
  const header = response.headers.get("payment-required") ?? undefined;
  if (header !== undefined) return { quote: parsePaymentRequired({ header }), response };
  const body = await readBody(response, MAX_CHALLENGE_BYTES);
  const { status, statusText, headers } = response;
  const again = new Response(body as NonNullable<RequestInit["body"]>, { status, statusText, headers });
  try {
    return { quote: parsePaymentRequired({ body }), response: again };
  } catch {
    // Somebody else's 402: whoever asked knows what to do with it.
    return { quote: undefined, response: again };
  }
}

function requestKey({ method, url, body }: ReadRequest): string {
  return bytesToHex(nobleSuite.sha256(utf8ToBytes(`${method} ${url}\n`), body ?? new Uint8Array()));
}
