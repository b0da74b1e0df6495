import { bytesToHex, equalBytes, hexToBytes, isAssayError } from "@assay/core";
import {
  authorizeDeposit,
  authorizeExact,
  authorizeUpto,
  authorizeVoucher,
  chainIdOf,
  channelFor,
  channelIdOf,
  EIP2612_GAS_SPONSORING,
  encodePayment,
  fromHex,
  paymentIdOf,
  resyncFrom,
  toHex,
  voucherDigest,
} from "@assay/x402";
import type {
  AssetLimit,
  Authorize,
  ChannelConfig,
  EvmSigner,
  EvmSuite,
  ParsedQuote,
  PaymentPayload,
  PaymentRequirements,
  SpendPolicy,
} from "@assay/x402";
import { clientError } from "../errors.ts";
import type { ChannelBook, ChannelFacts, VoucherEnd } from "./channels.ts";
import { prune } from "./ledger.ts";
import type { SpendLedger } from "./ledger.ts";
import { CHANNEL_AFTER } from "./limits.ts";
import { createPermit2Desk } from "./permit2.ts";
import { isSpendRefusal, requireAllowed } from "./policy.ts";
import type { ChainReader } from "./rpc.ts";
import type { SignedPayment } from "./settlement.ts";
import type { PayStore, Spend, Unresolved } from "./state.ts";

/** A payment that was signed, and the entry of the books that it stands for. */
export type Signed = {
  readonly spendId: string;
  readonly header: { readonly name: string; readonly value: string };
  readonly payment: SignedPayment;
  readonly untilMs: number;
  /** The channel that it was paid from. */
  readonly channel?: ChannelFacts;
  /** The nonce of the request that it was first sent with. */
  readonly nonce?: string;
  /** Tells the channel's book how it ended; once. */
  readonly end: (end: VoucherEnd) => Promise<void>;
};

export type SignContext = {
  readonly host: string;
  readonly limits: { readonly maxSpend?: string | undefined };
  readonly signal: AbortSignal | undefined;
};

export type PaymentSigner = {
  /**
   * Chooses a way to pay that the policy allows and the wallet can sign, books it and signs. Throws the policy's refusal,
   * and `payment_unpayable` when no way is left.
   */
  readonly sign: (quote: ParsedQuote, context: SignContext) => Promise<Signed>;
  /** Whether a refused payment can be signed anew: the other side showed where it stands. */
  readonly resync: (quote: ParsedQuote, refused: Signed) => Promise<boolean>;
};

export type SigningModules = {
  readonly signer: EvmSigner;
  readonly suite: EvmSuite;
  readonly policy: SpendPolicy;
  readonly use: "auto" | "always" | "never";
  readonly ledger: SpendLedger;
  readonly channels: ChannelBook;
  readonly store: PayStore;
  readonly chain: ChainReader | undefined;
  readonly now: () => number;
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly randomBytes: (length: number) => Uint8Array;
};

/** One way that a quote offers, with what it said word for word. */
type Way = { readonly requirement: PaymentRequirements; readonly at: number; readonly asset: AssetLimit };

/** Reasons of a corrective 402 (x402 batch-settlement). */
const CORRECTIVE = /cumulative_amount_mismatch|below_claimed/;
const NO_ALLOWANCE = /permit2_allowance/;

