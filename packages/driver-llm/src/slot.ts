import { setTimeout as pause } from "node:timers/promises";
import type { LanguageModelFiles, LocalFacts } from "@assay/protocol";
import { LOGIT_TOLERANCE } from "./profile.ts";
import { llmError, reportedCode } from "./errors.ts";
import { KIND } from "./frame.ts";
import { count, decodeControl, list, text } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { LaneDeath, startLane } from "./lane.ts";
import type { Lane } from "./lane.ts";
import { BACKOFF_FIRST_MS, BACKOFF_LONGEST_MS } from "./limits.ts";
import type { Settings } from "./options.ts";
import { SAMPLER } from "./sampler.ts";

/** What is known of a loaded model. */
export type ModelInfo = {
  readonly kinds: readonly ("chat" | "completion" | "embedding")[];
  readonly contextTokens: number;
  readonly vocabularySize: number;
};

/** A model that a child keeps loaded. */
export type LoadedModel = {
  readonly key: string;
  readonly session: number;
  readonly info: ModelInfo;
  /** Requests that use it now. */
  uses: number;
};

/** A place for one child at a time, which is started when there is work and started again after it died. */
export type Slot = {
  /** Requests that run or are about to. */
  active: number;
  readonly has: (key: string) => boolean;
  /**
   * The child and the model in it, loaded if need be. Throws what the child reports, {@link LaneDeath}, or
   * `engine_unavailable` when no child will start. The caller counts its use up and down.
   */
  readonly ready: (files: LanguageModelFiles) => Promise<{ readonly lane: Lane; readonly model: LoadedModel }>;
  /** Facts of the last child that started; empty texts before the first. */
  readonly facts: () => LocalFacts;
  readonly stats: () => { readonly children: number; readonly models: number; readonly restarts: number };
  readonly pid: () => number | undefined;
  readonly end: () => Promise<void>;
};

/** A child with a model in it, for the time of one request. */
export type Place = { readonly lane: Lane; readonly model: LoadedModel; readonly slot: Slot };

/** One name for a model's content, whatever folder it lies in. */
export function modelKey(files: LanguageModelFiles): string {
  return `${files.manifestDigest} ${files.entry}`;
}

/** The error that a child reported in a `failed` frame. */
export function reported(lane: Lane, body: Uint8Array): Error {
  const message = decodeControl(body);
  if (message === undefined || message["fatal"] === true) lane.kill("aborted");
  return llmError(
    reportedCode(text(message?.["code"])),
    text(message?.["message"]),
    list(message?.["hints"]).map(text),
  );
}

/** Asks a child for one answer without anything in between. */
export async function ask(
  lane: Lane,
  kind: number,
  message: object,
  options: { readonly signal?: AbortSignal; readonly onId?: (id: number) => void } = {},
): Promise<Uint8Array> {
  return await new Promise<Uint8Array>((resolve, reject) => {
    const { signal } = options;
    const cancel = (): void => {
      lane.cancel(id);
      reject(llmError("request_cancelled", "The request was cancelled by its caller.", [], signal?.reason));
    };
    const settle = (finish: () => void): void => {
      signal?.removeEventListener("abort", cancel);
      finish();
    };
    const id = lane.open(kind, message, {
      frame: (answered, body) =>
        settle(() => (answered === KIND.failed ? reject(reported(lane, body)) : resolve(body))),
      death: (death) => settle(() => reject(death)),
    });
    options.onId?.(id);
    if (signal?.aborted === true) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
  });
}

type Entry = { readonly loading: Promise<LoadedModel>; loaded: LoadedModel | undefined };

