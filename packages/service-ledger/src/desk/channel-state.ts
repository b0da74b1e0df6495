import type { Hex, Voucher } from "@assay/x402";
import { MAX_CHANNEL_WAITERS, MAX_CHANNELS_KEPT } from "./limits.ts";

/** What this process knows of a channel beyond its row: charges that the row has not heard of, and who waits. */
export type ChannelState = {
  /** Charges on the channel in all, those of this process that are not durable yet included. */
  readonly charged: () => bigint;
  /** Fixes a charge; what was charged in all is with it. */
  readonly charge: (amountAtomic: bigint) => void;
  /** Takes a charge back that never became durable. */
  readonly uncharge: (amountAtomic: bigint) => void;
  /** A charge became durable; its answer is with its client at `answeredMs`. */
  readonly durable: (paymentId: Hex, amountAtomic: bigint, answeredMs: number) => void;
  /** The row has this payment now. */
  readonly ingested: (paymentId: Hex) => void;
  /** Payments whose receipts are durable and not in the rows. */
  readonly own: () => readonly { readonly paymentId: Hex; readonly amountAtomic: bigint }[];
  /** Notes what the row said was charged, {@link own} of `mark` included. */
  readonly note: (charged: bigint, mark: bigint) => void;
  /** Of everything that became durable here so far. */
  readonly mark: () => bigint;
  /** The highest voucher that was taken here. */
  readonly signed: () => Voucher | undefined;
  readonly sign: (voucher: Voucher) => void;
  /** One at a time, in the order of asking. Undefined when too many wait already. */
  readonly turn: () => Promise<() => void> | undefined;
  /** Waits until something on the channel ends, or `ms`. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly waiting: () => number;
  /** Grows with everything that begins or ends on the channel here: what was read before is of yesterday then. */
  readonly version: () => number;
  readonly wake: () => void;
  readonly isIdle: () => boolean;
  /** Until when the payer that was told the channel's state is waited for, milliseconds. */
  promisedUntilMs: number;
  /** When the chain was asked of it last by this process; undefined when never. */
  lookedAtMs: number | undefined;
  /** What the chain said then that it holds, less what its payer wants back; undefined when it was never asked here. */
  onChain: bigint | undefined;
  /** When it was last looked up whether payments of the payer failed. */
  standingAtMs: number;
};

export type Channels = {
  readonly get: (channelId: Hex) => ChannelState;
  readonly size: () => number;
};

/** Channels of this process. Idle ones are forgotten, oldest first, when there are too many: their rows have them. */
export function createChannels(max: number = MAX_CHANNELS_KEPT): Channels {
  const states = new Map<Hex, ChannelState>();
  return {
    size: () => states.size,
    get(channelId) {
      const known = states.get(channelId);
      if (known) return known;
      if (states.size >= max)
        for (const [id, state] of states) {
          if (!state.isIdle()) continue;
          states.delete(id);
          break;
        }
      const state = createChannelState();
      states.set(channelId, state);
      return state;
    },
  };
}

function createChannelState(): ChannelState {
  const durable = new Map<Hex, bigint>();
  let base = 0n;
  let pending = 0n;
  let durableTotal = 0n;
  let signed: Voucher | undefined;
  let users = 0;
  let last: Promise<void> = Promise.resolve();
  let waiters: (() => void)[] = [];
  let version = 0;
  const wake = (): void => {
    version++;
    const woken = waiters;
    waiters = [];
    for (const resolve of woken) resolve();
  };
  const state: ChannelState = {
    promisedUntilMs: 0,
    standingAtMs: 0,
    lookedAtMs: undefined,
    onChain: undefined,
    charged: () => base + pending,
    charge(amountAtomic) {
      pending += amountAtomic;
    },
    uncharge(amountAtomic) {
      pending -= amountAtomic;
    },
    durable(paymentId, amountAtomic, answeredMs) {
      pending -= amountAtomic;
      base += amountAtomic;
      durableTotal += amountAtomic;
      durable.set(paymentId, amountAtomic);
      if (waiters.length > 0) state.promisedUntilMs = answeredMs;
      wake();
    },
    ingested(paymentId) {
      if (durable.delete(paymentId)) wake();
    },
    own: () => [...durable].map(([paymentId, amountAtomic]) => ({ paymentId, amountAtomic })),
    note(charged, mark) {
      base = charged + (durableTotal - mark);
    },
    mark: () => durableTotal,
    signed: () => signed,
    sign(voucher) {
      if (!signed || voucher.maxClaimable > signed.maxClaimable) signed = voucher;
    },
    turn() {
      if (users >= MAX_CHANNEL_WAITERS) return undefined;
      users++;
      const before = last;
      const { promise, resolve } = withResolvers();
      last = promise;
      const end = (): void => {
        users--;
        resolve();
      };
      return before.then(() => end);
    },
    wait(ms, signal) {
      return new Promise((resolve) => {
        const end = (): void => {
          clearTimeout(timer);
          signal.removeEventListener("abort", end);
          waiters = waiters.filter((other) => other !== end);
          resolve();
        };
        const timer = setTimeout(end, ms);
        signal.addEventListener("abort", end, { once: true });
        waiters.push(end);
      });
    },
    waiting: () => waiters.length,
    version: () => version,
    wake,
    isIdle: () => users === 0 && waiters.length === 0 && durable.size === 0 && pending === 0n,
  };
  return state;
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
