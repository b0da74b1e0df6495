import { AssayError } from "@assay/core";
import { toStorageError } from "./errors.ts";
import type { FileKind, Files } from "./files.ts";

/** Makes a folder when there is none; refuses a link and anything else in its place. */
export async function ensureDirectory(files: Files, path: string): Promise<void> {
  const kind = await files.kind(path);
  refuseLink(path, kind);
  if (kind === "directory") return;
  if (kind !== "none") throw unsafe(path);
  try {
    await files.makeDirectory(path);
  } catch (error) {
    throw toStorageError(error);
  }
}

/** Sorted names in a folder that fit `pattern`; none when it is not a plain folder. */
export async function sorted(files: Files, path: string, pattern: RegExp): Promise<readonly string[]> {
  if ((await files.kind(path)) !== "directory") return [];
  return (await files.names(path)).filter((name) => pattern.test(name)).sort();
}

/** Refuses a link with `blob_store_unsafe`: an id would lead out of the store. */
export function refuseLink(path: string, kind: FileKind): void {
  if (kind === "link") throw unsafe(path);
}

export function unsafe(path: string): AssayError<"blob_store_unsafe"> {
  return new AssayError("blob_store_unsafe", `The blob store holds something that it did not put there: ${path}.`, {
    hints: ["The store's folder must hold plain files and folders only, made by the store."],
  });
}
