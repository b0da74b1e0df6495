import { closeSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";
import type { ChoiceDelta, EngineModel } from "@assay/protocol";
import { retryAfterOf } from "@assay/protocol";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { createLocalEngine } from "./engine.ts";
import type { LocalEngine } from "./engine.ts";
import type { LocalEngineOptions } from "./options.ts";
import { chatRequest, collect, completionRequest, only } from "./testing/helpers.ts";
import { CONTEXT, SPECIAL, bundledChild, modelFolders, tinyDecoder } from "./testing/tiny-model.ts";

const folders = modelFolders();
const child = bundledChild();
const open: LocalEngine[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map(async (engine) => await engine.close()));
});
afterAll(() => {
  folders.remove();
  child.remove();
});
const engineWith = (options: Partial<LocalEngineOptions> = {}): LocalEngine => {
  const engine = createLocalEngine({ childEntry: child.childEntry, closeDrainMs: 10, ...options });
  open.push(engine);
  return engine;
};
const model = folders.model();
/** An answer that goes on until the context is full. */
const ENDLESS = { logit_bias: { [SPECIAL.end]: -100 }, temperature: 1, seed: 1 } as const;
const code = (wanted: string) => expect.objectContaining({ code: wanted });
const never = new AbortController().signal;

/** Takes events until `enough` says so; gives the iterator, which is still open. */
async function begin(
  engine: LocalEngine,
  request: Parameters<LocalEngine["generate"]>[0],
  signal: AbortSignal,
  events: number,
) {
  const generation = engine.generate(request, { signal });
  const iterator = generation.events[Symbol.asyncIterator]();
  const taken: ChoiceDelta[] = [];
  while (taken.length < events) {
    const { value, done } = await iterator.next();
    if (done === true) break;
    taken.push(value);
  }
  return { generation, iterator, taken };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

describe("stopping", () => {
  test("an abort ends it with its reason, frees its place and stops the compute", async () => {
    const engine = engineWith({ maxActive: 1, windowEvents: 100_000 });
    const stop = new AbortController();
    const { iterator, generation } = await begin(engine, completionRequest(model, "x", ENDLESS), stop.signal, 3);
    stop.abort();
    const after = (async () => {
      for (;;) if ((await iterator.next()).done === true) return;
    })();
    await expect(after).rejects.toMatchObject({ code: "engine_interrupted", cause: { code: "request_cancelled" } });
    expect(engine.stats().running).toBe(0);
    const known = generation.outcome();
    expect(known.usage.completion_tokens).toBeGreaterThan(0);
    expect(known.usage.completion_tokens).toBeLessThan(CONTEXT - 2);
    expect((await collect(engine, completionRequest(model, "y", { max_tokens: 2 }))).answers).toHaveLength(1);
  });

  test("before it began it is a cancelled request, whether it waits or not", async () => {
    const engine = engineWith({ maxActive: 1 });
    const request = completionRequest(model, "x", ENDLESS);
    await expect(collect(engine, request, AbortSignal.abort())).rejects.toEqual(code("request_cancelled"));
    const running = await begin(engine, request, never, 1);
    const stop = new AbortController();
    const waiting = collect(engine, request, stop.signal);
    await until(() => engine.stats().queued === 1);
    stop.abort();
    await expect(waiting).rejects.toEqual(code("request_cancelled"));
    expect(engine.stats().queued).toBe(0);
    await running.iterator.return?.();
  });

  test("leaving the loop stops it without an error", async () => {
    const engine = engineWith({ maxActive: 1 });
    for await (const event of engine.generate(completionRequest(model, "x", ENDLESS), { signal: never }).events) {
      expect(event.finish_reason).toBeNull();
      break;
    }
    expect(engine.stats().running).toBe(0);
  });

  test("events can be read once", async () => {
    const engine = engineWith();
    const { events } = engine.generate(completionRequest(model, "x", { max_tokens: 1 }), { signal: never });
    for await (const event of events) expect(event.index).toBe(0);
    expect(() => events[Symbol.asyncIterator]()).toThrow(TypeError);
  });

  test("embeddings and re-checks can be cancelled, too", async () => {
    const engine = engineWith();
    const request = completionRequest(model, "x", ENDLESS);
    const { outcome } = await collect(engine, request);
    await expect(
      engine.recheck(request, outcome.tokens ?? [], outcome.parameters, { signal: AbortSignal.abort() }),
    ).rejects.toEqual(code("request_cancelled"));
    await expect(engine.embed({ model, inputs: ["x"] }, { signal: AbortSignal.abort() })).rejects.toEqual(
      code("request_cancelled"),
    );
  });
});

describe("many at once", () => {
  test("a thousand requests are answered, or refused with a time to come back", async () => {
    const engine = engineWith({ maxActive: 4, maxQueued: 60 });
    await engine.prepare(model);
    const settled = await Promise.allSettled(
      Array.from(
        { length: 1000 },
        async (_, seed) => await collect(engine, completionRequest(model, "hi", { max_tokens: 3, seed })),
      ),
    );
    const refused = settled.filter((result) => result.status === "rejected");
    expect(settled.length - refused.length).toBe(64);
    for (const { reason } of refused) {
      expect(reason).toEqual(code("engine_overloaded"));
      expect(retryAfterOf(reason)).toBeGreaterThan(0);
    }
    expect(engine.stats()).toMatchObject({ running: 0, queued: 0 });
  });

  test("those that run take turns: a short one ends before a long one that came first", async () => {
    const engine = engineWith({ prefillChunk: 8 });
    await engine.prepare(model);
    const order: string[] = [];
    const long = collect(engine, completionRequest(model, "x".repeat(CONTEXT - 40), ENDLESS)).then(() =>
      order.push("long"),
    );
    const short = collect(engine, completionRequest(model, "y", { ...ENDLESS, max_tokens: 5 })).then(() =>
      order.push("short"),
    );
    await Promise.all([long, short]);
    expect(order).toEqual(["short", "long"]);
  });

  test("several children share the work", async () => {
    // What nobody reads waits after two messages, so neither answer ends before the other child has started.
    const engine = engineWith({ children: 2, maxActive: 1, windowEvents: 2 });
    const both = await Promise.all(
      [1, 2].map(async () => await begin(engine, completionRequest(model, "x", ENDLESS), never, 1)),
    );
    expect(engine.pids()).toHaveLength(2);
    expect(engine.stats()).toMatchObject({ running: 2, children: 2, models: 2 });
    await Promise.all(both.map(async ({ iterator }) => await iterator.return?.()));
  });

  test("models beyond the limit replace those that nobody uses", async () => {
    const engine = engineWith({ maxModels: 1, windowEvents: 2 });
    await engine.prepare(model);
    const other = folders.model({ network: tinyDecoder({ seed: 9 }) });
    await engine.prepare(other);
    expect(engine.stats().models).toBe(1);
    const running = await begin(engine, completionRequest(other, "x", ENDLESS), never, 1);
    await expect(engine.prepare(model)).rejects.toEqual(code("engine_unavailable"));
    await running.iterator.return?.();
    await engine.prepare(model);
  });
});

describe("a reader", () => {
  test("that is slow holds the answer back, and gets all of it", async () => {
    const engine = engineWith({ windowEvents: 4 });
    const request = completionRequest(model, "x", { ...ENDLESS, max_tokens: 600 });
    const { generation, iterator } = await begin(engine, request, never, 1);
    // Another request as long as this one runs to its end meanwhile, so the child had all the time it wanted.
    await collect(engine, completionRequest(model, "y", { ...ENDLESS, max_tokens: 600 }));
    // Four messages carry what the child makes in as many short moments, and no whole answer.
    expect(generation.outcome().usage.completion_tokens).toBeLessThan(600);
    let events = 1;
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) events++;
    expect(events).toBeGreaterThan(20);
    expect(generation.outcome().usage.completion_tokens).toBe(600);
  });

  test("that stops reading loses its place after a while", async () => {
    const engine = engineWith({ windowEvents: 4, stalledReaderMs: 30, maxActive: 1 });
    const { iterator } = await begin(engine, completionRequest(model, "x", ENDLESS), never, 1);
    await until(() => engine.stats().running === 0);
    const rest = (async () => {
      for (;;) if ((await iterator.next()).done === true) return;
    })();
    await expect(rest).rejects.toEqual(code("engine_interrupted"));
  });
});

