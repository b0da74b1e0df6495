import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Tool } from "@assay/protocol";
import { afterAll, expect, test } from "vitest";
import { createLocalEngine } from "./engine.ts";
import { chatRequest, collect, only } from "./testing/helpers.ts";
import { bundledChild } from "./testing/tiny-model.ts";

// The chat model of this repository: its weights may be trained again, so nothing here depends on what it knows.
const directory = join(dirname(fileURLToPath(import.meta.url)), "../../../models/chat");
const paths = ["model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
const files = paths.map((path) => {
  const bytes = readFileSync(join(directory, path));
  return { path, sha256: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length };
});
const model = { name: "assay/chat", files: { manifestDigest: "0".repeat(64), directory, entry: "model.onnx", files } };
const child = bundledChild();
const engine = createLocalEngine({ childEntry: child.childEntry });
afterAll(async () => {
  await engine.close();
  child.remove();
});

test("chats, and every answer is confirmed by a re-check", async () => {
  expect(await engine.prepare(model)).toMatchObject({ kinds: ["chat", "completion"], contextTokens: 1024 });
  for (const parameters of [
    { temperature: 0 },
    { temperature: 1, n: 2 },
    { temperature: 0.7, top_p: 0.8, frequency_penalty: 0.5 },
  ]) {
    const request = chatRequest(model, "What is 12 + 30?", { ...parameters, max_tokens: 60 });
    const { outcome, answers } = await collect(engine, request);
    const checked = await engine.recheck(request, outcome.tokens ?? [], outcome.parameters);
    expect(checked.agrees).toBe(true);
    expect(checked.answers.map(({ text }) => text)).toEqual(answers.map(({ text }) => text));
  }
});

test("calls a tool that it must call, and goes on after its result", async () => {
  const tools: Tool[] = [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "Get the weather in a city",
        parameters: { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"] },
      },
    },
  ];
  const request = chatRequest(model, "What is the weather in Paris?", {
    tools,
    tool_choice: "required",
    parallel_tool_calls: false,
  });
  const answer = only(await collect(engine, request));
  expect(answer).toMatchObject({ finish: "tool_calls", calls: [{ name: "get_weather" }] });
  const [call] = answer.calls;
  if (call === undefined) throw new Error("there is no call");
  const { id, name, arguments: given } = call;
  const further = {
    ...request,
    messages: [
      ...request.messages,
      {
        role: "assistant" as const,
        content: null,
        tool_calls: [{ id, type: "function" as const, function: { name, arguments: given } }],
      },
      { role: "tool" as const, tool_call_id: id, content: '{"temperature": 21}' },
    ],
    parameters: { tools, max_tokens: 40 },
  };
  const next = await collect(engine, further);
  expect(only(next).finish).toBeDefined();
  expect(next.outcome.usage.prompt_tokens_details?.cached_tokens).toBeGreaterThan(50);
});

test("answers in JSON with a schema", async () => {
  const schema = {
    type: "object",
    properties: { answer: { type: "integer" } },
    required: ["answer"],
    additionalProperties: false,
  };
  const parameters = { response_format: { type: "json_schema" as const, json_schema: { schema } } };
  const answer = only(await collect(engine, chatRequest(model, "What is 7 times 8?", parameters)));
  expect(answer.finish).toBe("stop");
  expect(answer.text).toMatch(/^\{"answer": -?\d+\}$/);
});
