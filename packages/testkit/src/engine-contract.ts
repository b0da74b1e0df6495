import { isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { retryAfterOf } from "@assay/protocol";
import type {
  ChatMessage,
  ChoiceDelta,
  EngineModel,
  GenerateParameters,
  GenerateRequest,
  Generation,
  LanguageEngine,
  ResponseFormat,
  TextFinishReason,
  Tool,
} from "@assay/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collect, joined, refusal, startEndless } from "./engine-contract-read.ts";
import { PARAMETER_NAMES, PARAMETER_PROBES } from "./engine-contract-parameters.ts";
import type { ParameterName } from "./engine-contract-parameters.ts";

/** An engine under the contract, and what its makers promise of it. */
export type EngineSubject = {
  readonly engine: LanguageEngine;
  /** A model for each kind that the engine serves, and one that it does not know. */
  readonly models: {
    readonly chat: EngineModel;
    readonly completion?: EngineModel;
    readonly embedding?: EngineModel;
    readonly unknown: EngineModel;
  };
  /** Parameters that the engine applies to chats, and to completions; every other one it must refuse. */
  readonly applies: readonly ParameterName[];
  readonly appliesToCompletions?: readonly ParameterName[];
  /** Of `user`, `metadata` and the like: taken, without an effect beyond the receipt. */
  readonly receiptOnly?: readonly ParameterName[];
  /** How many requests run at once before the next is refused with `engine_overloaded`. */
  readonly maxRunning: number;
  /** The last request as it went over the wire, for engines that send one; a local engine has none. */
  readonly lastWire?: () => JsonValue | undefined;
  /** Resolves once nothing that the engine began is still at work, wherever that is. */
  readonly idle: () => Promise<void>;
  /** A message whose answer is long: hundreds of tokens at least. Default: one with the word `endless`. */
  readonly longMessage?: string;
  /** Parameters that keep a long answer going; for local engines a large `max_tokens`. */
  readonly longParameters?: GenerateParameters;
  /** Parameters that make an answer the same each time, where nothing does so otherwise. Default: temperature 0. */
  readonly greedy?: GenerateParameters;
  /** Whether the embedding model can give fewer dimensions. */
  readonly dimensions?: boolean;
  readonly close: () => Promise<void>;
};

const WEATHER: Tool = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer" } },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
};
const THING: ResponseFormat = {
  type: "json_schema",
  json_schema: {
    name: "thing",
    schema: {
      type: "object",
      properties: { name: { type: "string" }, count: { type: "integer" } },
      required: ["name", "count"],
      additionalProperties: false,
    },
    strict: true,
  },
};
const HELLO = "Tell me about the shore.";

/**
 * Registers what holds for every {@link LanguageEngine}, as vitest tests. `make` is called once and its engine closed
 * at the end. An engine that does not apply a parameter must refuse it, so the suite needs no list of exceptions.
 */
