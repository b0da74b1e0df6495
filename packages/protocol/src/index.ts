export type { Datatype, Tensor } from "./tensor.ts";
export type {
  LoadedModelRef,
  ModelRuntime,
  RunRequest,
  RunResult,
  RuntimeFacts,
  RuntimeProfile,
  RuntimeStats,
  SessionMetadata,
} from "./runtime.ts";
export type { CheckpointNote, LogRecord, LogSink, StoredRecord } from "./log.ts";
export type { IndexStore, ModelRow, ReceiptFilter, ReceiptRow, SecretStore } from "./index-store.ts";
export type { BlobStore } from "./blobs.ts";
