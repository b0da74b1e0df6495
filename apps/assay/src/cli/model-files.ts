import { createHash } from "node:crypto";
import { createReadStream, readdirSync, statSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { isAssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { buildManifest, parseManifest } from "@assay/onnx";
import type { BuiltManifest } from "@assay/onnx";
import { cliError } from "./render-error.ts";

/** Name of the manifest beside a model's files, as `model pull` writes it. */
export const MANIFEST_FILE = "manifest.json";
/** Name of the document that says how pictures and recordings become tensors. */
const PREPROCESSING_FILE = "preprocessing.json";
/** What the model file is called where a folder has several. */
const USUAL_ENTRY = "model.onnx";

/** Where a model lies: its folder and, when one file was named, that file alone. */
export type ModelPlace = { readonly folder: string; readonly entry?: string };

/** The place that `path` names, a file or a folder. Throws `file_unreadable`. */
export function modelPlace(path: string): ModelPlace {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) throw cliError("file_unreadable", `There is no model at ${path}.`);
  return found.isDirectory() ? { folder: path } : { folder: dirname(path), entry: relative(dirname(path), path) };
}

/** The path of a manifest's file on this disk; manifests always use forward slashes. */
export function onDisk(folder: string, path: string): string {
  return join(folder, ...path.split("/"));
}

/** SHA-256 of a file, lower-case hex, without holding it; `undefined` when there is none. */
export async function hashFile(path: string): Promise<string | undefined> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(String((error as { code?: unknown }).code))) return undefined;
    throw error;
  }
  return hash.digest("hex");
}

/**
 * The manifest that a model's files make: all below the folder but hidden ones and a manifest that is already there,
 * or the one file that was named. The entry is the named file, the only `.onnx`, or `model.onnx` among several. Throws
 * `model_files_invalid` when none of these is there, or what `buildManifest` throws.
 */
export async function describeModel({ folder, entry }: ModelPlace, task?: string): Promise<BuiltManifest> {
  const paths = entry === undefined ? filesIn(folder) : [entry];
  const onnx = paths.filter((path) => path.endsWith(".onnx"));
  const chosen = entry ?? (onnx.length === 1 ? onnx[0] : onnx.find((path) => path === USUAL_ENTRY));
  if (chosen === undefined || !chosen.endsWith(".onnx")) {
    const why = onnx.length === 0 ? "no .onnx file" : `${onnx.length} .onnx files and none is called ${USUAL_ENTRY}`;
    throw cliError("model_files_invalid", `There is ${why} in ${folder}.`, {
      hints: ["Name the .onnx file itself, or a folder with exactly one."],
    });
  }
  return describeFiles(folder, paths, chosen, task);
}

/** The manifest of these files below `folder`, of which `entry` is the graph. */
export async function describeFiles(
  folder: string,
  paths: readonly string[],
  entry: string,
  task?: string,
): Promise<BuiltManifest> {
  const files = await Promise.all(
    paths.map(async (path) => {
      const at = onDisk(folder, path);
      return { path, sizeBytes: statSync(at).size, sha256: (await hashFile(at)) ?? "" };
    }),
  );
  const preprocessing = files.find(({ path }) => path === PREPROCESSING_FILE);
  return buildManifest(nodeSuite, {
    files,
    entry,
    ...(task === undefined ? {} : { task }),
    ...(preprocessing ? { preprocessingSha256: preprocessing.sha256 } : {}),
  });
}

/** The manifest in `bytes`, or `undefined` when it is none. */
export function readManifest(bytes: Uint8Array): BuiltManifest | undefined {
  try {
    return parseManifest(nodeSuite, bytes);
  } catch (error) {
    if (isAssayError(error)) return undefined;
    throw error;
  }
}

/** Every file below a folder but hidden ones and a manifest, sorted, with forward slashes. */
export function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile())
    .map((file) => relative(folder, join(file.parentPath, file.name)).split(sep).join("/"))
    .filter((path) => path !== MANIFEST_FILE && !path.split("/").some((part) => part.startsWith(".")))
    .sort();
}
