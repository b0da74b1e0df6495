import type { Address, Hex } from "@assay/x402";
import { DEADLINE_MARGIN_S, MAX_GROUP_CHANNELS, MAX_GROUP_ITEMS } from "./limits.ts";
import type { PaymentRow } from "./rows.ts";

/** When payments are sent together. */
export type GroupOptions = {
  /** Payments of one scheme and token, or channels, that are enough to send them. */
  readonly items: number;
  /** How long the first of them waits for company, milliseconds. */
  readonly afterMs: number;
  /** How long the first charge on a channel waits for further ones before it is claimed, milliseconds. */
  readonly claimAfterMs: number;
  /** Payments of at least this, in the asset's smallest unit, wait for nobody. */
  readonly immediateAbove: Readonly<Record<Address, bigint>>;
  /** Whether somebody else settles a payment; nobody does when absent. */
  readonly isOutside?: (row: PaymentRow) => boolean;
};

/** Payments that one job settles: through the batcher, through somebody else, by opening a channel, or by claiming. */
export type Group = { readonly kind: "pay" | "outside" | "deposit" | "claim"; readonly rows: readonly PaymentRow[] };

export type GroupContext = {
  readonly nowMs: number;
  /** Payments that somebody asked to settle now; `all` when somebody asked for everything. */
  readonly kicked: ReadonlySet<Hex> | "all";
  /** Channels that a job has payments of under way. */
  readonly busyChannels: ReadonlySet<Hex>;
  /** Deposits that are on the chain. */
  readonly deposited: ReadonlySet<Hex>;
};

/**
 * What to settle now, of payments that wait in order of their deadlines; what is in no group waits on. Payments of
 * one scheme and token go together when they are many, when the first has waited, when a deadline is near, or when one
 * of them waits for nobody: company costs nothing then. One transaction claims from many channels, and a deposit comes before
 * every claim on its channel.
 */
export function groupRows(rows: readonly PaymentRow[], options: GroupOptions, context: GroupContext): readonly Group[] {
  const groups: Group[] = [];
  const payments = new Map<string, PaymentRow[]>();
  const channels = new Map<Hex, PaymentRow[]>();
  const opening = new Set<Hex>();
  const outside: Group[] = [];
  for (const row of rows) {
    if (row.channelId !== undefined) {
      if (context.busyChannels.has(row.channelId)) continue;
      if (row.instruction.payload.payment.kind === "deposit" && !context.deposited.has(row.paymentId)) {
        // One at a time: the row is the channel's lock.
        if (!opening.has(row.channelId)) groups.push({ kind: "deposit", rows: [row] });
        opening.add(row.channelId);
        continue;
      }
      push(channels, row.channelId, row);
    } else if (options.isOutside?.(row) === true) {
      // Whoever else settles takes one at a time: there is no company to wait for.
      outside.push({ kind: "outside", rows: [row] });
    } else {
      push(payments, `${row.scheme} ${row.asset}`, row);
    }
  }
  for (const waiting of payments.values()) {
    const ready =
      waiting.length >= options.items ||
      waiting.some((row) => isUrgent(row, options, context) || row.updatedAtMs + options.afterMs <= context.nowMs);
    if (!ready) continue;
    for (const [attempts, alike] of byAttempts(waiting, ({ attempts }) => attempts))
      for (const part of chunks(alike, companyOf(MAX_GROUP_ITEMS, attempts))) groups.push({ kind: "pay", rows: part });
  }
  const claimable = [...channels].filter(([channelId]) => !opening.has(channelId)).map(([, waiting]) => waiting);
  for (const claims of byAuthorizer(claimable)) {
    const ready = claims.some((waiting) =>
      waiting.some((row) => isUrgent(row, options, context) || row.updatedAtMs + options.claimAfterMs <= context.nowMs),
    );
    if (!ready) continue;
    for (const [attempts, alike] of byAttempts(claims, (charges) => Math.max(...charges.map((row) => row.attempts))))
      for (const part of chunks(alike, companyOf(MAX_GROUP_CHANNELS, attempts)))
        groups.push({ kind: "claim", rows: part.flat() });
  }
  // Last: they take as long as somebody else takes.
  return [...groups, ...outside];
}

/** Tries after which nothing is sent in company. */
const ALONE_AFTER = 3;

/**
 * How many go together after so many failed tries. A contract that pays can say yes while it is asked and use up a
 * transaction's gas in its block, which fails for everybody in it: each try is in an eighth of the company of the one
 * before, and whoever does no harm is soon without whoever does.
 */
function companyOf(most: number, attempts: number): number {
  return attempts >= ALONE_AFTER ? 1 : Math.max(1, most >> (3 * attempts));
}

/** Those with equally many failed tries, the fewest first. */
function byAttempts<T>(
  items: readonly T[],
  attemptsOf: (item: T) => number,
): Iterable<readonly [number, readonly T[]]> {
  const groups = new Map<number, T[]>();
  for (const item of items) push(groups, Math.min(attemptsOf(item), ALONE_AFTER), item);
  return [...groups].toSorted(([a], [b]) => a - b);
}

function isUrgent(row: PaymentRow, options: GroupOptions, { kicked, nowMs }: GroupContext): boolean {
  const { payment } = row.instruction.payload;
  const above = options.immediateAbove[row.asset];
  return (
    kicked === "all" ||
    kicked.has(row.paymentId) ||
    row.settlement === "individual" ||
    // A permit's number is sequential: until it is used, its owner cannot sign another.
    ((payment.kind === "permit2" || payment.kind === "upto") && payment.sponsored !== undefined) ||
    (above !== undefined && row.amountAtomic >= above) ||
    row.deadlineS <= nowMs / 1000 + DEADLINE_MARGIN_S
  );
}

/** A batch of claims is signed once, so its channels have one authorizer. */
function byAuthorizer(channels: readonly (readonly PaymentRow[])[]): Iterable<readonly (readonly PaymentRow[])[]> {
  const groups = new Map<string, (readonly PaymentRow[])[]>();
  for (const rows of channels) {
    const payment = rows[0]?.instruction.payload.payment;
    if (payment && "channel" in payment) push(groups, payment.channel.receiverAuthorizer, rows);
  }
  return groups.values();
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function* chunks<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
