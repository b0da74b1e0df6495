import { z } from "zod";

// What the gateway answers about prices, payments, batches and its chain. Amounts are always `Money`: whole numbers of the
// asset's smallest unit, the same as a decimal text, and the asset. Fields that a newer gateway adds are passed over.

const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
const hash = z.string().regex(/^0x[0-9a-f]{64}$/);
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const network = z.string().regex(/^eip155:[1-9]\d{0,18}$/);
const whole = z.string().regex(/^(?:0|[1-9]\d{0,77})$/);
const decimal = z.string().regex(/^(?:0|[1-9]\d{0,77})(?:\.\d{1,77})?$/);
const count = z.int().min(0);
const symbol = z.string().min(1).max(32);

/** An amount of one asset. */
const money = z.object({
  /** In units of the asset: `0.002`. */
  amount: decimal,
  /** In its smallest unit: `2000`. */
  amountAtomic: whole,
  decimals: z.int().min(0).max(77),
  symbol,
  /** The token's contract. */
  address,
});
/** An amount of one asset: decimal text, atomic text, decimals, symbol and contract. */
export type Money = z.infer<typeof money>;

const payee = z.object({ address, basisPoints: z.int().min(1).max(10_000) });

const listing = z.object({
  /** `model:me/net` or `service:storage`. */
  subject: z.string().min(1).max(300),
  asset: symbol,
  perCall: decimal.optional(),
  perMillionInputTokens: decimal.optional(),
  perMillionOutputTokens: decimal.optional(),
  perSecond: decimal.optional(),
  perGigabyteDay: decimal.optional(),
  payees: z.array(payee).max(8).optional(),
  owner: z.string().optional(),
  changedAtMs: z.number().optional(),
  /** SHA-256 of the listing's canonical JSON, as receipts name it after `listing:`. */
  digest: digest.optional(),
  /** Where payments go: the operator's address, or the splitter of the payees. */
  payTo: address.optional(),
});
/** A price: `PUT` and `GET /v1/prices/{subject}`. */
export type ListingDocument = z.infer<typeof listing>;
/** `GET /v1/prices`. */
export const listingList = z.object({ prices: z.array(listing).max(10_000) });
export { listing as listingDocument };

const failure = z.object({ code: z.string(), message: z.string() });

const payment = z.object({
  paymentId: hash,
  /** `taken` is under way, `dead` waits for a person. */
  state: z.enum(["taken", "due", "settling", "settled", "failed", "dead"]),
  scheme: z.enum(["exact", "upto", "batch-settlement"]),
  network,
  payer: address,
  payTo: address,
  /** What is charged; null while it is not known. */
  amount: z.union([money, z.null()]),
  /** The most that the payer signed for. */
  cap: money,
  settlement: z.union([z.enum(["private", "batch", "individual"]), z.null()]),
  receiptId: z.union([z.string().regex(/^[0-9a-f]{32}$/), z.null()]),
  logIndex: z.union([count, z.null()]),
  channelId: z.union([hash, z.null()]),
  transaction: z.union([hash, z.null()]),
  blockNumber: z.union([count, z.null()]),
  /** Times that settling was tried. */
  attempts: count,
  error: z.union([failure, z.null()]),
  takenAtMs: z.number(),
  updatedAtMs: z.number(),
  /** Last second at which the signature can be used, Unix seconds. */
  deadlineS: z.number(),
});
/** A payment: `GET /v1/payments/{id}` and `POST /v1/payments/{id}/retry`. */
export type PaymentDocument = z.infer<typeof payment>;
export { payment as paymentDocument };

/** `GET /v1/payments?state=&payer=&receipt=&limit=&before=`, the latest first. */
export const paymentList = z.object({
  payments: z.array(payment).max(1_000),
  /** The next page's `before`. */
  next: z.union([z.string().max(200), z.null()]),
});
export type PaymentPage = z.infer<typeof paymentList>;

/** `POST /v1/payments/settle`: what is due is settled now instead of with the next group. */
export const settleDocument = z.object({
  /** Payments that were due. */
  due: count,
  /** Of these, settled before the answer came. */
  settled: count,
  transactions: z.array(hash).max(1_000),
});
export type SettleDocument = z.infer<typeof settleDocument>;

const batch = z.object({
  number: count,
  network,
  /** `posted` is on the chain. */
  state: z.enum(["built", "posting", "posted", "failed"]),
  firstLeaf: count,
  leafCount: count,
  /** Root of the leaves' Merkle tree. */
  root: hash,
  /** Size and root of the log's checkpoint that is anchored with it. */
  logSize: count,
  logRoot: digest,
  /** SHA-256 of the blob with entry and leaves: `GET /v1/blobs/{blob}`. */
  blob: digest,
  transaction: z.union([hash, z.null()]),
  blockNumber: z.union([count, z.null()]),
  error: z.union([failure, z.null()]),
  createdAtMs: z.number(),
});
/** A batch of receipts whose root is anchored: `GET /v1/batches/{n}`. */
export type BatchDocument = z.infer<typeof batch>;
export { batch as batchDocument };

/** `GET /v1/batches?limit=&before=`, the latest first. */
export const batchList = z.object({ batches: z.array(batch).max(1_000), next: z.union([count, z.null()]) });
export type BatchPage = z.infer<typeof batchList>;

/** `POST /v1/batches/{n}/verify`: the batch made again from its blob and compared with the chain. */
export const batchVerdict = z.object({
  number: count,
  status: z.enum(["verified", "failed", "inconclusive"]),
  code: z.string(),
  checks: z
    .array(
      z.object({
        check: z.string(),
        status: z.enum(["pass", "fail", "inconclusive"]),
        code: z.string(),
        message: z.string(),
      }),
    )
    .max(64),
});
export type BatchVerdict = z.infer<typeof batchVerdict>;

const asset = z.object({
  symbol,
  address,
  decimals: z.int().min(0).max(77),
  /** The token's EIP-712 domain. */
  name: z.string().max(128),
  version: z.string().max(32),
  /** Whether it takes EIP-2612 permits. */
  permit: z.boolean(),
});

/** `GET /v1/chain`. */
export const chainDocument = z.object({
  network,
  chainId: z.int().min(1),
  /** Whether it is the gateway's own chain, whose money is worth nothing. */
  development: z.boolean(),
  state: z.enum(["starting", "running", "down", "none"]),
  /** Where clients on this machine may read it; null when they may not. */
  rpcUrl: z.union([z.string().max(2048), z.null()]),
  blockNumber: z.union([count, z.null()]),
  assets: z.array(asset).max(64),
  /** Addresses by name: `permit2`, `paymentBatcher`, `receiptAnchor`, … */
  contracts: z.record(z.string().max(64), address),
  /** Where payments without payees go. */
  payTo: z.union([address, z.null()]),
});
export type ChainDocument = z.infer<typeof chainDocument>;
export type ChainAsset = z.infer<typeof asset>;

/** `POST /v1/chain/fund` `{address, asset, amount}`: from the faucet of a development chain; `asset` may be `ETH`. */
export const fundDocument = z.object({
  address,
  /** The ether has no contract, so its `address` is the zero address. */
  funded: money,
  balance: money,
});
export type FundDocument = z.infer<typeof fundDocument>;

/** `POST /v1/chain/reset`: a development chain begun anew. */
export const resetDocument = z.object({ network, chainId: z.int().min(1), blockNumber: count });
export type ResetDocument = z.infer<typeof resetDocument>;
