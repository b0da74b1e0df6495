import OpenAI from "openai";
import { bytesToHex } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { TextDialect, TokenLogprob } from "@assay/protocol";
import { disclosed } from "@assay/receipts";
import { MOCK_TIME_MS } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, lieOf, openChatHome, openRechecker, receipted, receiptOf, viewOf } from "./chat-world.ts";
import type { ChatHome, Exchanged, Rechecker } from "./chat-world.ts";
import { ask } from "./running-server.ts";
import type { Json } from "./running-server.ts";

// A language model of the hub from request to receipt and back: real server, engine, log and verifier. What the model
// says is nowhere asserted, only what it may say, and that its receipt holds and is checked again.

let chat: ChatHome;
let checker: Rechecker;
beforeAll(async () => {
  chat = await openChatHome();
  checker = await openRechecker(chat);
});
afterAll(async () => {
  await checker.close();
  await chat.home.close();
});

const QUESTION = [{ role: "user", content: "What is 17 + 25?" }];
const model = "demo/chat";
type Choice = {
  readonly index: number;
  readonly finish_reason: string;
  readonly text?: string;
  readonly message?: {
    readonly content: string | null;
    readonly tool_calls?: readonly {
      readonly id: string;
      readonly type: string;
      readonly function: { readonly name: string; readonly arguments: string };
    }[];
  };
  readonly logprobs: { readonly content: readonly TokenLogprob[] } | null;
};
const choicesOf = ({ body }: Pick<Exchanged, "body">): readonly Choice[] => body["choices"] as readonly Choice[];
const first = (of: Pick<Exchanged, "body">): Choice => {
  const [choice] = choicesOf(of);
  if (!choice) throw new Error(`There is no choice: ${JSON.stringify(of.body)}`);
  return choice;
};
const textOf = (of: Pick<Exchanged, "body">): string => first(of).message?.content ?? first(of).text ?? "";
const tokensOf = ({ body }: Pick<Exchanged, "body">): readonly (readonly number[])[] =>
  (body["assay"] as { readonly tokens: readonly (readonly number[])[] }).tokens;

/** A request whose receipt verifies and whose answer, checked again, is this model's. */
async function agreed(dialect: TextDialect, request: Json) {
  const answered = await receipted(chat, dialect, request);
  const found = await checker.recheck(answered.view);
  expect(found).toMatchObject({ agrees: true, message: expect.stringContaining("tokens are this model's") });
  return answered;
}

const TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather of a city",
      parameters: {
        type: "object",
        properties: { city: { type: "string", maxLength: 24 } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  },
  {
    type: "function",
    function: {
      name: "add",
      description: "The sum of two numbers",
      parameters: {
        type: "object",
        properties: { a: { type: "integer" }, b: { type: "integer" } },
        required: ["a", "b"],
        additionalProperties: false,
      },
    },
  },
];