describe("a child", () => {
  test("that is killed costs its requests, not the engine", async () => {
    const engine = engineWith({ windowEvents: 100_000 });
    const { iterator } = await begin(engine, completionRequest(model, "x", ENDLESS), never, 1);
    const silent = folders.model({ network: tinyDecoder({ hang: true }) });
    const [pid = 0] = engine.pids();
    const waiting = collect(engine, completionRequest(silent, "x"));
    process.kill(pid, "SIGKILL");
    const rest = (async () => {
      for (;;) if ((await iterator.next()).done === true) return;
    })();
    await expect(rest).rejects.toMatchObject({ code: "engine_interrupted", cause: { code: "model_aborted" } });
    await expect(waiting).rejects.toEqual(code("model_aborted"));
    expect(only(await collect(engine, completionRequest(model, "y", { max_tokens: 2, ...ENDLESS }))).finish).toBe(
      "length",
    );
    expect(engine.stats()).toMatchObject({ children: 1, restarts: 1 });
  });

  test("that hangs in the network is ended, and so is one that hangs in a template", async () => {
    const engine = engineWith({ stepTimeoutMs: 300, prepareTimeoutMs: 300 });
    const hanging = folders.model({ network: tinyDecoder({ hang: true }) });
    await expect(collect(engine, completionRequest(hanging, "x"))).rejects.toMatchObject({
      code: "model_aborted",
      cause: { late: { stage: "step" } },
    });
    const endless = folders.model({
      template: "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x",
    });
    await expect(collect(engine, chatRequest(endless, "x"))).rejects.toMatchObject({
      code: "model_aborted",
      cause: { late: { stage: "prepare" } },
    });
    expect((await collect(engine, completionRequest(model, "y", { max_tokens: 1 }))).answers).toHaveLength(1);
  });

  test("that needs too much memory or time to load is ended", async () => {
    const small = engineWith({ maxRssBytes: 90 * 1024 ** 2, maxStartFailures: 1 });
    await expect(small.prepare(model)).rejects.toEqual(code("engine_unavailable"));
    const late = engineWith({ loadTimeoutMs: 1 });
    // Reading these weights, of which the disk holds nothing, takes many times as long as the watchdog looks away.
    const heavy = folders.model();
    if (heavy.files === undefined) throw new Error("the model has no files");
    const weights = { path: "onnx/model.onnx_data", sha256: "0".repeat(64), sizeBytes: 2 ** 30 };
    const empty = openSync(join(heavy.files.directory, weights.path), "w");
    ftruncateSync(empty, weights.sizeBytes);
    closeSync(empty);
    const slow: EngineModel = { ...heavy, files: { ...heavy.files, files: [...heavy.files.files, weights] } };
    await expect(late.prepare(slow)).rejects.toMatchObject({
      code: "model_aborted",
      cause: { late: { stage: "load" } },
    });
  });

  test("that does not start makes the engine unavailable, until it starts again", async () => {
    const engine = engineWith({ childEntry: "/nowhere/child.js", maxStartFailures: 2 });
    await expect(engine.prepare(model)).rejects.toEqual(code("engine_unavailable"));
    const slow = engineWith({ startTimeoutMs: 1, maxStartFailures: 1 });
    await expect(slow.prepare(model)).rejects.toEqual(code("engine_unavailable"));
  });

  test("that is too large a model's is refused", async () => {
    const engine = engineWith({ maxModelBytes: 100 });
    await expect(engine.prepare(model)).rejects.toEqual(code("model_invalid"));
  });

  test("ends with the engine, which then refuses everything", async () => {
    const engine = engineWith({ maxActive: 1 });
    const { iterator } = await begin(engine, completionRequest(model, "x", ENDLESS), never, 1);
    const waiting = collect(engine, completionRequest(model, "x", ENDLESS));
    await until(() => engine.stats().queued === 1);
    const closing = engine.close();
    await expect(waiting).rejects.toEqual(code("engine_unavailable"));
    const rest = (async () => {
      for (;;) if ((await iterator.next()).done === true) return;
    })();
    await expect(rest).rejects.toMatchObject({ code: "engine_interrupted", cause: { code: "engine_unavailable" } });
    await closing;
    expect(engine.pids()).toEqual([]);
    await expect(engine.prepare(model)).rejects.toEqual(code("engine_unavailable"));
    await expect(collect(engine, completionRequest(model, "x"))).rejects.toEqual(code("engine_unavailable"));
  });
});
