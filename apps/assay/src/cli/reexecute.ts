import { existsSync } from "node:fs";
import { join } from "node:path";
import { bytesToHex, isAssayError } from "@assay/core";
import { createOrtRuntime } from "@assay/driver-ort";
import type { ModelFile } from "@assay/driver-ort";
import { MANIFEST_LIMITS } from "@assay/onnx";
import type { BuiltManifest } from "@assay/onnx";
import { isDatatype } from "@assay/protocol";
import type { LanguageModelFiles, RuntimeFacts, RuntimeProfile, Tensor } from "@assay/protocol";
import { disclosed } from "@assay/receipts";
import type { ReceiptView } from "@assay/receipts";
import { compareTensors } from "./compare-tensors.ts";
import type { Comparison } from "./compare-tensors.ts";
import { readIfThere } from "./files.ts";
import { languageFiles } from "./language-files.ts";
import {
  describeFiles,
  describeModel,
  filesIn,
  hashFile,
  MANIFEST_FILE,
  modelPlace,
  onDisk,
  readManifest,
} from "./model-files.ts";
import { cliError } from "./render-error.ts";
import type { ExtraRow } from "./verdict-text.ts";
import type { World } from "./world.ts";

/** The model on this disk that a receipt names. */
type LocalModel = {
  readonly manifestDigest: string;
  readonly path: string;
  readonly sha256: string;
  readonly files: readonly ModelFile[];
  readonly all: LanguageModelFiles;
};

/**
 * Runs what the receipt states again, on the model at `modelPath`, and compares. The line says `pass` when every output
 * is equal by the profile's equality, `fail` with the first difference when one is not, and throws
 * `reexecution_impossible`, `opening_missing` or `model_mismatch` when there is nothing to compare.
 */
export async function reexecute(world: World, view: ReceiptView, modelPath: string | undefined): Promise<ExtraRow> {
  const { claims } = view.execution;
  if ((claims.kind === "chat" || claims.kind === "completion") && claims.runtime?.["profile"] === "llm") {
    const { reexecuteText } = await import("./reexecute-text.ts");
    return reexecuteText(world, view, async () => (await modelOf(world, view, modelPath)).all);
  }
  const profile = profileOf(view);
  const { tensors } = disclosed(view);
  const [inputs, signed] = [sideOf(tensors, "request"), sideOf(tensors, "response")];
  if (inputs.length === 0 || signed.length === 0) {
    throw cliError("opening_missing", "The receipt does not disclose the tensors that went in and came out.", {
      hints: ["The receipt that `assay run` saved has them; whoever asked can give it to you."],
    });
  }
  const model = await modelOf(world, view, modelPath);
  const runtime = createOrtRuntime({ ...world.ortChild, children: { portable: 1, native: 1 } });
  try {
    const { outputs, facts } = await runtime.run({
      model: { ...model, profile },
      inputs,
      outputs: signed.map(({ name }) => name),
      signal: world.interrupt,
    });
    return judge(profile, claims.runtime?.["cpuClass"], facts, signed, outputs);
  } catch (cause) {
    if (!isAssayError(cause) || world.interrupt.aborted) throw cause;
    throw cliError("reexecution_impossible", `The model did not run here: ${cause.message}`, { cause });
  } finally {
    await runtime.close();
  }
}

function profileOf({ execution }: ReceiptView): RuntimeProfile {
  const { claims } = execution;
  const profile = claims.runtime?.["profile"];
  if (claims.kind === "onnx" && (profile === "portable" || profile === "native")) return profile;
  const stated = typeof profile === "string" ? `the ${profile} profile` : "no profile";
  throw cliError("reexecution_impossible", `The receipt is of kind ${claims.kind} and states ${stated}.`, {
    hints: ["ONNX executions and answers of local language models can be repeated here."],
  });
}

function sideOf(tensors: ReturnType<typeof disclosed>["tensors"], side: "request" | "response"): Tensor[] {
  return tensors.flatMap(({ side: of, name, datatype, shape, data }) =>
    of === side && isDatatype(datatype) ? [{ name, datatype, shape, data }] : [],
  );
}

function judge(
  profile: RuntimeProfile,
  statedClass: unknown,
  facts: RuntimeFacts,
  signed: readonly Tensor[],
  found: readonly Tensor[],
): ExtraRow {
  const sameClass = statedClass instanceof Uint8Array && bytesToHex(statedClass) === facts.cpuClass;
  const exact = profile === "portable" || sameClass;
  const comparisons = signed.map((tensor) =>
    compareTensors(
      tensor,
      found.find(({ name }) => name === tensor.name),
      exact ? "bytes" : "tolerance",
    ),
  );
  const differing = comparisons.find(({ equal }) => !equal);
  const about = {
    profile,
    engine: `${facts.engine} ${facts.engineVersion}`,
    equality: exact ? "byte for byte" : "within tolerance: the receipt was made on another class of processor",
    ...(profile === "native" ? { cpuClass: sameClass ? "equal" : "different" } : {}),
  };
  if (differing) {
    return {
      check: "re-execution",
      status: "fail",
      code: "reexecution_differs",
      message: `Run again, output ${differing.name} differs: ${describe(differing)}.`,
      facts: { ...about, output: differing.name, difference: differing.largest },
    };
  }
  const count = signed.length === 1 ? "the output is" : `all ${signed.length} outputs are`;
  return {
    check: "re-execution",
    status: "pass",
    code: "reexecution_agrees",
    message: `Run again here, ${count} the same ${exact ? "byte for byte" : "within tolerance"}.`,
    facts: about,
  };
}

