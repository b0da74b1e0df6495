import { buildRouteMap } from "@stricli/core";
import { chainCheck, chainDeploy, chainKeys } from "./chain-commands.ts";
import { defineCommand } from "./command.ts";
import { one, text, url } from "./flags.ts";
import type { GatewayFlags } from "./gateway.ts";
import * as parse from "./parse-flags.ts";
import type { BatchListFlags } from "./commands/batch.ts";
import type { ResetFlags } from "./commands/chain.ts";
import type { PayListFlags } from "./commands/pay.ts";
import type { PriceFlags } from "./commands/price.ts";
import type { ApproveFlags, ExportFlags, FundFlags, NewFlags } from "./commands/wallet.ts";

const off = { kind: "boolean", default: false, withNegated: false } as const;
const limit = {
  limit: { kind: "parsed", parse: parse.limit, default: "20", placeholder: "number", brief: "Most to list" },
} as const;

const pricing = {
  asset: {
    kind: "parsed",
    parse: String,
    default: "USDC",
    placeholder: "symbol",
    brief: "Token that it is paid in: USDC, ASY",
  },
  per: {
    kind: "enum",
    values: ["call", "1k-tokens", "second", "gigabyte-day"],
    default: "call",
    brief: "What the amount is for",
  },
  payee: {
    kind: "parsed",
    parse: String,
    optional: true,
    variadic: true,
    placeholder: "address=percent",
    brief: "Who shares what is earned; the rest is the gateway's",
  },
  remove: { ...off, brief: "Make it free again" },
  ...url,
} as const;
const LISTING = "{subject, asset, perCall, perMillionInputTokens, …, payees, owner, digest, payTo}";

/** `assay model price`. */
export const modelPrice = defineCommand<PriceFlags, [string, string?]>({
  brief: "Set, show or remove the price of a model",
  examples: ["model price me/net 0.002", "model price me/net 0.01 --asset ASY --per 1k-tokens --payee 0xADDRESS=70"],
  json: LISTING,
  flags: pricing,
  positional: {
    kind: "tuple",
    parameters: [
      { placeholder: "name", brief: "Model", parse: String },
      {
        placeholder: "amount",
        brief: "Amount in units of the asset, 0 for free; shows the price without",
        parse: String,
        optional: true,
      },
    ],
  },
  load: async () => (await import("./commands/price.ts")).priceModel,
});

/** `assay price`. */
export const price = defineCommand<PriceFlags, [string?, string?]>({
  brief: "Set, show or remove prices, also of storage, openings, anchoring, verification and audits",
  examples: ["price", "price service:storage 0.05 --per gigabyte-day"],
  json: `${LISTING}; without a subject {prices: […]}`,
  flags: pricing,
  positional: {
    kind: "tuple",
    parameters: [
      {
        placeholder: "subject",
        brief: "Model, or service:storage and the like; all without",
        parse: String,
        optional: true,
      },
      { placeholder: "amount", brief: "Amount in units of the asset, 0 for free", parse: String, optional: true },
    ],
  },
  load: async () => (await import("./commands/price.ts")).priceAny,
});

/** Limits of commands that pay. */
export const spending = {
  maxSpend: text("amount", "Most that a call may cost; without it nothing is paid"),
  asset: text("symbol", "Token to pay with: USDC, ASY (USDC)"),
  maxSpendHour: text("amount", "Most in an hour, all commands together (100 calls)"),
  allowPayee: {
    kind: "parsed",
    parse: String,
    optional: true,
    variadic: true,
    placeholder: "address",
    brief: "Whom to pay, and nobody else",
  },
} as const;

export const wallet = buildRouteMap({
  docs: { brief: "The wallet of this home" },
  routes: {
    new: defineCommand<NewFlags>({
      brief: "Make a wallet, encrypted on disk",
      examples: ["wallet new", "wallet new --passphrase"],
      json: "{address, path, protection}",
      flags: { passphrase: { ...off, brief: "Behind a passphrase of yours (or ASSAY_WALLET_PASSPHRASE)" } },
      load: async () => (await import("./commands/wallet.ts")).make,
    }),
    show: defineCommand<GatewayFlags>({
      brief: "Show address, balances, allowances and channels",
      examples: ["wallet show", "wallet show --json"],
      json: "{address, network, balances: [{symbol, amount, amountAtomic, allowanceAtomic, …}], channels}",
      flags: { ...url },
      load: async () => (await import("./commands/wallet.ts")).show,
    }),
    fund: defineCommand<FundFlags>({
      brief: "Take money of a development chain",
      examples: ["wallet fund", "wallet fund --asset ASY --amount 50"],
      json: "{address, funded: [{address, funded, balance}]}",
      flags: {
        asset: text("symbol", "Only this: ETH, USDC, ASY"),
        amount: text("amount", "How much of it (100)"),
        ...url,
      },
      load: async () => (await import("./commands/wallet.ts")).fund,
    }),
    approve: defineCommand<ApproveFlags, [string]>({
      brief: "Let Permit2 spend exactly as much of a token",
      examples: ["wallet approve 5 --asset ASY", "wallet approve 0 --asset ASY"],
      json: "{address, asset, amount, spender, transaction}",
      flags: {
        asset: { kind: "parsed", parse: String, default: "ASY", placeholder: "symbol", brief: "Token" },
        ...url,
      },
      positional: one("amount", "Amount in units of the token, 0 to take it back"),
      load: async () => (await import("./commands/wallet.ts")).approve,
    }),
    export: defineCommand<ExportFlags>({
      brief: "Print the private key",
      examples: ["wallet export --yes", "wallet export --yes --json"],
      json: "{address, privateKey}",
      flags: { yes: { ...off, brief: "Whoever reads it has the money: yes" }, ...url },
      load: async () => (await import("./commands/wallet.ts")).exportKey,
    }),
  },
});

