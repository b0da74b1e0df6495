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
  RefundAsked,
} from "./desk/modules.ts";
