export { decodeInstruction, encodeInstruction, MAX_INSTRUCTION_BYTES } from "./instruction.ts";
export type { Instruction, SettlementMode } from "./instruction.ts";
export { amountOf, isFreeListing } from "./listings/amounts.ts";
export { isListingSubject, listingDigest, listingJson, MAX_PAYEES, parseListing } from "./listings/listing.ts";
export { MAX_LISTINGS, openListings } from "./listings/store.ts";
export type { ListingFile, ListingsOptions } from "./listings/store.ts";
export { createDesk } from "./desk/desk.ts";
export type { Desk } from "./desk/desk.ts";
export type { PaidRecord } from "./desk/ingest.ts";
export type {
  ChannelFacts,
  DeskChain,
  DeskEvent,
  DeskModules,
  DeskOptions,
  FactsAsked,
  FactsFound,
} from "./desk/modules.ts";
export { chainReads } from "./settle/chain-reads.ts";
export { createTxJournal } from "./settle/journal.ts";
export { startSettler } from "./settle/start.ts";
export type { Settler, StartOptions, ThreadEvent } from "./settle/start.ts";
export type { SettlerEvent, SettlerStatus } from "./settle/settler.ts";
export type { SettlerKeys, SettlerOptions, SettlerSettings } from "./settle/options.ts";
export { createSupplementer, settlementDraft } from "./settle/supplements.ts";
export type { SettlementBody, SettlementDraft, WriteSupplements } from "./settle/supplements.ts";
export type { Refunded } from "./settle/refunds.ts";
export { revive as retryPayment } from "./settle/rows.ts";
export { isBatchBlob } from "./anchor/batches.ts";
export type { LogCheckpoint, PreparedAnchor } from "./anchor/anchor.ts";
export type { ReceiptLeaf } from "./anchor/tree.ts";
export { MAX_BLOB_BYTES } from "./anchor/entry.ts";
export { listPayments, paymentSums, showPayment } from "./reports/payments.ts";
export type { PaymentFilter, PaymentReport, PaymentState } from "./reports/payments.ts";
export { anchorProof, listBatches, showBatch, verifyBatch } from "./reports/batches.ts";
export type { BatchCheck, BatchReport, BatchVerdict, VerifyBatchModules } from "./reports/batches.ts";
export { moneyOf } from "./reports/money.ts";
export type { Money, ReportedAsset } from "./reports/money.ts";
export { createAnchorCheck, createChainChecks } from "./checks/chain-checks.ts";
export type { ChainCheckModules } from "./checks/chain-checks.ts";
export { createDeskChain } from "./desk/chain.ts";
export { settleNow } from "./reports/settle-now.ts";
export type { SettledNow } from "./reports/settle-now.ts";
export { forgetChain } from "./settle/forget.ts";