const paymentName = one("payment", "The payment's id, 0x and 64 hexadecimal digits");

export const pay = buildRouteMap({
  docs: { brief: "Payments that this gateway took" },
  routes: {
    ls: defineCommand<PayListFlags>({
      brief: "List payments",
      examples: ["pay ls", "pay ls --state dead"],
      json: "{payments: [{paymentId, state, scheme, payer, amount, receiptId, transaction, …}], next}",
      flags: {
        state: {
          kind: "enum",
          values: ["taken", "due", "settling", "settled", "failed", "dead"],
          optional: true,
          brief: "Only these",
        },
        payer: text("address", "Only of this payer"),
        receipt: text("id", "Only of this receipt"),
        ...limit,
        ...url,
      },
      load: async () => (await import("./commands/pay.ts")).list,
    }),
    show: defineCommand<GatewayFlags, [string]>({
      brief: "Show a payment and its settlement",
      examples: ["pay show 0xID", "pay show 0xID --json"],
      json: "{paymentId, state, scheme, network, payer, payTo, amount, cap, receiptId, transaction, error, …}",
      flags: { ...url },
      positional: paymentName,
      load: async () => (await import("./commands/pay.ts")).show,
    }),
    settle: defineCommand<GatewayFlags>({
      brief: "Settle what is due now",
      examples: ["pay settle", "pay settle --json"],
      json: "{due, settled, transactions}",
      flags: { ...url },
      load: async () => (await import("./commands/pay.ts")).settle,
    }),
    retry: defineCommand<GatewayFlags, [string]>({
      brief: "Settle one again that was given up",
      examples: ["pay retry 0xID", "pay retry 0xID --json"],
      json: "the payment, as `pay show` has it",
      flags: { ...url },
      positional: paymentName,
      load: async () => (await import("./commands/pay.ts")).retry,
    }),
  },
});

const batchNumber = one("number", "The batch's number");

export const batch = buildRouteMap({
  docs: { brief: "Receipts that are anchored on the chain" },
  routes: {
    ls: defineCommand<BatchListFlags>({
      brief: "List batches",
      examples: ["batch ls", "batch ls --limit 100"],
      json: "{batches: [{number, state, leafCount, root, logSize, blob, transaction, …}], next}",
      flags: { ...limit, ...url },
      load: async () => (await import("./commands/batch.ts")).list,
    }),
    show: defineCommand<GatewayFlags, [string]>({
      brief: "Show a batch",
      examples: ["batch show 3", "batch show 3 --json"],
      json: "{number, network, state, firstLeaf, leafCount, root, logSize, logRoot, blob, transaction, …}",
      flags: { ...url },
      positional: batchNumber,
      load: async () => (await import("./commands/batch.ts")).show,
    }),
    verify: defineCommand<GatewayFlags, [string]>({
      brief: "Make a batch again from its blob and compare it with the chain",
      examples: ["batch verify 3", "batch verify 3 --json"],
      json: "{number, status, code, checks: [{check, status, code, message}]}",
      flags: { ...url },
      positional: batchNumber,
      load: async () => (await import("./commands/batch.ts")).verify,
    }),
  },
});

export const chain = buildRouteMap({
  docs: { brief: "The chain that payments are settled on" },
  routes: {
    status: defineCommand<GatewayFlags>({
      brief: "Show the gateway's chain, its tokens and contracts",
      examples: ["chain status", "chain status --json"],
      json: "{network, chainId, development, state, rpcUrl, blockNumber, assets, contracts, payTo}",
      flags: { ...url },
      load: async () => (await import("./commands/chain.ts")).status,
    }),
    reset: defineCommand<ResetFlags>({
      brief: "Begin a development chain anew",
      examples: ["chain reset --yes", "chain reset --yes --json"],
      json: "{network, chainId, blockNumber}",
      flags: { yes: { ...off, brief: "Every balance, channel and anchor of it is lost: yes" }, ...url },
      load: async () => (await import("./commands/chain.ts")).reset,
    }),
    keys: chainKeys,
    deploy: chainDeploy,
    check: chainCheck,
  },
});
