export { createCallers } from "./callers.ts";
export type { CallerEntry, Callers } from "./callers.ts";
export { createCatalogue } from "./catalogue.ts";
export type { Catalogue, CatalogueStore } from "./catalogue.ts";
export { createDatabaseCatalogue } from "./database-catalogue.ts";
export { createDatabaseStore } from "./database-store.ts";
export { createExternalFacilitator } from "./external.ts";
export type { ExternalFacilitatorOptions, FacilitatorEndpoint } from "./external.ts";
export { createFacilitator } from "./facilitator.ts";
export type { FacilitatorModules, FacilitatorOptions } from "./facilitator.ts";
export { FACILITATOR_LIMITS } from "./limits.ts";
export type { ServedChain } from "./plan.ts";
export type { Rate } from "./rate-limit.ts";
export { addFacilitatorRoutes } from "./routes.ts";
export type { FacilitatorRoutesModules } from "./routes.ts";
export { createMemoryStore } from "./store.ts";
export type { Settled, SettlementRecord, SettlementStore } from "./store.ts";
export type {
  DiscoveredResource,
  DiscoveryPage,
  DiscoveryQuery,
  Facilitator,
  FacilitatorCaller,
  FacilitatorHealth,
  SettleResult,
  Supported,
  SupportedKind,
  VerifyResult,
} from "./types.ts";
