import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI, { APIError, APIUserAbortError, BadRequestError, NotFoundError } from "openai";
import { nodeSuite } from "@assay/driver-crypto";
import { createTextNode } from "@assay/service-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createScriptedEngine } from "./text-engine.ts";
import { openTextServer } from "./text-server.ts";
import type { Logged, TextServer } from "./text-server.ts";

// Clients that others wrote, unmodified, against the real server, recorder, log and node; only the engine is scripted.

const engine = createScriptedEngine();
let server: TextServer;
let client: OpenAI;

beforeAll(async () => {
  server = await openTextServer({
    candidates: [
      {
        name: "local",
        executor: createTextNode({
          engines: (name) => (name === "scripted" ? engine : undefined),
          suite: nodeSuite,
          now: Date.now,
          subject: "urn:assay:node:test",
        }),
      },
    ],
    models: [{ name: "echo", kinds: ["chat", "completion", "embedding"], ownedBy: "us", contextTokens: 100 }],
  });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "sk-unused", maxRetries: 0 });
});
afterAll(() => server.close());

const PERSON = {
  type: "object" as const,
  properties: { name: { type: "string" as const }, age: { type: "integer" as const } },
  required: ["name", "age"],
  additionalProperties: false,
};
const WEATHER = {
  type: "object" as const,
  properties: { city: { type: "string" as const } },
  required: ["city"],
  additionalProperties: false,
};
const cityOf = (text: string): { readonly city: string } => JSON.parse(text) as { readonly city: string };

/** The receipt of the latest answer. */
async function latest(): Promise<Logged & { readonly id: string }> {
  const id = server.receipts.at(-1) ?? "";
  return { id, ...(await server.logged(id)) };
}

