import { utf8ToBytes } from "@assay/core";
import { describe, expect, it } from "vitest";
import type { ParsedText } from "../text/execution.ts";
import { parseText } from "./parse.ts";

const parse = (more: Record<string, unknown> = {}): ParsedText =>
  parseText("responses", utf8ToBytes(JSON.stringify({ model: "m", input: "hi", ...more })), {});
const fn = { type: "function", name: "sum", description: null, parameters: { type: "object" }, strict: true };

describe("requests of the Responses API", () => {
  it("become conversations", () => {
    const parsed = parse({
      instructions: "Be kind.",
      input: [
        { role: "user", content: "a" },
        {
          type: "message",
          role: "user",
          content: [
            { type: "input_text", text: "b" },
            { type: "input_image", image_url: "data:,", detail: "low" },
            { type: "input_file", filename: "f", file_data: "data:," },
          ],
        },
        {
          type: "message",
          id: "msg_1",
          status: "completed",
          role: "assistant",
          content: [{ type: "output_text", text: "c", annotations: [], logprobs: [] }],
        },
        { type: "function_call", id: "fc_1", call_id: "k1", name: "sum", arguments: "{}", status: "completed" },
        { type: "function_call", call_id: "k2", name: "sum", arguments: "{}" },
        { type: "function_call_output", call_id: "k1", output: "1" },
        { type: "function_call_output", call_id: "k2", output: [{ type: "input_text", text: "2" }] },
        { type: "reasoning", id: "rs_1", summary: [], encrypted_content: null },
        { role: "developer", content: [{ type: "input_text", text: "d" }] },
        { role: "assistant", content: [{ type: "refusal", refusal: "no" }] },
      ],
    });
    const call = (id: string) => ({ id, type: "function", function: { name: "sum", arguments: "{}" } });
    expect(parsed.messages).toEqual([
      { role: "system", content: "Be kind." },
      { role: "user", content: "a" },
      {
        role: "user",
        content: [
          { type: "text", text: "b" },
          { type: "image_url", image_url: { url: "data:,", detail: "low" } },
          { type: "file", file: { file_data: "data:,", filename: "f" } },
        ],
      },
      { role: "assistant", content: [{ type: "text", text: "c" }], tool_calls: [call("k1"), call("k2")] },
      { role: "tool", content: "1", tool_call_id: "k1" },
      { role: "tool", content: [{ type: "text", text: "2" }], tool_call_id: "k2" },
      { role: "developer", content: [{ type: "text", text: "d" }] },
      { role: "assistant", content: [{ type: "refusal", refusal: "no" }] },
    ]);
    expect(parsed.omitted).toEqual(["input[7]"]);
    expect(parsed.repeated).toEqual({ instructions: "Be kind." });
  });

  it("have their parameters under chat's names", () => {
    const parsed = parse({
      temperature: 0.5,
      top_p: 1,
      max_output_tokens: 20,
      tools: [fn],
      tool_choice: { type: "function", name: "sum" },
      parallel_tool_calls: false,
      text: { format: { type: "json_schema", name: "r", schema: { type: "object" }, strict: true }, verbosity: "low" },
      reasoning: { effort: "low", summary: null },
      include: ["message.output_text.logprobs", "reasoning.encrypted_content"],
      top_logprobs: 2,
      store: false,
      truncation: "disabled",
      background: false,
      previous_response_id: null,
      metadata: { a: "b" },
      user: "u",
      stream: true,
    });
    expect(parsed.parameters).toEqual({
      temperature: 0.5,
      top_p: 1,
      max_tokens: 20,
      logprobs: true,
      top_logprobs: 2,
      tools: [{ type: "function", function: { name: "sum", parameters: { type: "object" }, strict: true } }],
      tool_choice: { type: "function", function: { name: "sum" } },
      parallel_tool_calls: false,
      response_format: { type: "json_schema", json_schema: { name: "r", schema: { type: "object" }, strict: true } },
      verbosity: "low",
      reasoning_effort: "low",
      store: false,
      metadata: { a: "b" },
      user: "u",
    });
    expect(parsed.omitted).toEqual(["include.reasoning.encrypted_content"]);
    expect(parsed.stream).toBe(true);
  });

  it.each<[string, Record<string, unknown>, string, string]>([
    ["an earlier response", { previous_response_id: "resp_1" }, "parameter_unsupported", "previous_response_id"],
    ["a conversation", { conversation: "c" }, "parameter_unsupported", "conversation"],
    ["a kept prompt", { prompt: { id: "p" } }, "parameter_unsupported", "prompt"],
    ["keeping", { store: true }, "parameter_unsupported", "store"],
    ["the background", { background: true }, "parameter_unsupported", "background"],
    ["unseen shortening", { truncation: "auto" }, "parameter_unsupported", "truncation"],
    ["management of context", { context_management: [] }, "parameter_unsupported", "context_management"],
    ["a count of built-in calls", { max_tool_calls: 2 }, "parameter_unsupported", "max_tool_calls"],
    ["several answers", { n: 2 }, "parameter_unsupported", "n"],
    ["chat's limit", { max_tokens: 2 }, "parameter_unsupported", "max_tokens"],
    ["chat's messages", { messages: [] }, "parameter_unsupported", "messages"],
    ["a seed", { seed: 1 }, "parameter_unsupported", "seed"],
    ["a built-in tool", { tools: [{ type: "web_search" }] }, "parameter_unsupported", "tools[0].type"],
    [
      "a choice among several tools",
      { tools: [fn], tool_choice: { type: "allowed_tools", mode: "auto", tools: [] } },
      "parameter_unsupported",
      "tool_choice.type",
    ],
    ["sources of a search", { include: ["web_search_call.action.sources"] }, "parameter_unsupported", "include[0]"],
    ["a summary of thoughts", { reasoning: { summary: "auto" } }, "parameter_unsupported", "reasoning.summary"],
    [
      "sealed thoughts",
      { input: [{ type: "reasoning", id: "r", summary: [], encrypted_content: "x" }] },
      "parameter_unsupported",
      "input[0].encrypted_content",
    ],
    [
      "a reference to an item",
      { input: [{ type: "item_reference", id: "msg_1" }] },
      "parameter_unsupported",
      "input[0].type",
    ],
    [
      "a call of a built-in tool",
      { input: [{ type: "web_search_call", id: "x" }] },
      "parameter_unsupported",
      "input[0].type",
    ],
    [
      "a kept file",
      { input: [{ role: "user", content: [{ type: "input_file", file_id: "f" }] }] },
      "parameter_unsupported",
      "input[0].content[0].file_id",
    ],
    [
      "a file elsewhere",
      { input: [{ role: "user", content: [{ type: "input_file", file_url: "https://x" }] }] },
      "parameter_unsupported",
      "input[0].content[0].file_url",
    ],
    [
      "an image from a tool",
      {
        input: [{ type: "function_call_output", call_id: "k", output: [{ type: "input_image", image_url: "data:," }] }],
      },
      "parameter_unsupported",
      "input[0].output[0]",
    ],
    [
      "an image without its address",
      { input: [{ role: "user", content: [{ type: "input_image" }] }] },
      "parameter_invalid",
      "input[0].content[0].image_url",
    ],
    ["thoughts alone", { input: [{ type: "reasoning", id: "r", summary: [] }] }, "parameter_invalid", "input"],
    ["no input", { input: [] }, "parameter_invalid", "input"],
    ["missing input", { input: null }, "parameter_invalid", "input"],
    ["an unknown member", { temprature: 1 }, "parameter_unknown", "temprature"],
    ["an unknown member of text", { text: { forma: {} } }, "parameter_unknown", "text.forma"],
    [
      "a format without its name",
      { text: { format: { type: "json_schema", schema: {} } } },
      "parameter_invalid",
      "text.format.name",
    ],
    ["likely tokens that were not asked for", { top_logprobs: 2 }, "parameter_invalid", "top_logprobs"],
    ["a forced call without tools", { tool_choice: "required" }, "parameter_invalid", "tool_choice"],
    [
      "options of a stream that is none",
      { stream_options: { include_obfuscation: false } },
      "parameter_invalid",
      "stream_options",
    ],
  ])("refuse %s", (_, more, code, path) => {
    expect(() => parse(more)).toThrow(expect.objectContaining({ code }));
    try {
      parse(more);
    } catch (error) {
      expect((error as { hints: string[] }).hints[0]).toBe(path);
    }
  });
});
