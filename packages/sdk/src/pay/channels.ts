import type { Address, Hex, Network } from "@assay/x402";
import { clientError } from "../errors.ts";
import { DEPOSIT_CALLS, HOUR_MS, MAX_CHANNELS } from "./limits.ts";
import type { KeptChannel, PayState, PayStore } from "./state.ts";

/** What a voucher is to be signed for. */
type VoucherPlan = {
  /** The sum that the voucher promises, at least what was charged, what is under way, and this. Atomic units. */
  readonly maxClaimable: bigint;
  /** What has to be deposited with it; undefined when the balance holds it. */
  readonly depositAtomic: bigint | undefined;
};

/** How a use of a channel ended. */
export type VoucherEnd =
  | {
      readonly kind: "charged";
      readonly amountAtomic: bigint;
      /** The sum that was charged of the channel so far, as the other side has it. */
      readonly chargedAtomic?: bigint | undefined;
    }
  /** Nothing was charged, and the other side took nothing. */
  | { readonly kind: "refused" }
  /** Nobody knows: counted as charged, which costs nothing but room, since only what is charged is claimed. */
  | { readonly kind: "unknown" };

export type ChannelFacts = {
  readonly channelId: Hex;
  readonly network: Network;
  readonly payee: Address;
  readonly asset: Address;
  readonly salt: Hex;
};

/** Where the other side says that a channel stands, the signature checked. */
type ChannelStand = { readonly charged: bigint; readonly signed: bigint; readonly balance: bigint };

/** A payer's channels: many requests at once on each. */
export type ChannelBook = {
  /** Takes `amount` of a channel; deposits one after another. `mayDeposit` refuses by throwing. */
  readonly plan: (
    channel: ChannelFacts,
    amount: bigint,
    smallestDeposit: bigint | undefined,
    mayDeposit: (state: PayState, atomic: bigint) => void,
    signal?: AbortSignal,
  ) => Promise<{ readonly plan: VoucherPlan; readonly end: (end: VoucherEnd) => Promise<void> }>;
  /** Takes over where the other side stands. */
  readonly resync: (channel: ChannelFacts, stand: ChannelStand) => Promise<void>;
  /** What is left of a channel, and whether there is one. */
  readonly rest: (channelId: Hex) => Promise<bigint | undefined>;
  readonly all: () => Promise<readonly KeptChannel[]>;
};

type Live = { inFlight: bigint; opening: Promise<void> | undefined };

