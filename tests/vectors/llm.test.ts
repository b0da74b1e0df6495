import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { createLocalEngine } from "../../packages/driver-llm/src/index.ts";
import { collect, completionRequest, only } from "../../packages/driver-llm/src/testing/helpers.ts";
import { bundledChild } from "../../packages/driver-llm/src/testing/tiny-model.ts";

const root = process.env["ASSAY_VECTORS"];
if (root === undefined) throw new Error("ASSAY_VECTORS must name the folder of test data.");
const directory = join(root, "llm/stories260k");
const entry = "onnx/model.onnx";
const files = [entry, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"].map(
  (path) => {
    const bytes = readFileSync(join(directory, path));
    return { path, sha256: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length };
  },
);
const model = { name: "karpathy/stories260k", files: { manifestDigest: "0".repeat(64), directory, entry, files } };
const child = bundledChild();
const engine = createLocalEngine({ childEntry: child.childEntry });
afterAll(async () => {
  await engine.close();
  child.remove();
});

/** What llama.cpp and transformers.js write, too, for this model and prompt without chance. */
const STORY =
  ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.";

test("a network that somebody else trained tells the story that other engines tell", async ({ task }) => {
  const request = completionRequest(model, "Once upon a time", { temperature: 0, max_tokens: 200 });
  const collected = await collect(engine, request);
  expect(only(collected).text.startsWith(STORY)).toBe(true);
  const { tokens = [], parameters, usage } = collected.outcome;
  // The tokenizer begins a text with its own token, and joins the word before the first space.
  expect(usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 200 });
  const checked = await engine.recheck(request, tokens, parameters);
  expect(checked).toMatchObject({
    agrees: true,
    positions: 200,
    answers: [{ text: only(collected).text, finish: "length" }],
  });
  const share = checked.prefillMs / collected.outcome.engineMs;
  Object.assign(task.meta, {
    summary: [
      `Language model stories260k: 200 tokens as other engines write them; re-check in ${(share * 100).toFixed(1)}% of the time.`,
    ],
  });
});

test("chance that is fixed by a seed is checked as well, and another seed's answer is not taken for it", async () => {
  const request = completionRequest(model, "One day a dog", { temperature: 0.9, top_p: 0.9, max_tokens: 150, n: 2 });
  const { outcome } = await collect(engine, request);
  expect((await engine.recheck(request, outcome.tokens ?? [], outcome.parameters)).agrees).toBe(true);
  const seed = Number(outcome.parameters["seed"]) + 1;
  expect((await engine.recheck(request, outcome.tokens ?? [], { ...outcome.parameters, seed })).agrees).toBe(false);
});

test("a schema holds for a model that never saw JSON", async () => {
  const schema = {
    type: "object",
    properties: { name: { type: "string", maxLength: 8 }, legs: { type: "integer", minimum: 0, maximum: 8 } },
    required: ["name", "legs"],
  };
  const parameters = { response_format: { type: "json_schema" as const, json_schema: { schema } }, temperature: 0 };
  const { text, finish } = only(await collect(engine, completionRequest(model, "The animal: ", parameters)));
  expect(finish).toBe("stop");
  expect(text).toMatch(/^\{"name": ".*", "legs": [0-8]\}$/);
});
