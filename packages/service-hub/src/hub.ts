import { AssayError, bytesToUtf8, hexToBytes, parseJson } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import { checkModel, graphSignature, parseManifest, readModel } from "@assay/onnx";
import type { BuiltManifest } from "@assay/onnx";
import type { BlobStore, LanguageModelFiles } from "@assay/protocol";
import { PROFILE } from "@assay/receipts";
import type { ReleaseAction, ReleaseClaims } from "@assay/receipts";
import { createCatalogue, parseModelName } from "./catalogue.ts";
import type { Catalogue, ModelVersion } from "./catalogue.ts";
import { languageOf } from "./language.ts";
import type { LanguageFacts } from "./language.ts";

/** Input or output as the hub shows it: Open Inference Protocol datatype, -1 for an axis that is free. */
export type SignatureItem = { readonly name: string; readonly datatype: string; readonly shape: readonly number[] };

/** What the hub knows of a version besides its place in history. */
export type ModelFacts = {
  readonly manifest: BuiltManifest;
  readonly signature: {
    readonly inputs: readonly (SignatureItem & { readonly optional: boolean })[];
    readonly outputs: readonly SignatureItem[];
  };
  readonly preprocessing: JsonValue;
  readonly card: string | null;
  /** What it does as a language model; absent for models of tensors. */
  readonly language?: LanguageFacts;
  /** Paths, relative to the entry's folder, that the entry takes weights from. */
  readonly externalPaths: readonly string[];
};

/** A version on local disk, ready for a runtime. */
export type MaterialisedModel = ModelVersion & {
  readonly path: string;
  readonly sha256: string;
  /** The files that the entry takes weights from, relative to its folder. */
  readonly files: readonly { readonly path: string; readonly sha256: string }[];
  /** Every file of the version, for engines of language models. */
  readonly all: LanguageModelFiles;
};

export type HubModules = {
  readonly blobs: BlobStore;
  readonly suite: Pick<CryptoSuite, "sha256">;
  /** Signs and logs a release; resolves when it is durable. */
  readonly record: (claims: ReleaseClaims, subject: string) => Promise<{ readonly logIndex: number }>;
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  readonly files: HubFiles;
  /** Keeps what is in the store there while a release is made; without it nothing is ever removed from it. */
  readonly holding?: <Result>(work: () => Promise<Result>) => Promise<Result>;
};

/** The few file operations that materialising needs, over a directory that only the hub writes. */
export type HubFiles = {
  /** Whether `<digest>` is there complete. */
  readonly has: (digest: string) => Promise<boolean>;
  /** Runs `fill` on a fresh private directory with `folders` in it, and then gives it the name `<digest>` at once. */
  readonly create: (
    digest: string,
    folders: readonly string[],
    fill: (directory: string) => Promise<void>,
  ) => Promise<void>;
  readonly path: (digest: string, file: string) => string;
};

export type ReleaseRequest = {
  readonly name: string;
  readonly manifest: Uint8Array;
  readonly owner: string;
  readonly visibility: "public" | "private";
};

/** Models: immutable versions by manifest digest, an append-only history in the log. */
export type Hub = {
  readonly catalogue: Catalogue;
  /** Checks a manifest and its files and releases the next version. An identical current version is returned as it is. */
  readonly release: (request: ReleaseRequest) => Promise<ModelVersion>;
  /** Makes `version` the current one again, or marks it deprecated. */
  readonly change: (
    name: string,
    version: number,
    action: Exclude<ReleaseAction, "release">,
    owner: string,
  ) => Promise<ModelVersion>;
  readonly facts: (version: Pick<ModelVersion, "manifestDigest">) => Promise<ModelFacts>;
  /** Copies the version's files out of the store (once) and hands over the path of its entry. */
  readonly materialise: (version: ModelVersion) => Promise<MaterialisedModel>;
};

/** Longest card or preprocessing document read into memory, bytes. */
const MAX_DOCUMENT_BYTES = 1024 * 1024;
/** Largest `.onnx` entry that is checked and served: loaded whole into memory by checker and runtime. */
const MAX_ENTRY_BYTES = 1024 * 1024 * 1024;
const MAX_CACHED_FACTS = 256;