/** The signer of a payer's payments. */
export function createPaymentSigner(modules: SigningModules): PaymentSigner {
  const { signer, suite, policy, ledger, channels, now } = modules;
  const permit2 = createPermit2Desk(modules.chain, modules);

  const channelOf = (requirement: PaymentRequirements): { config: ChannelConfig; facts: ChannelFacts } | undefined => {
    let config: ChannelConfig;
    try {
      config = channelFor(requirement, signer.address);
    } catch (error) {
      if (!isAssayError(error)) throw error;
      return undefined;
    }
    const channelId = toHex(channelIdOf(suite, chainIdOf(requirement.network), config));
    const { network, payTo: payee, asset } = requirement;
    return { config, facts: { channelId, network, payee, asset, salt: toHex(config.salt) } };
  };

  /** Ways in the order that they are tried: what costs the payer least first. */
  const order = async (ways: readonly Way[], spends: readonly Spend[]): Promise<readonly Way[]> => {
    const ranked = await Promise.all(ways.map(async (way) => ({ way, rank: await rankOf(way.requirement, spends) })));
    return ranked
      .filter(({ rank }) => rank > 0)
      .toSorted((a, b) => b.rank - a.rank || a.way.at - b.way.at)
      .map(({ way }) => way);
  };
  const rankOf = async (requirement: PaymentRequirements, spends: readonly Spend[]): Promise<number> => {
    switch (requirement.scheme) {
      case "batch-settlement":
        return (await isChannelSensible(requirement, spends)) ? 3 : 0;
      case "upto":
        return 2;
      case "exact":
        return 1;
    }
  };
  const isChannelSensible = async (requirement: PaymentRequirements, spends: readonly Spend[]): Promise<boolean> => {
    const channel = channelOf(requirement);
    if (!channel || modules.use === "never") return false;
    if (modules.use === "always") return true;
    const rest = await channels.rest(channel.facts.channelId);
    if (rest !== undefined && rest >= BigInt(requirement.amount)) return true;
    const { payTo, asset, network } = requirement;
    const paid = spends.filter((one) => one.payee === payTo && one.asset === asset && one.network === network);
    return paid.reduce((sum, { count }) => sum + count, 0) >= CHANNEL_AFTER;
  };

  const sign: PaymentSigner["sign"] = async (quote, context) => {
    const { host, limits } = context;
    const kept = await modules.store.update((state) => {
      prune(state, now());
      return { spends: [...state.spends], channels: [...state.channels] };
    });
    let refusal: unknown;
    const ways: Way[] = [];
    for (const [at, requirement] of quote.required.accepts.entries()) {
      try {
        const asset = requireAllowed(policy, kept, { host, requirement, maxSpend: limits.maxSpend }, now());
        ways.push({ requirement, at, asset });
      } catch (error) {
        if (!isSpendRefusal(error)) throw error;
        refusal ??= error;
      }
    }
    // What can be signed at once goes first; a permit that waits for the one before it is the last resort.
    const ordered = await order(ways, kept.spends);
    for (const wait of [false, true]) {
      for (const way of ordered) {
        try {
          const signed = await signWay(quote, way, context, wait);
          if (signed) return signed;
        } catch (error) {
          if (!isSpendRefusal(error)) throw error;
          refusal ??= error;
        }
      }
    }
    if (refusal !== undefined) throw refusal;
    throw unpayable(quote, modules.chain !== undefined);
  };

  const signWay = async (
    quote: ParsedQuote,
    way: Way,
    context: SignContext,
    wait: boolean,
  ): Promise<Signed | undefined> => {
    const { requirement } = way;
    const from: Authorize = {
      suite,
      signer,
      requirement,
      nonce: modules.randomBytes(32),
      nowS: Math.floor(now() / 1000),
      version: quote.version,
    };
    const amount = BigInt(requirement.amount);
    const sponsors = quote.required.extensions?.[EIP2612_GAS_SPONSORING] !== undefined;
    const by = { sponsors, wait, signal: context.signal };
    const book = (channelId?: ChannelFacts["channelId"]): Promise<Booked> => reserve(from, context, channelId);
    const done = { end: () => Promise.resolve() };

    if (requirement.scheme !== "batch-settlement") {
      const isPermit2 = requirement.scheme === "upto" || requirement.extra.assetTransferMethod === "permit2";
      if (requirement.scheme === "upto" && requirement.extra.facilitatorAddress === undefined) return undefined;
      const permit = isPermit2 ? await permit2.way(from, amount, by) : {};
      if (!permit) return undefined;
      const booked = await book();
      const authorize = requirement.scheme === "upto" ? authorizeUpto : authorizeExact;
      const payload = await undone(booked, () => authorize(from, permit.sponsored));
      return { ...signedOf(quote, way, payload, booked), ...done };
    }

    const channel = channelOf(requirement);
    if (!channel) return undefined;
    const { minDeposit } = requirement.extra;
    const { plan, end } = await channels.plan(
      channel.facts,
      amount,
      minDeposit === undefined ? undefined : BigInt(minDeposit),
      (state, depositAtomic) =>
        void requireAllowed(policy, state, { ...contextOf(requirement, context), depositAtomic }, now()),
      context.signal,
    );
    try {
      const { depositAtomic, maxClaimable } = plan;
      const isPermit2 = depositAtomic !== undefined && requirement.extra.assetTransferMethod === "permit2";
      const permit = isPermit2 ? await permit2.way(from, depositAtomic, by) : {};
      if (!permit) {
        await end({ kind: "refused" });
        return undefined;
      }
      const booked = await book(channel.facts.channelId);
      const use = { ...from, channel: channel.config, maxClaimable };
      const payload = await undone(booked, () =>
        depositAtomic === undefined
          ? authorizeVoucher(use)
          : authorizeDeposit({ ...use, payer: signer }, depositAtomic, permit.sponsored),
      );
      return { ...signedOf(quote, way, payload, booked), channel: channel.facts, end };
    } catch (error) {
      await end({ kind: "refused" });
      throw error;
    }
  };

  /** Books what is about to be signed, under the limits as they are at that moment. */
  const reserve = async (
    { requirement, nowS }: Authorize,
    context: SignContext,
    channelId: ChannelFacts["channelId"] | undefined,
  ): Promise<Booked> => {
    const booked = {
      spendId: bytesToHex(modules.randomBytes(16)),
      untilMs: (nowS + requirement.maxTimeoutSeconds) * 1000,
    };
    await ledger.reserve(
      {
        id: booked.spendId,
        host: context.host,
        network: requirement.network,
        asset: requirement.asset,
        payee: requirement.payTo,
        amountAtomic: BigInt(requirement.amount),
        untilMs: booked.untilMs,
        ...(channelId === undefined ? {} : { channelId }),
      },
      (state) => void requireAllowed(policy, state, contextOf(requirement, context), now()),
    );
    return booked;
  };

  const signedOf = (
    { wire }: ParsedQuote,
    { requirement, at, asset }: Way,
    payload: PaymentPayload,
    booked: Booked,
  ): Omit<Signed, "end"> => {
    const accepted = wire.accepts[at];
    return {
      ...booked,
      header: encodePayment(suite, payload, {
        ...(accepted === undefined ? {} : { accepted }),
        ...(wire.resource === undefined ? {} : { resource: wire.resource }),
        ...(wire.extensions === undefined ? {} : { extensions: wire.extensions }),
      }),
      payment: {
        payer: signer.address,
        paymentId: toHex(paymentIdOf(suite, payload, requirement)),
        scheme: requirement.scheme,
        network: requirement.network,
        asset: { symbol: asset.symbol, address: asset.address, decimals: asset.decimals },
        payTo: requirement.payTo,
        capAtomic: BigInt(requirement.amount),
      },
    };
  };

  /** A signature that did not come about leaves nothing in the books. */
  const undone = async <Result>(booked: Booked, work: () => Promise<Result>): Promise<Result> => {
    try {
      return await work();
    } catch (error) {
      await ledger.release(booked.spendId);
      throw error;
    }
  };

  const resync: PaymentSigner["resync"] = async (quote, refused) => {
    const said = quote.required.error ?? "";
    if (NO_ALLOWANCE.test(said)) {
      permit2.missing(refused.payment.asset.address);
      return refused.payment.scheme !== "batch-settlement";
    }
    const { channel } = refused;
    if (!channel || !CORRECTIVE.test(said)) return false;
    for (const { scheme, network, extra } of quote.required.accepts) {
      const { channelState, voucherState } = extra;
      if (scheme !== "batch-settlement" || network !== channel.network || channelState?.channelId !== channel.channelId)
        continue;
      const shown = resyncFrom(extra, fromHex(channel.channelId), (maxClaimable, signature) =>
        isOwnVoucher(channel, maxClaimable, fromHex(signature)),
      );
      if (shown) {
        await channels.resync(channel, { ...shown, signed: BigInt(voucherState?.signedMaxClaimable ?? "0") });
        return true;
      }
      // Without our signature a higher sum is only said; a lower one is to our good.
      const charged = BigInt(channelState.chargedCumulativeAmount);
      const known = (await channels.all()).find(({ channelId }) => channelId === channel.channelId);
      if (voucherState || charged > BigInt(known?.charged ?? "0")) return false;
      await channels.resync(channel, { charged, balance: BigInt(channelState.balance), signed: charged });
      return true;
    }
    return false;
  };

  const isOwnVoucher = ({ channelId, network }: ChannelFacts, maxClaimable: bigint, signature: Uint8Array): boolean => {
    const v = signature[64];
    if (signature.length !== 65 || (v !== 27 && v !== 28)) return false;
    const digest = voucherDigest(suite, chainIdOf(network), fromHex(channelId), maxClaimable);
    const recovered = suite.recover(digest, signature.subarray(0, 64), v === 27 ? 0 : 1);
    return recovered !== undefined && equalBytes(recovered, hexToBytes(signer.address.slice(2)));
  };

  return { sign, resync };
}

