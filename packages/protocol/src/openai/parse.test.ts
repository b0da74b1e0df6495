import { utf8ToBytes } from "@assay/core";
import { describe, expect, it } from "vitest";
import type { ParsedText, TextDialect } from "../text/execution.ts";
import { TEXT_LIMITS } from "../text/messages.ts";
import { TEXT_VALUE_LIMITS } from "./limits.ts";
import { parseText } from "./parse.ts";

const parse = (dialect: TextDialect, body: unknown, headers: Record<string, string> = {}): ParsedText =>
  parseText(dialect, utf8ToBytes(typeof body === "string" ? body : JSON.stringify(body)), headers);
const user = (content: unknown = "hi") => ({ role: "user", content });
const chat = (more: Record<string, unknown> = {}): ParsedText =>
  parse("chat", { model: "m", messages: [user()], ...more });
const tool = (name = "sum") => ({ type: "function", function: { name, parameters: { type: "object" } } });

describe("chat requests", () => {
  it("are typed data", () => {
    expect(
      chat({ temperature: 0, top_p: 0.9, seed: -3, n: 2, stop: "end", logprobs: true, top_logprobs: 3, stream: true }),
    ).toEqual({
      dialect: "chat",
      kind: "chat",
      model: "m",
      messages: [user()],
      parameters: { temperature: 0, top_p: 0.9, seed: -3, n: 2, stop: ["end"], logprobs: true, top_logprobs: 3 },
      stream: true,
      includeUsage: false,
      routing: {},
    });
  });

  it("take null for absence in every optional member", () => {
    const names = ["temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens", "tools", "tool_choice"];
    const more = ["logit_bias", "stream", "stream_options", "response_format", "seed", "user", "metadata", "store"];
    const unsupported = ["functions", "function_call", "audio", "assay"];
    const nulls = Object.fromEntries([...names, ...more, ...unsupported].map((name) => [name, null]));
    expect(chat(nulls)).toEqual(chat());
  });

  it("parse as OpenGradient's clients send them", () => {
    const parsed = parse("chat", {
      model: "openai/gpt-5",
      messages: [
        { role: "system", content: "s" },
        { role: "developer", content: "d" },
        user([
          { type: "text", text: "look" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
          { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" } },
        ]),
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c", type: "function", function: { name: "sum", arguments: "{}" } }],
        },
        { role: "tool", tool_call_id: "c", content: "3" },
        { role: "function", name: "old", content: "4" },
      ],
      max_tokens: 100,
      temperature: 0.0,
      stop: null,
      tools: [tool()],
      tool_choice: "auto",
      response_format: { type: "json_schema", json_schema: { name: "r", schema: { type: "object" }, strict: true } },
      web_search: true,
    });
    expect(parsed.messages).toHaveLength(6);
    expect(parsed.parameters).toMatchObject({ max_tokens: 100, temperature: 0, tool_choice: "auto", web_search: true });
    expect(chat({ web_search: false, tools: [], tool_choice: "auto" }).parameters).toEqual({});
    expect(
      parse("completions", { model: "m", prompt: "p", max_tokens: 100, temperature: 0, stop: null, web_search: false })
        .parameters,
    ).toEqual({
      max_tokens: 100,
      temperature: 0,
    });
  });

  it("have one limit under two names", () => {
    expect(chat({ max_tokens: 5 }).parameters).toEqual({ max_tokens: 5 });
    expect(chat({ max_completion_tokens: 6 }).parameters).toEqual({ max_tokens: 6 });
    expect(chat({ max_tokens: 5, max_completion_tokens: 5 }).parameters).toEqual({ max_tokens: 5 });
    expect(() => chat({ max_tokens: 5, max_completion_tokens: 6 })).toThrow(
      expect.objectContaining({ code: "parameter_invalid", hints: ["max_completion_tokens"] }),
    );
  });

  it("may send an answer's message back as it was, and say what no engine is given of it", () => {
    const call = { id: "c", type: "function", function: { name: "sum", arguments: "{}" } };
    const parsed = parse("chat", {
      model: "m",
      messages: [
        user(),
        {
          role: "assistant",
          content: "a",
          refusal: null,
          audio: null,
          function_call: null,
          tool_calls: null,
          annotations: [],
          parsed: null,
        },
        {
          role: "assistant",
          content: null,
          refusal: null,
          reasoning_content: "hm",
          images: ["data:,"],
          annotations: [{ type: "url_citation" }],
          tool_calls: [{ ...call, function: { ...call.function, parsed_arguments: {} } }],
        },
        { role: "tool", tool_call_id: "c", content: "1" },
      ],
    });
    expect(parsed.messages[1]).toEqual({ role: "assistant", content: "a" });
    expect(parsed.messages[2]).toEqual({ role: "assistant", content: null, tool_calls: [call] });
    expect(parsed.omitted).toEqual([
      "messages[2].annotations",
      "messages[2].reasoning_content",
      "messages[2].images",
      "messages[2].tool_calls[0].function.parsed_arguments",
    ]);
    const many = Array.from({ length: 40 }, () => ({ role: "assistant", content: "a", reasoning_content: "hm" }));
    const omitted = parse("chat", { model: "m", messages: many }).omitted ?? [];
    expect([omitted.length, omitted.at(-1)]).toEqual([TEXT_VALUE_LIMITS.maxOmitted, "and 9 more"]);
  });

  const refused: [string, Record<string, unknown>, string, string][] = [
    ["an unknown member", { temprature: 1 }, "parameter_unknown", "temprature"],
    ["an unknown member that is null", { temprature: null }, "parameter_unknown", "temprature"],
    [
      "an unknown member of a message",
      { messages: [{ ...user(), cache: true }] },
      "parameter_unknown",
      "messages[0].cache",
    ],
    [
      "an unknown member of a part",
      { messages: [user([{ type: "text", text: "x", cache_control: {} }])] },
      "parameter_unknown",
      "messages[0].content[0].cache_control",
    ],
    ["an unknown role", { messages: [{ role: "boss", content: "x" }] }, "parameter_invalid", "messages[0].role"],
    ["no messages", { messages: [] }, "parameter_invalid", "messages"],
    ["missing messages", { messages: null }, "parameter_invalid", "messages"],
    ["a message without content", { messages: [{ role: "user" }] }, "parameter_invalid", "messages[0].content"],
    ["a model that is no text", { model: 5 }, "parameter_invalid", "model"],
    ["an empty model", { model: "" }, "parameter_invalid", "model"],
    ["a model with a line break", { model: "a\nb" }, "parameter_invalid", "model"],
    [
      "a model longer than the limit",
      { model: "m".repeat(TEXT_VALUE_LIMITS.maxModelChars + 1) },
      "parameter_invalid",
      "model",
    ],
    ["too warm a temperature", { temperature: 2.1 }, "parameter_invalid", "temperature"],
    ["a temperature as a text", { temperature: "0.7" }, "parameter_invalid", "temperature"],
    ["a top_p of nothing", { top_p: 0 }, "parameter_invalid", "top_p"],
    ["a seed beyond 2^53", { seed: 2 ** 53 }, "parameter_invalid", "seed"],
    ["a fractional seed", { seed: 1.5 }, "parameter_invalid", "seed"],
    ["no choice", { n: 0 }, "parameter_invalid", "n"],
    ["too many choices", { n: TEXT_LIMITS.maxChoices + 1 }, "parameter_invalid", "n"],
    [
      "too many stops",
      { stop: Array.from({ length: TEXT_LIMITS.maxStops + 1 }, () => "x") },
      "parameter_invalid",
      "stop",
    ],
    ["an empty stop", { stop: ["a", ""] }, "parameter_invalid", "stop[1]"],
    ["too long a stop", { stop: "x".repeat(TEXT_VALUE_LIMITS.maxStopChars + 1) }, "parameter_invalid", "stop"],
    ["no token", { max_tokens: 0 }, "parameter_invalid", "max_tokens"],
    ["too many tokens", { max_tokens: TEXT_VALUE_LIMITS.maxTokens + 1 }, "parameter_invalid", "max_tokens"],
    ["a bias of a word", { logit_bias: { hello: 1 } }, "parameter_invalid", "logit_bias.hello"],
    ["too strong a bias", { logit_bias: { 5: 101 } }, "parameter_invalid", "logit_bias.5"],
    [
      "too many biases",
      {
        logit_bias: Object.fromEntries(Array.from({ length: TEXT_VALUE_LIMITS.maxLogitBiases + 1 }, (_, i) => [i, 1])),
      },
      "parameter_invalid",
      "logit_bias",
    ],
    ["top_logprobs alone", { top_logprobs: 2 }, "parameter_invalid", "top_logprobs"],
    [
      "too many top_logprobs",
      { logprobs: true, top_logprobs: TEXT_LIMITS.maxTopLogprobs + 1 },
      "parameter_invalid",
      "top_logprobs",
    ],
    [
      "options of a stream that is none",
      { stream_options: { include_usage: true } },
      "parameter_invalid",
      "stream_options",
    ],
    [
      "obfuscation",
      { stream: true, stream_options: { include_obfuscation: true } },
      "parameter_invalid",
      "stream_options.include_obfuscation",
    ],
    ["a forced call without tools", { tool_choice: "required" }, "parameter_invalid", "tool_choice"],
    [
      "a call of a tool that is not there",
      { tools: [tool()], tool_choice: { type: "function", function: { name: "mul" } } },
      "parameter_invalid",
      "tool_choice",
    ],
    ["a tool's bad name", { tools: [tool("a b")] }, "parameter_invalid", "tools[0].function.name"],
    [
      "too many tools",
      { tools: Array.from({ length: TEXT_LIMITS.maxTools + 1 }, () => tool()) },
      "parameter_invalid",
      "tools",
    ],
    [
      "a tool that is no function",
      { tools: [{ type: "custom", custom: { name: "x" } }] },
      "parameter_unsupported",
      "tools[0].type",
    ],
    [
      "a choice that is no function",
      { tools: [tool()], tool_choice: { type: "allowed_tools", allowed_tools: {} } },
      "parameter_unsupported",
      "tool_choice.type",
    ],
    ["audio", { modalities: ["text", "audio"] }, "parameter_unsupported", "modalities"],
    ["a voice", { audio: { voice: "x", format: "wav" } }, "parameter_unsupported", "audio"],
    ["older functions", { functions: [] }, "parameter_unsupported", "functions"],
    ["an older choice of a function", { function_call: "auto" }, "parameter_unsupported", "function_call"],
    [
      "an older call in a message",
      { messages: [{ role: "assistant", function_call: { name: "f", arguments: "" } }] },
      "parameter_unsupported",
      "messages[0].function_call",
    ],
    ["keeping", { store: true }, "parameter_unsupported", "store"],
    ["moderation", { moderation: {} }, "parameter_unsupported", "moderation"],
    ["cache options", { prompt_cache_options: {} }, "parameter_unsupported", "prompt_cache_options"],
    [
      "too many labels",
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, "x"])) },
      "parameter_invalid",
      "metadata",
    ],
    ["too long a label", { metadata: { a: "x".repeat(513) } }, "parameter_invalid", "metadata.a"],
    ["too long a user", { user: "x".repeat(TEXT_VALUE_LIMITS.maxIdentifierChars + 1) }, "parameter_invalid", "user"],
    [
      "a format without its schema",
      { response_format: { type: "json_schema" } },
      "parameter_invalid",
      "response_format.json_schema",
    ],
    ["an unknown effort", { reasoning_effort: "heroic" }, "parameter_invalid", "reasoning_effort"],
  ];
  it.each(refused)("refuse %s", (_, more, code, path) => {
    expect(() => chat(more)).toThrow(expect.objectContaining({ code, hints: expect.arrayContaining([path]) }));
    try {
      chat(more);
    } catch (error) {
      expect((error as { hints: string[] }).hints[0]).toBe(path);
      expect((error as Error).message).toContain(path);
    }
  });

  it("refuse too many messages and parts", () => {
    const messages = Array.from({ length: TEXT_LIMITS.maxMessages + 1 }, () => user());
    expect(() => chat({ messages })).toThrow(expect.objectContaining({ code: "parameter_invalid" }));
    const parts = Array.from({ length: TEXT_LIMITS.maxParts + 1 }, () => ({ type: "text", text: "x" }));
    expect(() => chat({ messages: [user(parts)] })).toThrow(expect.objectContaining({ code: "parameter_invalid" }));
  });

  it("never print control characters of a name", () => {
    expect(() => chat({ "a\u001b[2Jb": 1 })).toThrow(
      expect.objectContaining({ hints: expect.arrayContaining(["a?[2Jb"]) }),
    );
    expect(() => parse("chat", '{"model":"m","messages":[],"__proto__":1}')).toThrow(
      expect.objectContaining({ code: "parameter_unknown" }),
    );
  });
});

