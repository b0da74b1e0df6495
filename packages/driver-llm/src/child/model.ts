import { bytesToUtf8 } from "@assay/core";
import type { LanguageModelFiles } from "@assay/protocol";
import { Tokenizer } from "@huggingface/tokenizers";
import { llmError } from "../errors.ts";
import { createGrammar } from "../grammar/matcher.ts";
import type { Grammar } from "../grammar/matcher.ts";
import { answerGrammar } from "../grammar/answer.ts";
import type { AnswerForm } from "../grammar/answer.ts";
import { createVocabulary } from "../grammar/vocabulary.ts";
import type { Vocabulary } from "../grammar/vocabulary.ts";
import { count, isObject, list, text } from "../json.ts";
import type { JsonObject } from "../json.ts";
import { DEFAULT_CONTEXT, MAX_CONFIG_BYTES, MAX_GRAMMARS, MAX_TOKENIZER_BYTES } from "../limits.ts";
import { createSampler } from "../sampler.ts";
import type { Sampler } from "../sampler.ts";
import { controlSpellings } from "./control-spellings.ts";
import type { ControlSpellings } from "./control-spellings.ts";
import { createDecoder } from "./decoder.ts";
import type { Decoder } from "./decoder.ts";
import { createEncoder } from "./encoder.ts";
import type { Encoder } from "./encoder.ts";
import { openModelFolder } from "./files.ts";
import type { ModelFolder } from "./files.ts";
import type { Ort, OrtSession } from "./ort.ts";
import { createPrefixCache } from "./prefix-cache.ts";
import type { PrefixCache } from "./prefix-cache.ts";
import { createTemplate } from "./template.ts";
import type { ChatTemplate } from "./template.ts";
import { tokenTable } from "./tokens.ts";
import type { TokenTable } from "./tokens.ts";

/** Defaults that a model's author states for requests that do not say. */
export type GenerationDefaults = { readonly temperature: number; readonly topP: number };

/** What only networks that continue texts have. */
export type Generator = {
  readonly decoder: Decoder;
  readonly table: TokenTable;
  readonly vocabulary: Vocabulary;
  readonly sampler: Sampler;
  readonly cache: PrefixCache;
  readonly defaults: GenerationDefaults;
  /** Ids of tokens that end an answer. */
  readonly ends: ReadonlySet<number>;
  /** One bit for each token that may be chosen without a grammar: those with text, and those that end. */
  readonly free: Uint32Array;
  /** Spellings of the tokens that stand for no text. */
  readonly controls: ControlSpellings;
  readonly template: ChatTemplate | undefined;
  readonly grammar: (form: AnswerForm) => Grammar | undefined;
};

export type Model = {
  readonly digest: string;
  readonly context: number;
  readonly tokenizer: Tokenizer;
  /** Texts of the tokens that templates speak of: `bos_token`, `eos_token` and so on. */
  readonly specials: Readonly<Record<string, string>>;
  readonly generator: Generator | undefined;
  readonly encoder: Encoder | undefined;
  readonly release: () => Promise<void>;
};

export type ModelLimits = {
  readonly maxModelBytes: number;
  readonly cacheBytes: number;
  readonly prefillChunk: number;
};

/**
 * Loads a model's files, each compared with its digest. Throws `model_digest_mismatch`, and `model_invalid` for files
 * that are missing, malformed, or no language model that this engine runs.
 */
