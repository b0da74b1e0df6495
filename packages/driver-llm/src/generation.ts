import type { JsonValue } from "@assay/core";
import type {
  ChoiceDelta,
  EngineOutcome,
  Generation,
  EmbedRequest,
  GenerateRequest,
  LocalFacts,
  TextUsage,
} from "@assay/protocol";
import { cancelled } from "./admission.ts";
import { errorOf } from "./deaths.ts";
import { llmError } from "./errors.ts";
import { KIND } from "./frame.ts";
import { count, decodeControl, isObject, list } from "./json.ts";
import { ACKNOWLEDGE_EVENTS } from "./limits.ts";
import type { Settings } from "./options.ts";
import { reported } from "./slot.ts";
import type { Place } from "./slot.ts";
import { createEventQueue } from "./stream.ts";

type GenerationOptions = {
  readonly request: GenerateRequest;
  readonly signal: AbortSignal;
  readonly settings: Settings;
  /** Facts of an engine that may not have started yet. */
  readonly facts: () => LocalFacts | undefined;
  /** Runs something in a child that has the model, in its turn. */
  readonly run: (use: (place: Place) => Promise<void>, signal: AbortSignal) => Promise<void>;
};

/** What is known of a running generation. */
type Progress = {
  facts: LocalFacts | undefined;
  stated: Readonly<Record<string, JsonValue>>;
  promptTokens: number;
  cachedTokens: number;
  usage: TextUsage | undefined;
  engineMs: number | undefined;
  startedMs: number | undefined;
  readonly tokens: number[][];
};

/** A generation that starts when its events are first asked for, and that is stopped when they are left. */
export function startGeneration(options: GenerationOptions): Generation {
  const progress: Progress = {
    facts: undefined,
    stated: {},
    promptTokens: 0,
    cachedTokens: 0,
    usage: undefined,
    engineMs: undefined,
    startedMs: undefined,
    tokens: [],
  };
  let taken = false;
  return {
    events: {
      [Symbol.asyncIterator]: () => {
        if (taken) throw new TypeError("the events of a generation can be read once");
        taken = true;
        return iterate(options, progress);
      },
    },
    outcome: () => outcomeOf(options, progress),
  };
}

async function* iterate(options: GenerationOptions, progress: Progress): AsyncGenerator<ChoiceDelta, void, undefined> {
  const { signal, settings } = options;
  const left = new AbortController();
  const stop = AbortSignal.any([signal, left.signal]);
  let read = 0;
  let acknowledge: (frames: number) => void = () => undefined;
  const group = Math.max(1, Math.min(ACKNOWLEDGE_EVENTS, Math.floor(settings.windowEvents / 4)));
  const queue = createEventQueue(() => {
    if (++read % group === 0) acknowledge(group);
  });
  const running = options.run(async (place) => {
    await drive(options, progress, place, stop, queue.push, (send) => {
      acknowledge = send;
    });
  }, stop);
  running.then(
    () => queue.end(),
    (error: unknown) => queue.end(signal.aborted ? cancelled(signal) : (error as Error)),
  );
  try {
    for (;;) {
      const event = await queue.next();
      if (event === undefined) return;
      yield event;
    }
  } catch (cause) {
    if (!queue.touched()) throw cause;
    throw llmError("engine_interrupted", "The answer broke off before its end.", [], cause);
  } finally {
    left.abort();
    // Whoever left early gets no error, but the place must be free when the loop has ended.
    await running.catch(() => undefined);
  }
}

/** Has a child work on the request until it is done, fails, or `stop` fires. */
async function drive(
  { request, settings }: GenerationOptions,
  progress: Progress,
  { lane, model, slot }: Place,
  stop: AbortSignal,
  push: (events: readonly ChoiceDelta[]) => void,
  onAcknowledge: (send: (frames: number) => void) => void,
): Promise<void> {
  progress.facts = slot.facts();
  progress.startedMs = performance.now();
  await new Promise<void>((resolve, reject) => {
    let outstanding = 0;
    let stalled: NodeJS.Timeout | undefined;
    const finish = (end: () => void): void => {
      stop.removeEventListener("abort", abort);
      clearTimeout(stalled);
      progress.engineMs ??= performance.now() - (progress.startedMs ?? 0);
      end();
    };
    const abort = (): void => {
      lane.cancel(id);
      finish(() => reject(cancelled(stop)));
    };
    const watch = (): void => {
      clearTimeout(stalled);
      stalled = undefined;
      if (outstanding < settings.windowEvents) return;
      stalled = setTimeout(() => {
        lane.cancel(id);
        finish(() =>
          reject(llmError("engine_interrupted", "Nobody read the answer for too long, and its place was given up.")),
        );
      }, settings.stalledReaderMs);
    };
    const frame = (kind: number, body: Uint8Array): void => {
      if (kind === KIND.failed) return finish(() => reject(reported(lane, body)));
      const message = decodeControl(body);
      if (message === undefined) return lane.kill("protocol");
      if (kind === KIND.started) {
        progress.stated = isObject(message["stated"]) ? message["stated"] : {};
        progress.promptTokens = count(message["promptTokens"]);
        progress.cachedTokens = count(message["cachedTokens"]);
      } else if (kind === KIND.events) {
        noteTokens(progress, list(message["tokens"]) as readonly number[]);
        // The child is ours and speaks the protocol's own shape.
        push(list(message["events"]) as unknown as readonly ChoiceDelta[]);
        outstanding++;
        watch();
      } else if (kind === KIND.done) {
        progress.usage = message["usage"] as unknown as TextUsage;
        progress.engineMs = count(message["engineMs"]);
        finish(resolve);
      }
    };
    const id = lane.open(
      KIND.generate,
      { session: model.session, request: withoutModel(request) },
      { frame, death: (death) => finish(() => reject(death)) },
    );
    onAcknowledge((frames) => {
      outstanding -= frames;
      watch();
      const body = Buffer.alloc(4);
      body.writeUInt32LE(frames);
      lane.send(KIND.credit, id, body);
    });
    if (stop.aborted) abort();
    else stop.addEventListener("abort", abort, { once: true });
  });
}

function noteTokens(progress: Progress, pairs: readonly number[]): void {
  for (let at = 0; at + 1 < pairs.length; at += 2) {
    const choice = pairs[at] ?? 0;
    while (progress.tokens.length <= choice) progress.tokens.push([]);
    progress.tokens[choice]?.push(pairs[at + 1] ?? 0);
  }
}

function outcomeOf({ request, facts }: GenerationOptions, progress: Progress): EngineOutcome {
  const { startedMs, engineMs, promptTokens, cachedTokens, tokens } = progress;
  const known = progress.facts ?? facts();
  if (known === undefined) throw errorOf(new Error("the engine has no children"));
  const completion = tokens.reduce((sum, answer) => sum + answer.length, 0);
  const usage: TextUsage = progress.usage ?? {
    prompt_tokens: promptTokens,
    completion_tokens: completion,
    total_tokens: promptTokens + completion,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
  const digest = request.model.files?.manifestDigest;
  return {
    facts: known,
    usage,
    parameters: progress.stated,
    tokens: tokens.map((answer) => [...answer]),
    engineMs: engineMs ?? (startedMs === undefined ? 0 : performance.now() - startedMs),
    ...(digest === undefined ? {} : { modelDigest: { sha256: digest, scheme: "sha256-manifest" as const } }),
  };
}

/** A request as a child gets it: the model is loaded already, under a number. */
export function withoutModel(request: GenerateRequest | EmbedRequest): object {
  const { model: _, ...rest } = request;
  return rest;
}
