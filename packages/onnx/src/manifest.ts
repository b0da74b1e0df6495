import type { CryptoSuite, JsonValue } from "@assay/core";
import { AssayError, bytesToHex, canonicalJson, compareBytes, equalBytes, parseJson, utf8ToBytes } from "@assay/core";
import { pathFault } from "./path.ts";

/**
 * A model version: an OCI image manifest of artifact type CNCF ModelPack, in canonical JSON (RFC 8785). SHA-256 of
 * those bytes is the identity of the version everywhere, and at the same time its OCI digest.
 */
export type ModelManifest = {
  /** Sorted by the bytes of the path. */
  readonly files: readonly ManifestFile[];
  /** Path of the `.onnx` file that a runtime loads. */
  readonly entry: string;
  /** What the model does, for example `image-classification`. */
  readonly task?: string;
  /** SHA-256 of the preprocessing document, lower-case hex. */
  readonly preprocessingSha256?: string;
};

export type ManifestFile = {
  readonly path: string;
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly mediaType: ManifestMediaType;
};

/** What {@link buildManifest} takes: media types may be left to {@link mediaTypeOf}, and files come in any order. */
export type ManifestInput = Omit<ModelManifest, "files"> & {
  readonly files: readonly (Omit<ManifestFile, "mediaType"> & { readonly mediaType?: ManifestMediaType })[];
};

export type BuiltManifest = {
  readonly manifest: ModelManifest;
  /** The manifest document; its SHA-256 is `digest`. */
  readonly bytes: Uint8Array;
  /** Lower-case hex; `sha256:<digest>` in OCI. */
  readonly digest: string;
  /** The ModelPack configuration that the manifest points to: a pure function of it, stored for OCI clients. */
  readonly configBytes: Uint8Array;
  readonly configDigest: string;
};

/** Layer media types of CNCF ModelPack, raw (neither archived nor compressed), so that a layer is the file itself. */
export const MANIFEST_MEDIA_TYPES = [
  "application/vnd.cncf.model.weight.v1.raw",
  "application/vnd.cncf.model.weight.config.v1.raw",
  "application/vnd.cncf.model.doc.v1.raw",
  "application/vnd.cncf.model.code.v1.raw",
  "application/vnd.cncf.model.dataset.v1.raw",
] as const;
export type ManifestMediaType = (typeof MANIFEST_MEDIA_TYPES)[number];

export const MANIFEST_LIMITS = {
  /** Registries refuse larger manifests (the OCI distribution specification asks for at least 4 MiB). */
  maxBytes: 4 * 1024 * 1024,
  /** Sharded checkpoints have hundreds of files; thousands are a data set. */
  maxFiles: 4096,
  /** Largest file, bytes: beyond any single weight file, and far inside exact integers. */
  maxFileBytes: 1024 ** 4,
  /** Largest sum of files, bytes. */
  maxTotalBytes: 16 * 1024 ** 4,
  /** Longest `task`, characters. */
  maxTaskLength: 64,
  /** Document, layers, layer, annotations: nothing is nested deeper. */
  maxDepth: 4,
} as const;

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json";
const CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json";
const FILEPATH = "org.cncf.model.filepath";
const ENTRY = "assay.model.entry";
const TASK = "assay.model.task";
const PREPROCESSING = "assay.model.preprocessing";

/** The media type a path's ending suggests; weights for anything unknown, since that is stored untouched. */
export function mediaTypeOf(path: string): ManifestMediaType {
  const name = path.slice(path.lastIndexOf("/") + 1).toLowerCase();
  if (/^(?:readme|license|licence|notice|copying|changelog)(?:\.|$)/.test(name) || /\.(?:md|rst|pdf)$/.test(name))
    return "application/vnd.cncf.model.doc.v1.raw";
  if (/\.(?:json|ya?ml|toml|txt|jinja|model|vocab)$/.test(name))
    return "application/vnd.cncf.model.weight.config.v1.raw";
  if (/\.(?:py|js|ts|sh)$/.test(name)) return "application/vnd.cncf.model.code.v1.raw";
  return "application/vnd.cncf.model.weight.v1.raw";
}

/**
 * Makes the manifest of a set of files. Deterministic: equal sets give equal bytes, whatever their order.
 *
 * Throws `manifest_invalid` for no files, an entry that is not among them or not an `.onnx` file, a path that
 * {@link pathFault} refuses, paths that differ only in case or where one is a folder of another, a size or digest
 * out of form; `manifest_too_large` past {@link MANIFEST_LIMITS}.
 */
export function buildManifest(suite: Pick<CryptoSuite, "sha256">, input: ManifestInput): BuiltManifest {
  const files = input.files.map((file) => ({ ...file, mediaType: file.mediaType ?? mediaTypeOf(file.path) }));
  const manifest = validate({ ...input, files });
  const configBytes = configOf(manifest);
  const configDigest = bytesToHex(suite.sha256(configBytes));
  const bytes = canonicalJson(document(manifest, configBytes.length, configDigest));
  if (bytes.length > MANIFEST_LIMITS.maxBytes) throw tooLarge("maxBytes", MANIFEST_LIMITS.maxBytes);
  return { manifest, bytes, digest: bytesToHex(suite.sha256(bytes)), configBytes, configDigest };
}