function describe({ largest, reason }: Comparison): string {
  return reason ?? `the largest difference is ${largest}`;
}

/** The model at `path`; without one, the copy that this home ran it from. Throws `model_mismatch` or `usage_invalid`. */
async function modelOf(world: World, view: ReceiptView, path: string | undefined): Promise<LocalModel> {
  if (path !== undefined) return findModel(path, view);
  const { modelDigest, modelName } = view.execution.claims;
  const wanted = modelDigest ? bytesToHex(modelDigest) : "";
  const folder = join(world.home, "models", wanted);
  const blob = join(world.home, "blobs", "blobs", wanted.slice(0, 2), wanted.slice(2, 4), wanted);
  const bytes = wanted === "" ? undefined : await readIfThere(blob, MANIFEST_LIMITS.maxBytes, "manifest");
  const built = bytes && readManifest(bytes);
  if (built?.digest === wanted && existsSync(folder)) return checkFiles(folder, built);
  throw cliError("usage_invalid", "Re-execution needs the model, and this home has no copy of it.", {
    hints: [`Fetch it with \`assay model pull ${modelName ?? "NAME"}\`, and name its folder with --model.`],
  });
}

/**
 * The files at `path` if they are the version that the receipt names: by a manifest in the receipt or beside them, by
 * the manifest they would make themselves, or as the single file of that digest. Throws `model_mismatch`.
 */
async function findModel(path: string, view: ReceiptView): Promise<LocalModel> {
  const { claims, statement } = view.execution;
  if (!claims.modelDigest) {
    throw cliError("reexecution_impossible", `${statement.header.issuer} states no model digest.`);
  }
  const wanted = bytesToHex(claims.modelDigest);
  const place = modelPlace(path);
  const { folder, entry } = place;
  if (claims.modelDigestScheme === "sha256-single") {
    const found = entry === undefined ? undefined : await hashFile(path);
    if (found === wanted) {
      const all = { manifestDigest: wanted, directory: folder, entry: entry ?? "", files: [] };
      return { manifestDigest: wanted, path, sha256: wanted, files: [], all };
    }
    throw mismatch(wanted, found ?? "a folder");
  }
  const beside = await readIfThere(join(folder, MANIFEST_FILE), MANIFEST_LIMITS.maxBytes, "manifest");
  const carried = (view.bundle.evidence ?? []).filter(({ type }) => type === "model-manifest").map(({ data }) => data);
  for (const bytes of [...carried, ...(beside ? [beside] : [])]) {
    const built = readManifest(bytes);
    if (built?.digest === wanted) return checkFiles(folder, built);
  }
  const own = await describeModel(place);
  if (own.digest === wanted) return checkFiles(folder, own);
  const imported = await asImported(folder, entry);
  if (imported?.digest === wanted) return checkFiles(folder, imported);
  throw mismatch(wanted, own.digest);
}

/** The manifest that importing a language model's folder makes, which leaves out what does not belong to it. */
async function asImported(folder: string, entry: string | undefined): Promise<BuiltManifest | undefined> {
  try {
    const chosen = languageFiles(filesIn(folder), entry, folder);
    return await describeFiles(folder, chosen.all, chosen.entry);
  } catch (error) {
    if (isAssayError(error)) return undefined;
    throw error;
  }
}

function mismatch(wanted: string, found: string): Error {
  return cliError("model_mismatch", "The model here is not the one that the receipt names.", {
    hints: [
      `The receipt names ${wanted}; here is ${found}.`,
      "Fetch the version it names with `assay model pull NAME`.",
    ],
  });
}

async function checkFiles(folder: string, { manifest, digest }: BuiltManifest): Promise<LocalModel> {
  for (const file of manifest.files) {
    const found = await hashFile(onDisk(folder, file.path));
    if (found !== file.sha256) {
      const what = found === undefined ? "missing" : "another";
      throw cliError("model_mismatch", `The model's file ${file.path} is ${what}.`, {
        hints: [`Its SHA-256 has to be ${file.sha256}.`],
      });
    }
  }
  const entry = manifest.files.find(({ path }) => path === manifest.entry);
  if (!entry) throw cliError("model_files_invalid", "The manifest names no model file.");
  // External data is named relative to the model file, and only files below its folder can be.
  const base = entry.path.slice(0, entry.path.lastIndexOf("/") + 1);
  const files = manifest.files.flatMap((file) =>
    file !== entry && file.path.startsWith(base) ? [{ path: file.path.slice(base.length), sha256: file.sha256 }] : [],
  );
  const all = {
    manifestDigest: digest,
    directory: folder,
    entry: entry.path,
    files: manifest.files.map(({ path, sha256, sizeBytes }) => ({ path, sha256, sizeBytes })),
  };
  return { manifestDigest: digest, path: onDisk(folder, entry.path), sha256: entry.sha256, files, all };
}
