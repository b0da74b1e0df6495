import type { ChatMessage, GenerateParameters, GenerateRequest, LanguageEngine } from "@assay/protocol";
import { retryAfterOf } from "@assay/protocol";
import {
  ANTHROPIC_MODEL,
  anthropicHandler,
  GEMINI_MODELS,
  geminiHandler,
  sendJson,
  serveWire,
} from "@assay/testkit/upstream";
import type { WireHandler, WireServer } from "@assay/testkit/upstream";
import { afterEach, describe, expect, it } from "vitest";
import type { UpstreamLimits } from "./index.ts";
import { MAX_EVENT_BYTES } from "./limits.ts";
import { chat, codeOf, read, SECRET, upstreamAt } from "./testing/harness.ts";

const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

type Kind = "anthropic" | "gemini";

async function play(
  kind: Kind,
  handler: WireHandler,
  limits: Partial<UpstreamLimits> = {},
): Promise<{ readonly engine: LanguageEngine; readonly server: WireServer }> {
  const server = await serveWire(handler);
  const engine = upstreamAt(server.url, { kind, limits });
  opened.push(server.close, engine.close);
  return { engine, server };
}

const SSE = { "content-type": "text/event-stream" };
const whole =
  (...parts: readonly string[]): WireHandler =>
  (_, response) => {
    response.writeHead(200, SSE);
    response.end(parts.join(""));
  };