/** The channels that `store` remembers, with what is under way in this process. */
export function createChannelBook(store: PayStore, now: () => number): ChannelBook {
  const live = new Map<Hex, Live>();
  const liveOf = (id: Hex): Live => {
    const known = live.get(id) ?? { inFlight: 0n, opening: undefined };
    live.set(id, known);
    return known;
  };

  const plan: ChannelBook["plan"] = async (channel, amount, smallestDeposit, mayDeposit, signal) => {
    const state = liveOf(channel.channelId);
    for (;;) {
      signal?.throwIfAborted();
      // The sum is taken and counted in one step, so that no two requests promise the same part of the balance.
      const step = await store.update((kept) => {
        const record = recordOf(kept, channel, now());
        const needed = BigInt(record.charged) + state.inFlight + amount;
        // Each voucher is a payment of its own, so none is signed twice for the same sum.
        const next = BigInt(record.signed) + 1n;
        const maxClaimable = needed < next ? next : needed;
        const missing = maxClaimable - BigInt(record.balance);
        if (missing > 0n && state.opening) return { wait: state.opening };
        if (missing <= 0n) {
          state.inFlight += amount;
          promise(record, maxClaimable, now());
          return { maxClaimable };
        }
        const usual = smallestDeposit ?? amount * DEPOSIT_CALLS;
        const deposit = usual > missing ? usual : missing;
        mayDeposit(kept, deposit);
        noteDeposit(record, deposit, now());
        state.inFlight += amount;
        promise(record, maxClaimable, now());
        let opened = (): void => undefined;
        state.opening = new Promise((resolve) => {
          opened = () => {
            state.opening = undefined;
            resolve();
          };
        });
        return { maxClaimable, deposit, opened };
      });
      if ("wait" in step) {
        await step.wait;
        continue;
      }
      const { maxClaimable, deposit, opened } = step;
      if (deposit === undefined) {
        return { plan: { maxClaimable, depositAtomic: undefined }, end: ender(channel, state, amount, 0n, undefined) };
      }
      return {
        plan: { maxClaimable, depositAtomic: deposit },
        end: ender(channel, state, amount, deposit, opened),
      };
    }
  };

  const ender = (
    channel: ChannelFacts,
    state: Live,
    amount: bigint,
    deposit: bigint,
    opened: (() => void) | undefined,
  ): ((end: VoucherEnd) => Promise<void>) => {
    let over = false;
    return async (end) => {
      if (over) return;
      over = true;
      try {
        await store.update((kept) => {
          // In one step with what was charged: in between, another request would promise the same part twice.
          state.inFlight -= amount;
          if (end.kind === "refused") return;
          const record = recordOf(kept, channel, now());
          const isCharged = end.kind === "charged";
          let sum = BigInt(record.charged) + (isCharged ? end.amountAtomic : amount);
          // With nothing under way both sides have the same sum, or theirs counts: at most what was promised, it can be claimed.
          const theirs = isCharged && state.inFlight === 0n ? end.chargedAtomic : undefined;
          if (theirs !== undefined && theirs <= BigInt(record.signed)) sum = theirs;
          record.charged = sum.toString();
          // A deposit of an answer that never came may not have been made: the next corrective 402 says.
          if (isCharged) record.balance = (BigInt(record.balance) + deposit).toString();
          record.updatedAtMs = now();
        });
      } finally {
        opened?.();
      }
    };
  };

  return {
    plan,
    resync: (channel, stand) =>
      store.update((kept) => {
        const record = recordOf(kept, channel, now());
        // What is under way counts as charged there, and by itself here.
        const charged = stand.charged - liveOf(channel.channelId).inFlight;
        record.charged = (charged > 0n ? charged : 0n).toString();
        record.balance = stand.balance.toString();
        if (stand.signed > BigInt(record.signed)) record.signed = stand.signed.toString();
        record.updatedAtMs = now();
      }),
    rest: (channelId) =>
      store.update((kept) => {
        const record = kept.channels.find((one) => one.channelId === channelId);
        return record && BigInt(record.balance) - BigInt(record.charged) - (live.get(channelId)?.inFlight ?? 0n);
      }),
    all: () => store.update((kept) => kept.channels.map((record) => ({ ...record }))),
  };
}

function promise(record: KeptChannel, maxClaimable: bigint, nowMs: number): void {
  if (maxClaimable > BigInt(record.signed)) record.signed = maxClaimable.toString();
  record.updatedAtMs = nowMs;
}

function noteDeposit(record: KeptChannel, atomic: bigint, nowMs: number): void {
  const before = depositedLately(record, nowMs);
  if (before === 0n) record.depositsFromMs = nowMs;
  record.deposited = (before + atomic).toString();
}

/** What was deposited into a channel in the hour that its last deposits began. Counts longer than an hour, never shorter. */
export function depositedLately({ deposited, depositsFromMs }: KeptChannel, nowMs: number): bigint {
  return depositsFromMs > nowMs - HOUR_MS ? BigInt(deposited) : 0n;
}

function recordOf(state: PayState, channel: ChannelFacts, nowMs: number): KeptChannel {
  const known = state.channels.find(({ channelId }) => channelId === channel.channelId);
  if (known) return known;
  if (state.channels.length >= MAX_CHANNELS) {
    // One without a balance holds nobody's money; forgetting another would lose what is known of it.
    const empty = state.channels.findIndex(({ balance, charged }) => BigInt(balance) <= BigInt(charged));
    if (empty === -1) {
      throw clientError("spend_ledger_full", `${MAX_CHANNELS} payment channels are open already.`, {
        hints: ["Pay without a channel, or close one."],
      });
    }
    state.channels.splice(empty, 1);
  }
  const record: KeptChannel = {
    ...channel,
    charged: "0",
    signed: "0",
    balance: "0",
    deposited: "0",
    depositsFromMs: 0,
    updatedAtMs: nowMs,
  };
  state.channels.push(record);
  return record;
}