describe("openai", () => {
  const messages = [{ role: "user" as const, content: "good day" }];

  test("chat, whole, with the receipt in its id and headers", async () => {
    const { data, response } = await client.chat.completions.create({ model: "echo", messages }).withResponse();
    expect(data.choices[0]?.message.content).toBe("You said: good day");
    expect(data.usage).toMatchObject({ prompt_tokens: 4, completion_tokens: 5, total_tokens: 9 });
    const { id, execution } = await latest();
    expect(data.id).toBe(`chatcmpl-${id}`);
    expect(response.headers.get("assay-receipt-id")).toBe(id);
    expect((data as unknown as { assay: unknown }).assay).toEqual({ receipt_id: id, tokens: [[1, 2, 3]] });
    expect(execution).toMatchObject({ kind: "chat", finishReason: "stop", modelName: "echo" });
    expect(execution.transcript).toBeUndefined();
  });

  test("chat, several choices", async () => {
    const data = await client.chat.completions.create({ model: "echo", messages, n: 2, temperature: 0, seed: 7 });
    expect(data.choices.map(({ message, index }) => [index, message.content])).toEqual([
      [0, "You said: good day"],
      [1, "You said: good day"],
    ]);
  });

  test("chat as a stream, with and without a usage frame", async () => {
    for (const include of [false, true]) {
      const stream = await client.chat.completions.create({
        model: "echo",
        messages,
        stream: true,
        ...(include ? { stream_options: { include_usage: true } } : {}),
      });
      let text = "";
      const finishes: unknown[] = [];
      const chunks: OpenAI.ChatCompletionChunk[] = [];
      for await (const chunk of stream) {
        chunks.push(chunk);
        text += chunk.choices[0]?.delta.content ?? "";
        if (chunk.choices[0]?.finish_reason) finishes.push(chunk.choices[0].finish_reason);
      }
      expect([text, finishes]).toEqual(["You said: good day", ["stop"]]);
      expect(chunks.filter(({ usage }) => usage)).toHaveLength(1);
      expect(chunks.at(-1)?.usage?.total_tokens).toBe(9);
      expect(chunks.at(-1)?.choices).toHaveLength(include ? 0 : 1);
      const { id, execution } = await latest();
      expect(new Set(chunks.map((chunk) => chunk.id))).toEqual(new Set([`chatcmpl-${id}`]));
      expect(execution.transcript?.frames).toBe(chunks.length);
    }
  });

  test("structured output", async () => {
    const data = await client.chat.completions.parse({
      model: "echo",
      messages,
      response_format: { type: "json_schema", json_schema: { name: "person", schema: PERSON, strict: true } },
    });
    expect(JSON.parse(data.choices[0]?.message.content ?? "")).toEqual({ name: "Ada", age: 36 });
    const loose = await client.chat.completions.create({
      model: "echo",
      messages,
      response_format: { type: "json_object" },
    });
    expect(loose.choices[0]?.message.content).toBe('{"ok":true}');
  });

  test("tools, by hand and by the runner, whole and as a stream", async () => {
    const data = await client.chat.completions.create({
      model: "echo",
      messages,
      tools: [{ type: "function", function: { name: "weather", parameters: WEATHER, strict: true } }],
      tool_choice: "auto",
    });
    expect(data.choices[0]?.finish_reason).toBe("tool_calls");
    expect(data.choices[0]?.message.tool_calls).toEqual([
      { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Ada"}' } },
    ]);
    const runner = client.chat.completions.runTools({
      model: "echo",
      messages,
      tools: [
        {
          type: "function",
          function: {
            name: "weather",
            description: "The weather of a city.",
            parameters: WEATHER,
            parse: cityOf,
            function: ({ city }: { readonly city: string }) => `sun over ${city}`,
          },
        },
      ],
    });
    expect(await runner.finalContent()).toBe('The tool says "sun over Ada".');
    const streamed = client.chat.completions.runTools({
      model: "echo",
      messages,
      stream: true,
      tools: [
        {
          type: "function",
          function: {
            name: "weather",
            description: "The weather of a city.",
            parameters: WEATHER,
            parse: cityOf,
            function: ({ city }: { readonly city: string }) => `rain over ${city}`,
          },
        },
      ],
    });
    expect(await streamed.finalContent()).toBe('The tool says "rain over Ada".');
  });

  test("completions, whole and as a stream", async () => {
    const data = await client.completions.create({ model: "echo", prompt: "Once", max_tokens: 9 });
    expect(data.choices[0]?.text).toBe("Once and so on.");
    // OpenGradient's clients read this member.
    expect((data as unknown as { completion: string }).completion).toBe("Once and so on.");
    expect(data.id).toBe(`cmpl-${(await latest()).id}`);
    let text = "";
    for await (const chunk of await client.completions.create({ model: "echo", prompt: "Once", stream: true }))
      text += chunk.choices[0]?.text ?? "";
    expect(text).toBe("Once and so on.");
  });

  test("embeddings, as numbers and as the client asks by itself", async () => {
    const expected = [
      [3, 0.5, -0.25],
      [5, 0.5, -0.25],
    ];
    for (const format of [{}, { encoding_format: "float" as const }]) {
      const data = await client.embeddings.create({ model: "echo", input: ["one", "three"], ...format });
      expect(data.data.map(({ embedding }) => embedding)).toEqual(expected);
    }
    expect((await latest()).execution.kind).toBe("embedding");
  });

  test("responses, whole, as a stream, and with tools", async () => {
    const data = await client.responses.create({ model: "echo", input: "good day", instructions: "Be brief." });
    expect(data.output_text).toBe("You said: good day");
    expect(data.id).toBe(`resp_${(await latest()).id}`);
    expect(data.status).toBe("completed");
    const stream = client.responses.stream({ model: "echo", input: "good day" });
    const events: string[] = [];
    let text = "";
    for await (const event of stream) {
      events.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    expect(text).toBe("You said: good day");
    expect([events[0], events.at(-1)]).toEqual(["response.created", "response.completed"]);
    expect((await stream.finalResponse()).output_text).toBe("You said: good day");
    const called = await client.responses.create({
      model: "echo",
      input: "good day",
      tools: [{ type: "function", name: "weather", parameters: WEATHER, strict: true }],
    });
    expect(called.output).toMatchObject([{ type: "function_call", name: "weather", arguments: '{"city":"Ada"}' }]);
    const parsed = await client.responses.parse({
      model: "echo",
      input: "good day",
      text: { format: { type: "json_schema", name: "person", schema: PERSON, strict: true } },
    });
    expect(JSON.parse(parsed.output_text)).toEqual({ name: "Ada", age: 36 });
  });

  test("models", async () => {
    const list = await client.models.list();
    expect(list.data).toEqual([
      {
        id: "echo",
        object: "model",
        created: 0,
        owned_by: "us",
        kinds: ["chat", "completion", "embedding"],
        context_tokens: 100,
      },
    ]);
    expect((await client.models.retrieve("echo")).id).toBe("echo");
    await expect(client.models.retrieve("other")).rejects.toThrow(NotFoundError);
  });

  test("refusals arrive as the client's own errors, with our code", async () => {
    const refused = client.chat.completions.create({ model: "missing", messages });
    await expect(refused).rejects.toThrow(NotFoundError);
    await expect(refused).rejects.toMatchObject({ status: 404, code: "model_not_found", param: "model" });
    const wrong = client.chat.completions.create({ model: "echo", messages, temperature: 3 });
    await expect(wrong).rejects.toThrow(BadRequestError);
    await expect(wrong).rejects.toMatchObject({ code: "parameter_invalid", param: "temperature" });
    const more = { top_k: 4 };
    const unknown = client.chat.completions.create({ model: "echo", messages, ...more });
    await expect(unknown).rejects.toMatchObject({ code: "parameter_unknown", param: "top_k" });
  });

  test("an answer that breaks off is an error, never an end", async () => {
    const breaking = [{ role: "user" as const, content: "break" }];
    const stream = await client.chat.completions.create({ model: "echo", messages: breaking, stream: true });
    let text = "";
    const read = (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    })();
    await expect(read).rejects.toThrow(APIError);
    await expect(read).rejects.toMatchObject({ code: "engine_interrupted" });
    expect(text).toBe("You said: ");
    expect((await latest()).execution.finishReason).toBe("incomplete");
    const events = (async () => {
      for await (const event of await client.responses.create({ model: "echo", input: "break", stream: true }))
        void event;
    })();
    await expect(events).rejects.toThrow(APIError);
    await expect(client.chat.completions.create({ model: "echo", messages: breaking })).rejects.toMatchObject({
      status: 502,
      code: "engine_interrupted",
    });
  });

  test("a stream that the client leaves", async () => {
    const before = server.receipts.length;
    const stream = await client.chat.completions.create({
      model: "echo",
      messages: [{ role: "user", content: "word ".repeat(200_000) }],
      stream: true,
    });
    for await (const chunk of stream) {
      expect(chunk.object).toBe("chat.completion.chunk");
      break;
    }
    stream.controller.abort();
    await expect.poll(() => server.receipts.length).toBe(before + 1);
    expect((await latest()).execution.finishReason).toBe("incomplete");
    await expect.poll(() => [server.gateway.inFlight(), engine.stats().running]).toEqual([0, 0]);
    const gone = new AbortController();
    gone.abort();
    await expect(client.chat.completions.create({ model: "echo", messages }, { signal: gone.signal })).rejects.toThrow(
      APIUserAbortError,
    );
  });
});

describe("the AI SDK", () => {
  const providers = () => {
    const openai = createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused" });
    const compatible = createOpenAICompatible({
      name: "assay",
      baseURL: `${server.url}/v1`,
      supportsStructuredOutputs: true,
      includeUsage: true,
    });
    return [
      ["openai, responses", openai("echo")],
      ["openai, chat", openai.chat("echo")],
      ["openai-compatible", compatible("echo")],
    ] as const;
  };
  const settings = { maxRetries: 0, prompt: "good day" } as const;

  test("generateText and streamText", async () => {
    for (const [name, model] of providers()) {
      const { text, usage, finishReason } = await generateText({ model, ...settings });
      expect([text, finishReason, usage.totalTokens], name).toEqual(["You said: good day", "stop", 9]);
      const streamed = streamText({ model, ...settings });
      let read = "";
      for await (const part of streamed.textStream) read += part;
      expect([read, await streamed.finishReason, (await streamed.totalUsage).totalTokens], name).toEqual([
        "You said: good day",
        "stop",
        9,
      ]);
    }
  });

  test("a second turn of the default model, which names earlier answers by reference", async () => {
    const [[, model]] = providers();
    if (!model) throw new Error("no model");
    const { maxRetries } = settings;
    const first = await generateText({ model, maxRetries, messages: [{ role: "user", content: "good day" }] });
    const asked = await generateText({
      model,
      maxRetries,
      messages: [
        { role: "user", content: "good day" },
        ...first.response.messages,
        { role: "user", content: "and again" },
      ],
    });
    expect(asked.text).toBe("You said: and again");
    expect(JSON.stringify(asked.request.body)).toContain("item_reference");
    // Somebody who read the receipt's id in the public log cannot name the item: its id ends with a secret.
    const id = server.receipts.at(-2) ?? "";
    const guessed = await fetch(`${server.url}/v1/responses`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "echo",
        input: [
          { type: "item_reference", id: `msg_${id}_0` },
          { role: "user", content: "repeat that" },
        ],
      }),
    });
    expect(guessed.status).toBe(400);
    expect(await guessed.json()).toMatchObject({ error: { code: "parameter_unsupported", param: "input[0].type" } });
  });

  test("an answer that was not to be stored is not referred to", async () => {
    const body = { model: "echo", store: false, input: "good day" };
    const ask = (json: unknown): Promise<Response> =>
      fetch(`${server.url}/v1/responses`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(json),
      });
    const { output } = (await (await ask(body)).json()) as { readonly output: readonly [{ readonly id: string }] };
    const again = {
      model: "echo",
      input: [
        { type: "item_reference", id: output[0].id },
        { role: "user", content: "x" },
      ],
    };
    expect((await ask(again)).status).toBe(400);
  });

  test("generateObject", async () => {
    for (const [name, model] of providers()) {
      const { object } = await generateObject({
        model,
        ...settings,
        schema: jsonSchema<{ name: string; age: number }>(PERSON),
      });
      expect(object, name).toEqual({ name: "Ada", age: 36 });
    }
  });

  test("tools, over two steps", async () => {
    for (const [name, model] of providers()) {
      const tools = {
        weather: tool({
          description: "The weather of a city.",
          inputSchema: jsonSchema<{ city: string }>(WEATHER),
          execute: ({ city }) => Promise.resolve(`sun over ${city}`),
        }),
      };
      const { text, steps } = await generateText({ model, ...settings, tools, stopWhen: stepCountIs(3) });
      expect([text, steps.length], name).toEqual(['The tool says "sun over Ada".', 2]);
      const streamed = streamText({ model, ...settings, tools, stopWhen: stepCountIs(3) });
      expect(await streamed.text, name).toBe('The tool says "sun over Ada".');
    }
  });

  test("embeddings and completions", async () => {
    const openai = createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused" });
    const { embeddings } = await embedMany({ model: openai.embedding("echo"), values: ["one", "three"] });
    expect(embeddings).toEqual([
      [3, 0.5, -0.25],
      [5, 0.5, -0.25],
    ]);
    const { text } = await generateText({ model: openai.completion("echo"), ...settings });
    expect(text).toContain("good day");
  });

  test("a stream that breaks off is an error", async () => {
    for (const [name, model] of providers()) {
      const errors: unknown[] = [];
      const streamed = streamText({
        model,
        maxRetries: 0,
        prompt: "break",
        onError: ({ error }) => void errors.push(error),
      });
      await streamed.consumeStream({ onError: () => undefined });
      expect(errors, name).toHaveLength(1);
      expect(JSON.stringify(errors[0]), name).toContain("engine_interrupted");
    }
  });
});

