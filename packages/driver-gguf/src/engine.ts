import type { AssayError } from "@assay/core";
import { isAssayError } from "@assay/core";
import { statedParameters, withRetryAfter } from "@assay/protocol";
import type {
  ChoiceDelta,
  EngineOutcome,
  GenerateRequest,
  Generation,
  LanguageEngine,
  LocalFacts,
} from "@assay/protocol";
import { checkParameters, turnsOf } from "./check.ts";
import { ggufError, reportedCode } from "./errors.ts";
import { createHost } from "./host.ts";
import {
  DEFAULT_CONTEXT_TOKENS,
  DEFAULT_MAX_RUNNING,
  LOAD_TIMEOUT_MS,
  MAX_SEED,
  RETRY_MS,
  SILENCE_TIMEOUT_MS,
} from "./limits.ts";
import type { Loaded } from "./wire.ts";

export type GgufOptions = {
  /** The engine's name among the engines. */
  readonly name: string;
  /** The model's name, as requests name it. */
  readonly model: string;
  /** Absolute path of the .gguf file. */
  readonly path: string;
  /** What the file must hash to, lower-case hex; without it the hash is only recorded. */
  readonly sha256?: string;
  /** Absolute path of the child's program: a bundle of `child/main.ts`, or that file with a loader in `nodeArgs`. */
  readonly childEntry: string;
  readonly nodeArgs?: readonly string[];
  /** A folder from which `node-llama-cpp` is found, when it is not beside this program. */
  readonly packageDirectory?: string;
  /** A Jinja template for conversations, for files that have none of their own. */
  readonly chatTemplate?: string;
  readonly maxRunning?: number;
  /** Tokens of prompt and answer together; at most what the model was trained for. */
  readonly contextTokens?: number;
  /** Threads of llama.cpp; 0 lets it choose. */
  readonly threads?: number;
  readonly loadTimeoutMs?: number;
  readonly silenceTimeoutMs?: number;
  /** Milliseconds, for durations. */
  readonly now: () => number;
  /** From 0 to below 1: seeds of requests that name none. */
  readonly random: () => number;
};

export type GgufEngine = LanguageEngine & {
  /** Process id of the living child. */
  readonly pid: () => number | undefined;
};

const UNKNOWN = "0".repeat(64);

/**
 * A GGUF model through llama.cpp, in a child process that a fault of native code may cost. Needs the optional package
 * `node-llama-cpp`; without it every request is refused with `engine_unavailable` and a hint how to install it. Chats
 * use the file's own template. Besides the codes of {@link LanguageEngine} it throws `model_invalid` for a file that
 * llama.cpp does not take.
 */
