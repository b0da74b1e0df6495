import type {
  EmbedOutcome,
  EmbedRequest,
  EngineModel,
  GenerateRequest,
  LanguageEngine,
  LanguageModelFiles,
  LocalFacts,
} from "@assay/protocol";
import { createAdmission } from "./admission.ts";
import { errorOf } from "./deaths.ts";
import { llmError } from "./errors.ts";
import { KIND } from "./frame.ts";
import { startGeneration, withoutModel } from "./generation.ts";
import { LaneDeath } from "./lane.ts";
import { withDefaults } from "./options.ts";
import type { LocalEngineOptions } from "./options.ts";
import { readRecheck } from "./recheck.ts";
import type { RecheckOptions, RecheckResult } from "./recheck.ts";
import { LOGIT_TOLERANCE } from "./profile.ts";
import { ask, createSlot, modelKey } from "./slot.ts";
import type { LoadedModel, ModelInfo, Place, Slot } from "./slot.ts";
import { createStrikes } from "./strikes.ts";

export type LocalEngineStats = {
  /** Requests in the children now, and requests waiting for a place. */
  readonly running: number;
  readonly queued: number;
  readonly children: number;
  /** Models loaded, over all children. */
  readonly models: number;
  /** Children started again after one died. */
  readonly restarts: number;
};

export type LocalEngine = Omit<LanguageEngine, "stats"> & {
  readonly stats: () => LocalEngineStats;
  /**
   * Loads a model ahead of its first request, and says what it can do. Throws `model_digest_mismatch`, `model_invalid`
   * and the codes of a child that fails.
   */
  readonly prepare: (model: EngineModel) => Promise<ModelInfo & { readonly facts: LocalFacts }>;
  /**
   * Runs the prompt and the answers' `tokens` (one list for each choice, as `EngineOutcome.tokens` states them) through
   * the network once and compares every token with what the sampler would have chosen. `parameters` are those that the
   * outcome stated. Throws what {@link LanguageEngine.check} throws, and `parameter_invalid` for tokens or parameters
   * that this engine never states.
   */
  readonly recheck: (
    request: GenerateRequest,
    tokens: readonly (readonly number[])[],
    parameters: Readonly<Record<string, unknown>>,
    options?: RecheckOptions,
  ) => Promise<RecheckResult>;
  /** Process ids of the living children. */
  readonly pids: () => readonly number[];
};

/**
 * Language models of the hub in ONNX, run in supervised child processes. Requests share a child fairly: each gets one
 * chunk of its prompt or one token in its turn. Answers are chosen by `gumbel-max/1` (see `sampler.ts`), so that
 * {@link LocalEngine.recheck} can tell from the tokens whether they are this model's.
 *
 * Throws the codes that `LanguageEngine` names, and `kind_unsupported`, `template_failed`, `model_invalid`,
 * `model_failed`, `model_out_of_memory`.
 */
