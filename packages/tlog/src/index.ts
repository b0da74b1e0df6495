export { decodeBundle, encodeBundle, MAX_ENTRY_BYTES } from "./bundle.ts";
export { formatCheckpoint, isOrigin, MAX_EXTENSION_LINES, MAX_ORIGIN_BYTES, parseCheckpoint } from "./checkpoint.ts";
export type { Checkpoint } from "./checkpoint.ts";
export { encodeCoseReceipt, MAX_COSE_RECEIPT_BYTES, verifyCoseReceipt } from "./cose-receipt.ts";
export type { CoseReceiptVerdict, ReceiptProof } from "./cose-receipt.ts";
export { leafHash, nodeHash } from "./leaf.ts";
export { judgeCheckpoint } from "./monitor.ts";
export type { CheckpointJudgement, SeenCheckpoint } from "./monitor.ts";
export {
  formatNote,
  formatSignatureLine,
  MAX_NOTE_CHARS,
  MAX_NOTE_LINE_CHARS,
  MAX_NOTE_SIGNATURES,
  parseNote,
  parseSignatureLines,
} from "./note.ts";
export type { Note, NoteSignature } from "./note.ts";
export { formatVkey, isKeyName, MAX_KEY_NAME_BYTES, noteKey, parseVkey } from "./note-key.ts";
export type { NoteKey, NoteKeyKind } from "./note-key.ts";
export {
  MAX_POLICY_BYTES,
  MAX_POLICY_ITEMS,
  parsePolicy,
  policyTrust,
  quorumReached,
  satisfiesQuorum,
} from "./policy.ts";
export type { Policy, PolicyGroup, PolicyLog, PolicyWitness } from "./policy.ts";
export {
  consistencyProof,
  expectedRoot,
  inclusionProof,
  MAX_PROOF_HASHES,
  verifyConsistency,
  verifyInclusion,
} from "./proof.ts";
export type { TreeHead } from "./proof.ts";
export {
  checkpointSigner,
  logSigners,
  mergeCosignatures,
  openCheckpoint,
  signCheckpoint,
  signCheckpointText,
  signedMessage,
} from "./signed-checkpoint.ts";
export type { CheckpointSigner, CheckpointTrust, OpenedCheckpoint, VerifiedSignature } from "./signed-checkpoint.ts";
export { isSize, MAX_TREE_SIZE, parseDecimal } from "./size.ts";
export {
  hashInTile,
  MAX_TILE_LEVEL,
  newTiles,
  parseTilePath,
  TILE_HEIGHT,
  TILE_WIDTH,
  tileHashReader,
  tileOf,
  tilePath,
  tileWidth,
} from "./tiles.ts";
export type { TileId, TileReader } from "./tiles.ts";
export {
  formatTlogProof,
  MAX_PROOF_EXTRA_BYTES,
  MAX_TLOG_PROOF_CHARS,
  parseTlogProof,
  verifyTlogProof,
} from "./tlog-proof.ts";
export type { TlogProof, TlogProofVerdict } from "./tlog-proof.ts";
export { createCompactTree, emptyRoot, HASH_BYTES, joinSubtrees, rootAt, subtreesOf } from "./tree.ts";
export type { CompactTree, HashReader, NodeListener, TreeNode } from "./tree.ts";
export {
  decideAddCheckpoint,
  formatAddCheckpoint,
  MAX_ADD_CHECKPOINT_CHARS,
  parseAddCheckpoint,
  TREE_SIZE_MEDIA_TYPE,
} from "./witness.ts";
export type { AddCheckpoint, WitnessDecision, WitnessState } from "./witness.ts";
