import { isAssayError, parseJson } from "@assay/core";
import { z } from "zod";
import { clientError } from "../errors.ts";
import { MAX_CHANNELS, MAX_SPENDS, MAX_STATE_BYTES, MAX_UNRESOLVED } from "./limits.ts";

const whole = z.string().regex(/^(?:0|[1-9]\d{0,77})$/);
const address = z.templateLiteral(["0x", z.string().regex(/^[0-9a-f]{40}$/)]);
const hash = z.templateLiteral(["0x", z.string().regex(/^[0-9a-f]{64}$/)]);
const network = z.templateLiteral(["eip155:", z.int().min(1)]);

const spend = z.strictObject({
  id: z.string().max(64),
  atMs: z.number(),
  host: z.string().max(300),
  network,
  asset: address,
  payee: address,
  /** Atomic units. */
  amount: whole,
  /** The channel that it was paid from. */
  channelId: hash.optional(),
  /** Payments that it stands for. */
  count: z.int().min(1),
  /** Signed and not known to be over: counts until then, whatever happens. */
  openUntilMs: z.number().optional(),
});
/** Money that was spent, or that was signed for and may still be taken. */
export type Spend = z.infer<typeof spend>;

const channel = z.strictObject({
  channelId: hash,
  network,
  payee: address,
  asset: address,
  /** Atomic units, cumulative. */
  charged: whole,
  /** The highest sum that a voucher was signed for. */
  signed: whole,
  balance: whole,
  /** What was deposited since `depositsFromMs`. */
  deposited: whole,
  depositsFromMs: z.number(),
  salt: hash,
  updatedAtMs: z.number(),
});
/** A payment channel as its payer knows it. */
export type KeptChannel = z.infer<typeof channel>;

const unresolved = z.strictObject({
  /** SHA-256 of method, address and body. */
  request: z.string().regex(/^[0-9a-f]{64}$/),
  spendId: z.string().max(64),
  header: z.strictObject({ name: z.string().max(64), value: z.string().max(16_384) }),
  nonce: z.string().max(128).optional(),
  payment: z.strictObject({
    payer: address,
    paymentId: hash,
    scheme: z.enum(["exact", "upto", "batch-settlement"]),
    network,
    asset: z.strictObject({ symbol: z.string().max(32), address, decimals: z.int().min(0).max(77) }),
    payTo: address,
    capAtomic: whole,
  }),
  channelId: hash.optional(),
  untilMs: z.number(),
});
/** A payment whose request was never answered: sent again with it, and never signed a second time. */
export type Unresolved = z.infer<typeof unresolved>;

const state = z.strictObject({
  version: z.literal(1),
  spends: z.array(spend).max(MAX_SPENDS),
  channels: z.array(channel).max(MAX_CHANNELS),
  unresolved: z.array(unresolved).max(MAX_UNRESOLVED),
});
/** What a payer remembers. */
export type PayState = {
  readonly version: 1;
  spends: Spend[];
  channels: KeptChannel[];
  unresolved: Unresolved[];
};

/** Where a payer remembers. `update` runs alone: nobody else reads or writes before it has written. */
export type PayStore = {
  readonly update: <Result>(change: (state: PayState) => Result) => Promise<Result>;
};

/** Remembers for as long as the process runs. */
export function memoryPayStore(): PayStore {
  const kept = emptyState();
  return { update: (change) => new Promise((resolve) => resolve(change(kept))) };
}

/** A text that is kept somewhere: a file, `localStorage`. `exclusively` keeps other processes or tabs out meanwhile. */
export type KeptText = {
  readonly read: () => Promise<string | undefined>;
  readonly write: (text: string) => Promise<void>;
  readonly exclusively?: <Result>(work: () => Promise<Result>) => Promise<Result>;
};

/**
 * Remembers in a text. Its `update` rejects with `pay_state_invalid` for a text that is none of ours: forgetting what was
 * spent would lift the limits.
 */
export function textPayStore(text: KeptText): PayStore {
  const exclusively = text.exclusively ?? ((work) => work());
  let last: Promise<unknown> = Promise.resolve();
  const step = async <Result>(change: (state: PayState) => Result): Promise<Result> => {
    const kept = parseState(await text.read());
    const before = JSON.stringify(kept);
    const result = change(kept);
    const after = JSON.stringify(kept);
    if (after !== before) await text.write(after);
    return result;
  };
  return {
    update(change) {
      const run = last.then(() => exclusively(() => step(change)));
      last = run.catch(() => undefined);
      return run;
    },
  };
}

function emptyState(): PayState {
  return { version: 1, spends: [], channels: [], unresolved: [] };
}

function parseState(text: string | undefined): PayState {
  if (text === undefined || text === "") return emptyState();
  try {
    return state.parse(parseJson(text, { maxBytes: MAX_STATE_BYTES, maxDepth: 8 }));
  } catch (cause) {
    if (!isAssayError(cause) && !(cause instanceof z.ZodError)) throw cause;
    throw clientError("pay_state_invalid", "What is remembered of payments cannot be read.", {
      cause,
      hints: ["Put the file aside to begin anew; limits by the hour then count from zero."],
    });
  }
}
