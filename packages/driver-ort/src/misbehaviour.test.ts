import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { pseudoRandom } from "@assay/onnx";
import type { RuntimeProfile, Tensor } from "@assay/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createOrtRuntime } from "./index.ts";
import type { OrtOptions, OrtRuntime } from "./index.ts";
import * as make from "./testing/models.ts";

const x16: Tensor = make.fp32("x", [1, 16], pseudoRandom(16, 7));
const endless = make.int64("count", [], [1e15]);
const GIB = 1024 ** 3;

let folder: make.ModelFolder;
let runtimes: OrtRuntime[];

beforeEach(() => {
  folder = make.modelFolder();
  runtimes = [];
});
afterEach(async () => {
  await Promise.all(runtimes.map(async (runtime) => await runtime.close()));
  folder.remove();
});

function start(options: Partial<OrtOptions> = {}, entry?: string): OrtRuntime {
  const runtime = createOrtRuntime({ ...make.sourceChild(entry), closeDrainMs: 0, ...options });
  runtimes.push(runtime);
  return runtime;
}

const refused = async (work: Promise<unknown>, code: string): Promise<void> => {
  await expect(work).rejects.toMatchObject({ code });
};

test("an engine that ends its process costs one request; other models answer, and the third time is refused", async () => {
  const runtime = start({ maxStrikes: 2 }, "unchecked/main.ts");
  const aborting = folder.model("aborts.onnx", make.aborts(), "native");
  const good = folder.model("mlp.onnx", make.mlp(), "native");
  const expected = await runtime.run({ model: good, inputs: [x16] });
  const pid = runtime.pids()[0];
  const poison = (): Promise<unknown> => runtime.run({ model: aborting, inputs: [make.fp32("x", [2], [1, 2])] });

  const first = poison();
  const others = [1, 2, 3].map(async () => await runtime.run({ model: good, inputs: [x16] }));
  await refused(first, "model_aborted");
  for (const { outputs } of await Promise.all(others)) expect(outputs).toEqual(expected.outputs);
  expect(runtime.stats().restarts).toBe(1);
  const shared = runtime.pids();
  expect(shared).not.toContain(pid);

  // The second time it has a child to itself, so the shared one does not notice.
  await refused(poison(), "model_aborted");
  expect(runtime.pids()).toEqual(shared);

  await expect(poison()).rejects.toMatchObject({ code: "model_aborted", message: /refused/ });
  expect(runtime.stats().restarts).toBe(1);
  runtime.retry(aborting);
  await expect(poison()).rejects.toMatchObject({ code: "model_aborted", message: /ended the process/ });
  expect((await runtime.run({ model: good, inputs: [x16] })).outputs).toEqual(expected.outputs);
});

describe.each(["native", "portable"] as const)("%s", (profile: RuntimeProfile) => {
  test("a run past the limit is ended; what waits behind it is answered by the next child", async () => {
    const runtime = start({ runTimeoutMs: 300 });
    const slow = folder.model("loops.onnx", make.loops(), profile);
    const good = folder.model("mlp.onnx", make.mlp(), profile);
    await runtime.prepare(slow);
    const [late, other] = await Promise.allSettled([
      runtime.run({ model: slow, inputs: [endless] }),
      runtime.run({ model: good, inputs: [x16] }),
    ]);
    expect(late).toMatchObject({ status: "rejected", reason: { code: "model_timeout" } });
    expect(other.status).toBe("fulfilled");
    expect(runtime.stats().restarts).toBe(1);
    // The model is not to blame for short counts, and now has its own child.
    const { outputs } = await runtime.run({ model: slow, inputs: [make.int64("count", [], [5])] });
    expect(make.numbers(outputs[0])).toEqual([5]);
    expect(runtime.stats().children).toBe(2);
  });

  test("a run that eats memory is ended before the machine notices", async () => {
    const runtime = start({ maxRssBytes: 0.5 * GIB });
    const hungry = folder.model("eats.onnx", make.eats(), profile);
    const few = await runtime.run({ model: hungry, inputs: [make.int64("size", [1], [4])] });
    expect(make.numbers(few.outputs[0])[0]).toBeCloseTo(4 * Math.E, 4);
    await refused(runtime.run({ model: hungry, inputs: [make.int64("size", [1], [300e6])] }), "model_out_of_memory");
    // More than any memory can hold: the engine notices by itself, and no child is lost.
    const { restarts } = runtime.stats();
    await refused(runtime.run({ model: hungry, inputs: [make.int64("size", [1], [5e18])] }), "tensor_too_large");
    const again = await runtime.run({ model: hungry, inputs: [make.int64("size", [1], [4])] });
    expect(again.outputs).toEqual(few.outputs);
    expect(runtime.stats().restarts).toBe(restarts);
  });
});

