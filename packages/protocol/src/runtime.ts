import type { Datatype, Tensor } from "./tensor.ts";

/** Which engine runs a model, and so which equality holds when somebody re-executes it. */
export type RuntimeProfile = "portable" | "native";

/** A model file set that was materialised on local disk under a directory the caller owns. */
export type LoadedModelRef = {
  /** SHA-256 of the manifest, lower-case hex: the identity of the version. */
  readonly manifestDigest: string;
  /** Absolute path of the `.onnx` file. */
  readonly path: string;
  /** SHA-256 of that file, lower-case hex; the runtime re-hashes at every load and refuses a difference. */
  readonly sha256: string;
  readonly profile: RuntimeProfile;
  /** The other files of the version (external weights), relative to the entry's folder, each with its SHA-256. */
  readonly files?: readonly { readonly path: string; readonly sha256: string }[];
};

/** What a session says of its model. `shape` has -1 for an axis whose size is free. */
export type SessionMetadata = {
  readonly inputs: readonly { name: string; datatype: Datatype; shape: readonly number[] }[];
  readonly outputs: readonly { name: string; datatype: Datatype; shape: readonly number[] }[];
  /** Whether rows may be batched without changing a bit (probed at load). */
  readonly batchInvariant: boolean;
};

/** Facts of the engine that go into every receipt it runs for. */
export type RuntimeFacts = {
  readonly profile: RuntimeProfile;
  /** For example `onnxruntime-web`. */
  readonly engine: string;
  readonly engineVersion: string;
  /** SHA-256 of the engine's binary, lower-case hex. */
  readonly engineSha256: string;
  /** Hash of the outputs of a fixed probe set, lower-case hex; equal fingerprints give equal bytes. */
  readonly cpuClass: string;
  readonly threads: number;
  readonly graphOptimization: "all";
  /** Boundary casts that were added so the engine could carry a type, for example `x: BF16->FP32`. */
  readonly casts: readonly string[];
};

export type RunRequest = {
  readonly model: LoadedModelRef;
  readonly inputs: readonly Tensor[];
  /** Output names wanted, in order; absent means all, in the graph's order. */
  readonly outputs?: readonly string[];
  /** Milliseconds the run may take once started, at most the runtime's own limit. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
};

export type RunResult = {
  readonly outputs: readonly Tensor[];
  readonly facts: RuntimeFacts;
  /** Time in the engine, milliseconds; for a batch, the whole batch's. */
  readonly engineMs: number;
  /** Requests that ran together, this one included (1 when alone). */
  readonly batchedRequests: number;
};

/** Runs models. Implemented by `driver-ort`; its contract suite is in `testkit`. */
export type ModelRuntime = {
  /** Loads (or finds warm) the model's session. Throws the codes that {@link ModelRuntime.run} throws. */
  prepare(model: LoadedModelRef): Promise<{ metadata: SessionMetadata; facts: RuntimeFacts }>;
  /**
   * Runs once. Throws `model_digest_mismatch`, `model_invalid`, `model_aborted`, `model_timeout`,
   * `model_out_of_memory`, `input_missing`, `input_unexpected`, `input_datatype`, `input_shape`, `output_unknown`,
   * `datatype_unsupported`, `tensor_too_large`, `runtime_overloaded`, `runtime_unavailable` (no child will start),
   * `request_cancelled`, `model_failed` or `runtime_closed`.
   */
  run(request: RunRequest): Promise<RunResult>;
  /** Loaded sessions, their memory in bytes and their children, for `/metrics` and `doctor`. */
  stats(): RuntimeStats;
  close(): Promise<void>;
};

export type RuntimeStats = {
  readonly children: number;
  readonly sessions: number;
  readonly sessionBytes: number;
  readonly queued: number;
  readonly restarts: number;
};