describe("every way to ask", () => {
  const ways: readonly (readonly [string, TextDialect, Json])[] = [
    ["chat", "chat", { model, messages: QUESTION }],
    ["chat, streamed", "chat", { model, messages: QUESTION, stream: true }],
    [
      "chat, streamed with usage",
      "chat",
      { model, messages: QUESTION, stream: true, stream_options: { include_usage: true } },
    ],
    ["chat by its version", "chat", { model: "demo/chat@1", messages: QUESTION, temperature: 0.8 }],
    ["chat with a past", "chat", { model, messages: [...QUESTION, { role: "assistant", content: "42" }, ...QUESTION] }],
    [
      "chat with a system message",
      "chat",
      { model, messages: [{ role: "system", content: "Be brief." }, ...QUESTION] },
    ],
    ["completion", "completions", { model, prompt: "17 + 25 =", max_tokens: 12 }],
    ["completion, streamed", "completions", { model, prompt: "17 + 25 =", max_tokens: 12, stream: true }],
    ["completion that repeats its prompt", "completions", { model, prompt: "17 +", max_tokens: 5, echo: true }],
    ["completion of token ids", "completions", { model, prompt: [24, 29], max_tokens: 5 }],
    ["responses", "responses", { model, input: "What is 17 + 25?" }],
    ["responses, streamed", "responses", { model, input: "What is 17 + 25?", stream: true, max_output_tokens: 4 }],
  ];
  test.each(ways)("%s", async (_, dialect, request) => {
    const { body, view, exchange: exchanged } = await agreed(dialect, request);
    const { claims } = view.execution;
    expect(bytesToHex(claims.receiptId)).toBe(exchanged.receiptId);
    expect(String(body["id"])).toContain(exchanged.receiptId);
    expect(claims).toMatchObject({
      modelName: "demo/chat",
      modelVersion: "1",
      modelDigestCheck: "hashed-at-load",
      mode: "vanilla",
      runtime: { profile: "llm", sampler: "gumbel-max/1" },
    });
    const version = chat.home.server.hub.catalogue.resolve("demo/chat");
    expect(bytesToHex(claims.modelDigest ?? new Uint8Array())).toBe(version.manifestDigest);
    expect(claims.transcript === undefined).toBe(request["stream"] !== true);
    expect(body["model"]).toBe("demo/chat@1");
    // What was asked stands in the receipt as it was sent, for whoever holds the file.
    const asked = disclosed(view).texts.flatMap(({ side, name }) => (side === "request" ? [name] : []));
    expect(asked.toSorted()).toEqual(Object.keys(request).toSorted());
  });

  test("embeddings, as numbers and as bytes, are the same and have a receipt", async () => {
    const input = ["a receipt", "a signed record"];
    const numbers = await receipted(chat, "embeddings", { model: "demo/embed", input });
    const bytes = await receipted(chat, "embeddings", { model: "demo/embed", input, encoding_format: "base64" });
    const listed = numbers.body["data"] as readonly { readonly embedding: readonly number[] }[];
    const packed = (bytes.body["data"] as readonly { readonly embedding: string }[]).map(({ embedding }) => {
      const raw = Uint8Array.from(Buffer.from(embedding, "base64"));
      return [...new Float32Array(raw.buffer)];
    });
    expect(listed.map(({ embedding }) => embedding.map(Math.fround))).toEqual(packed);
    expect(listed).toHaveLength(2);
    expect(numbers.view.execution.claims).toMatchObject({ kind: "embedding", modelName: "demo/embed" });
  });

  test("OpenAI's client streams it, and its last chunk has the usage", async () => {
    const client = new OpenAI({ baseURL: `${chat.url}/v1`, apiKey: "sk-unused", maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "Hello" }],
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0,
    });
    let text = "";
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    const whole = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "Hello" }],
      temperature: 0,
    });
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(usage?.completion_tokens).toBe(whole.usage?.completion_tokens);
  });

  test("the models are listed in OpenAI's words", async () => {
    const { body } = await ask(chat.url, "/v1/models");
    const ids = (body["data"] as readonly { readonly id: string }[]).map(({ id }) => id);
    expect(ids).toEqual(expect.arrayContaining(["demo/chat", "demo/embed"]));
  });
});