export async function loadModel(ort: Ort, files: LanguageModelFiles, limits: ModelLimits): Promise<Model> {
  const folder = openModelFolder(files);
  const base = files.entry.includes("/") ? folderOf(folder, files.entry) : "";
  const at = (name: string): string => `${base}${name}`;
  const config = folder.json(at("config.json")) ?? {};
  const tokenizerFile = folder.json(at("tokenizer.json"), MAX_TOKENIZER_BYTES);
  if (tokenizerFile === undefined) throw llmError("model_invalid", "The model has no tokenizer.json.");
  const tokenizerConfig = folder.json(at("tokenizer_config.json")) ?? {};
  const generation = folder.json(at("generation_config.json")) ?? {};
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(tokenizerFile, tokenizerConfig);
  } catch (cause) {
    throw llmError("model_invalid", "The model's tokenizer.json describes no tokenizer that is known here.", [], cause);
  }
  const session = await openSession(ort, folder, files.entry, limits.maxModelBytes);
  try {
    const context = contextOf(config, tokenizerConfig);
    const decoder = createDecoder(ort, session, config, { context, chunk: limits.prefillChunk });
    const encoder =
      decoder === undefined ? createEncoder(ort, session, folder.json(at("1_Pooling/config.json"))) : undefined;
    if (decoder === undefined && encoder === undefined) {
      throw llmError("model_invalid", "The network neither continues texts nor turns them into vectors.", [
        "A decoder has logits and past_key_values, an encoder last_hidden_state or sentence_embedding.",
      ]);
    }
    const generator =
      decoder === undefined
        ? undefined
        : makeGenerator(decoder, tokenizerFile, generation, config, templateOf(folder, at, tokenizerConfig), limits);
    return {
      digest: files.manifestDigest,
      context,
      tokenizer,
      specials: specialsOf(tokenizerConfig),
      generator,
      encoder,
      release: async () => await session.release(),
    };
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** Models keep their entry in `onnx/` and the other files above it, or all in one folder. */
function folderOf(folder: ModelFolder, entry: string): string {
  const steps = entry.split("/").slice(0, -1);
  for (; steps.length > 0; steps.pop()) {
    const base = `${steps.join("/")}/`;
    if (folder.has(`${base}tokenizer.json`)) return base;
  }
  return "";
}

async function openSession(ort: Ort, folder: ModelFolder, entry: string, maxBytes: number): Promise<OrtSession> {
  const beside = [`${entry}_data`, ...Array.from({ length: 64 }, (_, index) => `${entry}_data_${index + 1}`)].filter(
    folder.has,
  );
  let source: Uint8Array | string;
  if (beside.length === 0) source = folder.read(entry, maxBytes);
  else {
    // The engine opens weights beside the network itself; the hub's folders are written once and never changed.
    source = folder.verified(entry);
    for (const path of beside) folder.verified(path);
  }
  try {
    return await ort.create(source);
  } catch (cause) {
    throw llmError("model_invalid", "The engine refused the network.", [detailOf(cause)], cause);
  }
}

function detailOf(cause: unknown): string {
  const said = cause instanceof Error ? cause.message : String(cause);
  return `The engine said: ${said.length > 300 ? `${said.slice(0, 300)}…` : said}`;
}

function contextOf(config: JsonObject, tokenizerConfig: JsonObject): number {
  const stated =
    count(config["max_position_embeddings"]) || count(config["n_positions"]) || count(config["max_sequence_length"]);
  const usable = count(tokenizerConfig["model_max_length"]);
  const context = stated === 0 ? usable || DEFAULT_CONTEXT : usable === 0 ? stated : Math.min(stated, usable);
  // Tokenizers without a limit state an absurd one.
  return Math.floor(Math.min(context, 2 ** 20));
}

function templateOf(
  folder: ModelFolder,
  at: (name: string) => string,
  tokenizerConfig: JsonObject,
): ChatTemplate | undefined {
  const stated = tokenizerConfig["chat_template"];
  const named = list(stated).find((entry) => isObject(entry) && entry["name"] === "default");
  let source = typeof stated === "string" ? stated : isObject(named) ? text(named["template"]) : "";
  if (source === "" && folder.has(at("chat_template.jinja"))) {
    source = bytesToUtf8(folder.read(at("chat_template.jinja"), MAX_CONFIG_BYTES));
  }
  if (source === "") return undefined;
  try {
    return createTemplate(source);
  } catch (cause) {
    throw llmError("model_invalid", "The model's chat template is malformed.", [], cause);
  }
}

function specialsOf(tokenizerConfig: JsonObject): Record<string, string> {
  const specials: Record<string, string> = {};
  for (const name of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
    const value = tokenizerConfig[name];
    const content = isObject(value) ? text(value["content"]) : text(value);
    if (content !== "") specials[name] = content;
  }
  return specials;
}

function makeGenerator(
  decoder: Decoder,
  tokenizerFile: JsonObject,
  generation: JsonObject,
  config: JsonObject,
  template: ChatTemplate | undefined,
  limits: ModelLimits,
): Generator {
  const size = decoder.vocabularySize;
  const table = tokenTable(tokenizerFile, size);
  const vocabulary = createVocabulary(table.bytes);
  const stated = generation["eos_token_id"] ?? config["eos_token_id"];
  const ids = (Array.isArray(stated) ? stated : [stated]).filter(
    (id) => typeof id === "number" && id >= 0 && id < size,
  );
  const ends = new Set(ids as number[]);
  const free = new Uint32Array((size + 31) >> 5);
  for (let id = 0; id < size; id++) {
    if (table.bytes[id] !== undefined || ends.has(id)) free[id >> 5] = (free[id >> 5] ?? 0) | (1 << (id & 31));
  }
  const sampled = generation["do_sample"] !== false;
  const temperature = generation["temperature"];
  const topP = generation["top_p"];
  const grammars = new Map<string, Grammar | undefined>();
  return {
    decoder,
    table,
    vocabulary,
    sampler: createSampler(size),
    cache: createPrefixCache(decoder, limits.cacheBytes),
    defaults: {
      temperature: sampled ? (typeof temperature === "number" ? Math.min(2, Math.max(0, temperature)) : 1) : 0,
      topP: sampled && typeof topP === "number" && topP > 0 && topP <= 1 ? topP : 1,
    },
    ends,
    free,
    controls: controlSpellings(table.names.flatMap((name, id) => (table.bytes[id] === undefined ? (name ?? []) : []))),
    template,
    grammar: (form) => {
      const key = JSON.stringify([form.format, form.choice === "none" ? [] : form.tools, form.choice, form.parallel]);
      if (grammars.has(key)) return grammars.get(key);
      const root = answerGrammar(form);
      const made = root === undefined ? undefined : createGrammar(root, vocabulary);
      const oldest = grammars.keys().next();
      if (grammars.size >= MAX_GRAMMARS && oldest.done !== true) grammars.delete(oldest.value);
      grammars.set(key, made);
      return made;
    },
  };
}
