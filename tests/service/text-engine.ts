import { AssayError } from "@assay/core";
import type { ChatMessage, ChoiceDelta, EngineOutcome, GenerateRequest, LanguageEngine } from "@assay/protocol";

// An engine whose answers can be told from the request alone, so that what a client shows can be compared.

const FACTS: EngineOutcome["facts"] = {
  profile: "llm",
  engine: "scripted",
  engineVersion: "1",
  engineSha256: "11".repeat(32),
  cpuClass: "22".repeat(32),
  threads: 1,
  sampler: "gumbel-max/1",
  logitTolerance: "0.001",
};

/** The value that the scripted engine writes for a schema: the first of what would do. */
function exampleOf(schema: unknown): unknown {
  const of = schema as {
    readonly type?: string;
    readonly enum?: readonly unknown[];
    readonly properties?: Record<string, unknown>;
    readonly items?: unknown;
  };
  if (of.enum) return of.enum[0];
  if (of.type === "object")
    return Object.fromEntries(Object.entries(of.properties ?? {}).map(([name, one]) => [name, exampleOf(one)]));
  if (of.type === "array") return [exampleOf(of.items)];
  if (of.type === "string") return "Ada";
  return of.type === "boolean" ? true : 36;
}

function textOf(request: GenerateRequest): string {
  if (request.kind === "completion") return `${String(request.prompt)} and so on.`;
  const format = request.parameters.response_format;
  if (format?.type === "json_schema") return JSON.stringify(exampleOf(format.json_schema.schema));
  if (format?.type === "json_object") return '{"ok":true}';
  const last = request.messages.at(-1);
  if (last?.role === "tool") return `The tool says ${JSON.stringify(last.content)}.`;
  return `You said: ${saidBy(last)}`;
}

/** A message's text, whether its client wrote it as one or as parts. */
function saidBy(message: ChatMessage | undefined): string {
  const content = message?.content;
  if (!Array.isArray(content)) return typeof content === "string" ? content : "";
  return content.map((part) => ("text" in part ? part.text : "")).join("");
}

function* stepsOf(request: GenerateRequest): Generator<ChoiceDelta> {
  const { tools, tool_choice: choice } = request.parameters;
  for (let index = 0; index < (request.parameters.n ?? 1); index++) {
    if (tools && choice !== "none" && request.messages.at(-1)?.role !== "tool") {
      const [tool] = tools;
      const text = JSON.stringify(exampleOf(tool?.function.parameters ?? { type: "object" }));
      const call = {
        index: 0,
        id: "call_1",
        type: "function",
        function: { name: tool?.function.name ?? "", arguments: "" },
      };
      yield { index, delta: { tool_calls: [call as never] }, finish_reason: null };
      for (const part of [text.slice(0, 5), text.slice(5)])
        yield { index, delta: { tool_calls: [{ index: 0, function: { arguments: part } }] }, finish_reason: null };
      yield { index, delta: {}, finish_reason: "tool_calls" };
      continue;
    }
    for (const word of textOf(request).split(/(?<= )/)) yield { index, delta: { content: word }, finish_reason: null };
    yield { index, delta: {}, finish_reason: "stop" };
  }
}

/** Breaks off after this many steps when the last message asks for it. */
const BREAKS_AFTER = 2;

/** Makes the engine. It repeats what it is told, calls the first tool, and fills schemas; "break" breaks it off. */
export function createScriptedEngine(): LanguageEngine {
  let running = 0;
  const outcome = (completion: number, prompt = 4): EngineOutcome => ({
    facts: FACTS,
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
    parameters: { temperature: "1" },
    engineMs: 1,
  });
  return {
    name: "scripted",
    models: () => Promise.resolve([{ name: "echo", kinds: ["chat", "completion", "embedding"] }]),
    check: (request) =>
      request.model.name === "missing"
        ? Promise.reject(new AssayError("model_not_found", "There is no model named missing."))
        : Promise.resolve(),
    generate(request, { signal }) {
      let steps = 0;
      async function* events(): AsyncGenerator<ChoiceDelta, void, undefined> {
        running++;
        try {
          const breaks = request.kind === "chat" && saidBy(request.messages.at(-1)) === "break";
          for (const step of stepsOf(request)) {
            signal.throwIfAborted();
            if (breaks && steps === BREAKS_AFTER) throw new AssayError("engine_interrupted", "The engine broke off.");
            steps++;
            yield await Promise.resolve(step);
          }
        } finally {
          running--;
        }
      }
      return {
        events: events(),
        outcome: () => ({
          ...outcome(steps),
          tokens: Array.from({ length: request.parameters.n ?? 1 }, () => [1, 2, 3]),
        }),
      };
    },
    embed: (request) =>
      Promise.resolve({
        ...outcome(0),
        vectors: request.inputs.map((input) => Float32Array.from([input.length, 0.5, -0.25])),
      }),
    stats: () => ({ running, queued: 0 }),
    close: () => Promise.resolve(),
  };
}
