export { languageOf, quantisesAtRunTime } from "./language.ts";
export type { LanguageFacts } from "./language.ts";
export { createCatalogue, parseModelName } from "./catalogue.ts";
export type { Catalogue, ModelVersion } from "./catalogue.ts";
export { GRACE_MS, openKeptBlobs } from "./kept-blobs.ts";
export type { KeptBlobs } from "./kept-blobs.ts";
export { createReferences } from "./references.ts";
export { createHub } from "./hub.ts";
export type { Hub, HubFiles, HubModules, MaterialisedModel, ModelFacts, ReleaseRequest, SignatureItem } from "./hub.ts";
