export { bytesElements, DATATYPES, elementSize, isDatatype, packBytesElements, typedData } from "./datatypes.ts";
export type { TypedData } from "./datatypes.ts";
export type { OipParameters, OutputRequest } from "./document.ts";
export { joinBody } from "./encode.ts";
export type { EncodedBody } from "./encode.ts";
export { DEFAULT_OIP_LIMITS } from "./limits.ts";
export type { OipLimits } from "./limits.ts";
export { errorDocument, modelMetadata, modelReady, OIP_EXTENSIONS, serverMetadata } from "./metadata.ts";
export { encodeInferRequest, parseHeaderLength, parseInferRequest } from "./request.ts";
export type { InferRequest, InferRequestOptions, InferRequestParts, RawInput } from "./request.ts";
export { encodeInferResponse, parseInferResponse } from "./response.ts";
export type { InferResponse, InferResponseParts } from "./response.ts";
export {
  datatypeSchema,
  errorDocumentSchema,
  inferRequestSchema,
  inferResponseSchema,
  modelMetadataSchema,
  modelReadySchema,
  oipParametersSchema,
  requestOutputSchema,
  requestTensorSchema,
  responseTensorSchema,
  serverLiveSchema,
  serverMetadataSchema,
  serverReadySchema,
  tensorMetadataSchema,
} from "./schemas.ts";
export type { ErrorDocument, ModelMetadata, ModelReady, ServerMetadata } from "./schemas.ts";