/** What the books have of a payment. */
type Booked = Pick<Signed, "spendId" | "untilMs">;

function contextOf(requirement: PaymentRequirements, { host, limits }: SignContext) {
  return { host, requirement, maxSpend: limits.maxSpend };
}

function unpayable(quote: ParsedQuote, hasChain: boolean): Error {
  const { accepts } = quote.required;
  if (accepts.length === 0) {
    return clientError("payment_unpayable", "The 402 offers no way of paying that is known here.", {
      hints: [`${quote.leftOut} ways of other kinds were left out. Nothing was signed.`],
    });
  }
  return clientError("payment_unpayable", "None of the ways of paying that are offered can be signed by this wallet.", {
    hints: [
      hasChain
        ? "Tokens other than USDC are paid through Permit2: `assay wallet approve AMOUNT --asset SYMBOL` lets it spend as much."
        : "Tokens other than USDC are paid through Permit2, which needs the chain's RPC to be known: rpcUrl.",
      "Nothing was signed.",
    ],
  });
}

/** A payment as it is kept beside its request. */
export function storedSigned(signed: Signed, request: string, nonce: string | undefined): Unresolved {
  return {
    request,
    spendId: signed.spendId,
    header: { ...signed.header },
    ...(nonce === undefined ? {} : { nonce }),
    payment: { ...signed.payment, asset: { ...signed.payment.asset }, capAtomic: signed.payment.capAtomic.toString() },
    ...(signed.channel ? { channelId: signed.channel.channelId } : {}),
    untilMs: signed.untilMs,
  };
}

/** The payment that was kept. Its channel has counted it already. */
export function restoreSigned(kept: Unresolved): Signed {
  return {
    spendId: kept.spendId,
    header: kept.header,
    ...(kept.nonce === undefined ? {} : { nonce: kept.nonce }),
    payment: { ...kept.payment, capAtomic: BigInt(kept.payment.capAtomic) },
    untilMs: kept.untilMs,
    end: () => Promise.resolve(),
  };
}
