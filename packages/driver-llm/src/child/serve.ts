import { Socket } from "node:net";
import { isAssayError } from "@assay/core";
import type { ChoiceDelta, EmbedRequest, GenerateRequest, LanguageModelFiles } from "@assay/protocol";
import { llmError } from "../errors.ts";
import { KIND, createFrameReader, writeFrame } from "../frame.ts";
import { count, decodeControl, encodeControl, isObject, list } from "../json.ts";
import type { JsonObject } from "../json.ts";
import { COALESCE_MS, MAX_CONTROL_BYTES } from "../limits.ts";
import { probeCpuClass } from "./class-probe.ts";
import { createEmbedding, prepareEmbedding } from "./embedding.ts";
import type { Embedded } from "./embedding.ts";
import { createGeneration, prepareGeneration } from "./generation.ts";
import type { Outlet } from "./generation.ts";
import type { Job } from "./job.ts";
import { loadModel } from "./model.ts";
import type { Model } from "./model.ts";
import { loadOrt } from "./ort.ts";
import { createRecheck, prepareRecheck } from "./recheck.ts";
import type { ChildSettings } from "./settings.ts";
import { startWatchdog } from "./watchdog.ts";
import type { Stage } from "./watchdog.ts";

/** Descriptor of the socket pair shared with the parent. */
const CHANNEL_FD = 3;

/** Kinds that are worked on in order of arrival, between the steps of running jobs. */
const QUEUED: ReadonlySet<number> = new Set([
  KIND.load,
  KIND.release,
  KIND.generate,
  KIND.check,
  KIND.embed,
  KIND.recheck,
]);

const MEMORY = /bad_alloc|bad allocation|failed to allocate|out of memory|array buffer allocation|could not allocate/i;

/**
 * Serves one parent over descriptor 3 until it goes away. Requests share the processor: each running job does one step
 * in its turn, a chunk of a prompt, one token, or one batch of texts. A malformed frame ends the process, because the
 * two sides no longer agree.
 */