describe("bodies", () => {
  it.each([
    ["a list", "[]", "json_invalid"],
    ["a text", '"x"', "json_invalid"],
    ["nothing", "", "json_invalid"],
    ["a byte order mark", "\ufeff{}", "json_invalid"],
    ["too deep a nesting", `{"a":${"[".repeat(64)}${"]".repeat(64)}}`, "json_invalid"],
  ])("refuse %s", (_, body, code) => {
    expect(() => parse("chat", body)).toThrow(expect.objectContaining({ code }));
  });

  it("refuse what is not UTF-8, and too many bytes", () => {
    expect(() => parseText("chat", new Uint8Array([0x7b, 0xff]), {})).toThrow(
      expect.objectContaining({ code: "json_invalid" }),
    );
    const large = new Uint8Array(TEXT_LIMITS.maxBodyBytes + 1);
    expect(() => parseText("chat", large, {})).toThrow(expect.objectContaining({ code: "request_too_large" }));
  });
});

describe("requests of the older completions API", () => {
  const complete = (more: Record<string, unknown> = {}) => parse("completions", { model: "m", prompt: "p", ...more });

  it("have one prompt in any of its forms", () => {
    expect(complete().prompt).toBe("p");
    expect(complete({ prompt: ["p"] }).prompt).toBe("p");
    expect(complete({ prompt: [1, 2] }).prompt).toEqual([1, 2]);
    expect(complete({ prompt: [[1, 2]] }).prompt).toEqual([1, 2]);
    expect(complete({ prompt: [1] }).prompt).toEqual([1]);
    expect(complete({ prompt: "" }).prompt).toBe("");
  });

  it("have logprobs as a number", () => {
    expect(complete({ logprobs: 0 }).parameters).toEqual({ logprobs: true, top_logprobs: 0 });
    expect(complete({ logprobs: 5, echo: true, suffix: "s", best_of: 3, n: 2 }).parameters).toEqual({
      logprobs: true,
      top_logprobs: 5,
      echo: true,
      suffix: "s",
      best_of: 3,
      n: 2,
    });
  });

  it.each<[string, Record<string, unknown>, string, string]>([
    ["several prompts", { prompt: ["a", "b"] }, "parameter_unsupported", "prompt"],
    ["several lists", { prompt: [[1], [2]] }, "parameter_unsupported", "prompt"],
    ["no prompt", { prompt: null }, "parameter_invalid", "prompt"],
    ["an empty list", { prompt: [] }, "parameter_invalid", "prompt"],
    ["a negative token", { prompt: [-1] }, "parameter_invalid", "prompt[0]"],
    ["logprobs as a boolean", { logprobs: true }, "parameter_invalid", "logprobs"],
    ["fewer tries than choices", { best_of: 1, n: 2 }, "parameter_invalid", "best_of"],
    ["a stream that would choose", { best_of: 2, stream: true }, "parameter_invalid", "best_of"],
    ["messages", { messages: [] }, "parameter_unknown", "messages"],
    ["tools", { tools: [] }, "parameter_unknown", "tools"],
  ])("refuse %s", (_, more, code, path) => {
    expect(() => complete(more)).toThrow(expect.objectContaining({ code, hints: expect.arrayContaining([path]) }));
  });
});