/** A slot without a child; children are not started before there is work for them. */
export function createSlot(settings: Settings): Slot {
  const ending = new AbortController();
  let lane: Lane | undefined;
  let starting: Promise<Lane> | undefined;
  let facts: LocalFacts = factsOf({ engine: "onnxruntime-node", engineVersion: "", engineSha256: "", cpuClass: "" });
  /** In order of use: the first is the least recently used. */
  let models = new Map<string, Entry>();
  let starts = 0;
  let failures = 0;
  let nextSession = 1;

  function factsOf(child: {
    engine: string;
    engineVersion: string;
    engineSha256: string;
    cpuClass: string;
  }): LocalFacts {
    return {
      profile: "llm",
      ...child,
      threads: settings.threads,
      sampler: SAMPLER,
      logitTolerance: String(LOGIT_TOLERANCE),
    };
  }
  const living = (): Lane | undefined => {
    if (lane?.alive() === false) {
      lane = undefined;
      models = new Map();
    }
    return lane;
  };
  const start = async (): Promise<Lane> => {
    for (;;) {
      if (failures >= settings.maxStartFailures) {
        // The next request tries again: what was wrong may have been put right.
        failures = 0;
        throw llmError("engine_unavailable", "No child process of the language engine will start.", [
          "The doctor command shows whether the engine's files are installed.",
        ]);
      }
      if (failures > 0) {
        const wait = Math.min(BACKOFF_FIRST_MS * 2 ** (failures - 1), BACKOFF_LONGEST_MS);
        await pause(wait, undefined, { signal: ending.signal }).catch(() => undefined);
      }
      if (ending.signal.aborted) throw new LaneDeath("ended", "The engine is closing.");
      starts++;
      const fresh = startLane(settings);
      lane = fresh;
      models = new Map();
      try {
        facts = factsOf(await fresh.started);
        failures = 0;
        return fresh;
      } catch {
        failures++;
        lane = undefined;
      }
    }
  };
  const ensure = async (): Promise<Lane> => {
    const now = starting === undefined ? living() : undefined;
    if (now !== undefined) return now;
    starting ??= start().finally(() => {
      starting = undefined;
    });
    return await starting;
  };
  const load = async (child: Lane, files: LanguageModelFiles, key: string): Promise<LoadedModel> => {
    await makeRoom(child);
    const session = nextSession++;
    const body = decodeControl(await ask(child, KIND.load, { session, files }));
    if (body === undefined) {
      child.kill("protocol");
      throw new LaneDeath("protocol", "The child's account of the model is not readable.");
    }
    return { key, session, info: infoOf(body), uses: 0 };
  };
  const makeRoom = async (child: Lane): Promise<void> => {
    for (const [key, { loaded }] of models) {
      if (models.size <= settings.maxModels) return;
      if (loaded === undefined || loaded.uses > 0) continue;
      models.delete(key);
      await ask(child, KIND.release, { session: loaded.session });
    }
    if (models.size > settings.maxModels) {
      throw llmError("engine_unavailable", `All ${settings.maxModels} models that a child may hold are in use.`);
    }
  };

  return {
    active: 0,
    has: (key) => living() !== undefined && models.has(key),
    ready: async (files) => {
      const child = await ensure();
      const key = modelKey(files);
      const known = models.get(key);
      const mine = models;
      if (known !== undefined) {
        mine.delete(key);
        mine.set(key, known);
        return { lane: child, model: await known.loading };
      }
      const entry: Entry = {
        // Once it is in the map, so that room is made for it.
        loading: Promise.resolve().then(async () => await load(child, files, key)),
        loaded: undefined,
      };
      mine.set(key, entry);
      try {
        entry.loaded = await entry.loading;
      } catch (error) {
        mine.delete(key);
        throw error;
      }
      return { lane: child, model: entry.loaded };
    },
    facts: () => facts,
    stats: () => ({
      children: living() === undefined ? 0 : 1,
      models: living() === undefined ? 0 : models.size,
      restarts: Math.max(0, starts - 1),
    }),
    pid: () => living()?.pid,
    end: async () => {
      ending.abort();
      const last = lane;
      last?.kill("ended");
      await last?.gone;
      await starting?.catch(() => undefined);
    },
  };
}

function infoOf(body: JsonObject): ModelInfo {
  const kinds = (["chat", "completion", "embedding"] as const).filter((kind) => list(body["kinds"]).includes(kind));
  return { kinds, contextTokens: count(body["context"]), vocabularySize: count(body["vocabularySize"]) };
}
