import { utf8ToBytes } from "@assay/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ChoiceDelta, TokenLogprob } from "../text/engine.ts";
import type { Frame, ParsedText, TextDialect } from "../text/execution.ts";
import { assemble, createAssembler } from "./assemble.ts";
import { parseText } from "./parse.ts";
import { createRenderer } from "./renderer.ts";

type Dialect = Exclude<TextDialect, "embeddings">;
const DIALECTS: readonly Dialect[] = ["chat", "completions", "responses"];
const receiptId = "0123456789abcdef0123456789abcdef";
const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };

function parsedFor(dialect: Dialect, more: Record<string, unknown> = {}): ParsedText {
  const base = {
    chat: { messages: [{ role: "user", content: "hi" }] },
    completions: { prompt: "hi" },
    responses: { input: "hi" },
  };
  return parseText(dialect, utf8ToBytes(JSON.stringify({ model: "m", ...base[dialect], ...more })), {});
}

function render(dialect: Dialect, parsed: ParsedText, steps: readonly ChoiceDelta[], tokens?: readonly number[][]) {
  const renderer = createRenderer(dialect, { receiptId, createdS: 1700, model: "m@1", parsed });
  const frames: Frame[] = [];
  for (const step of steps) frames.push(...renderer.delta(step));
  frames.push(...renderer.end({ usage, ...(tokens ? { tokens } : {}) }));
  return { frames, renderer };
}