export function createLocalEngine(options: LocalEngineOptions): LocalEngine {
  const settings = withDefaults(options);
  const slots = Array.from({ length: settings.children }, () => createSlot(settings));
  const admission = createAdmission(settings.maxActive * settings.children, settings.maxQueued);
  const strikes = createStrikes();
  let closing: Promise<void> | undefined;

  const filesOf = (model: EngineModel): LanguageModelFiles => {
    if (model.files === undefined) {
      throw llmError("model_not_found", `The local engine has no files of the model ${JSON.stringify(model.name)}.`);
    }
    return model.files;
  };
  /** The slot that has the model and the fewest requests; or the least busy one. */
  const slotFor = (key: string): Slot => {
    const byLoad = [...slots].sort((a, b) => a.active - b.active);
    const warm = byLoad.find((slot) => slot.has(key) && slot.active < settings.maxActive);
    const slot = warm ?? byLoad[0];
    if (slot === undefined) throw llmError("engine_unavailable", "The engine has no children.");
    return slot;
  };
  /** Runs `use` with the model loaded. Deaths of the child become errors that callers know. */
  const place = async <T>(files: LanguageModelFiles, use: (place: Place) => Promise<T>): Promise<T> => {
    if (closing !== undefined) throw closed();
    const key = modelKey(files);
    strikes.refuse(key);
    const slot = slotFor(key);
    slot.active++;
    let model: LoadedModel | undefined;
    try {
      const ready = await slot.ready(files);
      model = ready.model;
      model.uses++;
      return await use({ ...ready, slot });
    } catch (error) {
      if (error instanceof LaneDeath) strikes.note(key, error);
      throw errorOf(error);
    } finally {
      slot.active--;
      if (model !== undefined) model.uses--;
    }
  };
  /** As {@link place}, in its turn. */
  const admitted = async <T>(
    files: LanguageModelFiles,
    signal: AbortSignal,
    use: (place: Place) => Promise<T>,
  ): Promise<T> => {
    const leave = await admission.enter(signal);
    try {
      return await place(files, use);
    } finally {
      leave();
    }
  };

  const embed = async (request: EmbedRequest, signal: AbortSignal): Promise<EmbedOutcome> => {
    const files = filesOf(request.model);
    return await admitted(files, signal, async ({ lane, model, slot }) => {
      const body = await ask(
        lane,
        KIND.embed,
        {
          session: model.session,
          request: {
            inputs: request.inputs,
            ...(request.dimensions === undefined ? {} : { dimensions: request.dimensions }),
          },
        },
        { signal },
      );
      const [rows = 0, width = 0, tokens = 0, micros = 0] = new Uint32Array(body.buffer, body.byteOffset, 4);
      if (rows !== request.inputs.length || body.length !== 16 + rows * width * 4) {
        lane.kill("protocol");
        throw new LaneDeath("protocol", "The child's vectors are not readable.");
      }
      const vectors = Array.from(
        { length: rows },
        (_, row) => new Float32Array(body.buffer, body.byteOffset + 16 + row * width * 4, width),
      );
      return {
        facts: slot.facts(),
        usage: { prompt_tokens: tokens, completion_tokens: 0, total_tokens: tokens },
        parameters: {},
        engineMs: micros / 1000,
        modelDigest: { sha256: files.manifestDigest, scheme: "sha256-manifest" },
        vectors,
      };
    });
  };

  return {
    name: "local",
    // Models of the hub are listed by the hub.
    models: async () => [],
    check: async (request) => {
      await place(filesOf(request.model), async ({ lane, model }) => {
        await ask(lane, KIND.check, { session: model.session, request: withoutModel(request) });
      });
    },
    generate: (request, { signal }) =>
      startGeneration({
        request,
        signal,
        settings,
        facts: () => slots[0]?.facts(),
        run: async (use, stop) => await admitted(filesOf(request.model), stop, use),
      }),
    embed: async (request, { signal }) => await embed(request, signal),
    recheck: async (request, tokens, parameters, recheckOptions = {}) => {
      const signal = recheckOptions.signal ?? new AbortController().signal;
      const tolerance = recheckOptions.tolerance ?? LOGIT_TOLERANCE;
      return await admitted(filesOf(request.model), signal, async ({ lane, model }) => {
        const message = { session: model.session, request: withoutModel(request), tokens, parameters, tolerance };
        return readRecheck(await ask(lane, KIND.recheck, message, { signal }), tolerance);
      });
    },
    prepare: async (model) =>
      await place(filesOf(model), async ({ model: loaded, slot }) => ({ ...loaded.info, facts: slot.facts() })),
    stats: () => {
      const each = slots.map((slot) => slot.stats());
      return {
        ...admission.stats(),
        children: each.reduce((sum, slot) => sum + slot.children, 0),
        models: each.reduce((sum, slot) => sum + slot.models, 0),
        restarts: each.reduce((sum, slot) => sum + slot.restarts, 0),
      };
    },
    pids: () => slots.flatMap((slot) => slot.pid() ?? []),
    close: async () => {
      closing ??= (async () => {
        admission.close(closed);
        const patience = new AbortController();
        const timer = setTimeout(() => patience.abort(), settings.closeDrainMs);
        await drained(slots, patience.signal);
        clearTimeout(timer);
        await Promise.all(slots.map(async (slot) => await slot.end()));
      })();
      await closing;
    },
  };
}

/** How often a closing engine looks whether its requests have ended. */
const DRAIN_LOOK_MS = 20;

async function drained(slots: readonly Slot[], patience: AbortSignal): Promise<void> {
  while (!patience.aborted && slots.some((slot) => slot.active > 0)) {
    await new Promise((resolve) => {
      setTimeout(resolve, DRAIN_LOOK_MS);
    });
  }
}

function closed(): Error {
  return llmError("engine_unavailable", "The engine is closed.");
}
