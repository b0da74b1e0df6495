import type { RunResult, RuntimeFacts, Tensor } from "@assay/protocol";
import { batchKey, rowsOf } from "./batch.ts";
import { checkRequest } from "./check-request.ts";
import type { CheckedRequest } from "./check-request.ts";
import type { Signature } from "./signature.ts";
import type { ModelSpec } from "./slot.ts";

/** What is known of a model's content, for as long as it is remembered. */
export type Known = {
  signature: Signature | undefined;
  /** Result of the batch probe; `undefined` before it was made. */
  invariant: boolean | undefined;
};

/** What a job asks for: a run, or only the session. */
export type Asked = { readonly inputs: readonly Tensor[]; readonly outputs: readonly string[] | undefined };

export type Answer =
  | { readonly kind: "run"; readonly result: RunResult }
  | {
      readonly kind: "prepared";
      readonly signature: Signature;
      readonly facts: RuntimeFacts;
      readonly invariant: boolean;
    };

/** One request on its way. */
export type Job = {
  readonly model: ModelSpec;
  readonly known: Known;
  readonly asked: Asked | undefined;
  /** Bytes of the inputs. */
  readonly sizeBytes: number;
  /** Milliseconds after its start at which the caller stops waiting. */
  readonly patienceMs: number | undefined;
  checked: CheckedRequest | undefined;
  /** What other jobs must share to run with this one; `undefined` when it runs alone. */
  batchKey: string | undefined;
  rows: number;
  /** Set after a batch failed, so that the guilty request is found and the others still get their answer. */
  alone: boolean;
  /** Whether it was already repeated because its child was ended from outside. */
  repeated: boolean;
  settled: boolean;
  resolve(answer: Answer): void;
  reject(error: Error): void;
};

/** Matches a job's inputs with its model once that is known; rejects it, and returns false, when they do not fit. */
export function checkJob(job: Job): boolean {
  if (job.checked !== undefined) return true;
  if (job.settled || job.asked === undefined || job.known.signature === undefined) return false;
  try {
    job.checked = checkRequest(job.asked.inputs, job.asked.outputs, job.known.signature);
  } catch (error) {
    job.reject(error as Error);
    return false;
  }
  job.batchKey = batchKey(job.checked);
  job.rows = rowsOf(job.checked.inputs) ?? 1;
  return true;
}

/** Whether a job may run with others, now that its model's probe is known. */
export function mayBatchJob(job: Job): boolean {
  if (job.alone || job.asked === undefined || job.known.invariant !== true) return false;
  return checkJob(job) && job.batchKey !== undefined;
}