const logprob = fc.record({
  token: fc.string({ unit: "binary", maxLength: 3 }),
  logprob: fc.double({ min: -20, max: 0, noNaN: true }),
  bytes: fc.option(fc.array(fc.nat(255), { maxLength: 3 })),
  top_logprobs: fc.array(
    fc.record({
      token: fc.string({ maxLength: 3 }),
      logprob: fc.double({ min: -20, max: 0, noNaN: true }),
      bytes: fc.constant(null),
    }),
    { maxLength: 2 },
  ),
});
// Halves of surrogate pairs too: an upstream may cut a text anywhere.
const piece = fc.string({
  unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
  maxLength: 5,
});
const delta = fc.record(
  {
    content: piece,
    refusal: piece,
    reasoning_content: piece,
    tool_calls: fc.array(
      fc.record(
        {
          index: fc.nat(2),
          id: fc.constantFrom("", "call_a"),
          function: fc.record({ name: fc.constantFrom("", "sum"), arguments: piece }, { requiredKeys: [] }),
        },
        { requiredKeys: ["index"] },
      ),
      { maxLength: 3 },
    ),
    images: fc.array(fc.constantFrom("data:image/png;base64,AA==", "https://x/y"), { maxLength: 1 }),
    annotations: fc.constantFrom(
      [{ type: "url_citation", url_citation: { url: "https://x", title: "t" } }],
      [{ type: "other" }],
    ),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<ChoiceDelta["delta"]>;
const finish = fc.constantFrom("stop", "length", "tool_calls", "content_filter");

/** Steps of `n` choices in any order, each ending once. */
function stepsOf(n: number): fc.Arbitrary<ChoiceDelta[]> {
  const step = fc.record({
    index: fc.nat(n - 1),
    delta,
    logprobs: fc.option(fc.array(logprob, { maxLength: 2 }), { nil: undefined }),
  });
  return fc
    .tuple(fc.array(step, { maxLength: 12 }), fc.array(fc.tuple(delta, finish), { minLength: n, maxLength: n }))
    .map(([middle, ends]) => [
      ...middle.map(({ index, delta, logprobs }): ChoiceDelta => ({
        index,
        delta,
        ...(logprobs ? { logprobs: { content: logprobs as TokenLogprob[] } } : {}),
        finish_reason: null,
      })),
      ...ends.map(([delta, reason], index) => ({ index, delta, finish_reason: reason }) as ChoiceDelta),
    ]);
}

describe("a stream and a body of the same steps", () => {
  it.each(DIALECTS)("say the same: %s", (dialect) => {
    fc.assert(
      fc.property(
        dialect === "responses" ? fc.constant(1) : fc.integer({ min: 1, max: 3 }),
        fc.boolean(),
        fc.option(fc.array(fc.array(fc.nat(9), { maxLength: 3 }), { maxLength: 3 }), { nil: undefined }),
        fc.gen(),
        (n, includeUsage, tokens, gen) => {
          const steps = gen(stepsOf, n);
          const more = dialect === "responses" ? {} : { n };
          const streamed = parsedFor(dialect, {
            ...more,
            stream: true,
            ...(dialect === "responses" || !includeUsage ? {} : { stream_options: { include_usage: true } }),
          });
          const { frames, renderer } = render(dialect, streamed, steps, tokens);
          const whole = render(dialect, parsedFor(dialect, more), steps, tokens);
          const body = JSON.parse(renderer.body()) as unknown;
          expect(assemble(dialect, frames)).toEqual(body);
          expect(renderer.body().includes("\\ud")).toBe(false);
          expect(renderer.finish()).toBe(
            steps.find((step) => step.index === 0 && step.finish_reason !== null)?.finish_reason,
          );

          expect(whole.frames).toHaveLength(1);
          expect(whole.frames[0]?.final).toBe(true);
          expect(whole.renderer.body()).toBe(whole.frames[0]?.data);
          expect(JSON.parse(whole.frames[0]!.data)).toEqual(body);

          for (const { data } of frames) {
            expect(data).not.toContain('"usage":null');
            expect(data).not.toContain("\n");
            expect(new TextDecoder().decode(new TextEncoder().encode(data))).toBe(data);
          }
          expect(frames.at(-1)?.final).toBe(true);
          const firstFinal = frames.findIndex((frame) => frame.final);
          expect(frames.length - firstFinal).toBe(dialect !== "responses" && includeUsage ? 2 : 1);
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each(DIALECTS)("agree at every frame of the way: %s", (dialect) => {
    fc.assert(
      fc.property(stepsOf(1), (steps) => {
        const parsed = parsedFor(dialect, { stream: true });
        const renderer = createRenderer(dialect, { receiptId, createdS: 1700, model: "m@1", parsed });
        const assembler = createAssembler(dialect);
        const check = (frame: Frame): void => {
          assembler.take(frame);
          expect(assembler.response()).toEqual(JSON.parse(renderer.body()));
        };
        for (const step of steps) for (const frame of renderer.delta(step)) check(frame);
        expect(renderer.finish()).toBeUndefined();
        for (const frame of renderer.end({ usage })) check(frame);
        expect(renderer.finish()).toBeDefined();
      }),
      { numRuns: 25 },
    );
  });
});

const text = (content: string, index = 0): ChoiceDelta => ({ index, delta: { content }, finish_reason: null });
const end = (finish_reason: ChoiceDelta["finish_reason"] = "stop", index = 0): ChoiceDelta => ({
  index,
  delta: {},
  finish_reason,
});
const objects = (frames: readonly Frame[]) => frames.map(({ data }) => JSON.parse(data) as Record<string, unknown>);

describe("frames of a conversation", () => {
  it("begin with the role and end in one frame with usage and receipt", () => {
    const { frames } = render("chat", parsedFor("chat", { stream: true }), [text("a"), text("b"), end()], [[1, 2]]);
    const id = `chatcmpl-${receiptId}`;
    const head = { id, object: "chat.completion.chunk", created: 1700, model: "m@1" };
    expect(objects(frames)).toEqual([
      { ...head, choices: [{ index: 0, delta: { role: "assistant", content: "a" }, finish_reason: null }] },
      { ...head, choices: [{ index: 0, delta: { content: "b" }, finish_reason: null }] },
      {
        ...head,
        choices: [{ index: 0, delta: {}, finish_reason: "stop" }],
        usage,
        assay: { receipt_id: receiptId, tokens: [[1, 2]] },
      },
    ]);
  });

  it("put usage into a frame of its own for who asked, and each finish into one", () => {
    const parsed = parsedFor("chat", { stream: true, n: 2, stream_options: { include_usage: true } });
    const { frames } = render("chat", parsed, [text("a"), text("b", 1), end("stop", 1), end("length")]);
    expect(objects(frames).map(({ choices, usage: used }) => [choices, used])).toEqual([
      [[{ index: 0, delta: { role: "assistant", content: "a" }, finish_reason: null }], undefined],
      [[{ index: 1, delta: { role: "assistant", content: "b" }, finish_reason: null }], undefined],
      [[{ index: 1, delta: {}, finish_reason: "stop" }], undefined],
      [[{ index: 0, delta: {}, finish_reason: "length" }], undefined],
      [[], usage],
    ]);
    expect(frames.map((frame) => frame.final)).toEqual([undefined, undefined, undefined, true, true]);
  });

  it("say an empty answer and a mere call as OpenAI does", () => {
    const empty = render("chat", parsedFor("chat"), [end()]);
    expect(objects(empty.frames)[0]).toMatchObject({
      choices: [{ message: { role: "assistant", content: "", refusal: null } }],
    });
    const step: ChoiceDelta = {
      index: 0,
      delta: { tool_calls: [{ index: 0, function: { name: "sum" } }] },
      finish_reason: "tool_calls",
    };
    const call = render("chat", parsedFor("chat", { stream: true }), [step]);
    expect(objects(call.frames)[0]).toMatchObject({
      choices: [
        {
          delta: {
            role: "assistant",
            content: null,
            tool_calls: [
              { index: 0, id: `call_${receiptId}_0_0`, type: "function", function: { name: "sum", arguments: "" } },
            ],
          },
        },
      ],
    });
  });

  it("join a character that an engine cut in two", () => {
    const { frames } = render("chat", parsedFor("chat", { stream: true }), [
      text("a\ud83d"),
      text(""),
      text("\ude00b\ud83d"),
      end(),
    ]);
    const deltas = objects(frames).map(
      ({ choices }) => (choices as { delta: { content?: string } }[])[0]?.delta.content,
    );
    expect(deltas).toEqual(["a", "😀b", "\ufffd", undefined]);
  });
});

describe("an answer of the older completions API", () => {
  it("has its text twice, and the older logprobs", () => {
    const token = (name: string, value: number): TokenLogprob => ({
      token: name,
      logprob: value,
      bytes: null,
      top_logprobs: [
        { token: name, logprob: value, bytes: null },
        { token: "z", logprob: -9, bytes: null },
        { token: "z", logprob: -8, bytes: null },
      ],
    });
    const steps: ChoiceDelta[] = [
      {
        index: 0,
        delta: { content: "😀a" },
        logprobs: { content: [token("😀", -1), token("a", -2)] },
        finish_reason: null,
      },
      { index: 0, delta: { content: "b" }, logprobs: { content: [token("b", -3)] }, finish_reason: "stop" },
    ];
    const { renderer } = render("completions", parsedFor("completions"), steps);
    expect(JSON.parse(renderer.body())).toEqual({
      id: `cmpl-${receiptId}`,
      object: "text_completion",
      created: 1700,
      model: "m@1",
      choices: [
        {
          text: "😀ab",
          index: 0,
          logprobs: {
            tokens: ["😀", "a", "b"],
            token_logprobs: [-1, -2, -3],
            top_logprobs: [
              { "😀": -1, z: -8 },
              { a: -2, z: -8 },
              { b: -3, z: -8 },
            ],
            text_offset: [0, 1, 2],
          },
          finish_reason: "stop",
        },
      ],
      completion: "😀ab",
      usage,
      assay: { receipt_id: receiptId },
    });
  });
});

describe("events of the Responses API", () => {
  it("come in OpenAI's order with their numbers", () => {
    const steps: ChoiceDelta[] = [
      { index: 0, delta: { reasoning_content: "hm" }, finish_reason: null },
      text("a"),
      {
        index: 0,
        delta: { tool_calls: [{ index: 0, id: "k", function: { name: "sum", arguments: "{" } }] },
        finish_reason: null,
      },
      { index: 0, delta: { tool_calls: [{ index: 0, function: { arguments: "}" } }] }, finish_reason: "tool_calls" },
    ];
    const { frames } = render(
      "responses",
      parsedFor("responses", { stream: true, instructions: "x", temperature: 0.5 }),
      steps,
    );
    const events = objects(frames);
    expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, i) => i));
    expect(frames.map(({ event }) => event)).toEqual(events.map(({ type }) => type));
    expect(events.map(({ type }) => type)).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.reasoning_text.delta",
      "response.reasoning_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
    ]);
    expect(events.at(-1)?.["response"]).toMatchObject({
      id: `resp_${receiptId}`,
      object: "response",
      status: "completed",
      store: false,
      instructions: "x",
      temperature: 0.5,
      output: [
        { type: "reasoning", content: [{ type: "reasoning_text", text: "hm" }] },
        { type: "message", status: "completed", content: [{ type: "output_text", text: "a" }] },
        { type: "function_call", call_id: "k", name: "sum", arguments: "{}", status: "completed" },
      ],
      usage: { input_tokens: 1, output_tokens: 2, total_tokens: 3 },
      assay: { receipt_id: receiptId },
    });
  });

  it("end incomplete when the limit or a filter cut the answer", () => {
    for (const [reason, why] of [
      ["length", "max_output_tokens"],
      ["content_filter", "content_filter"],
    ] as const) {
      const { frames } = render("responses", parsedFor("responses", { stream: true }), [text("a"), end(reason)]);
      const last = objects(frames).at(-1);
      expect(last).toMatchObject({
        type: "response.incomplete",
        response: { status: "incomplete", incomplete_details: { reason: why }, output: [{ status: "incomplete" }] },
      });
    }
  });
});

describe("steps that no engine may make", () => {
  it.each(DIALECTS)("are refused: %s", (dialect) => {
    const fresh = () => createRenderer(dialect, { receiptId, createdS: 1, model: "m", parsed: parsedFor(dialect) });
    const refused = expect.objectContaining({ code: "engine_interrupted" });
    expect(() => [...fresh().delta(text("a", 1))]).toThrow(refused);
    expect(() => [...fresh().delta(text("a", -1))]).toThrow(refused);
    expect(() => [...fresh().end({ usage })]).toThrow(refused);
    const ended = fresh();
    for (const _ of ended.delta(end()));
    expect(() => [...ended.delta(text("a"))]).toThrow(refused);
  });
});

describe("assemble", () => {
  const frame = (value: unknown): { data: string } => ({
    data: typeof value === "string" ? value : JSON.stringify(value),
  });
  const chunk = (choices: unknown, more: Record<string, unknown> = {}) =>
    frame({ id: "i", object: "chat.completion.chunk", created: 1, model: "m", choices, ...more });
  const refusals: [string, TextDialect, { data: string }[]][] = [
    ["nothing", "chat", []],
    ["no JSON", "chat", [frame("x")]],
    ["a list", "chat", [frame([])]],
    ["a chunk without choices", "chat", [chunk(undefined)]],
    ["a chunk without an id", "chat", [frame({ choices: [] })]],
    ["a choice that is a text", "chat", [chunk(["x"])]],
    ["a choice without an index", "chat", [chunk([{ delta: {} }])]],
    ["a choice far out", "chat", [chunk([{ index: 16, delta: {} }])]],
    ["a call without an index", "chat", [chunk([{ index: 0, delta: { tool_calls: [{}] } }])]],
    ["a call far out", "chat", [chunk([{ index: 0, delta: { tool_calls: [{ index: 256 }] } }])]],
    ["another answer's chunk", "chat", [chunk([]), chunk([], { id: "j" })]],
    ["a body after a chunk", "chat", [chunk([]), frame({ object: "chat.completion" })]],
    ["a chunk after a body", "chat", [frame({ object: "chat.completion" }), chunk([])]],
    ["a choice without an index, older", "completions", [chunk([{ text: "x" }])]],
    ["a choice far out, older", "completions", [chunk([{ text: "x", index: 99 }])]],
    [
      "a part of no item",
      "responses",
      [frame({ type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "x" })],
    ],
    ["an item far out", "responses", [frame({ type: "response.output_item.added", output_index: 5, item: {} })]],
    ["an item that is none", "responses", [frame({ type: "response.output_item.added", output_index: 0, item: "x" })]],
    [
      "a part far out",
      "responses",
      [
        frame({ type: "response.output_item.added", output_index: 0, item: { content: [] } }),
        frame({ type: "response.content_part.added", output_index: 0, content_index: 3, part: {} }),
      ],
    ],
    [
      "a delta that is no text",
      "responses",
      [
        frame({ type: "response.output_item.added", output_index: 0, item: {} }),
        frame({ type: "response.function_call_arguments.delta", output_index: 0, delta: 5 }),
      ],
    ],
    ["an end without a response", "responses", [frame({ type: "response.completed" })]],
    ["a beginning without a response", "responses", [frame({ type: "response.created" })]],
    ["no list of vectors", "embeddings", [frame({ object: "x" })]],
  ];
  it.each(refusals)("refuses %s", (_, dialect, frames) => {
    expect(() => assemble(dialect, frames)).toThrow(expect.objectContaining({ code: "response_malformed" }));
  });

  it("takes what it does not know of without harm", () => {
    expect(
      assemble("chat", [chunk([{ index: 0, delta: { obfuscation: "x", content: "a" } }], { service_tier: "default" })]),
    ).toMatchObject({
      choices: [{ message: { content: "a" }, finish_reason: null }],
    });
    expect(
      assemble("responses", [
        frame({ type: "response.created", response: { id: "r" } }),
        frame({ type: "response.queued" }),
      ]),
    ).toEqual({ id: "r", output: [] });
  });

  it("never changes a response that it gave", () => {
    const streams: [TextDialect, { data: string }[], { data: string }[]][] = [
      [
        "chat",
        [chunk([{ index: 0, delta: { content: "a" }, logprobs: { content: [1] } }])],
        [chunk([{ index: 0, delta: { content: "b" }, logprobs: { content: [2] } }])],
      ],
      [
        "completions",
        [chunk([{ index: 0, text: "a", logprobs: { tokens: ["a"] } }])],
        [chunk([{ index: 0, text: "b", logprobs: { tokens: ["b"] } }])],
      ],
      [
        "responses",
        [
          frame({ type: "response.created", response: { id: "r" } }),
          frame({
            type: "response.output_item.added",
            output_index: 0,
            item: { content: [{ type: "output_text", text: "" }] },
          }),
        ],
        [frame({ type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "x", logprobs: [1] })],
      ],
    ];
    for (const [dialect, first, more] of streams) {
      const assembler = createAssembler(dialect);
      for (const one of first) assembler.take(one);
      const given = assembler.response();
      const before = JSON.stringify(given);
      for (const one of more) assembler.take(one);
      expect(JSON.stringify(given)).toBe(before);
      expect(JSON.stringify(assembler.response())).not.toBe(before);
    }
  });
});