describe("tools", () => {
  const asked = { model, messages: [{ role: "user", content: "What is the weather in Paris?" }], tools: TOOLS };
  const callsOf = (of: Exchanged) =>
    (first(of).message?.tool_calls ?? []).map((call) => ({
      name: call.function.name,
      arguments: JSON.parse(call.function.arguments) as Json,
    }));

  test.each([
    ["required", "required", { parallel_tool_calls: false }],
    ["required, by chance", "required", { temperature: 1.2, seed: 3, parallel_tool_calls: false }],
    ["required, streamed", "required", { stream: true, parallel_tool_calls: false }],
    ["the one that is named", { type: "function", function: { name: "add" } }, { parallel_tool_calls: false }],
    [
      "the one that is named, by chance",
      { type: "function", function: { name: "add" } },
      { temperature: 1, seed: 1, parallel_tool_calls: false },
    ],
  ])("%s: a call is made, with arguments that fit", async (_, choice, more) => {
    const answered = await agreed("chat", { ...asked, ...more, tool_choice: choice });
    const calls = callsOf(answered);
    expect(calls.length).toBeGreaterThan(0);
    expect(first(answered).finish_reason).toBe("tool_calls");
    for (const call of calls) {
      if (typeof choice === "object") expect(call.name).toBe("add");
      if (call.name === "add")
        expect(call.arguments).toEqual({ a: expect.any(Number) as number, b: expect.any(Number) as number });
      else expect(call).toEqual({ name: "get_weather", arguments: { city: expect.any(String) as string } });
    }
    expect(answered.view.execution.claims.parameters?.["tool_choice"]).toEqual(choice);
  });

  test("none: no call is made", async () => {
    const answered = await agreed("chat", { ...asked, tool_choice: "none" });
    expect(callsOf(answered)).toEqual([]);
    expect(first(answered).finish_reason).not.toBe("tool_calls");
  });

  test("auto: text or calls, and either is the model's", async () => {
    for (const seed of [1, 2, 3]) {
      const answered = await agreed("chat", { ...asked, temperature: 1, seed, max_tokens: 300 });
      const calls = first(answered).message?.tool_calls ?? [];
      expect(first(answered).finish_reason === "tool_calls" ? calls.length > 0 : true).toBe(true);
      expect(first(answered).finish_reason === "stop" ? calls.length : 0).toBe(0);
    }
  });

  test("not in parallel: at most one call, whatever chance would do", async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const answered = await agreed("chat", {
        ...asked,
        tool_choice: "required",
        parallel_tool_calls: false,
        temperature: 1.5,
        seed,
        max_tokens: 300,
      });
      expect(callsOf(answered)).toHaveLength(1);
    }
  });

  test("a tool's result comes back to the model", async () => {
    const called = await agreed("chat", { ...asked, tool_choice: "required", parallel_tool_calls: false });
    const { message } = first(called);
    const [call] = message?.tool_calls ?? [];
    const answered = await agreed("chat", {
      ...asked,
      messages: [...asked.messages, message, { role: "tool", tool_call_id: call?.id, content: '{"sky": "clear"}' }],
      tool_choice: "none",
    });
    expect(answered.body["usage"]).not.toEqual(called.body["usage"]);
  });

  test("by the responses API", async () => {
    const tools = TOOLS.map(({ function: { name, parameters } }) => ({ type: "function", name, parameters }));
    const answered = await agreed("responses", { model, input: "Weather in Paris?", tools, tool_choice: "required" });
    const output = answered.body["output"] as readonly { readonly type: string; readonly arguments: string }[];
    expect(output.map(({ type }) => type)).toContain("function_call");
  });

  test.each([
    ["a name that is none of the tools", { tool_choice: { type: "function", function: { name: "other" } } }],
    ["a call where there are no tools", { tools: undefined, tool_choice: "required" }],
    ["two tools of one name", { tools: [TOOLS[0], TOOLS[0]] }],
  ])("%s is refused", async (_, more) => {
    const { status, body } = await exchange(chat.url, "chat", { ...asked, ...more });
    expect([status, body["code"]]).toEqual([400, "parameter_invalid"]);
  });
});

