import { bytesToHex } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { DurableReceipt, ListingSubject, MeteredUse, PaymentDesk, PaymentProblem } from "@assay/protocol";

// A desk that behaves like one (once, bound, charged at most the cap) without a chain behind it: a payment is a name for
// itself, and nobody forges it. The ledger's desk has tests of its own.

/** What one call costs, in the asset's smallest unit. */
export type Rates = { readonly call?: number; readonly token?: number; readonly millisecond?: number };

export type Scheme = "exact" | "upto";

type Held = {
  readonly fingerprint: string;
  readonly payer: `0x${string}`;
  state: "taken" | "charged";
  receipt?: DurableReceipt;
  amount?: bigint;
};

export type TestDesk = PaymentDesk & {
  /** What was charged for each receipt that became durable, in order. */
  readonly settled: () => readonly { readonly receiptId: string; readonly amount: bigint; readonly nonce: string }[];
  readonly taken: () => number;
  readonly releases: () => number;
};

export const PAYER: `0x${string}` = `0x${"ab".repeat(20)}`;
const ASSET = "0xtoken";
const NETWORK = "eip155:31337";

/** A payment header for `amount`, named by `nonce`. */
export function payment(nonce: string, amount: number, scheme: Scheme = "exact"): Record<string, string> {
  return { "payment-signature": btoa(JSON.stringify({ payer: PAYER, nonce, amount, scheme })) };
}

export function openDesk(
  rates: Readonly<Partial<Record<ListingSubject, Rates>>>,
  options: {
    readonly settlement?: "private" | "batch" | "individual";
    /** How long what was signed is good for; an hour when absent. */
    readonly goodForMs?: number;
  } = {},
): TestDesk {
  const held = new Map<string, Held>();
  const settled: { receiptId: string; amount: bigint; nonce: string }[] = [];
  let releases = 0;
  const costOf = (subject: ListingSubject, use: MeteredUse): bigint => {
    const { call = 0, token = 0, millisecond = 0 } = rates[subject] ?? {};
    const { inputTokens = 0, outputTokens = 0, milliseconds = 0 } = use;
    return (
      BigInt(call) + BigInt(token) * BigInt(inputTokens + outputTokens) + BigInt(millisecond) * BigInt(milliseconds)
    );
  };
  const problem = (
    status: PaymentProblem["status"],
    code: string,
    headers: Readonly<Record<string, string>> = {},
    required?: NonNullable<PaymentProblem["required"]>,
  ): { readonly kind: "problem"; readonly problem: PaymentProblem } => ({
    kind: "problem",
    problem: { status, code, message: `The payment: ${code}.`, headers, ...(required ? { required } : {}) },
  });
  return {
    settled: () => settled,
    taken: () => held.size,
    releases: () => releases,
    quote(use) {
      let capAtomic = 0n;
      for (const subject of use.subjects) {
        const cost = costOf(subject, use.most);
        if (cost > capAtomic) capAtomic = cost;
      }
      for (const { subject, used } of use.besides ?? []) capAtomic += costOf(subject, used);
      return capAtomic === 0n ? undefined : { use, asset: "USDC", capAtomic };
    },
    async take({ use, capAtomic }, headers, request) {
      await Promise.resolve();
      const offer = { "payment-required": btoa(JSON.stringify({ amount: capAtomic.toString(), ...use.resource })) };
      const text = headers["payment-signature"] ?? headers["x-payment"];
      if (text === undefined)
        return problem(402, "payment_required", offer, { x402Version: 2, resource: use.resource, accepts: [] });
      let sent: {
        readonly payer: `0x${string}`;
        readonly nonce: string;
        readonly amount: number;
        readonly scheme: Scheme;
      };
      try {
        sent = JSON.parse(atob(text)) as typeof sent;
      } catch {
        return problem(400, "payment_malformed");
      }
      if (BigInt(sent.amount) < capAtomic) return problem(402, "payment_underpaid", offer);
      const fingerprint = bytesToHex(request.fingerprint);
      const before = held.get(sent.nonce);
      if (before) {
        if (before.fingerprint !== fingerprint) return problem(409, "payment_bound");
        if (before.receipt === undefined) return problem(409, "payment_in_flight", { "retry-after": "1" });
        const { receiptId, logIndex } = before.receipt;
        return { kind: "replay", payer: before.payer, receiptId, logIndex };
      }
      const mine: Held = { fingerprint, payer: sent.payer, state: "taken" };
      held.set(sent.nonce, mine);
      const paymentId = `0x${bytesToHex(nodeSuite.sha256(new TextEncoder().encode(sent.nonce)))}`;
      const settlement = options.settlement ?? "batch";
      return {
        kind: "open",
        payer: sent.payer,
        network: NETWORK,
        paymentId,
        scheme: sent.scheme,
        settlement,
        untilMs: Date.now() + (options.goodForMs ?? 3_600_000),
        headers: {
          "payment-response": btoa(JSON.stringify({ success: true, transaction: "", extra: { id: paymentId } })),
        },
        charge(subject, used, besides = []) {
          if (!use.subjects.includes(subject)) throw new Error(`${subject} was not quoted.`);
          if (mine.state === "charged") throw new Error("A payment is charged once.");
          mine.state = "charged";
          const quoted = besides.filter((one) => use.besides?.some((other) => other.subject === one.subject));
          const cost = quoted.reduce((sum, one) => sum + costOf(one.subject, one.used), costOf(subject, used));
          const amount = sent.scheme === "exact" || cost > capAtomic ? capAtomic : cost;
          mine.amount = amount;
          const amountAtomic = amount.toString();
          const response = btoa(JSON.stringify({ success: true, amount: amountAtomic }));
          return {
            amountAtomic: amount,
            payment: {
              payer: sent.payer,
              paymentId,
              scheme: sent.scheme,
              network: NETWORK,
              amountAtomic,
              asset: ASSET,
              settlement,
              payTo: PAYER,
            },
            price: { amountAtomic, asset: ASSET, rateSource: "listing:00", unit: "1e-6" },
            instruction: new TextEncoder().encode(`settle ${sent.nonce} ${amountAtomic}`),
            headers: { "payment-response": response },
            event: JSON.stringify({ success: true, paymentResponse: response }),
            durable(receipt) {
              if (mine.receipt) throw new Error("A payment becomes durable once.");
              mine.receipt = receipt;
              settled.push({ receiptId: receipt.receiptId, amount, nonce: sent.nonce });
            },
          };
        },
        release() {
          if (mine.receipt) throw new Error("A durable payment is not given back.");
          if (held.get(sent.nonce) === mine) {
            held.delete(sent.nonce);
            releases++;
          }
          return Promise.resolve();
        },
      };
    },
  };
}
