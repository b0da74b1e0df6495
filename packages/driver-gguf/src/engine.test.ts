import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isAssayError } from "@assay/core";
import { retryAfterOf } from "@assay/protocol";
import type { GenerateRequest } from "@assay/protocol";
import { afterAll, afterEach, expect, it } from "vitest";
import { createGgufEngine } from "./index.ts";
import type { GgufEngine, GgufOptions } from "./index.ts";
import { MAX_STRIKES } from "./limits.ts";

const scratch = mkdtempSync(join(tmpdir(), "assay-gguf-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const engines: GgufEngine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});

const HEX = "a".repeat(64);
const LOADED = `process.send({ type: "loaded", sha256: "${HEX}", engineSha256: "${HEX}", cpuClass: "${HEX}",
  engineVersion: "played", threads: 1, contextTokens: 64, vocabulary: 10, hasTemplate: true });`;

/** An engine whose child is a program of a few lines: `onLoad` and `onStart` are its answers, `onStop` too. */
function played(
  child: { readonly onLoad?: string; readonly onStart?: string; readonly onStop?: string },
  options: Partial<GgufOptions> = {},
): GgufEngine {
  const path = join(scratch, `child-${engines.length}-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(
    path,
    `const say = (message) => process.send(message);
    const end = (id) => say({ type: "ended", id, code: null, message: "", hints: [] });
    const piece = (id, text, finish = null) => say({ type: "piece", id, choice: 0, text, tokens: [1], finish });
    process.on("disconnect", () => process.exit(0));
    process.on("message", ({ type, id, ...rest }) => {
      if (type === "load") { ${child.onLoad ?? LOADED} }
      else if (type === "start") { ${child.onStart ?? ""} }
      else { ${child.onStop ?? "end(id);"} }
    });`,
  );
  const engine = createGgufEngine({
    name: "gguf",
    model: "m",
    path: join(scratch, "model.gguf"),
    childEntry: path,
    now: Date.now,
    random: () => 0.5,
    ...options,
  });
  engines.push(engine);
  return engine;
}

const request: GenerateRequest = {
  kind: "chat",
  model: { name: "m" },
  messages: [{ role: "user", content: "hello" }],
  parameters: {},
  stream: true,
};

async function ask(engine: GgufEngine, asked = request, signal: AbortSignal = new AbortController().signal) {
  const generation = engine.generate(asked, { signal });
  let text = "";
  let code = "none";
  let error: unknown;
  try {
    for await (const delta of generation.events) text += delta.delta.content ?? "";
  } catch (thrown) {
    if (!isAssayError(thrown)) throw thrown;
    error = thrown;
    code =
      thrown.code === "engine_interrupted" ? `${thrown.code}/${(thrown.cause as { code: string }).code}` : thrown.code;
  }
  return { text, code, error, outcome: generation.outcome() };
}

it("passes an answer on, with its tokens and counts", async () => {
  const engine = played({
    onStart: `say({ type: "prompt", id, tokens: 3 }); piece(id, "a"); piece(id, ""); piece(id, "b", "stop"); end(id);`,
  });
  const { text, outcome } = await ask(engine, { ...request, parameters: { temperature: 0.5 } });
  expect(text).toBe("ab");
  expect(outcome).toMatchObject({
    usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 },
    parameters: { temperature: "0.5", top_p: 1, n: 1, seed: 2147483647 },
    tokens: [[1, 1, 1]],
    modelDigest: { sha256: HEX, scheme: "sha256-single" },
    facts: { profile: "llm", engine: "llama.cpp", engineVersion: "played" },
  });
  expect(engine.stats().running).toBe(0);
});

it.each([
  ["before its first piece", `process.kill(process.pid, "SIGSEGV");`, "model_aborted"],
  [
    "after it",
    `piece(id, "a"); setImmediate(() => process.kill(process.pid, "SIGSEGV"));`,
    "engine_interrupted/model_aborted",
  ],
  [
    "by saying what it may not",
    `say({ type: "piece", id, choice: 0, text: 5, tokens: [], finish: null });`,
    "model_aborted",
  ],
  ["by an exit of its own", `process.exit(0);`, "model_aborted"],
])("a child that dies %s costs its request, and the next has another child", async (_, onStart, code) => {
  const engine = played({ onStart });
  await engine.models();
  const first = engine.pid();
  expect((await ask(engine)).code).toBe(code);
  expect(engine.stats().running).toBe(0);
  await engine.models();
  expect(engine.pid()).not.toBe(first);
});

it("is given up after too many deaths", async () => {
  const engine = played({ onLoad: `process.kill(process.pid, "SIGSEGV");` });
  for (let i = 0; i < MAX_STRIKES; i++) expect((await ask(engine)).code).toBe("model_aborted");
  expect((await ask(engine)).code).toBe("engine_unavailable");
});

it("a child that does not load in time is ended", async () => {
  const engine = played({ onLoad: "" }, { loadTimeoutMs: 300 });
  expect((await ask(engine)).code).toBe("model_aborted");
});

it("a child that falls silent is ended", async () => {
  const engine = played({ onStart: `piece(id, "a");` }, { silenceTimeoutMs: 200 });
  expect((await ask(engine)).code).toBe("engine_interrupted/model_aborted");
});

it("what a child refuses is passed on, and its codes are held to those that it may use", async () => {
  const refusing = (code: string): GgufEngine =>
    played({ onLoad: `say({ type: "failed", code: "${code}", message: "No.", hints: ["h"] });` });
  expect((await ask(refusing("model_digest_mismatch"))).code).toBe("model_digest_mismatch");
  expect((await ask(refusing("verified"))).code).toBe("model_aborted");
  const engine = played({
    onStart: `say({ type: "ended", id, code: "context_exceeded", message: "Long.", hints: [] });`,
  });
  expect((await ask(engine)).code).toBe("context_exceeded");
});

it("is full when it is full, and free once the child has stopped", async () => {
  const engine = played({ onStart: `piece(id, "a");` }, { maxRunning: 1 });
  const stop = new AbortController();
  const running = ask(engine, request, stop.signal);
  while (engine.stats().running === 0) await new Promise((resolve) => setImmediate(resolve));
  const second = await ask(engine);
  expect(second.code).toBe("engine_overloaded");
  expect(retryAfterOf(second.error)).toBeGreaterThan(0);
  stop.abort();
  expect((await running).code).toMatch(/request_cancelled$/);
  while (engine.stats().running > 0) await new Promise((resolve) => setImmediate(resolve));
});

it.each<[string, Partial<GenerateRequest>, string]>([
  ["another model", { model: { name: "other" } }, "model_not_found"],
  ["a completion without a prompt", { kind: "completion" }, "parameter_invalid"],
  ["a prompt with a token that is none", { kind: "completion", prompt: [10] }, "parameter_invalid"],
  ["a tool's result", { messages: [{ role: "tool", content: "a", tool_call_id: "b" }] }, "content_unsupported"],
])("refuses %s", async (_, changed, code) => {
  const engine = played({});
  await expect(engine.check({ ...request, ...changed })).rejects.toMatchObject({ code });
  expect((await ask(engine, { ...request, ...changed })).code).toBe(code);
});

it("refuses chats of a file without a template, and embeddings always", async () => {
  const engine = played({ onLoad: LOADED.replace("hasTemplate: true", "hasTemplate: false") });
  expect((await ask(engine)).code).toBe("kind_unsupported");
  expect(await engine.models()).toEqual([{ name: "m", kinds: ["completion"], contextTokens: 64 }]);
  const embed = { model: { name: "m" }, inputs: ["a"] };
  await expect(engine.check(embed)).rejects.toMatchObject({ code: "kind_unsupported" });
  await expect(engine.embed(embed, { signal: new AbortController().signal })).rejects.toMatchObject({
    code: "kind_unsupported",
  });
});

it("says how to install the package when it is not there", async () => {
  const engine = createGgufEngine({
    name: "gguf",
    model: "m",
    path: join(scratch, "model.gguf"),
    childEntry: fileURLToPath(new URL("child/main.ts", import.meta.url)),
    nodeArgs: ["--import", "tsx", "--conditions=assay-source"],
    packageDirectory: scratch,
    now: Date.now,
    random: Math.random,
  });
  engines.push(engine);
  await expect(engine.models()).rejects.toMatchObject({
    code: "engine_unavailable",
    hints: [expect.stringContaining("node-llama-cpp@3.22.1")],
  });
});

it("is unavailable once closed, and what ran is interrupted", async () => {
  const engine = played({ onStart: `piece(id, "a");` });
  const running = ask(engine);
  while (engine.stats().running === 0) await new Promise((resolve) => setImmediate(resolve));
  await engine.close();
  expect((await running).code).toMatch(/engine_unavailable$/);
  expect((await ask(engine)).code).toBe("engine_unavailable");
});