describe("parameters", () => {
  const wander = { model, messages: QUESTION, temperature: 1.3, max_tokens: 40 };

  test("a seed makes the same answer again, and another seed another", async () => {
    const [one, again, other] = [
      await agreed("chat", { ...wander, seed: 11 }),
      await agreed("chat", { ...wander, seed: 11 }),
      await agreed("chat", { ...wander, seed: 12 }),
    ];
    expect(tokensOf(again)).toEqual(tokensOf(one));
    expect(tokensOf(other)).not.toEqual(tokensOf(one));
    expect(one.view.execution.claims.parameters).toMatchObject({ seed: 11, temperature: "1.3", max_tokens: 40 });
    // Without a seed one is drawn and stated: the answer can be checked all the same.
    const drawn = await agreed("chat", wander);
    const { seed } = drawn.view.execution.claims.parameters ?? {};
    const repeated = await agreed("chat", { ...wander, seed });
    expect(tokensOf(repeated)).toEqual(tokensOf(drawn));
  });

  test("the largest and the least seeds", async () => {
    for (const seed of [0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER])
      await agreed("chat", { ...wander, max_tokens: 8, seed });
  });

  test("several choices are several answers, each checked", async () => {
    const answered = await agreed("chat", { ...wander, seed: 4, n: 4 });
    expect(choicesOf(answered).map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(new Set(tokensOf(answered).map((list) => list.join())).size).toBeGreaterThan(1);
    const streamed = await agreed("chat", { ...wander, seed: 4, n: 4, stream: true });
    expect(tokensOf(streamed)).toEqual(tokensOf(answered));
  });

  test("max_tokens ends the answer by its length", async () => {
    const answered = await agreed("chat", { ...wander, seed: 2, max_tokens: 5, logit_bias: { 2: -100, 0: -100 } });
    expect([first(answered).finish_reason, tokensOf(answered)[0]?.length]).toEqual(["length", 5]);
    expect(answered.body["usage"]).toMatchObject({ completion_tokens: 5 });
    expect(answered.view.execution.claims.finishReason).toBe("length");
  });

  test("a stop ends the answer before it, and is no part of it", async () => {
    const asked = { ...wander, seed: 5, logit_bias: { 2: -100, 0: -100 } };
    const whole = await agreed("chat", asked);
    const text = textOf(whole);
    const stop = text.slice(4, 7);
    const cut = await agreed("chat", { ...asked, stop: [stop] });
    expect(textOf(cut)).toBe(text.slice(0, text.indexOf(stop)));
    expect(first(cut).finish_reason).toBe("stop");
    const longer = Array.from({ length: 4 }, (_, i) => `${String(i)}${"~".repeat(700)}`);
    await agreed("chat", { model, messages: QUESTION, temperature: 0, stop: longer });
  });

  test("a bias of -100 bans a token, and of 100 demands it", async () => {
    const plain = await agreed("chat", { model, messages: QUESTION, temperature: 0 });
    const [banned = 0] = tokensOf(plain)[0] ?? [];
    const without = await agreed("chat", { model, messages: QUESTION, temperature: 0, logit_bias: { [banned]: -100 } });
    expect(tokensOf(without)[0]).not.toContain(banned);
    const demanded = await agreed("chat", {
      model,
      messages: QUESTION,
      temperature: 0,
      max_tokens: 6,
      logit_bias: { [banned]: 100 },
    });
    expect(tokensOf(demanded)[0]).toEqual(Array.from({ length: 6 }, () => banned));
    const many = Object.fromEntries(Array.from({ length: 600 }, (_, id) => [id + 300, -0.25]));
    await agreed("chat", { model, messages: QUESTION, temperature: 0.9, max_tokens: 8, logit_bias: many });
  });

  test("penalties and the nucleus", async () => {
    await agreed("chat", { ...wander, seed: 6, top_p: 0.6, presence_penalty: 1.5, frequency_penalty: -0.5 });
  });

  test("log probabilities are of the tokens of the answer, the chosen one among the likeliest", async () => {
    const answered = await agreed("chat", {
      model,
      messages: QUESTION,
      temperature: 0,
      max_tokens: 6,
      logprobs: true,
      top_logprobs: 3,
    });
    const listed = first(answered).logprobs?.content ?? [];
    expect(listed.length).toBeGreaterThan(0);
    const bytes = listed.flatMap((entry) => entry.bytes ?? []);
    expect(Buffer.from(bytes).toString()).toBe(textOf(answered));
    for (const { token, logprob, top_logprobs: top } of listed) {
      expect(logprob).toBeLessThanOrEqual(0);
      expect(top).toHaveLength(3);
      expect(top[0]).toMatchObject({ token, logprob });
    }
  });

  test("an answer of hundreds of tokens is checked in one pass", async () => {
    const answered = await agreed("chat", {
      ...wander,
      max_tokens: 400,
      seed: 9,
      logit_bias: { 2: -100, 0: -100 },
      stream: true,
    });
    expect(tokensOf(answered)[0]).toHaveLength(400);
    const found = await checker.recheck(answered.view);
    expect(found.facts["tokens"]).toBe("400");
  });

  test("what stands in the request and no engine is given is named, and the answer still agrees", async () => {
    const answered = await agreed("responses", {
      model,
      input: [
        { type: "reasoning", id: "rs_1", summary: [] },
        { role: "user", content: "What is 17 + 25?" },
      ],
    });
    expect(answered.view.execution.claims.parameters?.["omitted"]).toEqual(["input[0]"]);
  });
});

describe("a signer that lies is found out by the model", () => {
  type Told = {
    choices: {
      text?: string;
      message: { content: string; tool_calls: { function: { arguments: string } }[] };
      finish_reason: string;
    }[];
    assay: { tokens: number[][] };
  };
  const edit = (change: (told: Told) => void) => (members: Json) => {
    const told = structuredClone(members) as unknown as Told;
    change(told);
    return told as unknown as Json;
  };
  const tokenAt = (at: number, token: number) =>
    edit(({ assay }) => {
      if (assay.tokens[0]) assay.tokens[0][at] = token;
    });

  let long: Awaited<ReturnType<typeof agreed>>;
  let called: Awaited<ReturnType<typeof agreed>>;
  beforeAll(async () => {
    long = await agreed("chat", {
      model,
      messages: QUESTION,
      temperature: 1.1,
      seed: 21,
      max_tokens: 160,
      logit_bias: { 2: -100, 0: -100 },
    });
    called = await agreed("chat", {
      model,
      messages: [{ role: "user", content: "Add 1 and 2" }],
      tools: TOOLS,
      tool_choice: "required",
    });
  });

  test("what is told as it was still agrees, and verifies", async () => {
    for (const honest of [long, called]) {
      const { view, bytes, trust } = await lieOf(honest.view, {});
      expect(await checker.recheck(view)).toMatchObject({ agrees: true });
      const verdict = await createVerifier({ trust, suite: nodeSuite })(bytes, MOCK_TIME_MS + 1000);
      expect(verdict.status).toBe("verified");
    }
    expect(tokensOf(long)[0]).toHaveLength(160);
  });

  test("one token of 160, wherever it stands, and it is named", async () => {
    for (const at of [0, 77, 159]) {
      const [true_ = 0] = tokensOf(long)[0]?.slice(at) ?? [];
      const false_ = true_ === 300 ? 301 : 300;
      const { view, bytes, trust } = await lieOf(long.view, { response: tokenAt(at, false_) });
      const found = await checker.recheck(view);
      expect(found.agrees).toBe(false);
      expect(found.facts).toMatchObject({ position: String(at), token: String(false_), expected: String(true_) });
      expect(found.message).toContain(`token ${at} is ${false_} `);
      // Nothing but the model can tell: signatures, log and openings all hold.
      const verdict = await createVerifier({ trust, suite: nodeSuite })(bytes, MOCK_TIME_MS + 1000);
      expect(verdict.status).toBe("verified");
    }
  });

  test("a token that the grammar forbids is named too, and nothing after it is judged", async () => {
    const { view } = await lieOf(called.view, { response: tokenAt(3, 24) });
    const found = await checker.recheck(view);
    expect(found).toMatchObject({ agrees: false, facts: { position: "3", token: "24" } });
  });

  const lies: readonly (readonly [string, () => Parameters<typeof lieOf>[1], RegExp])[] = [
    [
      "another question",
      () => ({ request: (members) => ({ ...members, messages: [{ role: "user", content: "What is 18 + 25?" }] }) }),
      /tokens are not this model's/,
    ],
    [
      "a system message that nobody sent",
      () => ({ request: (members) => ({ ...members, messages: [{ role: "system", content: "Lie." }, ...QUESTION] }) }),
      /tokens are not this model's/,
    ],
    [
      "words that the tokens do not say",
      () => ({ response: edit(({ choices: [choice] }) => void (choice && (choice.message.content += "!"))) }),
      /say something else than the answer/,
    ],
    [
      "an answer cut short, and said to be whole",
      () => ({
        response: edit(({ choices: [choice], assay }) => {
          assay.tokens = [assay.tokens[0]?.slice(0, 1) ?? []];
          if (choice) {
            choice.message.content = "";
            choice.finish_reason = "stop";
          }
        }),
        claims: { finishReason: "stop" },
      }),
      /say something else|end by nothing/,
    ],
    [
      "a length that is none",
      () => ({
        response: edit(({ choices: [choice] }) => void (choice && (choice.finish_reason = "stop"))),
        claims: { finishReason: "stop" },
      }),
      /end by length, and the receipt states stop/,
    ],
    [
      "an end in the claims alone",
      () => ({ claims: { finishReason: "content_filter" } }),
      /end by length, and the receipt states content_filter/,
    ],
    [
      "another seed than was asked for",
      () => ({ claims: { parameters: { ...long.view.execution.claims.parameters, seed: 22 } } }),
      /other parameters .*: seed/,
    ],
    [
      "another temperature",
      () => ({ claims: { parameters: { ...long.view.execution.claims.parameters, temperature: "0.2" } } }),
      /other parameters .*: temperature/,
    ],
    [
      "a bias that was left out",
      () => {
        const { logit_bias: _, ...rest } = long.view.execution.claims.parameters ?? {};
        return { claims: { parameters: rest } };
      },
      /other parameters .*: logit_bias/,
    ],
    [
      "a digest of another bias",
      () => ({
        claims: { parameters: { ...long.view.execution.claims.parameters, logit_bias: { sha256: "00".repeat(32) } } },
      }),
      /other parameters .*: logit_bias/,
    ],
    [
      "a parameter that was not asked for",
      () => ({ claims: { parameters: { ...long.view.execution.claims.parameters, stop: ["x"] } } }),
      /other parameters .*: stop/,
    ],
    [
      "parts left out that were not there",
      () => ({
        claims: { parameters: { ...long.view.execution.claims.parameters, omitted: ["messages[0].content"] } },
      }),
      /other parameters .*: omitted/,
    ],
    [
      "more tokens to be paid for",
      () => ({ claims: { usage: { ...long.view.execution.claims.usage, completion_tokens: 1600 } } }),
      /has 160 tokens, and the receipt states 1600/,
    ],
    ["no usage at all", () => ({ claims: { usage: undefined } }), /has 160 tokens, and the receipt states none/],
  ];
  test.each(lies)("%s", async (_, lie, sentence) => {
    const found = await checker.recheck((await lieOf(long.view, lie())).view);
    expect(found.agrees).toBe(false);
    expect(found.message).toMatch(sentence);
  });

  test("a token taken off the end, with its words", async () => {
    const honest = await agreed("chat", { model, messages: QUESTION, temperature: 0 });
    const { view } = await lieOf(honest.view, {
      response: edit(({ assay }) => void assay.tokens[0]?.pop()),
      claims: {
        usage: { ...honest.view.execution.claims.usage, completion_tokens: (tokensOf(honest)[0]?.length ?? 0) - 1 },
      },
    });
    const found = await checker.recheck(view);
    expect(found).toMatchObject({
      agrees: false,
      message: "The tokens of choice 0 end by nothing, and the receipt states stop.",
    });
  });

  test("arguments of a call, and tools in another order", async () => {
    const other = await lieOf(called.view, {
      response: edit(({ choices: [choice] }) => {
        const [call] = choice?.message.tool_calls ?? [];
        if (call) call.function.arguments = call.function.arguments.replace(/\d/, "9").concat(" ");
      }),
    });
    expect(await checker.recheck(other.view)).toMatchObject({ agrees: false, facts: { choice: "0" } });
    const turned = await lieOf(called.view, { request: (members) => ({ ...members, tools: TOOLS.toReversed() }) });
    const found = await checker.recheck(turned.view);
    expect(found.agrees).toBe(false);
  });

  test.each<readonly [string, Parameters<typeof lieOf>[1], string]>([
    ["no tokens", { response: ({ assay: _assay, ...members }) => members }, "no_tokens"],
    [
      "tokens that are no ids",
      { response: edit(({ assay }) => void (assay.tokens = [["a"]] as never)) },
      "response_malformed",
    ],
    ["tokens that the model has not", { response: tokenAt(0, 1_000_000) }, "parameter_invalid"],
    [
      "lists for more answers than were asked for",
      { response: edit(({ assay }) => void assay.tokens.push([1])) },
      "parameter_invalid",
    ],
    ["no seed", { claims: { parameters: { temperature: 1 } } }, "parameter_invalid"],
    ["a request that is none", { request: (members) => ({ ...members, top_k: 4 }) }, "parameter_unknown"],
    [
      "a request without its question",
      { request: ({ messages: _messages, ...members }) => members },
      "opening_missing",
    ],
  ])("%s: there is nothing to check", async (_, lie, code) => {
    const failure = await checker
      .recheck((await lieOf(long.view, lie)).view)
      .catch((error: unknown) => error as { code?: string; message: string });
    expect(failure).toMatchObject(code === "no_tokens" ? { message: code } : { code });
  });
});

describe("refusals leave no receipt", () => {
  const words = "word ".repeat(4000);
  test.each<readonly [string, TextDialect, Json, number, string, string | null]>([
    ["a model that is not there", "chat", { model: "demo/none", messages: QUESTION }, 404, "model_not_found", "model"],
    [
      "a version that is not there",
      "chat",
      { model: "demo/chat@9", messages: QUESTION },
      404,
      "version_not_found",
      null,
    ],
    ["a model of vectors", "chat", { model: "demo/embed", messages: QUESTION }, 400, "kind_unsupported", null],
    ["a model of text", "embeddings", { model, input: "x" }, 400, "kind_unsupported", null],
    [
      "a parameter that the engine does not apply",
      "chat",
      { model, messages: QUESTION, reasoning_effort: "high" },
      400,
      "parameter_unsupported",
      "reasoning_effort",
    ],
    ["a parameter that is none", "chat", { model, messages: QUESTION, top_k: 4 }, 400, "parameter_unknown", "top_k"],
    ["too hot", "chat", { model, messages: QUESTION, temperature: 2.5 }, 400, "parameter_invalid", "temperature"],
    [
      "a bias for a token that is none",
      "chat",
      { model, messages: QUESTION, logit_bias: { 999999: 1 } },
      400,
      "parameter_invalid",
      "logit_bias",
    ],
    [
      "more than the context",
      "chat",
      { model, messages: [{ role: "user", content: words }] },
      400,
      "context_exceeded",
      null,
    ],
    [
      "more than the context of vectors",
      "embeddings",
      { model: "demo/embed", input: words },
      400,
      "context_exceeded",
      null,
    ],
    [
      "a picture",
      "chat",
      {
        model,
        messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AA" } }] }],
      },
      400,
      "content_unsupported",
      null,
    ],
    [
      "a schema that nothing fits",
      "chat",
      {
        model,
        messages: QUESTION,
        response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "string", enum: [] } } },
      },
      400,
      "schema_unsupported",
      null,
    ],
    ["nobody's question", "chat", { model, messages: [] }, 400, "parameter_invalid", "messages"],
  ])("%s", async (_, dialect, request, status, code, param) => {
    const before = chat.home.server.log.size();
    for (const stream of dialect === "embeddings" ? [false] : [false, true]) {
      const refused = await exchange(chat.url, dialect, stream ? { ...request, stream } : request);
      expect([refused.status, refused.body["code"]], JSON.stringify(refused.body)).toEqual([status, code]);
      const error = refused.body["error"] as {
        readonly message: string;
        readonly code: string;
        readonly param: unknown;
      };
      expect([error.code, error.param]).toEqual([code, param]);
      expect(refused.headers.get("assay-receipt-id")).toBeNull();
    }
    expect(chat.home.server.log.size()).toBe(before);
  });
});

