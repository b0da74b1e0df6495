import type { LoadedModelRef, ModelRuntime, RuntimeProfile, RuntimeStats, SessionMetadata } from "@assay/protocol";
import { checkTensors } from "./check-request.ts";
import { ortError } from "./errors.ts";
import type { Answer, Asked, Job, Known } from "./job.ts";
import { MAX_REMEMBERED_MODELS } from "./limits.ts";
import type { ModelFile } from "./model-file.ts";
import { withDefaults } from "./options.ts";
import type { OrtOptions } from "./options.ts";
import { createPool } from "./pool.ts";
import type { Pool } from "./pool.ts";
import type { Port, Signature } from "./signature.ts";
import type { ModelSpec } from "./slot.ts";

/** A model reference that may name the files its weights are in. */
export type OrtModelRef = LoadedModelRef & { readonly files?: readonly ModelFile[] };

export type OrtRuntime = ModelRuntime & {
  /**
   * Lets a model be tried again that was refused for having cost its process too often. `model` as in
   * {@link ModelRuntime.run}; only its digests and profile matter.
   */
  retry(model: OrtModelRef): void;
  /** Process ids of the living children. */
  pids(): readonly number[];
};

/**
 * A runtime whose models run in supervised child processes, one engine per profile. A model that aborts, hangs or
 * eats memory costs its own child; the next time it gets a child to itself, and after `maxStrikes` it is refused
 * with the same code until {@link OrtRuntime.retry}. Requests that wait for the same model are stacked along
 * their first axis and run once when the model was seen not to mix rows.
 *
 * Besides the codes of {@link ModelRuntime.run} it throws `runtime_unavailable` when no child will start and
 * `request_cancelled` when the request's signal fires. A request's own `timeoutMs` ends only its waiting; the
 * runtime's limit also ends the child.
 */
export function createOrtRuntime(options: OrtOptions): OrtRuntime {
  const settings = withDefaults(options);
  const pools: Record<RuntimeProfile, Pool> = {
    portable: createPool(settings, "portable"),
    native: createPool(settings, "native"),
  };
  const knowledge = new Map<string, Known>();
  let closing: Promise<void> | undefined;

  const know = (profile: RuntimeProfile, key: string): Known => {
    const id = `${profile} ${key}`;
    const known = knowledge.get(id) ?? { signature: undefined, invariant: undefined };
    if (!knowledge.has(id)) {
      knowledge.set(id, known);
      const oldest = knowledge.keys().next();
      if (knowledge.size > MAX_REMEMBERED_MODELS && oldest.done !== true) knowledge.delete(oldest.value);
    }
    return known;
  };

  const ask = async (
    model: OrtModelRef,
    asked: Asked | undefined,
    patienceMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Answer> => {
    if (closing !== undefined) throw ortError("runtime_closed", "The runtime was closed.");
    const sizeBytes = asked === undefined ? 0 : checkTensors(asked.inputs, settings);
    if (signal?.aborted === true) throw cancelled(signal);
    const pool = pools[model.profile];
    return await new Promise<Answer>((resolve, reject) => {
      const cancel = (): void => {
        pool.withdraw(job);
        if (signal !== undefined) job.reject(cancelled(signal));
      };
      const settle = (finish: () => void): void => {
        if (job.settled) return;
        job.settled = true;
        signal?.removeEventListener("abort", cancel);
        finish();
      };
      const spec = specOf(model);
      const job: Job = {
        model: spec,
        known: know(model.profile, spec.key),
        asked,
        sizeBytes,
        patienceMs,
        checked: undefined,
        batchKey: undefined,
        rows: 1,
        alone: false,
        repeated: false,
        settled: false,
        resolve: (answer) => settle(() => resolve(answer)),
        reject: (error) => settle(() => reject(error)),
      };
      signal?.addEventListener("abort", cancel, { once: true });
      try {
        pool.submit(job);
      } catch (error) {
        job.reject(error as Error);
      }
    });
  };

  return {
    prepare: async (model) => {
      const answer = await ask(model, undefined, undefined, undefined);
      if (answer.kind !== "prepared") throw new TypeError("a run was answered where a session was asked for");
      return { metadata: metadataOf(answer.signature, answer.invariant), facts: answer.facts };
    },
    run: async ({ model, inputs, outputs, timeoutMs, signal }) => {
      const answer = await ask(model, { inputs, outputs }, timeoutMs, signal);
      if (answer.kind !== "run") throw new TypeError("a session was answered where a run was asked for");
      return answer.result;
    },
    stats: (): RuntimeStats => {
      const [a, b] = [pools.portable.stats(), pools.native.stats()];
      return {
        children: a.children + b.children,
        sessions: a.sessions + b.sessions,
        sessionBytes: a.sessionBytes + b.sessionBytes,
        queued: a.queued + b.queued,
        restarts: a.restarts + b.restarts,
      };
    },
    retry: (model) => pools[model.profile].forgive(specOf(model).key),
    pids: () => [...pools.portable.pids(), ...pools.native.pids()],
    close: async () => {
      closing ??= Promise.all([pools.portable.close(), pools.native.close()]).then(() => undefined);
      await closing;
    },
  };
}

/** The digests of all files together name a model's content, wherever its files lie. */
function specOf(model: OrtModelRef): ModelSpec {
  const files = model.files ?? [];
  const key = files.length === 0 ? model.sha256 : JSON.stringify([model.sha256, files.map((f) => [f.path, f.sha256])]);
  return { key, path: model.path, sha256: model.sha256, files };
}

function metadataOf({ inputs, outputs }: Signature, batchInvariant: boolean): SessionMetadata {
  return { inputs: inputs.map(withoutSymbols), outputs: outputs.map(withoutSymbols), batchInvariant };
}

function withoutSymbols({ name, datatype, shape }: Port): SessionMetadata["inputs"][number] {
  return { name, datatype, shape };
}

function cancelled(signal: AbortSignal): Error {
  return ortError("request_cancelled", "The request was cancelled by its caller.", [], signal.reason);
}