/**
 * Reads a manifest that {@link buildManifest} made. The bytes must be exactly what it would make again, so that no
 * two manifests mean the same version and nothing unread hides in one.
 *
 * Throws `manifest_invalid` naming what is wrong, or `manifest_too_large`.
 */
export function parseManifest(suite: Pick<CryptoSuite, "sha256">, bytes: Uint8Array): BuiltManifest {
  if (bytes.length > MANIFEST_LIMITS.maxBytes) throw tooLarge("maxBytes", MANIFEST_LIMITS.maxBytes);
  let value: JsonValue;
  try {
    value = parseJson(bytes, { maxBytes: MANIFEST_LIMITS.maxBytes, maxDepth: MANIFEST_LIMITS.maxDepth });
  } catch (cause) {
    throw invalid("it is not JSON", cause);
  }
  const root = record(value, "the manifest");
  const layers = root["layers"];
  if (!isArray(layers)) throw invalid("its layers are not a list");
  if (layers.length > MANIFEST_LIMITS.maxFiles) throw tooLarge("maxFiles", MANIFEST_LIMITS.maxFiles);
  const annotations = record(root["annotations"], "its annotations");
  const files = layers.map((entry): ManifestFile => {
    const layer = record(entry, "a layer");
    const digest = text(layer["digest"], "a layer's digest");
    return {
      path: text(record(layer["annotations"], "a layer's annotations")[FILEPATH], "a layer's path"),
      sizeBytes: typeof layer["size"] === "number" ? layer["size"] : -1,
      sha256: digest.startsWith("sha256:") ? digest.slice(7) : "",
      mediaType: text(layer["mediaType"], "a layer's media type") as ManifestMediaType,
    };
  });
  const built = buildManifest(suite, {
    files,
    entry: text(annotations[ENTRY], "its entry"),
    ...(annotations[TASK] === undefined ? {} : { task: text(annotations[TASK], "its task") }),
    ...(annotations[PREPROCESSING] === undefined
      ? {}
      : { preprocessingSha256: text(annotations[PREPROCESSING], "its preprocessing digest") }),
  });
  if (!equalBytes(built.bytes, bytes)) {
    throw invalid("its bytes are not the canonical form of what it says", undefined, [
      "Fields that are not known, another order, spacing or a configuration digest that does not fit are refused.",
    ]);
  }
  return built;
}

export type ManifestFault = {
  readonly code:
    | "manifest_digest_mismatch"
    | "manifest_invalid"
    | "manifest_too_large"
    | "file_missing"
    | "file_unlisted"
    | "file_size_mismatch"
    | "file_digest_mismatch";
  readonly message: string;
};

export type ManifestVerdict =
  | { readonly verified: true; readonly manifest: ModelManifest }
  | { readonly verified: false; readonly faults: readonly ManifestFault[] };

/**
 * Compares a manifest with the digest it should have and with the files that are really there (path to size in bytes
 * and SHA-256). Never throws on hostile bytes. Files that the manifest does not list are faults too.
 */
export function verifyManifest(
  suite: Pick<CryptoSuite, "sha256">,
  bytes: Uint8Array,
  expected: {
    readonly digest: string;
    readonly files: ReadonlyMap<string, { readonly sizeBytes: number; readonly sha256: string }>;
  },
): ManifestVerdict {
  const faults: ManifestFault[] = [];
  const digest = bytesToHex(suite.sha256(bytes));
  if (digest !== expected.digest)
    faults.push({ code: "manifest_digest_mismatch", message: `The manifest's digest is ${digest}.` });
  let manifest: ModelManifest;
  try {
    manifest = parseManifest(suite, bytes).manifest;
  } catch (error) {
    if (!(error instanceof AssayError)) throw error;
    faults.push({ code: error.code as "manifest_invalid", message: error.message });
    return { verified: false, faults };
  }
  for (const file of manifest.files) {
    const actual = expected.files.get(file.path);
    const name = JSON.stringify(file.path);
    if (actual === undefined) faults.push({ code: "file_missing", message: `File ${name} is missing.` });
    else if (actual.sizeBytes !== file.sizeBytes) {
      const sizes = `${actual.sizeBytes} bytes, not ${file.sizeBytes}`;
      faults.push({ code: "file_size_mismatch", message: `File ${name} has ${sizes}.` });
    } else if (actual.sha256 !== file.sha256)
      faults.push({ code: "file_digest_mismatch", message: `File ${name} has SHA-256 ${actual.sha256}.` });
  }
  const listed = new Set(manifest.files.map((file) => file.path));
  for (const path of expected.files.keys())
    if (!listed.has(path))
      faults.push({ code: "file_unlisted", message: `File ${JSON.stringify(path)} is not listed.` });
  return faults.length === 0 ? { verified: true, manifest } : { verified: false, faults };
}