test("children see nothing of their parent's environment", async () => {
  const runtime = start();
  process.env["ASSAY_TEST_SECRET"] = "do not tell";
  try {
    await runtime.prepare(folder.model("mlp.onnx", make.mlp(), "native"));
  } finally {
    delete process.env["ASSAY_TEST_SECRET"];
  }
  const environment = readFileSync(`/proc/${runtime.pids()[0]}/environ`, "utf8").split("\0").filter(Boolean);
  expect(environment.map((line) => line.split("=")[0]).sort()).toEqual(["LANG", "LC_ALL"]);
});

test("a model that hangs on invented inputs only is served, never in a batch, and is not to blame", async () => {
  const runtime = start({ probeTimeoutMs: 200, maxStrikes: 1 });
  const picky = folder.model("picky.onnx", make.loopsUnlessZero(), "native");
  const zeros = [1, 2, 3].map(async () => await runtime.run({ model: picky, inputs: [make.fp32("x", [2], [0, 0])] }));
  for (const { outputs, batchedRequests } of await Promise.all(zeros)) {
    expect([make.numbers(outputs[0]), batchedRequests]).toEqual([[0, 0], 1]);
  }
  expect((await runtime.prepare(picky)).metadata.batchInvariant).toBe(false);
  expect(runtime.stats()).toMatchObject({ restarts: 1, children: 1 });
});

test("a request whose child is killed from outside is repeated once, unnoticed", async () => {
  const runtime = start();
  const slow = folder.model("loops.onnx", make.loops(), "native");
  await runtime.prepare(slow);
  const pid = make.first(runtime.pids());
  const run = runtime.run({ model: slow, inputs: [make.int64("count", [], [300_000])] });
  setImmediate(() => setImmediate(() => process.kill(pid, "SIGKILL")));
  const { outputs } = await run;
  expect(make.numbers(outputs[0])).toEqual([300_000]);
  expect(runtime.stats()).toMatchObject({ restarts: 1, children: 1 });
  expect(runtime.pids()).not.toContain(pid);
});

test("an idle child that dies is replaced by the next request", async () => {
  const runtime = start();
  const good = folder.model("mlp.onnx", make.mlp(), "native");
  const before = await runtime.run({ model: good, inputs: [x16] });
  process.kill(make.first(runtime.pids()), "SIGKILL");
  const after = await runtime.run({ model: good, inputs: [x16] });
  expect(after.outputs).toEqual(before.outputs);
  expect(after.facts).toEqual(before.facts);
});

test.each([
  ["that cannot start", "nowhere.ts"],
  ["that do not speak in frames", "babbling/main.ts"],
])("children %s make the runtime unavailable, not silent", async (_, entry) => {
  const runtime = start({ maxStartFailures: 2 }, entry);
  const good = folder.model("mlp.onnx", make.mlp(), "native");
  await refused(runtime.run({ model: good, inputs: [x16] }), "runtime_unavailable");
  expect(runtime.stats()).toMatchObject({ children: 0, restarts: 1, queued: 0 });
});

test("children that do not say that they are ready in time are ended", async () => {
  const runtime = start({ maxStartFailures: 1, startTimeoutMs: 1 });
  await refused(runtime.prepare(folder.model("mlp.onnx", make.mlp(), "native")), "runtime_unavailable");
  expect(runtime.pids()).toEqual([]);
});