export async function serveChild(settings: ChildSettings): Promise<void> {
  const watchdog = startWatchdog({
    parentPid: settings.parentPid,
    maxRssBytes: settings.maxRssBytes,
    intervalMs: settings.watchdogIntervalMs,
  });
  const channel = new Socket({ fd: CHANNEL_FD, readable: true, writable: true });
  channel.on("close", end);
  channel.on("error", end);
  channel.on("end", end);

  const ort = await loadOrt(settings.threads);
  const classSha256 = await probeCpuClass(ort);
  const models = new Map<number, Model>();
  const incoming: { readonly kind: number; readonly id: number; readonly body: Uint8Array }[] = [];
  const credits = new Map<number, number>();
  let jobs: Job[] = [];
  let turn = 0;
  let wake: (() => void) | undefined;

  const send = (kind: number, id: number, message: object): void =>
    writeFrame(channel, kind, id, encodeControl(message));
  const guarded = async <T>(stage: Stage, id: number, limitMs: number, work: () => T | Promise<T>): Promise<T> => {
    watchdog.begin(stage, id, limitMs);
    try {
      return await work();
    } finally {
      watchdog.end();
    }
  };
  const forget = (id: number): void => {
    credits.delete(id);
    unsent.delete(id);
    sentMs.delete(id);
  };
  const fail = (id: number, error: unknown): void => {
    flush(id);
    forget(id);
    send(KIND.failed, id, faultOf(error));
  };
  const drop = (job: Job): void => {
    jobs = jobs.filter((other) => other !== job);
    forget(job.id);
    job.close();
  };

  /** Events of fast networks wait a little for the next ones, so that a message carries several tokens. */
  const unsent = new Map<
    number,
    { readonly dueMs: number; readonly events: ChoiceDelta[]; readonly tokens: number[] }
  >();
  const sentMs = new Map<number, number>();
  const flush = (id: number): void => {
    const batch = unsent.get(id);
    if (batch === undefined) return;
    unsent.delete(id);
    sentMs.set(id, performance.now());
    credits.set(id, (credits.get(id) ?? 0) - 1);
    send(KIND.events, id, { events: batch.events, tokens: batch.tokens });
  };
  const flushDue = (nowMs: number): void => {
    for (const [id, { dueMs }] of unsent) if (nowMs >= dueMs) flush(id);
  };
  const outletOf = (id: number): Outlet => ({
    room: () => (credits.get(id) ?? 0) > 0,
    started: ({ stated, promptTokens, cachedTokens }) => send(KIND.started, id, { stated, promptTokens, cachedTokens }),
    events: (deltas: readonly ChoiceDelta[], tokens) => {
      const batch = unsent.get(id);
      if (batch !== undefined) {
        batch.events.push(...deltas);
        batch.tokens.push(...tokens);
        return;
      }
      unsent.set(id, { dueMs: (sentMs.get(id) ?? 0) + COALESCE_MS, events: [...deltas], tokens: [...tokens] });
    },
    done: (outcome) => {
      flush(id);
      send(KIND.done, id, outcome);
    },
  });
  const modelOf = (message: JsonObject): Model => {
    const model = models.get(count(message["session"]));
    if (model === undefined) throw llmError("model_failed", "The model is not loaded.");
    return model;
  };
  const load = async (id: number, message: JsonObject): Promise<void> => {
    const number = count(message["session"]);
    const files = message["files"] as unknown as LanguageModelFiles;
    const model = await loadModel(ort, files, settings);
    models.set(number, model);
    const { generator } = model;
    send(KIND.loaded, id, {
      context: model.context,
      kinds:
        generator === undefined
          ? ["embedding"]
          : generator.template === undefined
            ? ["completion"]
            : ["chat", "completion"],
      vocabularySize: generator?.decoder.vocabularySize ?? 0,
      rssBytes: process.memoryUsage.rss(),
    });
  };
  const accept = async (kind: number, id: number, body: Uint8Array): Promise<void> => {
    const message = decodeControl(body);
    if (message === undefined) return end();
    if (kind === KIND.load)
      return await guarded("load", id, settings.loadTimeoutMs, async () => await load(id, message));
    await guarded("prepare", id, settings.prepareTimeoutMs, async () => {
      if (kind === KIND.release) {
        const number = count(message["session"]);
        const model = models.get(number);
        models.delete(number);
        await model?.release();
        return send(KIND.done, id, {});
      }
      const model = modelOf(message);
      // The parent checked the request's shape; what its values ask for is checked here.
      const request = message["request"] as unknown;
      if (kind === KIND.check) {
        if (isObject(message["request"]) && message["request"]["inputs"] !== undefined)
          prepareEmbedding(model, request as EmbedRequest);
        else prepareGeneration(model, request as GenerateRequest);
        send(KIND.done, id, {});
      } else if (kind === KIND.generate) {
        const prepared = prepareGeneration(model, request as GenerateRequest);
        credits.set(id, settings.windowEvents);
        jobs.push(createGeneration(id, prepared, outletOf(id)));
      } else if (kind === KIND.embed) {
        const prepared = prepareEmbedding(model, request as EmbedRequest);
        jobs.push(
          createEmbedding(id, model, prepared, (result) => writeFrame(channel, KIND.done, id, vectorsBody(result))),
        );
      } else {
        const tokens = list(message["tokens"]).map((answer) => list(answer).map(Number));
        const stated = isObject(message["parameters"]) ? message["parameters"] : {};
        const prepared = prepareRecheck(model, request as GenerateRequest, tokens, stated, count(message["tolerance"]));
        jobs.push(createRecheck(id, prepared, (result) => send(KIND.done, id, result)));
      }
    });
  };

  const work = async (): Promise<void> => {
    for (;;) {
      const arrived = incoming.shift();
      if (arrived !== undefined) {
        try {
          await accept(arrived.kind, arrived.id, arrived.body);
        } catch (error) {
          fail(arrived.id, error);
        }
        continue;
      }
      const job = nextJob();
      if (unsent.size > 0) flushDue(job === undefined ? Infinity : performance.now());
      if (job === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
        continue;
      }
      let over = true;
      try {
        over = await guarded("step", job.id, settings.stepTimeoutMs, job.step);
      } catch (error) {
        // A job that was cancelled meanwhile has nobody to tell.
        if (jobs.includes(job)) fail(job.id, error);
      }
      if (over && jobs.includes(job)) drop(job);
    }
  };
  const nextJob = (): Job | undefined => {
    for (let tried = 0; tried < jobs.length; tried++) {
      turn = (turn + 1) % jobs.length;
      const job = jobs[turn];
      if (job !== undefined && !job.paused()) return job;
    }
    return undefined;
  };

  const onFrame = (kind: number, id: number, body: Uint8Array): void => {
    if (kind === KIND.ping) return send(KIND.pong, id, {});
    if (kind === KIND.cancel) {
      const waiting = incoming.findIndex(
        (arrived) => arrived.id === id && arrived.kind !== KIND.load && arrived.kind !== KIND.release,
      );
      if (waiting >= 0) incoming.splice(waiting, 1);
      const job = jobs.find((running) => running.id === id);
      if (job !== undefined) drop(job);
    } else if (kind === KIND.credit) {
      const known = credits.get(id);
      if (known !== undefined) credits.set(id, known + Buffer.from(body).readUInt32LE(0));
    } else if (QUEUED.has(kind)) incoming.push({ kind, id, body });
    wake?.();
  };
  const read = createFrameReader({
    kinds: [...QUEUED, KIND.cancel, KIND.credit, KIND.ping],
    maxBodyBytes: MAX_CONTROL_BYTES,
    onFrame,
  });
  channel.on("data", (chunk: Buffer) => {
    if (read(chunk) !== undefined) end();
  });
  send(KIND.hello, 0, {
    engine: "onnxruntime-node",
    engineVersion: ort.version,
    engineSha256: ort.sha256,
    cpuClass: classSha256,
    rssBytes: process.memoryUsage.rss(),
  });
  await work();
}

