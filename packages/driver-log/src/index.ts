export { openLog, DEFAULT_CHECKPOINT_INTERVAL_MS } from "./file-log.ts";
export type { FileLog, FileLogOptions } from "./file-log.ts";
export { nodeFileOps } from "./file-ops.ts";
export type { FileOps } from "./file-ops.ts";
export { MAX_QUEUED_BYTES } from "./group-commit.ts";
export { SEGMENT_BYTES } from "./journal.ts";
export { MAX_CALL_BYTES, MAX_CALL_RECORDS, MAX_CLAIMS_BYTES, MAX_OPENING_BYTES } from "./record.ts";
