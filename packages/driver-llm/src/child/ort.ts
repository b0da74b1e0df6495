import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { InferenceSession, Tensor } from "onnxruntime-node";

export type OrtSession = InferenceSession;
export type OrtTensor = Tensor;
type OrtTensorClass = typeof Tensor;

/** The engine of this process: onnxruntime-node's library for processors. */
export type Ort = {
  readonly version: string;
  /** SHA-256 of the engine's native library, lower-case hex. */
  readonly sha256: string;
  readonly Tensor: OrtTensorClass;
  /** Makes a session from a model in memory, or from a path when its weights lie beside it. */
  readonly create: (model: Uint8Array | string) => Promise<OrtSession>;
};

/**
 * Loads the engine with `threads` threads for one run. Takes `Float16Array` away from this process, which is the
 * engine's own: from Node 24 on the tensor class insists on such arrays, and the native library of onnxruntime-node
 * 1.30.0 reads them as empty.
 */
export async function loadOrt(threads: number): Promise<Ort> {
  Reflect.deleteProperty(globalThis, "Float16Array");
  const require = createRequire(import.meta.url);
  const root = join(dirname(require.resolve("onnxruntime-node")), "..", "bin", "napi-v6");
  const folder = join(root, process.platform, process.arch);
  const library = readdirSync(folder).find((name) =>
    /^(libonnxruntime\.(so|.*dylib|dylib)|onnxruntime\.dll$)/.test(name),
  );
  if (library === undefined) throw new Error("onnxruntime-node has no library for this platform.");
  const ort = await import("onnxruntime-node");
  ort.env.logLevel = "error";
  const settings = {
    executionProviders: ["cpu"],
    // The level changes bits for some models, so it is part of what a receipt states and never an option.
    graphOptimizationLevel: "all",
    executionMode: "sequential",
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  } as const;
  return {
    version: ort.env.versions.node ?? "",
    sha256: createHash("sha256")
      .update(readFileSync(join(folder, library)))
      .digest("hex"),
    Tensor: ort.Tensor,
    create: async (model) =>
      typeof model === "string"
        ? await ort.InferenceSession.create(model, settings)
        : await ort.InferenceSession.create(model, settings),
  };
}