test("requests past the queue's limits are turned away at once", async () => {
  const runtime = start({ maxQueuedRequests: 2, maxQueuedBytes: 130 });
  const good = folder.model("mlp.onnx", make.mlp(), "native");
  const one = async (): Promise<unknown> => await runtime.run({ model: good, inputs: [x16] });
  const results = await Promise.allSettled([one(), one(), one(), one()]);
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected"]);
  expect(results[3]).toMatchObject({ reason: { code: "runtime_overloaded" } });
  const wide = make.fp32("x", [3, 16], pseudoRandom(48, 1));
  await refused(runtime.run({ model: good, inputs: [wide] }), "runtime_overloaded");
  await expect(one()).resolves.toBeDefined();
});

test("a model past the size limit is refused", async () => {
  const runtime = start({ maxModelBytes: 2_000 });
  await refused(runtime.prepare(folder.model("mlp.onnx", make.mlp(), "native")), "model_invalid");
});

test("the least recently used session makes room; memory that stays taken is given back with its child", async () => {
  const runtime = start({ maxSessions: 1 });
  const a = folder.model("a.onnx", make.mlp(1), "native");
  const b = folder.model("b.onnx", make.mlp(2), "native");
  const first = await runtime.run({ model: a, inputs: [x16] });
  await runtime.run({ model: b, inputs: [x16] });
  expect(await runtime.prepare(b)).toBeDefined();
  expect(runtime.stats()).toMatchObject({ sessions: 1, restarts: 0, children: 1 });
  expect((await runtime.run({ model: a, inputs: [x16] })).outputs).toEqual(first.outputs);

  const small = start({ sessionBytes: 1_000 });
  await small.run({ model: a, inputs: [x16] });
  const [pid] = small.pids();
  await small.run({ model: b, inputs: [x16] });
  expect((await small.run({ model: a, inputs: [x16] })).outputs).toEqual(first.outputs);
  expect(small.pids()).not.toContain(pid);
  expect(small.stats()).toMatchObject({ restarts: 1, children: 1 });
});

test("two children share the work of a profile", async () => {
  const runtime = start({ children: { native: 2 } });
  const slow = folder.model("loops.onnx", make.loops(), "native");
  const good = folder.model("mlp.onnx", make.mlp(), "native");
  await runtime.prepare(slow);
  const stop = new AbortController();
  const blocked = runtime.run({ model: slow, inputs: [endless], signal: stop.signal });
  await expect(runtime.run({ model: good, inputs: [x16] })).resolves.toBeDefined();
  expect(runtime.stats()).toMatchObject({ children: 2, sessions: 2 });
  stop.abort();
  await refused(blocked, "request_cancelled");
});

test("closing answers what it can, ends the children and refuses what comes later", async () => {
  const runtime = start({ closeDrainMs: 60_000 });
  const good = folder.model("mlp.onnx", make.mlp(), "native");
  const waiting = [1, 2, 3].map(async () => await runtime.run({ model: good, inputs: [x16] }));
  const closing = runtime.close();
  await refused(runtime.run({ model: good, inputs: [x16] }), "runtime_closed");
  await refused(runtime.prepare(good), "runtime_closed");
  await closing;
  await expect(Promise.all(waiting)).resolves.toHaveLength(3);
  expect(runtime.pids()).toEqual([]);
  expect(runtime.stats()).toMatchObject({ children: 0, queued: 0, sessions: 0 });
  await runtime.close();

  const stuck = start({ closeDrainMs: 1 });
  const slow = folder.model("loops.onnx", make.loops(), "native");
  await stuck.prepare(slow);
  const runs = [1, 2].map(async () => await stuck.run({ model: slow, inputs: [endless] }));
  const settled = Promise.allSettled(runs);
  await stuck.close();
  for (const result of await settled) expect(result).toMatchObject({ reason: { code: "runtime_closed" } });
});

test("a child inside a native call does not outlive its killed parent", async () => {
  const here = dirname(fileURLToPath(import.meta.url));
  const { nodeArgs } = make.sourceChild();
  const parent = spawn(process.execPath, [...nodeArgs, join(here, "testing/parent/main.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: parent.stdout })[Symbol.asyncIterator]();
  const models = String((await lines.next()).value);
  const pid = Number((await lines.next()).value);
  expect(alive(pid)).toBe(true);
  parent.kill("SIGKILL");
  await expect.poll(() => alive(pid), { timeout: 20_000, interval: 10 }).toBe(false);
  rmSync(models, { recursive: true });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
