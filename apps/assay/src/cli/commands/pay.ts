import { paymentDocument, paymentList, read, settleDocument } from "@assay/sdk";
import type { PaymentDocument } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withMoney } from "../gateway.ts";
import type { Gateway, GatewayFlags } from "../gateway.ts";
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
  const answer = await withMoney(cli, flags, ({ client }) =>
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
  return one(cli, flags, "GET", id, "");
}

/** `assay pay retry ID`: one that was given up is settled again. */
export async function retry(cli: Cli, flags: GatewayFlags, id: string): Promise<number> {
  return one(cli, flags, "POST", id, "/retry");
}

/** `assay pay settle`: what is due is settled now. */
export async function settle(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  output.progress("settling what is due");
  const answer = await withMoney(cli, flags, ({ client }) =>
    client.admin({ method: "POST", path: "/v1/payments/settle", signal: world.interrupt }),
  );
  const done = read(settleDocument, answer, "settlement");
  output.answer(
    () =>
      [
        done.due === 0
          ? "Nothing was due."
          : `${done.settled} of ${done.due} payment${done.due === 1 ? "" : "s"} that ${done.due === 1 ? "was" : "were"} due ${done.settled === 1 ? "is" : "are"} settled.`,
        ...done.transactions.map((hash) => `  ${hash}`),
      ].join("\n"),
    () => asJson(done),
  );
  return EXIT.done;
}

async function one(
  cli: Cli,
  flags: GatewayFlags,
  method: "GET" | "POST",
  id: string,
  action: "" | "/retry",
): Promise<number> {
  const { world, output } = cli;
  const { interrupt: signal } = world;
  const wanted = wantedPayment(id);
  const answer = await withMoney(cli, flags, async ({ client }) => {
    const full = typeof wanted === "string" ? wanted : await findPayment(client, wanted, id, signal);
    return client.admin({ method, path: `/v1/payments/${full}${action}`, signal });
  });
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
    // A voucher is good as long as its channel.
    ...(payment.deadlineS * 1000 < MAX_TIME_MS
      ? ([["Usable until", formatTime(payment.deadlineS * 1000)]] as const)
      : []),
  ];
}

/** Where calendars end (ECMA-262): what is later has no end. */
const MAX_TIME_MS = 8.64e15;

/** How ids are shown in lists: their beginning and their end. */
type ShortId = { readonly begins: string; readonly ends: string };

/** Digits of a beginning at least: fewer would find what was not meant. */
const SHORT_ID = /^(0x[0-9a-f]{8,63})(?:(?:…|\.\.\.)([0-9a-f]{1,32}))?$/;
/** Payments that are looked through for a short id: the latest. */
const LOOKED_THROUGH = 200;

/** A payment's id, whole or as lists show it. */
function wantedPayment(text: string): string | ShortId {
  const id = text.toLowerCase();
  if (/^0x[0-9a-f]{64}$/.test(id)) return id;
  const [, begins, ends = ""] = SHORT_ID.exec(id) ?? [];
  if (begins !== undefined) return { begins, ends };
  throw cliError("usage_invalid", `${JSON.stringify(text)} is no payment id.`, {
    hints: ["It is 0x and 64 hexadecimal digits, of which the first 8 are enough. List them: `assay pay ls`."],
  });
}

async function findPayment(
  client: Pick<Gateway["client"], "admin">,
  { begins, ends }: ShortId,
  text: string,
  signal: AbortSignal,
): Promise<string> {
  const answer = await client.admin({ method: "GET", path: `/v1/payments?limit=${LOOKED_THROUGH}`, signal });
  const { payments } = read(paymentList, answer, "list of payments");
  const [found, another] = payments.filter(({ paymentId }) => paymentId.startsWith(begins) && paymentId.endsWith(ends));
  if (found && !another) return found.paymentId;
  throw cliError(
    "usage_invalid",
    another
      ? `Several payments begin with ${printable(text)}.`
      : `None of the latest ${LOOKED_THROUGH} payments is ${printable(text)}.`,
    { hints: ["Give all of its id, as `assay pay ls --json` shows it."] },
  );
}
