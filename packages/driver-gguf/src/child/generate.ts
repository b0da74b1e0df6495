import type { GenerateParameters, TextFinishReason } from "@assay/protocol";
import type { ToChild } from "../wire.ts";
import { Fault } from "./fault.ts";
import type { Grammar, Sequence } from "./llama.ts";
import { firstLine } from "./load.ts";
import type { Runtime } from "./load.ts";
import { createStopFilter } from "./stops.ts";

type Start = Extract<ToChild, { readonly type: "start" }>;

/** Where a generation's results go. */
export type Sink = {
  readonly prompt: (tokens: number) => void;
  readonly piece: (choice: number, text: string, tokens: readonly number[], finish: TextFinishReason | null) => void;
  /** Whether the answer is still wanted. */
  readonly stopped: () => boolean;
};

/** Tokens without a whole character among them, after which they are taken as they are. */
const MAX_BROKEN_TOKENS = 8;
/** Tokens of the answer that penalties look back on. */
const MAX_PUNISHED = 4096;
/** A bias by which OpenAI's API bans a token. */
const BAN = -100;

/** Makes each choice in turn on one sequence of the context. Throws {@link Fault}. */
export async function generate(runtime: Runtime, start: Start, sink: Sink): Promise<void> {
  const { tokens, stopTokens, stopTexts } = promptOf(runtime, start);
  sink.prompt(tokens.length);
  const sequence = runtime.context.getSequence();
  try {
    const room = sequence.contextSize - tokens.length;
    if (room < 1) {
      throw new Fault("context_exceeded", `The prompt has ${tokens.length} tokens.`, [
        `The context holds ${sequence.contextSize}, answer included.`,
      ]);
    }
    const grammar = await grammarOf(runtime, start.parameters);
    const stops = [...(start.parameters.stop ?? []).filter((stop) => stop !== ""), ...stopTexts];
    for (let choice = 0; choice < (start.parameters.n ?? 1) && !sink.stopped(); choice++) {
      await sequence.clearHistory();
      await choose(runtime, sequence, start, { tokens, stopTokens, stops, grammar, room, choice }, sink);
    }
  } finally {
    sequence.dispose();
  }
}

async function choose(
  runtime: Runtime,
  sequence: Sequence,
  start: Start,
  plan: {
    readonly tokens: readonly number[];
    readonly stopTokens: ReadonlySet<number>;
    readonly stops: readonly string[];
    readonly grammar: Grammar | undefined;
    readonly room: number;
    readonly choice: number;
  },
  sink: Sink,
): Promise<void> {
  const { module, model } = runtime;
  const { parameters } = start;
  const made: number[] = [];
  const { presence_penalty: presence, frequency_penalty: frequency } = parameters;
  const wanted = Math.min(parameters.max_tokens ?? plan.room, plan.room);
  const penalised = (presence ?? 0) !== 0 || (frequency ?? 0) !== 0;
  const options: Record<string, unknown> = {
    temperature: parameters.temperature ?? 1,
    topP: parameters.top_p ?? 1,
    // Off: a receipt states the parameters above, and nothing else shapes the answer.
    topK: 0,
    minP: 0,
    // Choices of one request differ, and each can be made again.
    seed: (start.seed + plan.choice) >>> 0,
    ...(penalised
      ? {
          repeatPenalty: {
            punishTokens: () => made.slice(-MAX_PUNISHED),
            maxPunishTokens: MAX_PUNISHED,
            penalty: 1,
            presencePenalty: presence ?? 0,
            frequencyPenalty: frequency ?? 0,
          },
        }
      : {}),
    ...(plan.grammar === undefined
      ? {}
      : { grammarEvaluationState: new module.LlamaGrammarEvaluationState({ model, grammar: plan.grammar }) }),
    ...biasOf(runtime, parameters),
  };
  const filter = createStopFilter(plan.stops);
  let broken: number[] = [];
  let whole: number[] = [];
  let finish: TextFinishReason = "stop";
  const steps = sequence.evaluate(plan.tokens, options);
  for await (const token of steps) {
    if (sink.stopped()) return;
    if (plan.stopTokens.has(token) || model.isEogToken(token)) break;
    made.push(token);
    broken.push(token);
    const text = model.detokenize(broken, false, whole.slice(-8));
    // A character can be spread over several tokens.
    if (!text.endsWith("\uFFFD") || broken.length >= MAX_BROKEN_TOKENS || made.length >= wanted) {
      whole = [...whole.slice(-8), ...broken];
      broken = [];
      const step = filter.push(text);
      sink.piece(plan.choice, step.text, [token], step.stopped ? "stop" : null);
      if (step.stopped) return;
    } else sink.piece(plan.choice, "", [token], null);
    if (made.length >= wanted) {
      finish = "length";
      break;
    }
  }
  sink.piece(plan.choice, filter.rest(), [], finish);
}

function promptOf(
  { model, chat }: Runtime,
  start: Start,
): { readonly tokens: readonly number[]; readonly stopTokens: ReadonlySet<number>; readonly stopTexts: string[] } {
  if (start.kind === "completion") {
    const tokens = typeof start.prompt === "string" ? model.tokenize(start.prompt) : [...start.prompt];
    const { bos, shouldPrependBosToken: begins } = model.tokens;
    if (begins && bos !== null && tokens[0] !== bos) tokens.unshift(bos);
    return { tokens, stopTokens: new Set(), stopTexts: [] };
  }
  if (chat === undefined) throw new Fault("kind_unsupported", "The file has no template for conversations.");
  let state: ReturnType<typeof chat.generateContextState>;
  try {
    state = chat.generateContextState({
      chatHistory: [
        ...start.turns.map((turn) =>
          turn.role === "model" ? { type: turn.role, response: [turn.text] } : { type: turn.role, text: turn.text },
        ),
        { type: "model", response: [] },
      ],
    });
  } catch (error) {
    throw new Fault(
      "content_unsupported",
      `The model's template does not take this conversation: ${firstLine(error)}.`,
    );
  }
  const stopTokens = new Set<number>();
  const stopTexts: string[] = [];
  for (const trigger of state.stopGenerationTriggers) {
    const tokens = trigger.tokenize(model.tokenizer);
    const [only] = tokens;
    if (tokens.length === 1 && only !== undefined) stopTokens.add(only);
    else if (tokens.length > 1) stopTexts.push(model.detokenize(tokens, true));
  }
  return { tokens: state.contextText.tokenize(model.tokenizer), stopTokens, stopTexts };
}

async function grammarOf({ llama }: Runtime, parameters: GenerateParameters): Promise<Grammar | undefined> {
  const format = parameters.response_format;
  if (format === undefined || format.type === "text") return undefined;
  if (format.type === "json_object") return await llama.getGrammarFor("json");
  try {
    return await llama.createGrammarForJsonSchema(format.json_schema.schema);
  } catch (error) {
    throw new Fault("schema_unsupported", `llama.cpp makes no grammar of the JSON schema: ${firstLine(error)}.`);
  }
}

function biasOf({ module, model }: Runtime, parameters: GenerateParameters): Record<string, unknown> {
  const entries = Object.entries(parameters.logit_bias ?? {});
  if (entries.length === 0) return {};
  const tokenBias = module.TokenBias.for(model);
  for (const [token, bias] of entries) tokenBias.set(Number(token), bias <= BAN ? "never" : { logit: bias });
  return { tokenBias };
}
