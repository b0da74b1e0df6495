export { decodeInstruction, encodeInstruction, MAX_INSTRUCTION_BYTES } from "./instruction.ts";
export type { Instruction, SettlementMode } from "./instruction.ts";
export { amountOf, isFreeListing } from "./listings/amounts.ts";
export { isListingSubject, listingDigest, listingJson, MAX_PAYEES, parseListing } from "./listings/listing.ts";
export { MAX_LISTINGS, openListings } from "./listings/store.ts";
export type { ListingFile, ListingsOptions } from "./listings/store.ts";