describe("LangChain", () => {
  const chat = (): ChatOpenAI =>
    new ChatOpenAI({ model: "echo", apiKey: "unused", maxRetries: 0, configuration: { baseURL: `${server.url}/v1` } });

  test("invoke and stream", async () => {
    const answer = await chat().invoke([new HumanMessage("good day")]);
    expect(answer.text).toBe("You said: good day");
    expect(answer).toMatchObject({ usage_metadata: { total_tokens: 9 } });
    let text = "";
    for await (const chunk of await chat().stream("good day")) text += chunk.text;
    expect(text).toBe("You said: good day");
  });

  test("bindTools and withStructuredOutput", async () => {
    const bound = chat().bindTools([
      { type: "function", function: { name: "weather", description: "The weather.", parameters: WEATHER } },
    ]);
    const answer = await bound.invoke("good day");
    expect(answer.tool_calls).toMatchObject([{ name: "weather", args: { city: "Ada" } }]);
    for (const method of ["jsonSchema", "functionCalling"] as const) {
      const structured = chat().withStructuredOutput<{ name: string; age: number }>(PERSON, { name: "person", method });
      expect(await structured.invoke("good day"), method).toEqual({ name: "Ada", age: 36 });
    }
  });

  test("the Responses API", async () => {
    const responses = new ChatOpenAI({
      model: "echo",
      apiKey: "unused",
      maxRetries: 0,
      useResponsesApi: true,
      configuration: { baseURL: `${server.url}/v1` },
    });
    expect((await responses.invoke("good day")).text).toBe("You said: good day");
    let text = "";
    for await (const chunk of await responses.stream("good day")) text += chunk.text;
    expect(text).toBe("You said: good day");
  });

  test("embeddings", async () => {
    const embeddings = new OpenAIEmbeddings({
      model: "echo",
      apiKey: "unused",
      configuration: { baseURL: `${server.url}/v1` },
    });
    expect(await embeddings.embedDocuments(["one", "three"])).toEqual([
      [3, 0.5, -0.25],
      [5, 0.5, -0.25],
    ]);
    expect(await embeddings.embedQuery("one")).toEqual([3, 0.5, -0.25]);
  });
});