describe("a caller who leaves", () => {
  test("has a receipt that says so, and frees the engine for the next", async () => {
    const controller = new AbortController();
    const response = await fetch(`${chat.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model,
        messages: QUESTION,
        temperature: 1,
        seed: 1,
        stream: true,
        logit_bias: { 2: -100, 0: -100 },
      }),
      signal: controller.signal,
    });
    const id = response.headers.get("assay-receipt-id") ?? "";
    const grant = response.headers.get("assay-grant") ?? "";
    const reader = response.body?.getReader();
    await reader?.read();
    controller.abort();
    await expect(reader?.read()).rejects.toThrow(/abort/);
    const closed = async (): Promise<Json> =>
      (await ask(chat.url, `/v1/receipts/${id}`, { headers: { "assay-grant": grant } })).body;
    await expect.poll(async () => JSON.stringify(await closed()), { timeout: 20_000 }).toContain("incomplete");
    const metrics = async (name: string): Promise<number> => {
      const text = await (await fetch(`${chat.url}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
    };
    await expect.poll(() => metrics("assay_receipts_pending")).toBe(0);
    await agreed("chat", { model, messages: QUESTION });
  });
});

test("a receipt can be fetched by its holder alone, and never opens for the server", async () => {
  const { exchange: exchanged } = await exchange(chat.url, "chat", { model, messages: QUESTION });
  const { receiptId } = exchanged;
  const without = await fetch(`${chat.url}/v1/receipts/${receiptId}/bundle`);
  expect(without.status).toBe(403);
  const opened = await receiptOf(chat.url, { exchange: exchanged });
  expect(JSON.stringify(disclosed(viewOf(opened)))).toContain("17 + 25");
  const response = await fetch(`${chat.url}/v1/receipts/${receiptId}/bundle`, {
    headers: { "assay-grant": exchanged.grant },
  });
  expect(Buffer.from(await response.arrayBuffer()).toString("latin1")).not.toContain("17 + 25");
});