const event = (type: string, rest: object = {}): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...rest })}\n\n`;
const candidate = (parts: unknown[], rest: object = {}): string =>
  `data: ${JSON.stringify({ candidates: [{ content: { role: "model", parts }, ...rest }], modelVersion: "g-1" })}\r\n\r\n`;

/** The pieces of one good answer in each format: its beginning, a word, its end. */
const PIECES: Readonly<Record<Kind, { readonly head: string; readonly word: string; readonly end: string }>> = {
  anthropic: {
    head:
      event("message_start", { message: { id: "m1", model: "c-1", usage: { input_tokens: 5, output_tokens: 1 } } }) +
      event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
    word: event("content_block_delta", { index: 0, delta: { type: "text_delta", text: "a" } }),
    end:
      event("content_block_stop", { index: 0 }) +
      event("message_delta", { delta: { stop_reason: "end_turn" }, usage: { output_tokens: 3 } }) +
      event("message_stop"),
  },
  gemini: {
    head: "",
    word: candidate([{ text: "a" }]),
    end: candidate([{ text: "" }], { finishReason: "STOP" }),
  },
};
const KINDS = ["anthropic", "gemini"] as const;

describe.each(KINDS)("%s: faults on the way", (kind) => {
  const { head, word, end } = PIECES[kind];
  const good = chat({}, true, "m");

  it("none", async () => {
    const { engine, server } = await play(kind, whole(head, word, word, end));
    const result = await read(engine, good);
    expect([codeOf(result), result.text]).toEqual(["none", "aa"]);
    expect(JSON.stringify(server.requests[0]?.headers)).toContain(SECRET);
  });

  it.each([
    ["a stream that ends early", [head, word], "engine_interrupted/upstream_malformed"],
    ["a stream of nothing", [], "upstream_malformed"],
    [
      "an event that is no JSON",
      [head, word, "event: content_block_delta\ndata: {oops}\n\n"],
      "engine_interrupted/upstream_malformed",
    ],
    ["an event that breaks off", [head, word, 'event: x\ndata: {"a'], "engine_interrupted/upstream_malformed"],
  ])("%s", async (_, parts, code) => {
    const { engine, server } = await play(kind, whole(...parts));
    expect(codeOf(await read(engine, good))).toBe(code);
    await server.idle();
    expect(engine.stats().running).toBe(0);
  });

  it("an answer that goes on after its end, or ends twice", async () => {
    const twice = await play(kind, whole(head, word, end, end));
    expect(codeOf(await read(twice.engine, good))).toBe("engine_interrupted/upstream_malformed");
    const on = await play(kind, whole(head, word, end, word));
    expect(codeOf(await read(on.engine, good))).toBe("engine_interrupted/upstream_malformed");
  });

  it("silence before the first byte, and in the middle", async () => {
    const first = await play(kind, () => undefined, { firstByteTimeoutMs: 60 });
    expect(codeOf(await read(first.engine, good))).toBe("upstream_timeout");
    await first.server.idle();
    const middle = await play(
      kind,
      (_, response) => {
        response.writeHead(200, SSE);
        response.write(head + word);
      },
      { idleTimeoutMs: 100 },
    );
    expect(codeOf(await read(middle.engine, good))).toBe("engine_interrupted/upstream_timeout");
    await middle.server.idle();
  });

  it("a server that dies", async () => {
    const { engine } = await play(kind, async (_, response) => {
      response.writeHead(200, SSE);
      await new Promise((resolve) => response.write(head + word, resolve));
      response.destroy();
    });
    expect(codeOf(await read(engine, good))).toBe("engine_interrupted/upstream_failed");
  });

  it("an event without an end", async () => {
    const { engine, server } = await play(kind, (_, response) => {
      response.writeHead(200, SSE);
      response.write(`data: ${"x".repeat(MAX_EVENT_BYTES + 10)}`);
    });
    expect(codeOf(await read(engine, good))).toBe("upstream_malformed");
    await server.idle();
  });

  it("a page in place of an answer", async () => {
    const { engine } = await play(kind, (_, response) => {
      response.writeHead(200, { "content-type": "text/html" });
      response.end("<html>");
    });
    for (const stream of [true, false])
      expect(codeOf(await read(engine, chat({}, stream, "m")))).toBe("upstream_malformed");
  });

  it.each([
    ["text that is no JSON", "ok"],
    ["a list", "[]"],
    ["an object of nothing", "{}"],
  ])("%s in place of an answer", async (_, body) => {
    const { engine } = await play(kind, (_request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(body);
    });
    expect(codeOf(await read(engine, chat({}, false, "m")))).toBe("upstream_malformed");
  });

  it.each([
    [400, "upstream_refused"],
    [401, "upstream_unauthorized"],
    [403, "upstream_unauthorized"],
    [404, "model_not_found"],
    [429, "upstream_rate_limited"],
    [500, "upstream_failed"],
    [503, "upstream_failed"],
    [307, "upstream_refused"],
  ])("status %d is %s, asked once", async (status, code) => {
    const { engine, server } = await play(kind, (_, response) =>
      sendJson(
        response,
        status,
        { error: { message: `no ${SECRET}`, type: "t" } },
        { "retry-after": "3", "x-should-retry": "true", location: "/elsewhere" },
      ),
    );
    for (const stream of [true, false]) {
      const { error } = await read(engine, chat({}, stream, "m"));
      expect(error?.code).toBe(code);
      expect(JSON.stringify([error?.message, error?.stack, String(error?.cause)])).not.toContain(SECRET);
      if (status === 429) expect(retryAfterOf(error)).toBe(3000);
    }
    expect(server.requests).toHaveLength(2);
  });

  it("an abort, and a reader who leaves", async () => {
    const { engine, server } = await play(kind, (_, response) => {
      response.writeHead(200, SSE);
      response.write(head + word);
    });
    const stop = new AbortController();
    const generation = engine.generate(good, { signal: stop.signal });
    let code = "";
    try {
      for await (const _ of generation.events) stop.abort();
    } catch (error) {
      code = codeOf({ error: error as never });
    }
    expect(code).toBe("engine_interrupted/request_cancelled");
    await server.idle();
    for await (const _ of engine.generate(good, { signal: new AbortController().signal }).events) break;
    await server.idle();
    expect(engine.stats().running).toBe(0);
  });

  it("nothing is printed, whatever comes", async () => {
    const printed: unknown[] = [];
    const methods = ["log", "warn", "error", "debug", "info"] as const;
    const before = methods.map((method) => console[method]);
    for (const method of methods) console[method] = (...values: unknown[]) => void printed.push(values);
    try {
      const { engine } = await play(kind, whole(head, word, "event: content_block_delta\ndata: {secret\n\n"));
      await read(engine, good);
      await engine.models().catch(() => undefined);
    } finally {
      for (const [index, method] of methods.entries()) console[method] = before[index] as never;
    }
    expect(printed).toEqual([]);
  });
});

describe("errors that come as events", () => {
  it.each([
    ["overloaded_error", "upstream_failed"],
    ["rate_limit_error", "upstream_rate_limited"],
    ["invalid_request_error", "upstream_refused"],
    ["api_error", "upstream_failed"],
  ])("anthropic: %s", async (type, code) => {
    const { head, word } = PIECES.anthropic;
    const failing = event("error", { error: { type, message: "Overloaded today" } });
    const { engine } = await play("anthropic", whole(head, word, failing));
    const result = await read(engine, chat());
    expect(codeOf(result)).toBe(`engine_interrupted/${code}`);
    expect(result.error?.message).toContain("Overloaded today");
  });

  it.each([
    [429, "RESOURCE_EXHAUSTED", "upstream_rate_limited"],
    [503, "UNAVAILABLE", "upstream_failed"],
  ])("gemini: %d", async (code, status, expected) => {
    const failing = `data: ${JSON.stringify({ error: { code, message: "Busy today", status } })}\r\n\r\n`;
    const { engine } = await play("gemini", whole(failing));
    const result = await read(engine, chat());
    expect(codeOf(result)).toBe(expected);
    expect(result.error?.message).toContain("Busy today");
  });
});

describe("anthropic's steps", () => {
  const { head, end } = PIECES.anthropic;
  const delta = (value: object, index = 0): string => event("content_block_delta", { index, delta: value });

  it("thoughts are told from the answer, new events are passed over", async () => {
    const { engine } = await play(
      "anthropic",
      whole(
        head,
        event("ping"),
        event("new_thing_of_tomorrow", { index: 9 }),
        delta({ type: "thinking_delta", thinking: "hm" }),
        delta({ type: "signature_delta", signature: "x" }),
        delta({ type: "text_delta", text: "a" }),
        end,
      ),
    );
    const { deltas, text, outcome } = await read(engine, chat());
    expect(text).toBe("a");
    expect(deltas[0]?.delta.reasoning_content).toBe("hm");
    expect(outcome.usage).toEqual({ prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 });
    expect(outcome.parameters["max_tokens"]).toBe(4096);
  });

  it("a call without arguments has an empty object of them", async () => {
    const { engine } = await play(
      "anthropic",
      whole(
        head,
        event("content_block_start", {
          index: 1,
          content_block: { type: "tool_use", id: "t1", name: "clock", input: {} },
        }),
        delta({ type: "input_json_delta", partial_json: "" }, 1),
        event("content_block_stop", { index: 1 }),
        event("message_delta", { delta: { stop_reason: "tool_use" }, usage: { output_tokens: 3 } }),
        event("message_stop"),
      ),
    );
    const { deltas } = await read(engine, chat());
    expect(
      deltas
        .flatMap((step) => step.delta.tool_calls ?? [])
        .map((call) => call.function?.arguments)
        .join(""),
    ).toBe("{}");
  });

  it("counts cached tokens among the prompt's", async () => {
    const usage = { input_tokens: 2, cache_read_input_tokens: 7, cache_creation_input_tokens: 1, output_tokens: 1 };
    const { engine } = await play(
      "anthropic",
      whole(event("message_start", { message: { id: "m", model: "c", usage } }), end),
    );
    expect((await read(engine, chat())).outcome.usage).toMatchObject({
      prompt_tokens: 10,
      prompt_tokens_details: { cached_tokens: 7 },
    });
  });

  it.each([
    ["two beginnings", head],
    ["arguments for no call", delta({ type: "input_json_delta", partial_json: "{" }, 5)],
    ["a block at a wrong place", delta({ type: "text_delta", text: "a" }, -1)],
    ["text that is a number", delta({ type: "text_delta", text: 5 })],
    ["a call without a name", event("content_block_start", { index: 1, content_block: { type: "tool_use", id: "t" } })],
    ["a reason that nobody knows", event("message_delta", { delta: { stop_reason: "because" }, usage: {} })],
    ["a pause for tools of its own", event("message_delta", { delta: { stop_reason: "pause_turn" }, usage: {} })],
  ])("refuses %s", async (_, part) => {
    const { engine } = await play("anthropic", whole(head, PIECES.anthropic.word, part, end));
    expect(codeOf(await read(engine, chat()))).toBe("engine_interrupted/upstream_malformed");
  });

  it.each([
    ["stop_sequence", "stop"],
    ["max_tokens", "length"],
    ["model_context_window_exceeded", "length"],
    ["refusal", "content_filter"],
  ])("%s is %s", async (reason, finish) => {
    const part = event("message_delta", { delta: { stop_reason: reason }, usage: { output_tokens: 1 } });
    const { engine } = await play("anthropic", whole(head, PIECES.anthropic.word, part, event("message_stop")));
    expect((await read(engine, chat())).deltas.at(-1)?.finish_reason).toBe(finish);
  });
});

describe("gemini's steps", () => {
  it("thoughts, images and calls", async () => {
    const { engine } = await play(
      "gemini",
      whole(
        candidate([{ text: "hm", thought: true }]),
        candidate([{ text: "a" }, { inlineData: { mimeType: "image/png", data: "AAAA" } }]),
        candidate([{ functionCall: { name: "clock", args: { zone: "UTC" } } }], { finishReason: "STOP" }),
      ),
    );
    const { deltas, outcome } = await read(engine, chat());
    expect(deltas.map((step) => step.delta)).toEqual([
      { reasoning_content: "hm" },
      { content: "a" },
      { images: ["data:image/png;base64,AAAA"] },
      {
        tool_calls: [
          {
            index: 0,
            id: `call_${"i".repeat(24)}`,
            type: "function",
            function: { name: "clock", arguments: '{"zone":"UTC"}' },
          },
        ],
      },
      {},
    ]);
    expect(deltas.at(-1)?.finish_reason).toBe("tool_calls");
    expect(outcome.usage.estimated).toBe(true);
  });

  it("counts thoughts as what they cost", async () => {
    const usageMetadata = { promptTokenCount: 4, candidatesTokenCount: 2, thoughtsTokenCount: 9, totalTokenCount: 15 };
    const body = { candidates: [{ content: { parts: [{ text: "a" }] }, finishReason: "STOP" }], usageMetadata };
    const { engine } = await play("gemini", whole(`data: ${JSON.stringify(body)}\n\n`));
    expect((await read(engine, chat())).outcome.usage).toEqual({
      prompt_tokens: 4,
      completion_tokens: 11,
      total_tokens: 15,
      completion_tokens_details: { reasoning_tokens: 9 },
    });
  });

  it.each([
    ["SAFETY", "content_filter"],
    ["PROHIBITED_CONTENT", "content_filter"],
    ["MAX_TOKENS", "length"],
  ])("%s is %s", async (reason, finish) => {
    const { engine } = await play("gemini", whole(candidate([{ text: "a" }], { finishReason: reason })));
    expect((await read(engine, chat())).deltas.at(-1)?.finish_reason).toBe(finish);
  });

  it.each(["MALFORMED_FUNCTION_CALL", "OTHER", "LANGUAGE"])("%s is a failure", async (reason) => {
    const { engine } = await play("gemini", whole(PIECES.gemini.word, candidate([], { finishReason: reason })));
    expect(codeOf(await read(engine, chat()))).toBe("engine_interrupted/upstream_failed");
  });

  it("a prompt that is held back ends every choice", async () => {
    const body = `data: ${JSON.stringify({ promptFeedback: { blockReason: "SAFETY" } })}\n\n`;
    const { engine } = await play("gemini", whole(body));
    const { deltas } = await read(engine, chat({ n: 2 }));
    expect(deltas.map((step) => step.finish_reason)).toEqual(["content_filter", "content_filter"]);
  });

  it("asks once, even for an answer that a client would continue by itself", async () => {
    const { engine, server } = await play(
      "gemini",
      whole(PIECES.gemini.word, candidate([], { finishReason: "CONTINUATION", continuationToken: "t" })),
    );
    expect(codeOf(await read(engine, chat()))).toBe("engine_interrupted/upstream_failed");
    expect(server.requests).toHaveLength(1);
  });
});

describe("requests as they go over the wire", () => {
  const png = "data:image/png;base64,iVBORw0KGgo=";
  const pdf = { filename: "a.pdf", file_data: "data:application/pdf;base64,JVBERi0=" };
  const conversation: ChatMessage[] = [
    { role: "system", content: "Be brief." },
    { role: "developer", content: [{ type: "text", text: "Be kind." }] },
    {
      role: "user",
      content: [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: png } },
        { type: "file", file: pdf },
      ],
    },
    {
      role: "assistant",
      content: "",
      tool_calls: [
        { id: "c1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } },
        { id: "c2", type: "function", function: { name: "clock", arguments: "{}" } },
      ],
    },
    { role: "tool", tool_call_id: "c1", content: "snow" },
    { role: "tool", tool_call_id: "c2", content: [{ type: "text", text: "noon" }] },
    { role: "user", content: "And now?" },
  ];
  const sent = async (kind: Kind, messages: ChatMessage[], parameters: GenerateParameters = {}): Promise<unknown> => {
    const { engine, server } = await play(kind, kind === "anthropic" ? anthropicHandler : geminiHandler);
    const name = kind === "anthropic" ? ANTHROPIC_MODEL : GEMINI_MODELS.chat;
    const result = await read(engine, { ...chat(parameters, true, name), messages });
    expect(codeOf(result)).toBe("none");
    return server.requests[0]?.body;
  };

  it("anthropic's", async () => {
    expect(await sent("anthropic", conversation, { max_tokens: 9, reasoning_effort: "high", user: "u1" })).toEqual({
      model: ANTHROPIC_MODEL,
      max_tokens: 9,
      stream: true,
      system: "Be brief.\n\nBe kind.",
      output_config: { effort: "high" },
      metadata: { user_id: "u1" },
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "What is this?" },
            { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } },
            {
              type: "document",
              source: { type: "base64", media_type: "application/pdf", data: "JVBERi0=" },
              title: "a.pdf",
            },
          ],
        },
        {
          role: "assistant",
          content: [
            { type: "tool_use", id: "c1", name: "weather", input: { city: "Oslo" } },
            { type: "tool_use", id: "c2", name: "clock", input: {} },
          ],
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "c1", content: "snow" },
            { type: "tool_result", tool_use_id: "c2", content: "noon" },
            { type: "text", text: "And now?" },
          ],
        },
      ],
    });
  });

  it("gemini's", async () => {
    const parameters = { temperature: 0.5, top_p: 0.9, stop: ["x"], n: 1, web_search: true, store: false };
    expect(await sent("gemini", conversation, parameters)).toEqual({
      systemInstruction: { parts: [{ text: "Be brief.\n\nBe kind." }] },
      generationConfig: { temperature: 0.5, topP: 0.9, stopSequences: ["x"] },
      tools: [{ googleSearch: {} }],
      store: false,
      contents: [
        {
          role: "user",
          parts: [
            { text: "What is this?" },
            { inlineData: { mimeType: "image/png", data: "iVBORw0KGgo=" } },
            { inlineData: { mimeType: "application/pdf", data: "JVBERi0=" } },
          ],
        },
        {
          role: "model",
          parts: [
            { functionCall: { name: "weather", args: { city: "Oslo" } } },
            { functionCall: { name: "clock", args: {} } },
          ],
        },
        {
          role: "user",
          parts: [
            { functionResponse: { name: "weather", response: { output: "snow" } } },
            { functionResponse: { name: "clock", response: { output: "noon" } } },
            { text: "And now?" },
          ],
        },
      ],
    });
  });

  const user = (part: unknown): ChatMessage[] => [{ role: "user", content: [part] } as ChatMessage];
  const call = (given: string): ChatMessage[] => [
    { role: "user", content: "a" },
    { role: "assistant", tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: given } }] },
  ];
  it.each<[string, Kind | "both", ChatMessage[], string]>([
    [
      "a system's message in the middle",
      "both",
      [
        { role: "user", content: "a" },
        { role: "system", content: "b" },
      ],
      "content_unsupported",
    ],
    ["an author's name", "both", [{ role: "user", content: "a", name: "Ann" }], "content_unsupported"],
    ["the older role", "both", [{ role: "function", name: "f", content: "a" }], "content_unsupported"],
    ["a file by its id", "both", user({ type: "file", file: { file_id: "f" } }), "content_unsupported"],
    ["a file of nothing", "both", user({ type: "file", file: {} }), "content_unsupported"],
    [
      "a file that is no PDF",
      "anthropic",
      user({ type: "file", file: { file_data: "data:text/x;base64,AA==" } }),
      "content_unsupported",
    ],
    [
      "an image of another type",
      "anthropic",
      user({ type: "image_url", image_url: { url: "data:image/tiff;base64,AA==" } }),
      "content_unsupported",
    ],
    [
      "an image over plain HTTP",
      "anthropic",
      user({ type: "image_url", image_url: { url: "http://a/b.png" } }),
      "content_unsupported",
    ],
    [
      "an image by its address",
      "gemini",
      user({ type: "image_url", image_url: { url: "https://a/b.png" } }),
      "content_unsupported",
    ],
    [
      "audio",
      "anthropic",
      user({ type: "input_audio", input_audio: { data: "AA==", format: "wav" } }),
      "content_unsupported",
    ],
    ["arguments that are no JSON", "both", call("{oops"), "parameter_invalid"],
    ["arguments that are no object", "both", call("[1]"), "parameter_invalid"],
    ["a result of no call", "gemini", [{ role: "tool", tool_call_id: "x", content: "a" }], "parameter_invalid"],
  ])("%s is refused by %s, unsent", async (_, kinds, messages, code) => {
    for (const kind of kinds === "both" ? KINDS : [kinds]) {
      const { engine, server } = await play(kind, () => undefined);
      const request: GenerateRequest = { ...chat(), messages };
      await expect(engine.check(request)).rejects.toMatchObject({ code });
      expect(codeOf(await read(engine, request))).toBe(code);
      expect(server.requests).toHaveLength(0);
    }
  });

  it.each<[string, Kind, GenerateParameters]>([
    ["temperature", "anthropic", { temperature: 1.5 }],
    ["n", "anthropic", { n: 2 }],
    ["response_format", "anthropic", { response_format: { type: "json_object" } }],
    ["reasoning_effort", "anthropic", { reasoning_effort: "minimal" }],
    ["service_tier", "anthropic", { service_tier: "flex" }],
    ["n", "gemini", { n: 9 }],
    ["stop", "gemini", { stop: ["a", "b", "c", "d", "e", "f"] }],
    ["seed", "gemini", { seed: 2 ** 31 }],
    ["parallel_tool_calls", "gemini", { parallel_tool_calls: false }],
    ["reasoning_effort", "gemini", { reasoning_effort: "xhigh" }],
    ["service_tier", "gemini", { service_tier: "scale" }],
    ["modalities", "gemini", { modalities: ["text", "audio"] }],
  ])("%s beyond what %s takes is refused", async (parameter, kind, parameters) => {
    const { engine } = await play(kind, () => undefined);
    const { error } = await read(engine, chat(parameters));
    expect(error?.code).toBe("parameter_unsupported");
    expect(error?.hints[0]).toContain(parameter);
  });

  it("a tool whose arguments are no object is refused by anthropic", async () => {
    const { engine } = await play("anthropic", () => undefined);
    const tools = [{ type: "function" as const, function: { name: "a", parameters: { type: "string" } } }];
    expect(codeOf(await read(engine, chat({ tools })))).toBe("schema_unsupported");
  });

  it("token ids are refused by gemini's embeddings", async () => {
    const { engine } = await play("gemini", () => undefined);
    const asked = engine.embed({ model: { name: "e" }, inputs: [[1, 2]] }, { signal: new AbortController().signal });
    await expect(asked).rejects.toMatchObject({ code: "content_unsupported" });
  });
});
