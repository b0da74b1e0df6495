export { createAdmission } from "./admission.ts";
export type { Admission, AdmissionModules, AdmissionOptions } from "./admission.ts";
export { addNodeRoutes } from "./api.ts";
export type { NodeApiModules } from "./api.ts";
export { createAuditor } from "./audit.ts";
export type {
  AuditJob,
  Auditor,
  AuditorModules,
  AuditorOptions,
  AuditStats,
  TensorAgain,
  TensorWork,
  TextAgain,
  TextWork,
} from "./audit.ts";
export { compareTensors } from "./compare.ts";
export type { Comparison, EqualityRule } from "./compare.ts";
export type { NodeClientOptions } from "./client.ts";
export type { Relayed, TextFields } from "./executor.ts";
export { textFields } from "./fields.ts";
export { followLog, followReleases } from "./follow.ts";
export type { Follower, FollowOptions } from "./follow.ts";
export { createLogApi } from "./log-api.ts";
export type { LogApi, LogApiModules } from "./log-api.ts";
export { createNodeNetwork } from "./network.ts";
export type { NetworkModules, NodeNetwork } from "./network.ts";
export { openNodeRegistry } from "./registry.ts";
export type { Liveness, NodeRegistry, Party, RegistryModules, RegistryOptions } from "./registry.ts";
export { createRelayStatement } from "./relay.ts";
export { createOffers, createStatementVerifier, createWorkUnderWay } from "./statements.ts";
export type { OfferModules, StatementVerifier, WorkUnderWay } from "./statements.ts";
