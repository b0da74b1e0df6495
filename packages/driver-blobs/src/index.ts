export { openBlobStore } from "./blob-store.ts";
export type { BlobStoreOptions } from "./blob-store.ts";
export { cidOf } from "./cid.ts";
export type { FileKind, Files, OpenFile } from "./files.ts";
