import { paymentDocument, paymentList, read, settleDocument } from "@assay/sdk";
import type { PaymentDocument } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { asJson, moneyText, stateText } from "../money-text.ts";
import { cliError } from "../render-error.ts";
import { facts, formatTime, printable, table } from "../style.ts";

export type PayListFlags = GatewayFlags & {
  readonly state?: PaymentDocument["state"];
  readonly payer?: string;
  readonly receipt?: string;
  readonly limit: number;
};

/** `assay pay ls`: payments that this gateway took, the latest first. */
export async function list(cli: Cli, flags: PayListFlags): Promise<number> {
  const { world, output } = cli;
  const query = new URLSearchParams({ limit: String(flags.limit) });
  for (const name of ["state", "payer", "receipt"] as const) {
    const value = flags[name];
    if (value !== undefined) query.set(name, value);
  }
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "GET", path: `/v1/payments?${query.toString()}`, signal: world.interrupt }),
  );
  const page = read(paymentList, answer, "list of payments");
  const { style } = output;
  output.answer(
    () =>
      page.payments.length === 0
        ? "No payment."
        : table(
            ["Payment", "State", "Amount", "Scheme", "Payer", "Receipt", "When"],
            page.payments.map((one) => [
              style.id(one.paymentId),
              stateText(one.state, style),
              moneyText(one.amount),
              one.scheme,
              style.id(one.payer),
              one.receiptId === null ? "" : one.receiptId.slice(0, 12),
              formatTime(one.takenAtMs),
            ]),
            style,
          ),
    () => asJson(page),
  );
  return EXIT.done;
}

/** `assay pay show ID`. */
export async function show(cli: Cli, flags: GatewayFlags, id: string): Promise<number> {
  return one(cli, flags, "GET", `/v1/payments/${paymentId(id)}`);
}

/** `assay pay retry ID`: one that was given up is settled again. */
export async function retry(cli: Cli, flags: GatewayFlags, id: string): Promise<number> {
  return one(cli, flags, "POST", `/v1/payments/${paymentId(id)}/retry`);
}

/** `assay pay settle`: what is due is settled now. */
export async function settle(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  output.progress("settling what is due");
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "POST", path: "/v1/payments/settle", signal: world.interrupt }),
  );
  const done = read(settleDocument, answer, "settlement");
  output.answer(
    () =>
      [
        `${done.settled} of ${done.due} payments that were due are settled.`,
        ...done.transactions.map((hash) => `  ${hash}`),
      ].join("\n"),
    () => asJson(done),
  );
  return EXIT.done;
}

async function one(cli: Cli, flags: GatewayFlags, method: "GET" | "POST", path: string): Promise<number> {
  const { world, output } = cli;
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method, path, signal: world.interrupt }),
  );
  const payment = read(paymentDocument, answer, "payment");
  const { style } = output;
  output.answer(
    () => [`${style.faint("Payment")} ${payment.paymentId}`, "", facts(rowsOf(payment, cli), style)].join("\n"),
    () => asJson(payment),
  );
  return EXIT.done;
}

function rowsOf(payment: PaymentDocument, { output }: Cli): (readonly [string, string])[] {
  const { error } = payment;
  return [
    ["State", stateText(payment.state, output.style)],
    ["Amount", `${moneyText(payment.amount)}, signed for at most ${moneyText(payment.cap)}`],
    ["Payer", payment.payer],
    ["Paid to", payment.payTo],
    ["By", `${payment.scheme} on ${payment.network}`],
    ...(payment.channelId === null ? [] : ([["Channel", payment.channelId]] as const)),
    ["Receipt", payment.receiptId ?? "none yet"],
    ["Settlement", payment.settlement ?? "not decided yet"],
    ["Transaction", payment.transaction ?? "none yet"],
    ...(payment.blockNumber === null ? [] : ([["Block", String(payment.blockNumber)]] as const)),
    ...(payment.attempts > 0 ? ([["Tried", `${payment.attempts} times`]] as const) : []),
    ...(error === null ? [] : ([["Last failure", printable(`${error.message} (${error.code})`)]] as const)),
    ["Taken", formatTime(payment.takenAtMs)],
    ["Usable until", formatTime(payment.deadlineS * 1000)],
  ];
}

function paymentId(text: string): string {
  const id = text.toLowerCase();
  if (/^0x[0-9a-f]{64}$/.test(id)) return id;
  throw cliError("usage_invalid", `${JSON.stringify(text)} is no payment id.`, {
    hints: ["It is 0x and 64 hexadecimal digits, as receipts and `assay pay ls --json` show it."],
  });
}
