export { fixedSeed, fixedSigner, makeParty } from "./parties.ts";
export type { Party, PartyOptions } from "./parties.ts";
export { makeLog } from "./mock-log.ts";
export type { MockLog } from "./mock-log.ts";
export { MOCK_KINDS, MOCK_TIME_MS, makeReceipt } from "./mock-receipts.ts";
export type { MockKind, MockOptions, MockReceipt } from "./mock-receipts.ts";
export { makeVectors, vectorsView } from "./vectors.ts";
export type { Vector } from "./vectors.ts";