/** Makes a hub over a content store. */
export function createHub(modules: HubModules): Hub {
  const { blobs, suite, record, now, random, files, holding = (work) => work() } = modules;
  const catalogue = createCatalogue();
  const factsByDigest = new Map<string, Promise<ModelFacts>>();
  const materialising = new Map<string, Promise<MaterialisedModel>>();
  const releasing = new Map<string, Promise<unknown>>();

  const state = async (
    {
      name,
      version,
      manifestDigest,
      owner,
      visibility,
      sizeBytes,
    }: Omit<ModelVersion, "status" | "releasedAtMs" | "logIndex">,
    action: ReleaseAction,
  ): Promise<ModelVersion> => {
    const releaseId = random(16);
    const claims: ReleaseClaims = {
      profile: PROFILE.release,
      releaseId,
      modelName: name,
      version,
      modelDigest: hexToBytes(manifestDigest),
      action,
      owner,
      visibility,
      sizeBytes,
      issuedAtMs: now(),
    };
    const { logIndex } = await record(claims, `urn:assay:model:${name}@${version}`);
    catalogue.apply(claims, logIndex);
    return catalogue.resolve(name, version);
  };

  const inOrder = <Result>(name: string, work: () => Promise<Result>): Promise<Result> => {
    // Versions of one name are numbered one after the other, whoever asks at the same time.
    const before = releasing.get(name) ?? Promise.resolve();
    const after = before.then(work, work);
    const settled = after.then(
      () => undefined,
      () => undefined,
    );
    releasing.set(name, settled);
    void settled.finally(() => {
      if (releasing.get(name) === settled) releasing.delete(name);
    });
    return after;
  };

  const readFacts = async (manifestDigest: string): Promise<ModelFacts> => {
    const manifest = parseManifest(suite, await blobs.get(manifestDigest));
    const entry = manifest.manifest.files.find(({ path }) => path === manifest.manifest.entry);
    if (!entry) throw new AssayError("manifest_invalid", "The manifest's entry is not among its files.");
    const model = readModel(await blobs.get(entry.sha256));
    const signature = graphSignature(model);
    const { facts: seen } = checkModel(model, { externalFiles: filesBeside(manifest.manifest) });
    const language = await languageOf(manifest.manifest.files, signature, model.graph.nodes, (sha256) =>
      blobs.get(sha256),
    );
    return {
      ...(language ? { language } : {}),
      manifest,
      externalPaths: seen?.externalPaths ?? [],
      signature: {
        inputs: signature.inputs.map(({ name, datatype, shape, optional }) => ({ name, datatype, shape, optional })),
        outputs: signature.outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
      },
      preprocessing: await readPreprocessing(manifest),
      card: await readCard(manifest),
    };
  };

  const readPreprocessing = async ({ manifest }: BuiltManifest): Promise<JsonValue> => {
    if (manifest.preprocessingSha256 === undefined) return null;
    return parseJson(await blobs.get(manifest.preprocessingSha256), { maxBytes: MAX_DOCUMENT_BYTES });
  };

  const readCard = async ({ manifest }: BuiltManifest): Promise<string | null> => {
    const card = manifest.files.find(({ path }) => /^(?:card|readme)\.md$/i.test(path));
    return card && card.sizeBytes <= MAX_DOCUMENT_BYTES ? bytesToUtf8(await blobs.get(card.sha256)) : null;
  };

  const inspect = async (manifest: BuiltManifest): Promise<void> => {
    for (const { path, sha256, sizeBytes } of manifest.manifest.files) {
      const size = await blobs.sizeBytes(sha256);
      if (size === undefined) {
        throw new AssayError("blob_missing", `The file ${path} of the manifest is not in the store.`, {
          hints: ["Upload every file before the manifest that lists it."],
        });
      }
      if (size !== sizeBytes)
        throw new AssayError("manifest_invalid", `The file ${path} has ${size} bytes, not ${sizeBytes}.`);
    }
    const entry = manifest.manifest.files.find(({ path }) => path === manifest.manifest.entry);
    if (!entry) throw new AssayError("manifest_invalid", "The manifest's entry is not among its files.");
    if (entry.sizeBytes > MAX_ENTRY_BYTES) {
      throw new AssayError("model_too_large", `The model file has ${entry.sizeBytes} bytes.`, {
        hints: [`At most ${MAX_ENTRY_BYTES} bytes are served.`],
      });
    }
    const bytes = await blobs.get(entry.sha256);
    const report = checkModel(bytes, { externalFiles: filesBeside(manifest.manifest) });
    const refused = report.findings.find(({ severity }) => severity === "refuse");
    if (refused) throw new AssayError(refused.code, refused.message, { hints: ["The model was not released."] });
    // The checker lets pass what the engine could load; this refuses what the protocol has no datatype for.
    graphSignature(readModel(bytes));
  };

  const copyOut = async (version: ModelVersion): Promise<MaterialisedModel> => {
    const { manifest: built, externalPaths } = await facts(version);
    const { manifest } = built;
    const entry = manifest.files.find(({ path }) => path === manifest.entry);
    if (!entry) throw new AssayError("manifest_invalid", "The manifest's entry is not among its files.");
    if (!(await files.has(version.manifestDigest))) {
      const folders = [...new Set(manifest.files.map(({ path }) => folderOf(path)).filter((path) => path !== ""))];
      await files.create(version.manifestDigest, folders, async (directory) => {
        for (const { path, sha256 } of manifest.files) await blobs.materialise(sha256, `${directory}/${path}`);
      });
    }
    const folder = folderOf(manifest.entry);
    const needed = externalPaths.flatMap((path) => {
      const file = manifest.files.find((one) => one.path === folder + path);
      return file ? [{ path, sha256: file.sha256 }] : [];
    });
    return {
      ...version,
      path: files.path(version.manifestDigest, entry.path),
      sha256: entry.sha256,
      files: needed,
      all: {
        manifestDigest: version.manifestDigest,
        directory: files.path(version.manifestDigest, ""),
        entry: manifest.entry,
        files: manifest.files.map(({ path, sha256, sizeBytes }) => ({ path, sha256, sizeBytes })),
      },
    };
  };

  const facts = ({ manifestDigest }: Pick<ModelVersion, "manifestDigest">): Promise<ModelFacts> => {
    const known = factsByDigest.get(manifestDigest);
    if (known) return known;
    if (factsByDigest.size >= MAX_CACHED_FACTS) factsByDigest.clear();
    const reading = readFacts(manifestDigest);
    factsByDigest.set(manifestDigest, reading);
    reading.catch(() => factsByDigest.delete(manifestDigest));
    return reading;
  };

  return {
    catalogue,
    facts,
    async release({ name: text, manifest: bytes, owner, visibility }) {
      const { name, version: given } = parseModelName(text);
      if (given !== undefined)
        throw new AssayError("model_name_invalid", "A release gets the next version number: leave @version out.");
      const manifest = parseManifest(suite, bytes);
      return holding(async () => {
        await inspect(manifest);
        await blobs.put(manifest.bytes, { expected: manifest.digest });
        await blobs.put(manifest.configBytes, { expected: manifest.configDigest });
        return inOrder(name, async () => {
          const [latest] = catalogue.versions(name);
          if (latest && latest.owner !== owner) throw notOwner(name);
          const current = catalogue.current(name);
          if (current?.manifestDigest === manifest.digest && current.visibility === visibility) return current;
          const sizeBytes = manifest.manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0);
          return state(
            {
              name,
              version: (latest?.version ?? 0) + 1,
              manifestDigest: manifest.digest,
              owner,
              visibility,
              sizeBytes,
            },
            "release",
          );
        });
      });
    },
    change: (text, version, action, owner) => {
      const { name } = parseModelName(text);
      return inOrder(name, async () => {
        const found = catalogue.resolve(name, version, (one) => one.visibility === "public" || one.owner === owner);
        if (found.owner !== owner) throw notOwner(name);
        return state(found, action);
      });
    },
    materialise(version) {
      const key = `${version.name}@${version.version}`;
      const known = materialising.get(key);
      if (known) return known;
      if (materialising.size >= MAX_CACHED_FACTS) materialising.clear();
      const copying = copyOut(version);
      materialising.set(key, copying);
      copying.catch(() => materialising.delete(key));
      return copying;
    },
  };
}

/** Sizes of the version's other files by their path relative to the entry's folder, where external weights may lie. */
function filesBeside({ files, entry }: BuiltManifest["manifest"]): ReadonlyMap<string, number> {
  const folder = folderOf(entry);
  return new Map(
    files
      .filter(({ path }) => path !== entry && path.startsWith(folder))
      .map(({ path, sizeBytes }) => [path.slice(folder.length), sizeBytes]),
  );
}

/** The folder of a path with its slash, empty at the top. */
function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

function notOwner(name: string): AssayError<"model_not_owned"> {
  return new AssayError("model_not_owned", `The model ${name} belongs to another owner.`, {
    hints: ["Release it under a namespace of your own."],
  });
}