function validate(input: ModelManifest): ModelManifest {
  if (input.files.length === 0) throw invalid("it lists no files");
  if (input.files.length > MANIFEST_LIMITS.maxFiles) throw tooLarge("maxFiles", MANIFEST_LIMITS.maxFiles);
  let total = 0;
  const folded = new Set<string>();
  for (const file of input.files) {
    const name = JSON.stringify(file.path.slice(0, 80));
    const fault = pathFault(file.path);
    if (fault !== undefined) throw invalid(`the path ${name} is refused: ${fault}`);
    const fold = foldCase(file.path);
    if (folded.has(fold)) throw invalid(`the path ${name} occurs twice, or differs from another only in case`);
    folded.add(fold);
    if (!Number.isSafeInteger(file.sizeBytes) || file.sizeBytes < 0) throw invalid(`the size of ${name} is no size`);
    if (file.sizeBytes > MANIFEST_LIMITS.maxFileBytes) throw tooLarge("maxFileBytes", MANIFEST_LIMITS.maxFileBytes);
    total += file.sizeBytes;
    if (!isDigest(file.sha256)) throw invalid(`the digest of ${name} is not 64 lower-case hexadecimal digits`);
    if (!MANIFEST_MEDIA_TYPES.includes(file.mediaType)) throw invalid(`the media type of ${name} is not a raw layer's`);
  }
  if (total > MANIFEST_LIMITS.maxTotalBytes) throw tooLarge("maxTotalBytes", MANIFEST_LIMITS.maxTotalBytes);
  for (const path of folded) {
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1))
      if (folded.has(path.slice(0, at)))
        throw invalid(`the path ${JSON.stringify(path.slice(0, at))} is file and folder`);
  }
  if (!input.files.some((file) => file.path === input.entry)) throw invalid("its entry is not among its files");
  if (!input.entry.endsWith(".onnx")) throw invalid("its entry is not an .onnx file");
  if (input.task !== undefined && !/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(input.task))
    throw invalid("its task is not lower-case words joined by hyphens");
  if (input.task !== undefined && input.task.length > MANIFEST_LIMITS.maxTaskLength)
    throw tooLarge("maxTaskLength", MANIFEST_LIMITS.maxTaskLength);
  if (input.preprocessingSha256 !== undefined && !isDigest(input.preprocessingSha256))
    throw invalid("its preprocessing digest is not 64 lower-case hexadecimal digits");
  const keyed = input.files.map(({ path, sizeBytes, sha256, mediaType }) => ({
    key: utf8ToBytes(path),
    file: { path, sizeBytes, sha256, mediaType },
  }));
  keyed.sort((a, b) => compareBytes(a.key, b.key));
  return {
    files: keyed.map(({ file }) => file),
    entry: input.entry,
    ...(input.task === undefined ? {} : { task: input.task }),
    ...(input.preprocessingSha256 === undefined ? {} : { preprocessingSha256: input.preprocessingSha256 }),
  };
}

/** Two paths that a case-insensitive file system would confuse fold to the same text. */
function foldCase(path: string): string {
  return path.normalize("NFC").toUpperCase().toLowerCase();
}

function document(manifest: ModelManifest, configSize: number, configDigest: string): JsonValue {
  const annotations: Record<string, string> = { [ENTRY]: manifest.entry };
  if (manifest.task !== undefined) annotations[TASK] = manifest.task;
  if (manifest.preprocessingSha256 !== undefined) annotations[PREPROCESSING] = manifest.preprocessingSha256;
  return {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    artifactType: ARTIFACT_TYPE,
    config: { mediaType: CONFIG_TYPE, digest: `sha256:${configDigest}`, size: configSize },
    layers: manifest.files.map((file) => ({
      mediaType: file.mediaType,
      digest: `sha256:${file.sha256}`,
      size: file.sizeBytes,
      annotations: { [FILEPATH]: file.path },
    })),
    annotations,
  };
}

/** The ModelPack configuration: for a raw layer the digest of the content is the digest of the blob. */
function configOf(manifest: ModelManifest): Uint8Array {
  return canonicalJson({
    descriptor: {},
    config: { format: "onnx" },
    modelfs: { type: "layers", diffIds: manifest.files.map((file) => `sha256:${file.sha256}`) },
  });
}

function isDigest(value: string): boolean {
  return /^[0-9a-f]{64}$/.test(value);
}

function isArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function record(value: JsonValue | undefined, what: string): { readonly [key: string]: JsonValue } {
  if (typeof value !== "object" || value === null || isArray(value)) throw invalid(`${what} is not an object`);
  return value;
}

function text(value: JsonValue | undefined, what: string): string {
  if (typeof value !== "string") throw invalid(`${what} is not a text`);
  return value;
}

function invalid(why: string, cause?: unknown, hints: readonly string[] = []): AssayError<"manifest_invalid"> {
  return new AssayError("manifest_invalid", `The model manifest is refused: ${why}.`, {
    hints,
    ...(cause === undefined ? {} : { cause }),
  });
}

function tooLarge(limit: keyof typeof MANIFEST_LIMITS, most: number): AssayError<"manifest_too_large"> {
  return new AssayError("manifest_too_large", `The model manifest exceeds the limit ${limit} of ${most}.`);
}
