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
export {
  bytesElements,
  DATATYPES,
  datatypeSchema,
  DEFAULT_OIP_LIMITS,
  elementSize,
  encodeInferRequest,
  encodeInferResponse,
  errorDocument,
  errorDocumentSchema,
  inferRequestSchema,
  inferResponseSchema,
  isDatatype,
  joinBody,
  modelMetadata,
  modelMetadataSchema,
  modelReady,
  modelReadySchema,
  OIP_EXTENSIONS,
  oipParametersSchema,
  packBytesElements,
  parseHeaderLength,
  parseInferRequest,
  parseInferResponse,
  requestOutputSchema,
  requestTensorSchema,
  responseTensorSchema,
  serverLiveSchema,
  serverMetadata,
  serverMetadataSchema,
  serverReadySchema,
  tensorMetadataSchema,
  typedData,
} from "./oip/index.ts";
export type {
  EncodedBody,
  ErrorDocument,
  InferRequest,
  InferRequestOptions,
  InferRequestParts,
  InferResponse,
  InferResponseParts,
  ModelMetadata,
  ModelReady,
  OipLimits,
  OipParameters,
  OutputRequest,
  RawInput,
  ServerMetadata,
  TypedData,
} from "./oip/index.ts";
export * from "./text/index.ts";
export * from "./nodes/index.ts";
export * from "./openai/index.ts";
export type {
  Charge,
  DurableReceipt,
  ListedPayee,
  ListedPriceClaim,
  Listing,
  ListingSubject,
  Listings,
  MeteredUse,
  OpenPayment,
  PaidBefore,
  PaymentClaim,
  PaymentDesk,
  PaymentDone,
  PaymentHeaders,
  PaymentProblem,
  PricedUse,
  Quote,
} from "./payments.ts";
export * from "./payment-documents.ts";
export { bodyOf } from "./bounded-body.ts";