/** Vectors as a frame's body: rows, width, tokens, time in microseconds as 32-bit words, then float32 rows. */
function vectorsBody({ vectors, tokens, engineMs }: Embedded): Uint8Array {
  const width = vectors[0]?.length ?? 0;
  const head = Uint32Array.of(vectors.length, width, tokens, Math.min(Math.round(engineMs * 1000), 0xffff_ffff));
  const body = new Uint8Array(16 + vectors.length * width * 4);
  body.set(new Uint8Array(head.buffer));
  for (const [row, vector] of vectors.entries()) {
    body.set(new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength), 16 + row * width * 4);
  }
  return body;
}

/** What the parent is told of a failure. After a fatal one the engine's state is unknown and the child must go. */
function faultOf(error: unknown): { code: string; message: string; hints: readonly string[]; fatal: boolean } {
  if (isAssayError(error)) return { code: error.code, message: error.message, hints: error.hints, fatal: false };
  const raw = error instanceof Error ? error.message : String(error);
  const hints = raw === "" ? [] : [`The engine said: ${raw.length > 300 ? `${raw.slice(0, 300)}…` : raw}`];
  if (MEMORY.test(raw)) {
    return {
      code: "model_out_of_memory",
      message: "The engine could not get the memory it asked for.",
      hints,
      fatal: true,
    };
  }
  return { code: "model_failed", message: "The model failed while running.", hints, fatal: false };
}

/** No farewell: nothing here outlives the parent, and an exit would wait for the watchdog's thread. */
function end(): void {
  process.kill(process.pid, "SIGKILL");
}