export function createGgufEngine(options: GgufOptions): GgufEngine {
  const { now, random } = options;
  const maxRunning = options.maxRunning ?? DEFAULT_MAX_RUNNING;
  const host = createHost({
    childEntry: options.childEntry,
    nodeArgs: options.nodeArgs ?? [],
    loadTimeoutMs: options.loadTimeoutMs ?? LOAD_TIMEOUT_MS,
    now,
    load: {
      type: "load",
      path: options.path,
      sha256: options.sha256 ?? null,
      packageDirectory: options.packageDirectory ?? null,
      sequences: maxRunning,
      contextTokens: options.contextTokens ?? DEFAULT_CONTEXT_TOKENS,
      threads: options.threads ?? 0,
      chatTemplate: options.chatTemplate ?? null,
    },
  });
  let running = 0;
  let nextId = 1;
  let known: Loaded | undefined;

  async function admit(request: GenerateRequest): Promise<Loaded> {
    if (request.model.name !== options.model)
      throw ggufError("model_not_found", `The engine ${options.name} has no model of such a name.`, [options.model]);
    const loaded = await host.ready();
    known = loaded;
    const expected = fileDigest(request);
    if (expected !== undefined && expected !== loaded.sha256)
      throw ggufError("model_digest_mismatch", "The loaded file is not the one that the request names.");
    if (request.kind === "chat" && !loaded.hasTemplate) {
      throw ggufError("kind_unsupported", "The file has no template for conversations.", [
        "Use the completions API, or give the engine a chatTemplate.",
      ]);
    }
    if (request.kind === "completion" && request.prompt === undefined)
      throw ggufError("parameter_invalid", "A completion needs a prompt.");
    checkParameters(request.parameters, loaded.vocabulary);
    if (typeof request.prompt === "object" && request.prompt.some((id) => id < 0 || id >= loaded.vocabulary))
      throw ggufError("parameter_invalid", "The prompt holds a token that the vocabulary lacks.");
    if (request.kind === "chat") turnsOf(request);
    return loaded;
  }

  function generate(request: GenerateRequest, { signal }: { readonly signal: AbortSignal }): Generation {
    const { parameters } = request;
    const n = parameters.n ?? 1;
    const seed = parameters.seed ?? Math.floor(random() * MAX_SEED);
    const tokens: number[][] = Array.from({ length: n }, () => []);
    let promptTokens = 0;
    let startedMs: number | undefined;
    let endedMs: number | undefined;

    async function* events(): AsyncGenerator<ChoiceDelta> {
      if (startedMs !== undefined) throw ggufError("request_cancelled", "An answer is read once.");
      startedMs = now();
      const id = nextId++;
      const queue: ChoiceDelta[] = [];
      let failure: AssayError | undefined;
      let ended = false;
      let asked = false;
      let any = false;
      let wake: (() => void) | undefined;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const rouse = (): void => {
        wake?.();
        wake = undefined;
      };
      const finish = (error: AssayError | undefined): void => {
        if (ended) return;
        ended = true;
        failure ??= error;
        clearTimeout(timer);
        running--;
        rouse();
      };
      const watch = (): void => {
        clearTimeout(timer);
        timer = setTimeout(host.kill, options.silenceTimeoutMs ?? SILENCE_TIMEOUT_MS);
      };
      const onAbort = (): void => {
        failure ??= ggufError("request_cancelled", "The request was cancelled.");
        if (asked && !ended) host.stop(id);
        rouse();
      };
      try {
        if (signal.aborted) throw ggufError("request_cancelled", "The request was cancelled.");
        signal.addEventListener("abort", onAbort, { once: true });
        await admit(request);
        if (signal.aborted) throw ggufError("request_cancelled", "The request was cancelled.");
        if (running >= maxRunning) {
          const full = ggufError(
            "engine_overloaded",
            `${maxRunning} requests run already, as many as there is room for.`,
          );
          throw withRetryAfter(full, RETRY_MS);
        }
        host.start(
          {
            type: "start",
            id,
            kind: request.kind,
            turns: request.kind === "chat" ? turnsOf(request) : [],
            prompt: request.prompt ?? "",
            parameters,
            seed,
          },
          {
            message(message) {
              watch();
              if (message.type === "prompt") promptTokens = message.tokens;
              else if (message.type === "piece") {
                tokens[message.choice]?.push(...message.tokens);
                const delta = message.text === "" ? {} : { content: message.text };
                if (message.text !== "" || message.finish !== null)
                  queue.push({ index: message.choice, delta, finish_reason: message.finish });
                rouse();
              } else {
                const { code } = message;
                finish(code === null ? undefined : ggufError(reportedCode(code), message.message, message.hints));
              }
            },
            died: finish,
          },
        );
        running++;
        asked = true;
        watch();
        for (;;) {
          if (failure !== undefined) throw failure;
          const delta = queue.shift();
          if (delta !== undefined) {
            any = true;
            yield delta;
          } else if (ended) return;
          else
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
        }
      } catch (error) {
        const ours = isAssayError(error) ? error : ggufError("model_aborted", "The generation failed.", [], error);
        throw any ? ggufError("engine_interrupted", `The answer broke off: ${ours.message}`, ours.hints, ours) : ours;
      } finally {
        signal.removeEventListener("abort", onAbort);
        if (asked && !ended) host.stop(id);
        endedMs = now();
      }
    }

    return {
      events: { [Symbol.asyncIterator]: events },
      outcome(): EngineOutcome {
        const completion = tokens.reduce((sum, choice) => sum + choice.length, 0);
        return {
          facts: factsOf(known),
          usage: {
            prompt_tokens: promptTokens,
            completion_tokens: completion,
            total_tokens: promptTokens + completion,
          },
          parameters: {
            ...statedParameters({ temperature: 1, top_p: 1, n: 1, ...parameters }),
            seed,
          },
          tokens,
          engineMs: startedMs === undefined ? 0 : (endedMs ?? now()) - startedMs,
          ...(known === undefined ? {} : { modelDigest: { sha256: known.sha256, scheme: "sha256-single" as const } }),
        };
      },
    };
  }

  return {
    name: options.name,
    async models() {
      const loaded = await host.ready();
      return [
        {
          name: options.model,
          kinds: loaded.hasTemplate ? ["chat", "completion"] : ["completion"],
          contextTokens: loaded.contextTokens,
        },
      ];
    },
    async check(request) {
      if (!("kind" in request)) throw noEmbeddings();
      await admit(request);
    },
    generate,
    async embed() {
      throw noEmbeddings();
    },
    stats: () => ({ running, queued: 0 }),
    pid: host.pid,
    close: host.close,
  };
}

function noEmbeddings(): AssayError {
  return ggufError("kind_unsupported", "The llama.cpp engine makes no embeddings.");
}

/** The digest that the hub's manifest has for the entry. */
function fileDigest({ model }: GenerateRequest): string | undefined {
  return model.files?.files.find((file) => file.path === model.files?.entry)?.sha256;
}

function factsOf(loaded: Loaded | undefined): LocalFacts {
  return {
    profile: "llm",
    engine: "llama.cpp",
    engineVersion: loaded?.engineVersion ?? "unloaded",
    engineSha256: loaded?.engineSha256 ?? UNKNOWN,
    cpuClass: loaded?.cpuClass ?? UNKNOWN,
    threads: loaded?.threads ?? 0,
    // llama.cpp's own chain of samplers; nobody else can redraw its tokens, so no tolerance makes them comparable.
    sampler: "llama.cpp/1",
    logitTolerance: "0",
  };
}
