export { castBoundary } from "./cast.ts";
export type { CastResult } from "./cast.ts";
export { cpuClass, pseudoRandom } from "./cpu-class.ts";
export type { CpuProbe } from "./cpu-class.ts";
export { checkModel, DEFAULT_CHECK_LIMITS } from "./check.ts";
export type { CheckLimits, SafetyFacts, SafetyReport } from "./check.ts";
export { MAX_FINDINGS_PER_CODE } from "./findings.ts";
export type { Finding, FindingCode } from "./findings.ts";
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.ts";
export { DEFAULT_READ_LIMITS } from "./limits.ts";
export type { ReadLimits } from "./limits.ts";
export {
  buildManifest,
  MANIFEST_LIMITS,
  MANIFEST_MEDIA_TYPES,
  mediaTypeOf,
  parseManifest,
  verifyManifest,
} from "./manifest.ts";
export type {
  BuiltManifest,
  ManifestFault,
  ManifestFile,
  ManifestInput,
  ManifestMediaType,
  ManifestVerdict,
  ModelManifest,
} from "./manifest.ts";
export { canonicalDomain } from "./model.ts";
export type {
  Dimension,
  OnnxAttribute,
  OnnxEntry,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxOpset,
  OnnxSparseTensor,
  OnnxStorage,
  OnnxTensor,
  OnnxType,
  OnnxValueInfo,
} from "./model.ts";
export { MAX_PATH_BYTES, MAX_SEGMENT_BYTES, pathFault } from "./path.ts";
export { readModel } from "./read.ts";
export { describeType, graphSignature } from "./signature.ts";
export type { GraphSignature, TensorSignature } from "./signature.ts";
export { datatypeOf, ELEMENT_TYPE, elementBits, elementTypeName } from "./types.ts";
export type { ElementType, OipDatatype } from "./types.ts";
export type { Field } from "./wire.ts";
export {
  byteLength,
  joinChunks,
  messageField,
  rewriteGraph,
  rewriteMessage,
  stringField,
  varintField,
} from "./write.ts";
export type { Chunks, Edit } from "./write.ts";
export {
  encodeAttribute,
  encodeGraph,
  encodeModel,
  encodeModelFile,
  encodeNode,
  encodeTensor,
  encodeValueInfo,
  floatTensor,
  int64Tensor,
} from "./encode.ts";
export type {
  AttributeParts,
  FunctionParts,
  GraphParts,
  ModelParts,
  NodeParts,
  TensorParts,
  ValueParts,
} from "./encode.ts";
