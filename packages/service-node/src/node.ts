import { hexToBytes, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ModelRuntime, RuntimeFacts, RuntimeProfile, Tensor } from "@assay/protocol";
import { PROFILE, commitFields, encodeClaims, receiptSubject, rememberOpen, tensorFields } from "@assay/receipts";
import type { FieldValue, OpenMap, Principal } from "@assay/receipts";

/** A model version on this node's disk, as the hub hands it over. */
export type NodeModel = {
  readonly name: string;
  readonly version: number;
  /** Lower-case hex. */
  readonly manifestDigest: string;
  /** Absolute path of the `.onnx` file and its SHA-256. */
  readonly path: string;
  readonly sha256: string;
  /** Files that the model takes weights from, relative to its folder. */
  readonly files?: readonly { readonly path: string; readonly sha256: string }[];
};

export type ExecuteRequest = {
  /** The model's name as the caller wrote it; committed to as the request's field `model`. */
  readonly requestedName: string;
  readonly model: NodeModel;
  readonly profile: RuntimeProfile;
  readonly inputs: readonly Tensor[];
  readonly outputs?: readonly string[];
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** 8 to 64 bytes that the caller wants to find in the receipt. */
  readonly clientNonce?: Uint8Array;
  /** SHA-256 of the preprocessing document that the caller applied, 32 bytes. */
  readonly preprocessingDigest?: Uint8Array;
  readonly principal?: Principal;
};

/** One finished execution: everything to state about it except its place in the node's chain. */
export type Execution = {
  /** 16 bytes, time-ordered (UUIDv7). */
  readonly receiptId: Uint8Array;
  readonly subject: string;
  readonly issuedAtMs: number;
  /** 32 random bytes that open both sides; for the client alone. */
  readonly masterSalt: Uint8Array;
  /** Deterministic CBOR of the execution claims. */
  readonly claims: Uint8Array;
  readonly outputs: readonly Tensor[];
  readonly requestFields: readonly FieldValue[];
  readonly responseFields: readonly FieldValue[];
  readonly engineMs: number;
  readonly batchedRequests: number;
};

export type NodeModules = {
  readonly runtime: ModelRuntime;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly now: () => number;
  /** Cryptographic randomness, that many bytes. */
  readonly random: (bytes: number) => Uint8Array;
};

/** Runs models and drafts what the node will state. Signing is the recorder's, so that a batch shares one signature. */
export type ExecutionNode = {
  /** Throws the codes of {@link ModelRuntime.run}. */
  readonly execute: (request: ExecuteRequest) => Promise<Execution>;
};

/** Runtime facts change only when a child restarts, so their encoding is kept per distinct set. */
const MAX_FACTS = 256;

/** Makes an execution node over a runtime. */
export function createNode({ runtime, suite, now, random }: NodeModules): ExecutionNode {
  const encodedFacts = new Map<string, OpenMap>();
  const factsMap = (facts: RuntimeFacts): OpenMap => {
    const key = `${facts.profile} ${facts.engineSha256} ${facts.cpuClass} ${facts.casts.join(",")}`;
    let map = encodedFacts.get(key);
    if (!map) {
      if (encodedFacts.size >= MAX_FACTS) encodedFacts.clear();
      map = rememberOpen({
        profile: facts.profile,
        engine: facts.engine,
        engineVersion: facts.engineVersion,
        engineSha256: hexToBytes(facts.engineSha256),
        cpuClass: hexToBytes(facts.cpuClass),
        threads: facts.threads,
        graphOptimization: facts.graphOptimization,
        ...(facts.casts.length === 0 ? {} : { casts: facts.casts }),
      });
      encodedFacts.set(key, map);
    }
    return map;
  };
  return {
    async execute(request) {
      const { model } = request;
      const result = await runtime.run({
        model: {
          manifestDigest: model.manifestDigest,
          path: model.path,
          sha256: model.sha256,
          profile: request.profile,
          ...(model.files ? { files: model.files } : {}),
        },
        inputs: request.inputs,
        ...(request.outputs ? { outputs: request.outputs } : {}),
        ...(request.timeoutMs === undefined ? {} : { timeoutMs: request.timeoutMs }),
        ...(request.signal ? { signal: request.signal } : {}),
      });
      const requestFields = [
        { name: "model", value: utf8ToBytes(request.requestedName) },
        ...request.inputs.flatMap((tensor) => tensorFields("input", tensor)),
      ];
      const responseFields = result.outputs.flatMap((tensor) => tensorFields("output", tensor));
      const masterSalt = random(32);
      const issuedAtMs = now();
      const receiptId = timeOrderedId(issuedAtMs, random(10));
      const asked = commitFields(suite, masterSalt, "request", requestFields);
      const answered = commitFields(suite, masterSalt, "response", responseFields);
      const claims = encodeClaims("execution", {
        profile: PROFILE.execution,
        receiptId,
        ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
        modelName: model.name,
        modelVersion: String(model.version),
        modelDigest: hexToBytes(model.manifestDigest),
        modelDigestScheme: "sha256-manifest",
        modelDigestCheck: "hashed-at-load",
        requestRoot: asked.root,
        responseRoot: answered.root,
        requestFields: asked.count,
        responseFields: answered.count,
        mode: "vanilla",
        kind: "onnx",
        issuedAtMs,
        ...(request.principal ? { principal: request.principal } : {}),
        runtime: factsMap(result.facts),
        ...(request.outputs ? { parameters: { outputs: request.outputs } } : {}),
        ...(request.preprocessingDigest ? { preprocessingDigest: request.preprocessingDigest } : {}),
        usage: { inputBytes: totalBytes(request.inputs), outputBytes: totalBytes(result.outputs) },
        finishReason: "stop",
        engineUs: Math.round(result.engineMs * 1000),
      });
      return {
        receiptId,
        subject: receiptSubject(receiptId),
        issuedAtMs,
        masterSalt,
        claims,
        outputs: result.outputs,
        requestFields,
        responseFields,
        engineMs: result.engineMs,
        batchedRequests: result.batchedRequests,
      };
    },
  };
}

function totalBytes(tensors: readonly Tensor[]): number {
  let sum = 0;
  for (const { data } of tensors) sum += data.length;
  return sum;
}

/** A UUIDv7 (RFC 9562 section 5.7) as 16 bytes: milliseconds since 1970, then 74 random bits. */
export function timeOrderedId(nowMs: number, random: Uint8Array): Uint8Array {
  const id = new Uint8Array(16);
  let time = nowMs;
  for (let i = 5; i >= 0; i--) {
    id[i] = time % 256;
    time = Math.floor(time / 256);
  }
  id.set(random.subarray(0, 10), 6);
  id[6] = 0x70 | ((id[6] ?? 0) & 0x0f);
  id[8] = 0x80 | ((id[8] ?? 0) & 0x3f);
  return id;
}
