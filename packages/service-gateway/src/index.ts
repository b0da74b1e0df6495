export { createApi, openApiDocument } from "./api.ts";
export type { ApiModules, ApiOptions, ListedModel, ModelsModule } from "./api.ts";
export { createAuth, ownerOf } from "./auth.ts";
export type { Auth, AuthModules, Caller } from "./auth.ts";
export { decodeRecord, modelRow } from "./decode-record.ts";
export type { DecodedRecord, KeysetMark } from "./decode-record.ts";
export { createExporter } from "./exporter.ts";
export type { Exporter } from "./exporter.ts";
export { describe } from "./describe.ts";
export { startGateway } from "./gateway.ts";
export type { Gateway, GatewayModules, GatewayOptions } from "./gateway.ts";
export { problemOf } from "./http-errors.ts";
export { startIndexer } from "./indexer.ts";
export type { Indexer } from "./indexer.ts";
export type { ExecuteModel, InferModules, ServableModel } from "./infer.ts";
export { openLogState } from "./log-state.ts";
export type { ChainCoverage, LogState } from "./log-state.ts";
export { createMetrics } from "./metrics.ts";
export type { GaugeSource, Metrics } from "./metrics.ts";
export { mountLedgerApi } from "./payments/ledger-api.ts";
export type { LedgerReports, PaymentsAsked } from "./payments/ledger-api.ts";
export { createPayments } from "./payments/payments.ts";
export type { PaymentModules, PaymentOptions, Payments } from "./payments/payments.ts";
export { createSweep } from "./payments/sweep.ts";
export type { SweepModules } from "./payments/sweep.ts";
export type { IndividualFacts } from "./payments/answer.ts";
export { createOpeningVault } from "./openings.ts";
export type { OpeningVault } from "./openings.ts";
export { decodeSidecar, encodeSidecar } from "./sidecar.ts";
export type { Sidecar } from "./sidecar.ts";
export { createRecorder, grantOf } from "./recorder.ts";
export type {
  ExecutionDraft,
  GatewayDraft,
  Issuers,
  Recorded,
  RecordedPayment,
  Recorder,
  SignedDraft,
} from "./recorder.ts";
export { createItemMemory } from "./openai/items.ts";
export type { TextModules } from "./openai/handle-text.ts";
export type { TextOptions } from "./openai/limits.ts";
export type { ListedTextModel } from "./openai/models.ts";
export type { TextRecorder } from "./openai/record.ts";
export type { PricedText, Routed, TextCaller, TextEnd, TextRouter, TextServiceParts } from "./openai/types.ts";
export { openAssurancePolicyStore } from "./route/assurance-store.ts";
export type { AssurancePolicyStore } from "./route/assurance-store.ts";
export { openContractStore } from "./route/contracts.ts";
export type { Contract, ContractStore } from "./route/contracts.ts";
export type { DocumentFile } from "./route/document.ts";
export type { Explanation } from "./route/explain.ts";
export { mountRouteApi } from "./route/admin-api.ts";
export type { RouteApiModules } from "./route/admin-api.ts";
export { createTextRouter } from "./route/router.ts";
export type { RoutedTensor, Router, RouterOptions, TensorModel } from "./route/router.ts";
export { createSealer } from "./route/seal.ts";
export type { Sealer } from "./route/seal.ts";
export type { HubTextModel, HubTextModels, LocalNode, RoutedUpstream, RouterModules } from "./route/sources.ts";
export { openUpstreamStore } from "./route/upstreams.ts";
export type { Upstream, UpstreamStore } from "./route/upstreams.ts";
export * from "./nodes/index.ts";
