import { isAssayError, parseJson } from "@assay/core";

/** What a version is as a language model, told by its graph and the files beside it. */
export type LanguageFacts = {
  readonly task: "text-generation" | "feature-extraction";
  /** `model_type` of its `config.json`, for example `llama`. */
  readonly family: string | null;
  /** Most positions it was made for, when its configuration says so. */
  readonly contextTokens: number | null;
  /**
   * Whether an answer can be checked by one pass. A graph that quantises its activations while it runs scales them by
   * what is in the same run, so a pass over many tokens gives other numbers than one token at a time.
   */
  readonly recheckable: boolean;
};

/** Whether a graph scales its activations by what is in the same run. */
export function quantisesAtRunTime(nodes: Nodes): boolean {
  return nodes.some(({ opType }) => RUN_TIME_QUANTISATION.has(opType));
}

type File = { readonly path: string; readonly sha256: string; readonly sizeBytes: number };
type Ports = {
  readonly inputs: readonly { readonly name: string }[];
  readonly outputs: readonly { readonly name: string }[];
};
type Nodes = readonly { readonly opType: string }[];

/** Operators whose scales follow from a whole run. */
const RUN_TIME_QUANTISATION: ReadonlySet<string> = new Set([
  "DynamicQuantizeLinear",
  "DynamicQuantizeMatMul",
  "DynamicQuantizeLSTM",
]);

/** Configurations are a few kilobytes; a larger one is not read. */
const MAX_CONFIG_BYTES = 256 * 1024;

/**
 * Whether a version is a language model in the layout that transformers.js reads: token ids in, and out either logits
 * (it writes text) or one vector a text (it embeds), with a `tokenizer.json` beside the graph.
 */
export async function languageOf(
  files: readonly File[],
  { inputs, outputs }: Ports,
  nodes: Nodes,
  read: (sha256: string) => Promise<Uint8Array>,
): Promise<LanguageFacts | undefined> {
  const named = (ports: readonly { readonly name: string }[], name: string): boolean =>
    ports.some((port) => port.name === name);
  if (!named(inputs, "input_ids") || !files.some(({ path }) => path === "tokenizer.json")) return undefined;
  const task = named(outputs, "logits")
    ? "text-generation"
    : named(outputs, "sentence_embedding") || named(outputs, "last_hidden_state")
      ? "feature-extraction"
      : undefined;
  if (task === undefined) return undefined;
  const config = await readConfig(files, read);
  const family = config["model_type"];
  const context = config["max_position_embeddings"];
  return {
    task,
    family: typeof family === "string" ? family.slice(0, 64) : null,
    recheckable: !quantisesAtRunTime(nodes),
    contextTokens: typeof context === "number" && Number.isSafeInteger(context) && context > 0 ? context : null,
  };
}

async function readConfig(
  files: readonly File[],
  read: (sha256: string) => Promise<Uint8Array>,
): Promise<Readonly<Record<string, unknown>>> {
  const file = files.find(({ path }) => path === "config.json");
  if (!file || file.sizeBytes > MAX_CONFIG_BYTES) return {};
  try {
    const document = parseJson(await read(file.sha256), { maxBytes: MAX_CONFIG_BYTES });
    return typeof document === "object" && document !== null && !Array.isArray(document)
      ? (document as Readonly<Record<string, unknown>>)
      : {};
  } catch (error) {
    // A configuration that is no JSON tells nothing; the engine that needs one says what is wrong with it.
    if (isAssayError(error)) return {};
    throw error;
  }
}