export function engineContract(name: string, make: () => Promise<EngineSubject> | EngineSubject): void {
  describe(`engine contract: ${name}`, () => {
    let subject: EngineSubject;
    beforeAll(async () => {
      subject = await make();
    });
    afterAll(async () => {
      await subject?.close();
    });

    const applies = (parameter: ParameterName): boolean => subject.applies.includes(parameter);
    const greedy = (): GenerateParameters => subject.greedy ?? (applies("temperature") ? { temperature: 0 } : {});
    const chat = (content: string, parameters: GenerateParameters = {}, stream = true): GenerateRequest => ({
      kind: "chat",
      model: subject.models.chat,
      messages: [{ role: "user", content }],
      parameters,
      stream,
    });
    const run = (request: GenerateRequest, signal = new AbortController().signal): Generation =>
      subject.engine.generate(request, { signal });
    const endless = (): GenerateRequest =>
      chat(subject.longMessage ?? "Write an endless tale.", { ...greedy(), ...subject.longParameters });

    describe("answers", () => {
      it("streams an answer whose pieces joined are the answer without a stream", async () => {
        const streamed = await collect(run(chat(HELLO, greedy())));
        const whole = await collect(run(chat(HELLO, greedy(), false)));
        expect(joined(streamed.deltas)).not.toBe("");
        expect(joined(streamed.deltas)).toBe(joined(whole.deltas));
        expect(streamed.finish).toEqual(whole.finish);
      });

      it.each([true, false])("ends each choice with exactly one finish reason (stream %s)", async (stream) => {
        const n = applies("n") ? 3 : 1;
        const { deltas, finish } = await collect(run(chat(HELLO, { ...greedy(), n }, stream)));
        expect(new Set(finish.keys())).toEqual(new Set(Array.from({ length: n }, (_, index) => index)));
        expectOneEnd(deltas, n);
        for (const reason of finish.values()) expect(["stop", "length"]).toContain(reason);
      });

      it("counts tokens: whole numbers, not negative, whose total is their sum", async () => {
        const { outcome } = await collect(run(chat(HELLO, greedy())));
        const { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total } = outcome.usage;
        for (const count of [prompt, completion, total]) expect(Number.isSafeInteger(count)).toBe(true);
        expect(prompt).toBeGreaterThan(0);
        expect(completion).toBeGreaterThan(0);
        expect(total).toBe(prompt + completion);
        expect(outcome.usage.estimated ?? false).toBe(false);
      });

      it("states facts, time and parameters without fractions", async () => {
        const parameters: GenerateParameters = {
          ...(applies("temperature") ? { temperature: 0.25 } : {}),
          ...(applies("max_tokens") ? { max_tokens: 6 } : {}),
        };
        const { outcome } = await collect(run(chat(HELLO, parameters)));
        expect(["llm", "upstream"]).toContain(outcome.facts.profile);
        expect(outcome.engineMs).toBeGreaterThanOrEqual(0);
        if (applies("temperature")) expect(outcome.parameters["temperature"]).toBe("0.25");
        if (applies("max_tokens")) expect(outcome.parameters["max_tokens"]).toBe(6);
        expect(fractions(outcome.parameters)).toEqual([]);
      });

      it("ends at max_tokens with `length`", async () => {
        const { outcome, finish } = await collect(run(chat(endlessText(subject), { ...greedy(), max_tokens: 3 })));
        expect(finish.get(0)).toBe("length");
        expect(outcome.usage.completion_tokens).toBeLessThanOrEqual(3);
      });

      it("ends before a stop text and leaves it out", async () => {
        const parameters = { ...greedy(), max_tokens: 24 };
        const whole = joined((await collect(run(chat(HELLO, parameters)))).deltas);
        const stop = whole.slice(Math.ceil(whole.length / 2)).match(/\S{2,}/)?.[0];
        if (stop === undefined) throw new Error(`the answer ${JSON.stringify(whole)} has no word to stop at`);
        for (const stream of [true, false]) {
          const { deltas, finish } = await collect(run(chat(HELLO, { ...parameters, stop: [stop] }, stream)));
          expect(joined(deltas)).toBe(whole.slice(0, whole.indexOf(stop)));
          expect(finish.get(0)).toBe("stop");
        }
      });

      it("keeps answers apart that run at once", async () => {
        const texts = ["the ridge", "the vale", "the marsh"].slice(0, Math.max(1, subject.maxRunning));
        const parameters = { ...greedy(), max_tokens: 12 };
        const alone: string[] = [];
        for (const text of texts) alone.push(joined((await collect(run(chat(text, parameters)))).deltas));
        const together = await Promise.all(texts.map((text) => collect(run(chat(text, parameters)))));
        expect(together.map(({ deltas }) => joined(deltas))).toEqual(alone);
      });

      it("gives the same answer for the same seed and another for some other one", async () => {
        if (!applies("seed")) return expectRefused(chat(HELLO, { seed: 7 }), "seed");
        const sampled = (seed: number): GenerateRequest => chat(HELLO, { temperature: 1, seed, max_tokens: 24 });
        const first = joined((await collect(run(sampled(7)))).deltas);
        expect(joined((await collect(run(sampled(7)))).deltas)).toBe(first);
        const others = new Set<string>();
        for (const seed of [1, 2, 3, 4, 5]) others.add(joined((await collect(run(sampled(seed)))).deltas));
        expect([...others].some((text) => text !== first)).toBe(true);
      });

      it("gives each of n choices its own text", async () => {
        if (!applies("n")) return expectRefused(chat(HELLO, { n: 2 }), "n");
        const parameters = { n: 3, ...(applies("temperature") ? { temperature: 1 } : {}), max_tokens: 24 };
        const { deltas } = await collect(run(chat(HELLO, parameters)));
        const texts = [0, 1, 2].map((index) => joined(deltas, index));
        expect(texts.every((text) => text !== "")).toBe(true);
        expect(new Set(texts).size).toBeGreaterThan(1);
      });
    });

    describe("tools and formats", () => {
      it.each([true, false])("calls the tool that is forced, with arguments in JSON (stream %s)", async (stream) => {
        const choice = { type: "function", function: { name: "weather" } } as const;
        const request = chat("Oslo, 3 days", { tools: [WEATHER], tool_choice: choice }, stream);
        if (!applies("tools")) return expectRefused(request, "tools");
        const { deltas, finish } = await collect(run(request));
        const calls = callsOf(deltas);
        expect(calls).toHaveLength(1);
        expect(calls[0]?.name).toBe("weather");
        expect(calls[0]?.id).not.toBe("");
        const given = parse(calls[0]?.arguments ?? "");
        expect(Object.keys(given).sort()).toEqual(["city", "days"]);
        expect(typeof given["city"]).toBe("string");
        expect(Number.isInteger(given["days"])).toBe(true);
        expect(finish.get(0)).toBe("tool_calls");
      });

      it("calls no tool when told not to", async () => {
        if (!applies("tool_choice")) return;
        const parameters = { ...greedy(), tools: [WEATHER], tool_choice: "none", max_tokens: 12 } as const;
        const { deltas, finish } = await collect(run(chat("Tell me the weather.", parameters)));
        expect(callsOf(deltas)).toEqual([]);
        expect(finish.get(0)).not.toBe("tool_calls");
      });

      it("takes a tool's result in the conversation", async () => {
        if (!applies("tools")) return;
        const messages: ChatMessage[] = [
          { role: "system", content: "Be brief." },
          { role: "user", content: "How is it in Oslo?" },
          {
            role: "assistant",
            content: null,
            tool_calls: [
              { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } },
            ],
          },
          { role: "tool", tool_call_id: "call_1", content: "snow" },
        ];
        const parameters = { ...greedy(), tools: [WEATHER], tool_choice: "none", max_tokens: 12 } as const;
        const { deltas } = await collect(run({ ...chat(HELLO, parameters), messages }));
        expect(joined(deltas)).not.toBe("");
      });

      it.each([true, false])("answers within a JSON schema (stream %s)", async (stream) => {
        const request = chat("Describe a thing.", { ...greedy(), response_format: THING }, stream);
        if (!applies("response_format")) return expectRefused(request, "response_format");
        const { deltas, finish } = await collect(run(request));
        const value = parse(joined(deltas));
        expect(Object.keys(value).sort()).toEqual(["count", "name"]);
        expect(typeof value["name"]).toBe("string");
        expect(Number.isInteger(value["count"])).toBe(true);
        expect(finish.get(0)).toBe("stop");
      });

      it.each([true, false])("gives log-probabilities whose tokens are the answer (stream %s)", async (stream) => {
        const request = chat(HELLO, { ...greedy(), logprobs: true, top_logprobs: 2, max_tokens: 8 }, stream);
        if (!applies("logprobs")) return expectRefused(request, "logprobs");
        const { deltas } = await collect(run(request));
        const tokens = deltas.flatMap((delta) => delta.logprobs?.content ?? []);
        expect(tokens.map((token) => token.token).join("")).toBe(joined(deltas));
        for (const token of tokens) {
          expect(token.logprob).toBeLessThanOrEqual(0);
          expect(token.top_logprobs).toHaveLength(2);
          expect(token.top_logprobs[0]?.logprob ?? 0).toBeGreaterThanOrEqual(token.top_logprobs[1]?.logprob ?? 0);
        }
      });
    });

    describe("every parameter is applied or refused", () => {
      it.each(PARAMETER_NAMES)("%s", async (parameter) => {
        const probe = PARAMETER_PROBES[parameter];
        const completion = probe.kind === "completion" ? subject.models.completion : undefined;
        const request = (parameters: GenerateParameters): GenerateRequest =>
          completion === undefined
            ? chat(HELLO, parameters)
            : { kind: "completion", model: completion, messages: [], prompt: HELLO, parameters, stream: true };
        const base: GenerateParameters = { ...probe.beside };
        const applied = completion === undefined ? subject.applies : (subject.appliesToCompletions ?? subject.applies);
        if (!applied.includes(parameter) && !(subject.receiptOnly ?? []).includes(parameter))
          return expectRefused(request(probe.value), parameter);

        const plain = await collect(run(request(base)));
        const plainWire = subject.lastWire?.();
        await subject.engine.check(request({ ...base, ...probe.value }));
        const changed = await collect(run(request({ ...base, ...probe.value })));
        if ((subject.receiptOnly ?? []).includes(parameter)) return;
        if (subject.lastWire !== undefined) {
          expect(subject.lastWire()).not.toEqual(plainWire);
        } else {
          const effect = { text: joined(changed.deltas), parameters: changed.outcome.parameters, all: changed.deltas };
          const before = { text: joined(plain.deltas), parameters: plain.outcome.parameters, all: plain.deltas };
          expect(effect).not.toEqual(before);
        }
        if (probe.stated) expect(Object.keys(changed.outcome.parameters)).toContain(parameter);
      });

      it("takes what asks for nothing, as clients send it by habit", async () => {
        const neutral: GenerateParameters = {
          n: 1,
          stop: [],
          logprobs: false,
          presence_penalty: 0,
          frequency_penalty: 0,
          logit_bias: {},
          response_format: { type: "text" },
          modalities: ["text"],
        };
        const { finish } = await collect(run(chat(HELLO, { ...greedy(), ...neutral, max_tokens: 4 })));
        expect(finish.size).toBe(1);
      });
    });

    describe("refusals", () => {
      it("refuses a model that it does not have", async () => {
        const request = { ...chat(HELLO), model: subject.models.unknown };
        expect((await refusal(collect(run(request)))).code).toBe("model_not_found");
      });

      it("refuses a kind that it does not serve", async () => {
        const completion: GenerateRequest = {
          kind: "completion",
          model: subject.models.chat,
          messages: [],
          prompt: HELLO,
          parameters: {},
          stream: false,
        };
        if (subject.models.completion === undefined) {
          expect((await refusal(collect(run(completion)))).code).toBe("kind_unsupported");
        } else {
          // A model of conversations may have nothing to add to a bare text; it still ends its answer.
          const { finish } = await collect(run({ ...completion, model: subject.models.completion }));
          expect(finish.size).toBe(1);
        }
      });

      it("refuses what is beyond its room, and says when to come again", async () => {
        const stop = new AbortController();
        const running: Generation[] = [];
        for (let i = 0; i < subject.maxRunning; i++) running.push(await startEndless(run(endless(), stop.signal)));
        expect(subject.engine.stats().running).toBe(subject.maxRunning);
        const error = await refusal(collect(run(chat(HELLO))));
        expect(error.code).toBe("engine_overloaded");
        expect(retryAfterOf(error)).toBeGreaterThan(0);
        stop.abort();
        await subject.idle();
        expect(subject.engine.stats().running).toBe(0);
        expect((await collect(run(chat(HELLO, greedy())))).finish.size).toBe(1);
      });
    });

    describe("stopping", () => {
      it("does nothing for a request that is cancelled before it begins", async () => {
        const stop = new AbortController();
        stop.abort();
        expect((await refusal(collect(run(chat(HELLO), stop.signal)))).code).toBe("request_cancelled");
        expect(subject.engine.stats().running).toBe(0);
      });

      it("stops when aborted in the middle, says so, and frees what it held", async () => {
        const stop = new AbortController();
        const generation = run(endless(), stop.signal);
        let seen = 0;
        const error = await refusal(
          (async () => {
            for await (const _ of generation.events) {
              seen++;
              if (seen === 2) stop.abort();
            }
          })(),
        );
        expect(error.code).toBe("engine_interrupted");
        expect(isAssayError(error.cause) && error.cause.code).toBe("request_cancelled");
        await subject.idle();
        expect(subject.engine.stats().running).toBe(0);
      });

      it("stops when the reader leaves the loop early, and frees what it held", async () => {
        const generation = run(endless());
        for await (const _ of generation.events) break;
        await subject.idle();
        expect(subject.engine.stats().running).toBe(0);
        expect((await collect(run(chat(HELLO, greedy())))).finish.size).toBe(1);
      });

      it("knows its facts and counts before, during and after an answer that was cut", async () => {
        const generation = run(endless());
        expect(generation.outcome().facts.profile).toMatch(/^(llm|upstream)$/);
        let seen = 0;
        for await (const delta of generation.events) {
          if ((delta.delta.content ?? "") !== "") seen++;
          if (seen === 5) break;
        }
        const outcome = generation.outcome();
        expect(outcome.usage.completion_tokens).toBeGreaterThan(0);
        expect(outcome.usage.total_tokens).toBe(outcome.usage.prompt_tokens + outcome.usage.completion_tokens);
        expect(fractions(outcome.parameters)).toEqual([]);
        await subject.idle();
      });
    });

    describe("embeddings", () => {
      const embed = (inputs: readonly string[], dimensions?: number) =>
        subject.engine.embed(
          {
            model: subject.models.embedding ?? subject.models.chat,
            inputs,
            ...(dimensions === undefined ? {} : { dimensions }),
          },
          { signal: new AbortController().signal },
        );

      it("gives one vector for each input in order, the same each time", async () => {
        if (subject.models.embedding === undefined) {
          expect((await refusal(embed(["a"]))).code).toBe("kind_unsupported");
          return;
        }
        const both = await embed(["the shore", "the ridge"]);
        const [first, second] = both.vectors;
        const alone = await embed(["the ridge"]);
        expect(both.vectors).toHaveLength(2);
        expect(first?.length).toBeGreaterThan(1);
        expect(second?.length).toBe(first?.length);
        expect([...(first ?? [])].every(Number.isFinite)).toBe(true);
        expect([...(alone.vectors[0] ?? [])]).toEqual([...(second ?? [])]);
        expect([...(first ?? [])]).not.toEqual([...(second ?? [])]);
        expect(both.usage.total_tokens).toBe(both.usage.prompt_tokens);
        expect(both.usage.prompt_tokens).toBeGreaterThan(0);
      });

      it("gives fewer dimensions or refuses them", async () => {
        if (subject.models.embedding === undefined) return;
        if (subject.dimensions === true) {
          expect((await embed(["the shore"], 4)).vectors[0]).toHaveLength(4);
        } else {
          expect((await refusal(embed(["the shore"], 4))).code).toBe("parameter_unsupported");
        }
      });
    });

    it("has a name, lists its models and gives them up when closed", async () => {
      expect(subject.engine.name).toMatch(/^[a-z0-9][\w-]*$/);
      const models = await subject.engine.models();
      for (const model of models) expect(model.kinds.length).toBeGreaterThan(0);
      await subject.engine.close();
      expect((await refusal(collect(run(chat(HELLO))))).code).toBe("engine_unavailable");
    });

    async function expectRefused(request: GenerateRequest, parameter: ParameterName): Promise<void> {
      for (const attempt of [() => subject.engine.check(request), () => collect(run(request))]) {
        const error = await refusal(attempt());
        expect(error.code).toBe("parameter_unsupported");
        expect(error.hints[0]).toContain(parameter);
        expect(error.message).toContain(parameter);
      }
    }
  });
}

