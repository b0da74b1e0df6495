import type { GenerateParameters, GenerateRequest } from "@assay/protocol";
import { describe, expect, it } from "vitest";
import { checkParameters, turnsOf } from "./check.ts";
import { MAX_SCHEMA_DEPTH, MAX_SCHEMA_NODES, MAX_SEED } from "./limits.ts";
import { readMessage } from "./wire.ts";

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return "none";
};
const check = (parameters: GenerateParameters): string => codeOf(() => checkParameters(parameters, 100));
const schema = (value: unknown): GenerateParameters => ({
  response_format: { type: "json_schema", json_schema: { schema: value as never } },
});

describe("parameters", () => {
  it.each<[string, GenerateParameters]>([
    ["logprobs", { logprobs: true }],
    ["top_logprobs", { top_logprobs: 3 }],
    ["tools", { tools: [{ type: "function", function: { name: "a" } }] }],
    ["tool_choice", { tool_choice: "required" }],
    ["parallel_tool_calls", { parallel_tool_calls: false }],
    ["echo", { echo: true }],
    ["suffix", { suffix: "x" }],
    ["best_of", { best_of: 2 }],
    ["reasoning_effort", { reasoning_effort: "low" }],
    ["store", { store: true }],
    ["a parameter of tomorrow", { tomorrow: 1 } as never],
  ])("refuses %s", (_, parameters) => {
    expect(check(parameters)).toBe("parameter_unsupported");
  });

  it.each<[string, GenerateParameters]>([
    ["a seed below zero", { seed: -1 }],
    ["a seed of more than 32 bits", { seed: MAX_SEED + 1 }],
    ["a token beyond the vocabulary", { logit_bias: { "100": 1 } }],
    ["a token that is no number", { logit_bias: { a: 1 } }],
    ["a token below zero", { logit_bias: { "-1": 1 } }],
  ])("finds %s invalid", (_, parameters) => {
    expect(check(parameters)).toBe("parameter_invalid");
  });

  it("takes what it applies, and what asks for nothing", () => {
    expect(
      check({
        temperature: 0,
        top_p: 0.5,
        seed: MAX_SEED,
        n: 2,
        stop: ["a"],
        max_tokens: 3,
        presence_penalty: 1,
        frequency_penalty: -1,
        logit_bias: { "99": 5 },
        response_format: { type: "json_object" },
        logprobs: false,
        tools: [],
        store: false,
        user: "someone",
      }),
    ).toBe("none");
  });
});

describe("JSON schemas", () => {
  const deep = (levels: number): unknown =>
    levels === 0 ? { type: "string" } : { type: "array", items: deep(levels - 1) };
  const wide = (count: number): unknown => ({
    type: "object",
    properties: Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { type: "string" }])),
  });

  it.each([
    ["a pattern", { type: "string", pattern: "^a" }],
    ["a format", { type: "string", format: "email" }],
    ["a bound deep inside", { type: "array", items: { type: "integer", minimum: 1 } }],
    ["anyOf", { anyOf: [{ type: "string" }] }],
    ["nothing at all", {}],
    ["a part that is no schema", { type: "array", items: 5 }],
    ["a required property that is not described", { type: "object", properties: {}, required: ["a"] }],
    ["too deep", deep(MAX_SCHEMA_DEPTH + 1)],
    ["too wide", wide(MAX_SCHEMA_NODES)],
  ])("refuses %s", (_, value) => {
    expect(check(schema(value))).toBe("schema_unsupported");
  });

  it("takes what the grammar holds", () => {
    const value = {
      type: "object",
      properties: {
        a: { enum: ["x", "y"] },
        b: { type: "array", items: { $ref: "#/$defs/c" }, maxItems: 3 },
        d: { oneOf: [{ const: 1 }, { type: "null" }] },
      },
      required: ["a"],
      additionalProperties: false,
      $defs: { c: { type: "string", maxLength: 5, description: "short" } },
    };
    expect(check(schema(value))).toBe("none");
    expect(check(schema(deep(MAX_SCHEMA_DEPTH)))).toBe("none");
    expect(check(schema(wide(MAX_SCHEMA_NODES - 1)))).toBe("none");
  });
});

describe("conversations", () => {
  const turns = (messages: GenerateRequest["messages"]) =>
    turnsOf({ kind: "chat", model: { name: "m" }, messages, parameters: {}, stream: true });

  it("become turns", () => {
    expect(
      turns([
        { role: "developer", content: "Be brief." },
        {
          role: "user",
          content: [
            { type: "text", text: "a" },
            { type: "text", text: "b" },
          ],
        },
        { role: "assistant", content: null, refusal: "no" },
      ]),
    ).toEqual([
      { role: "system", text: "Be brief." },
      { role: "user", text: "ab" },
      { role: "model", text: "no" },
    ]);
  });

  it.each<[string, GenerateRequest["messages"]]>([
    ["an image", [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:," } }] }]],
    ["a file", [{ role: "user", content: [{ type: "file", file: {} }] }]],
    ["a tool's result", [{ role: "tool", content: "a", tool_call_id: "c" }]],
    [
      "a tool's call",
      [{ role: "assistant", tool_calls: [{ id: "c", type: "function", function: { name: "a", arguments: "{}" } }] }],
    ],
  ])("are refused with %s", (_, messages) => {
    expect(codeOf(() => turns(messages))).toBe("content_unsupported");
  });
});

describe("messages of the child", () => {
  const hex = "a".repeat(64);
  const loaded = {
    type: "loaded",
    sha256: hex,
    engineSha256: hex,
    cpuClass: hex,
    engineVersion: "b1",
    threads: 1,
    contextTokens: 5,
    vocabulary: 9,
    hasTemplate: true,
  };

  it.each([
    loaded,
    { type: "failed", code: "model_invalid", message: "a", hints: [] },
    { type: "prompt", id: 1, tokens: 2 },
    { type: "piece", id: 1, choice: 0, text: "a", tokens: [1], finish: null },
    { type: "ended", id: 1, code: null, message: "", hints: [] },
  ])("are read: $type", (message) => {
    expect(readMessage(message)).toEqual(message);
  });

  it.each([
    null,
    "loaded",
    {},
    { type: "other" },
    { ...loaded, sha256: "short" },
    { ...loaded, threads: -1 },
    { type: "failed", code: 5, message: "a", hints: [] },
    { type: "prompt", id: 1, tokens: 1.5 },
    { type: "piece", id: 1, choice: 0, text: "a", tokens: ["1"], finish: null },
    { type: "piece", id: 1, choice: 0, text: "a", tokens: [1], finish: "because" },
    { type: "piece", id: 1, choice: 0, text: 5, tokens: [1], finish: null },
    { type: "ended", id: "1", code: null, message: "", hints: [] },
    { type: "ended", id: 1, code: null, message: "", hints: [5] },
  ])("are refused: %j", (message) => {
    expect(readMessage(message)).toBeUndefined();
  });
});
