export { ALGORITHM, BUNDLE_MEDIA_TYPE, CONTENT_TYPE, CWT, HEADER, LIMIT, PROFILE, SHA256_ID } from "./labels.ts";
export type { StatementAlgorithm, StatementKind } from "./labels.ts";
export {
  DIGEST_CHECKS,
  FINISH_REASONS,
  MODES,
  RELEASE_ACTIONS,
  RETENTION_CLASSES,
  SUPPLEMENT_KINDS,
  WORK_KINDS,
  decodeClaims,
  encodeClaims,
} from "./claims.ts";
export type {
  ClaimsByKind,
  ExecutionClaims,
  FinishReason,
  KeysetDocument,
  KeysetKey,
  KeyUse,
  Mode,
  Principal,
  ReleaseAction,
  ReleaseClaims,
  RetentionClass,
  ServiceClaims,
  SupplementClaims,
  SupplementKind,
  WorkKind,
} from "./claims.ts";
export { jsonView, rememberOpen } from "./table.ts";
export type { OpenMap, OpenValue } from "./table.ts";
export {
  algorithmById,
  keyId,
  parseStatement,
  prepareStatement,
  sealStatement,
  signBatch,
  signStatement,
  verifyStatement,
} from "./statement.ts";
export type { SignatureCache, Statement, StatementHeader, UnsignedStatement } from "./statement.ts";
export { checkField, commitFields, fieldLeaf, fieldSalt, openField, tensorFields } from "./fields.ts";
export type { CommittedTensor, FieldOpening, FieldTree, FieldValue, FullOpening, Side } from "./fields.ts";
export { jsonFields } from "./json-fields.ts";
export type { JsonFieldLimits } from "./json-fields.ts";
export { prefixProof, transcriptLeaf, transcriptRoot, transcriptSalt, verifyPrefix } from "./transcript.ts";
export { findKey, keysetDigest, keysetFault, sealKeyset } from "./keyset.ts";
export { MAX_ENVELOPES, decodeEntry, encodeEntry } from "./entry.ts";
export { decodeBundle, encodeBundle } from "./bundle.ts";
export type { Bundle, BundledProof, BundledStatement } from "./bundle.ts";
export { EMPTY_TRUST, parseTrust, trustView } from "./trust.ts";
export type { Trust, TrustedIdentity, TrustedLog } from "./trust.ts";
export { CHECKS } from "./verdict.ts";
export type { Answers, CheckName, CheckOutcome, CheckRow, CheckStatus, Verdict } from "./verdict.ts";
export { receiptSubject, viewReceipt } from "./view.ts";
export type { Decoded, KeysetView, ReceiptView, ViewFault } from "./view.ts";
export { CLOCK_SKEW_MS, disclosed, verifyReceipt } from "./verify.ts";
export type {
  CheckContext,
  CheckModules,
  LogCheck,
  LogCheckInput,
  Policy,
  ReceiptCheck,
  VerifyOptions,
} from "./verify.ts";
export { createIssuer } from "./issuer.ts";
export type { ChainHead, IssueItem, Issuer, IssuerKeys, IssuerOptions } from "./issuer.ts";
export { receiptJson, receiptJsonOf } from "./receipt-json.ts";
export { settledIn, settlementFault } from "./settlement.ts";
export { ANCHOR_TYPE, UNKNOWN_ANCHOR, anchorFault, readAnchor, statesAnchor } from "./anchor.ts";
export type { StatedAnchor } from "./anchor.ts";
export { findContradictions } from "./contradictions.ts";
export type { Contradiction } from "./contradictions.ts";
export { AIR_PROFILE, airClaims, encodeAirClaims, exportAir } from "./air.ts";
export type { AirClaims, AirPlatform } from "./air.ts";
export { AIR_CLOCK_SKEW_MS, AIR_MAX_BYTES, AIR_MAX_TEXT_BYTES, verifyAir } from "./air-verify.ts";
export type { AirPolicy, AirRow, AirVerdict, AirVerifyOptions } from "./air-verify.ts";
