export { createClient } from "./client.ts";
export type {
  CallOptions,
  Client,
  ClientOptions,
  InferAnswer,
  InferRequest,
  PushFile,
  ReceiptAccess,
} from "./client.ts";
export type { ListedModel, ListedReceipt, ModelDetail, ReceiptPage, ReleasedVersion } from "./documents.ts";
export { GatewayError } from "./errors.ts";
export type { ClientErrorCode } from "./errors.ts";
export { checkReceiptId, parseModelName } from "./names.ts";
export type { ModelName } from "./names.ts";
export { openBundle } from "./open-bundle.ts";
export type { KnownExchange } from "./open-bundle.ts";
export type { Fetch } from "./transport.ts";
