import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { RuntimeProfile } from "@assay/protocol";
import type { Env, InferenceSession, InferenceSessionFactory } from "onnxruntime-node";
import { datatypeOf } from "../datatypes.ts";
import { ortError } from "../errors.ts";
import type { Port, Signature } from "../signature.ts";
import type { EngineTensor, EngineTensorClass } from "./tensor.ts";

export type EngineSession = {
  readonly signature: Signature;
  run(feeds: Record<string, EngineTensor>, fetches: readonly string[]): Promise<Record<string, EngineTensor>>;
  release(): Promise<void>;
};

export type Engine = {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the engine's binary, lower-case hex. */
  readonly sha256: string;
  readonly Tensor: EngineTensorClass;
  /** Makes a session from a model in memory. */
  create(model: Uint8Array): Promise<EngineSession>;
};

type OrtModule = { readonly InferenceSession: InferenceSessionFactory; readonly Tensor: unknown; readonly env: Env };
/** What the engine says of an input or output. */
export type PortMetadata = InferenceSession.ValueMetadata;
type Describe = (metadata: PortMetadata) => Port;

/**
 * Loads the engine of `profile`: WebAssembly on one thread, or the native library on one thread. Takes
 * `Float16Array` away from this process, which is the engine's own: from Node 24 on the tensor class insists on such
 * arrays, and the native library of onnxruntime-node 1.30.0 reads them as empty. Without them both take 16-bit
 * integers, on every version of Node.
 */
export async function loadEngine(profile: RuntimeProfile, describe: Describe): Promise<Engine> {
  Reflect.deleteProperty(globalThis, "Float16Array");
  return profile === "portable" ? await loadPortable(describe) : await loadNative(describe);
}

async function loadPortable(describe: Describe): Promise<Engine> {
  const require = createRequire(import.meta.url);
  const binary = readFileSync(require.resolve("onnxruntime-web/ort-wasm-simd-threaded.wasm"));
  const ort = await import("onnxruntime-web");
  // The engine compiles exactly the bytes that are hashed here; more than one thread would change sums.
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  return {
    name: "onnxruntime-web",
    version: ort.env.versions.web ?? "",
    sha256: createHash("sha256").update(binary).digest("hex"),
    Tensor: ort.Tensor as unknown as EngineTensorClass,
    create: async (model) => await createSession(ort, "wasm", model, describe),
  };
}

async function loadNative(describe: Describe): Promise<Engine> {
  const require = createRequire(import.meta.url);
  const root = join(dirname(require.resolve("onnxruntime-node")), "..", "bin", "napi-v6");
  const folder = join(root, process.platform, process.arch);
  const library = readdirSync(folder).find((name) =>
    /^(libonnxruntime\.(so|.*dylib|dylib)|onnxruntime\.dll$)/.test(name),
  );
  if (library === undefined) throw new Error("onnxruntime-node has no library for this platform.");
  const ort: OrtModule = await import("onnxruntime-node");
  ort.env.logLevel = "error";
  return {
    name: "onnxruntime-node",
    version: ort.env.versions.node ?? "",
    sha256: createHash("sha256")
      .update(readFileSync(join(folder, library)))
      .digest("hex"),
    Tensor: ort.Tensor as EngineTensorClass,
    create: async (model) => await createSession(ort, "cpu", model, describe),
  };
}

async function createSession(
  ort: OrtModule,
  provider: "cpu" | "wasm",
  model: Uint8Array,
  describe: Describe,
): Promise<EngineSession> {
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [provider],
    // The level changes bits for some models, so it is part of the profile and never an option.
    graphOptimizationLevel: "all",
    executionMode: "sequential",
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  return {
    signature: { inputs: session.inputMetadata.map(describe), outputs: session.outputMetadata.map(describe) },
    run: async (feeds, fetches) => await session.run(feeds as never, fetches, { logSeverityLevel: 3 }),
    release: async () => await session.release(),
  };
}

/** The WebAssembly engine reports an axis without a size or a name as this number. */
const FREE_AXIS = 0xffff_ffff;

/** An input or output in the protocol's terms. Throws `datatype_unsupported` for what no tensor here can carry. */
export function describePort(metadata: PortMetadata): Port {
  if (!metadata.isTensor) {
    throw ortError(
      "datatype_unsupported",
      `"${metadata.name}" is a sequence, map or optional, which cannot be served.`,
    );
  }
  const datatype = datatypeOf(metadata.type);
  if (datatype === undefined) {
    throw ortError("datatype_unsupported", `"${metadata.name}" has type ${metadata.type}, which cannot be served.`);
  }
  return {
    name: metadata.name,
    datatype,
    shape: metadata.shape.map((size) => (isFree(size) ? -1 : Number(size))),
    symbols: metadata.shape.map((size) => (typeof size === "string" ? size : "")),
  };
}

function isFree(size: number | string): boolean {
  return typeof size === "string" || size === FREE_AXIS || size < 0;
}
