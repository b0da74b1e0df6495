import { createHash } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isAssayError } from "@assay/core";
import { createGgufEngine } from "@assay/driver-gguf";
import type { GgufEngine, GgufOptions } from "@assay/driver-gguf";
import type { GenerateRequest, LanguageEngine } from "@assay/protocol";
import { engineContract } from "@assay/testkit/engine-contract";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { needed, root } from "./harness.ts";

// Needs node-llama-cpp, which the workspace does not install: this names a folder that has it in its node_modules.
const packageDirectory = needed("ASSAY_LLAMA_DIRECTORY");

const model = join(root, "models/chat/chat.gguf");
const sha256 = createHash("sha256").update(readFileSync(model)).digest("hex");
const scratch = mkdtempSync(join(tmpdir(), "assay-gguf-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const engines: LanguageEngine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});

function create(options: Partial<GgufOptions> = {}): GgufEngine {
  const engine = createGgufEngine({
    name: "gguf",
    model: "chat",
    path: model,
    childEntry: join(root, "packages/driver-gguf/src/child/main.ts"),
    nodeArgs: ["--import", "tsx", "--conditions=assay-source"],
    packageDirectory,
    threads: 1,
    now: () => performance.now(),
    random: Math.random,
    ...options,
  });
  engines.push(engine);
  return engine;
}

const request = (parameters: GenerateRequest["parameters"] = {}): GenerateRequest => ({
  kind: "chat",
  model: { name: "chat" },
  messages: [{ role: "user", content: "hello" }],
  parameters,
  stream: true,
});

async function ask(engine: LanguageEngine, asked: GenerateRequest, signal = new AbortController().signal) {
  const generation = engine.generate(asked, { signal });
  let text = "";
  for await (const delta of generation.events) text += delta.delta.content ?? "";
  return { text, outcome: generation.outcome() };
}

async function codeOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
  } catch (error) {
    return isAssayError(error) ? error.code : String(error);
  }
  return "none";
}

engineContract("gguf", () => {
  const engine = create({ maxRunning: 2 });
  engines.length = 0;
  return {
    engine,
    models: { chat: { name: "chat" }, completion: { name: "chat" }, unknown: { name: "nobody" } },
    applies: [
      "temperature",
      "top_p",
      "seed",
      "n",
      "stop",
      "max_tokens",
      "presence_penalty",
      "frequency_penalty",
      "logit_bias",
      "response_format",
    ],
    receiptOnly: ["user", "metadata"],
    maxRunning: 2,
    // Sixteen answers, one after the other.
    longParameters: { n: 16, temperature: 1.5, seed: 1 },
    longMessage: "Tell me a long story.",
    async idle() {
      while (engine.stats().running > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    },
    close: () => engine.close(),
  };
});

describe("the file", () => {
  it("is hashed as it is loaded, and stated", async () => {
    const { outcome } = await ask(create({ sha256 }), request({ max_tokens: 2, seed: 1 }));
    expect(outcome.modelDigest).toEqual({ sha256, scheme: "sha256-single" });
    expect(outcome.facts).toMatchObject({ profile: "llm", engine: "llama.cpp", threads: 1, sampler: "llama.cpp/1" });
  });

  it("is refused when it is another than the one named", async () => {
    const other = "0".repeat(64);
    expect(await codeOf(ask(create({ sha256: other }), request()))).toBe("model_digest_mismatch");
    const files = {
      manifestDigest: other,
      directory: root,
      entry: "chat.gguf",
      files: [{ path: "chat.gguf", sha256: other, sizeBytes: 1 }],
    };
    expect(await codeOf(ask(create(), { ...request(), model: { name: "chat", files } }))).toBe("model_digest_mismatch");
  });

  it("is refused when it is missing or no model", async () => {
    expect(await codeOf(ask(create({ path: join(scratch, "none.gguf") }), request()))).toBe("model_invalid");
    const path = join(scratch, "text.gguf");
    writeFileSync(path, "not a model");
    expect(await codeOf(ask(create({ path }), request()))).toBe("model_invalid");
    const cut = join(scratch, "cut.gguf");
    copyFileSync(model, cut);
    truncateSync(cut, 50_000);
    expect(await codeOf(ask(create({ path: cut }), request()))).toMatch(/^model_(invalid|aborted)$/);
  });
});

describe("the process", () => {
  it("is missed with a hint when the package is not there", async () => {
    const engine = create({ packageDirectory: scratch });
    await expect(engine.models()).rejects.toMatchObject({ code: "engine_unavailable" });
    await expect(engine.models()).rejects.toMatchObject({ hints: [expect.stringContaining("npm i --omit=optional")] });
  });

  it("is started again after it died", async () => {
    const engine = create();
    const first = await ask(engine, request({ temperature: 0, max_tokens: 4 }));
    const generation = engine.generate(request({ n: 16 }), { signal: new AbortController().signal });
    let killed = false;
    const code = await codeOf(
      (async () => {
        for await (const _ of generation.events) {
          if (killed) continue;
          killed = true;
          const pid = engine.pid();
          // 0 would be this whole process group.
          if (pid === undefined) throw new Error("there is no child to end");
          process.kill(pid, "SIGKILL");
        }
      })(),
    );
    expect(code).toBe("engine_interrupted");
    expect(engine.stats().running).toBe(0);
    expect((await ask(engine, request({ temperature: 0, max_tokens: 4 }))).text).toBe(first.text);
  });
});

describe("limits", () => {
  it("a prompt longer than the context", async () => {
    const long = { ...request(), messages: [{ role: "user" as const, content: "hello ".repeat(5000) }] };
    expect(await codeOf(ask(create({ contextTokens: 64 }), long))).toBe("context_exceeded");
  });

  it("an answer that fills the context", async () => {
    const engine = create({ contextTokens: 256 });
    const filled = (count: number): GenerateRequest => ({
      kind: "completion",
      model: { name: "chat" },
      messages: [],
      prompt: Array.from({ length: count }, () => 40),
      parameters: { temperature: 1, seed: 5, n: 4 },
      stream: true,
    });
    expect(await codeOf(ask(engine, filled(256)))).toBe("context_exceeded");
    const { outcome } = await ask(engine, filled(250));
    for (const tokens of outcome.tokens ?? []) expect(tokens.length).toBeLessThanOrEqual(6);
  });

  it.each([
    ["a schema with a word that no grammar holds", { type: "string", pattern: "^a$" }],
    ["a schema within it", { type: "object", properties: { a: { type: "integer", minimum: 3 } } }],
    ["a schema that allows anything", {}],
  ])("%s", async (_, schema) => {
    const format = { type: "json_schema" as const, json_schema: { schema } };
    expect(await codeOf(ask(create(), request({ response_format: format as never })))).toBe("schema_unsupported");
  });

  it.each([
    ["a seed of more than 32 bits", { seed: 2 ** 40 }, "parameter_invalid"],
    ["a token that is none", { logit_bias: { "99999999": 1 } }, "parameter_invalid"],
  ])("%s", async (_, parameters, code) => {
    expect(await codeOf(ask(create(), request(parameters)))).toBe(code);
  });
});