function endlessText(subject: EngineSubject): string {
  return subject.longMessage ?? "Write an endless tale.";
}

function expectOneEnd(deltas: readonly ChoiceDelta[], n: number): void {
  const ended = new Map<number, TextFinishReason>();
  for (const { index, finish_reason: reason } of deltas) {
    expect(index).toBeLessThan(n);
    expect(ended.has(index)).toBe(false);
    if (reason !== null) ended.set(index, reason);
  }
  expect(ended.size).toBe(n);
}

function callsOf(deltas: readonly ChoiceDelta[]): { id: string; name: string; arguments: string }[] {
  const calls: { id: string; name: string; arguments: string }[] = [];
  for (const { delta } of deltas) {
    for (const part of delta.tool_calls ?? []) {
      const call = (calls[part.index] ??= { id: "", name: "", arguments: "" });
      call.id += part.id ?? "";
      call.name += part.function?.name ?? "";
      call.arguments += part.function?.arguments ?? "";
    }
  }
  return calls;
}

function parse(text: string): Record<string, unknown> {
  // A test reads what a model wrote; it fails on anything else than JSON.
  // oxlint-disable-next-line no-restricted-properties
  return JSON.parse(text) as Record<string, unknown>;
}

function fractions(value: unknown): number[] {
  if (typeof value === "number") return Number.isInteger(value) ? [] : [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(fractions);
}
