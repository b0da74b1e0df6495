import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";

/** Writes a file so that it is either the old or the whole new one after a crash; readable by its owner alone. */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  if (process.platform === "win32") return;
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The JSON in a file; undefined when there is none, or when it is no JSON within `maxBytes`. */
export async function readJsonFile(path: string, maxBytes: number): Promise<JsonValue | undefined> {
  const bytes = await readFile(path).catch(() => undefined);
  if (bytes === undefined) return undefined;
  try {
    return parseJson(bytes.toString("utf8"), { maxBytes, maxDepth: 128 });
  } catch (error) {
    if (isAssayError(error)) return undefined;
    throw error;
  }
}
