export { Assay, DEFAULT_URL } from "./assay.ts";
export type { AssayOptions } from "./assay.ts";
export { createClient } from "./client.ts";
export type { AdminCall, Client, ClientOptions, InferAnswer, InferRequest, PushFile } from "./client.ts";
export type { CallOptions, ReceiptAccess } from "./connection.ts";
export type { ListedModel, ListedReceipt, ModelDetail, ReceiptPage, ReleasedVersion } from "./documents.ts";
export { read } from "./documents.ts";
export { GatewayError, ReceiptError } from "./errors.ts";
export type { ClientErrorCode, ReceiptErrorCode } from "./errors.ts";
export { checkReceiptId, parseModelName } from "./names.ts";
export type { ModelName } from "./names.ts";
export { openBundle } from "./open-bundle.ts";
export type { KnownExchange, KnownFields } from "./open-bundle.ts";
export { InferenceMode, TEE_LLM } from "./opengradient.ts";
export type { ResponseFormat } from "./opengradient.ts";
export type { TextModel } from "./text/bodies.ts";
export type { TextCall } from "./text/calls.ts";
export type { Acceptance, CheckedReceipt, CheckerOptions } from "./text/checker.ts";
export { openTextBundle, TEXT_PATHS } from "./text/exchange.ts";
export type { ReceiptHeaders, SeenAnswer, TextExchange } from "./text/exchange.ts";
export type { JsonObject } from "./text/json.ts";
export type {
  AssistantMessage,
  ChatAnswer,
  ChatChoice,
  ChatRequest,
  CompletionAnswer,
  CompletionRequest,
  EmbeddingAnswer,
  EmbeddingRequest,
  Receipted,
  TextCallOptions,
  TextDelta,
  TextStream,
  VerifyMode,
} from "./text/requests.ts";
export type { TextVerdict } from "./text/verdict.ts";
export { approvalData } from "./pay/approval.ts";
export { judgePayment } from "./pay/check-receipt.ts";
export { createPayer, paidFetch } from "./pay/payer.ts";
export type { CallLimits, CallPayment, Payer, PayerOptions, Wallet } from "./pay/payer.ts";
export { isSpendRefusal, spendLimit } from "./pay/policy.ts";
export type { SpendLimits } from "./pay/policy.ts";
export { createChainReader } from "./pay/rpc.ts";
export type { ChainReader } from "./pay/rpc.ts";
export type { Charged, PaidAsset, SignedPayment } from "./pay/settlement.ts";
export { memoryPayStore, textPayStore } from "./pay/state.ts";
export type { KeptChannel, KeptText, PayState, PayStore, Spend, Unresolved } from "./pay/state.ts";
export {
  batchDocument,
  batchList,
  batchVerdict,
  chainDocument,
  fundDocument,
  listingDocument,
  listingList,
  paymentDocument,
  paymentList,
  resetDocument,
  settleDocument,
} from "@assay/protocol";
export type {
  BatchDocument,
  BatchPage,
  BatchVerdict,
  ChainAsset,
  ChainDocument,
  FundDocument,
  ListingDocument,
  Money,
  PaymentDocument,
  PaymentPage,
  ResetDocument,
  SettleDocument,
} from "@assay/protocol";
export type { Fetch } from "./transport.ts";
export { verifiedFetch } from "./verified-fetch.ts";
export type { FetchLike, VerifiedFetchOptions } from "./verified-fetch.ts";