describe("requests for embeddings", () => {
  const embed = (more: Record<string, unknown> = {}) => parse("embeddings", { model: "m", input: "x", ...more });

  it("take texts and tokens, one or many", () => {
    expect(embed({ encoding_format: "base64", dimensions: 8, user: "u" })).toMatchObject({
      kind: "embedding",
      inputs: ["x"],
      encodingFormat: "base64",
      dimensions: 8,
      parameters: { user: "u" },
      stream: false,
    });
    expect(embed({ input: ["x", "y"] }).inputs).toEqual(["x", "y"]);
    expect(embed({ input: [1, 2] }).inputs).toEqual([[1, 2]]);
    expect(embed({ input: [[1], [2]] }).inputs).toEqual([[1], [2]]);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ["nothing", { input: null }, "parameter_invalid"],
    ["an empty text", { input: "" }, "parameter_invalid"],
    ["an empty list", { input: [] }, "parameter_invalid"],
    ["a mixture", { input: ["x", [1]] }, "parameter_invalid"],
    [
      "too many inputs",
      { input: Array.from({ length: TEXT_LIMITS.maxEmbeddingInputs + 1 }, () => "x") },
      "parameter_invalid",
    ],
    ["another encoding", { encoding_format: "hex" }, "parameter_invalid"],
    ["no dimension", { dimensions: 0 }, "parameter_invalid"],
    ["too many dimensions", { dimensions: TEXT_VALUE_LIMITS.maxDimensions + 1 }, "parameter_invalid"],
    ["a stream", { stream: true }, "parameter_unknown"],
  ])("refuse %s", (_, more, code) => {
    expect(() => embed(more)).toThrow(expect.objectContaining({ code }));
  });
});
