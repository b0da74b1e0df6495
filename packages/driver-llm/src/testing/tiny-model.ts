import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ELEMENT_TYPE, encodeModelFile, floatTensor, int64Tensor, pseudoRandom } from "@assay/onnx";
import type { GraphParts } from "@assay/onnx";
import type { EngineModel } from "@assay/protocol";
import { buildSync } from "esbuild";

const FLOAT = ELEMENT_TYPE.FLOAT;
const LONG = ELEMENT_TYPE.INT64;
const WIDTH = 16;
const HEADS = 2;
const HEAD = WIDTH / HEADS;
export const CONTEXT = 640;

/** Byte-level tokens 0 to 255, then these. */
export const SPECIAL = { end: 256, start: 257, callBegin: 258, callEnd: 259, the: 260, pad: 261 } as const;
export const VOCABULARY = 264;

/**
 * A decoder of one attention layer with random weights: it writes nonsense, but depends on every token before, in the
 * very layout that real ones have. `scale` sharpens its opinion; `hang` makes each run endless.
 */
export function tinyDecoder(
  options: { readonly seed?: number; readonly scale?: number; readonly hang?: boolean } = {},
): GraphParts {
  const { seed = 1, scale = 8, hang = false } = options;
  const weights = (name: string, rows: number, columns: number, index: number) =>
    floatTensor(
      name,
      [rows, columns],
      pseudoRandom(rows * columns, seed * 100 + index).map((value) => value * Math.sqrt(3 / rows)),
    );
  const loop = hang
    ? [
        {
          opType: "Loop",
          inputs: ["many", "go", "zero"],
          outputs: ["wasted"],
          attributes: [
            {
              name: "body",
              graph: {
                inputs: [
                  { name: "i", elementType: LONG, shape: [] },
                  { name: "cond", elementType: ELEMENT_TYPE.BOOL, shape: [] },
                  { name: "v", elementType: FLOAT, shape: [] },
                ],
                outputs: [
                  { name: "cond_out", elementType: ELEMENT_TYPE.BOOL, shape: [] },
                  { name: "v_out", elementType: FLOAT, shape: [] },
                ],
                nodes: [
                  { opType: "Identity", inputs: ["cond"], outputs: ["cond_out"] },
                  { opType: "Add", inputs: ["v", "zero"], outputs: ["v_out"] },
                ],
              },
            },
          ],
        },
        { opType: "Add", inputs: ["calm", "wasted"], outputs: ["logits"] },
      ]
    : [{ opType: "Identity", inputs: ["calm"], outputs: ["logits"] }];
  return {
    inputs: [
      { name: "input_ids", elementType: LONG, shape: ["batch", "length"] },
      { name: "attention_mask", elementType: LONG, shape: ["batch", "total"] },
      { name: "position_ids", elementType: LONG, shape: ["batch", "length"] },
      { name: "past_key_values.0.key", elementType: FLOAT, shape: ["batch", HEADS, "past", HEAD] },
      { name: "past_key_values.0.value", elementType: FLOAT, shape: ["batch", HEADS, "past", HEAD] },
    ],
    outputs: [
      { name: "logits", elementType: FLOAT, shape: ["batch", "length", VOCABULARY] },
      { name: "present.0.key", elementType: FLOAT, shape: ["batch", HEADS, "total", HEAD] },
      { name: "present.0.value", elementType: FLOAT, shape: ["batch", HEADS, "total", HEAD] },
    ],
    initializers: [
      weights("embed", VOCABULARY, WIDTH, 1),
      weights("places", CONTEXT, WIDTH, 2),
      weights("wq", WIDTH, WIDTH, 3),
      weights("wk", WIDTH, WIDTH, 4),
      weights("wv", WIDTH, WIDTH, 5),
      weights("wo", WIDTH, WIDTH, 6),
      weights("wu", WIDTH, VOCABULARY, 7),
      floatTensor("scale", [], [scale]),
      floatTensor("root", [], [1 / Math.sqrt(HEAD)]),
      floatTensor("minus", [], [-1e9]),
      floatTensor("zero", [], [0]),
      int64Tensor("many", [], [1e15]),
      { name: "go", elementType: ELEMENT_TYPE.BOOL, dims: [], raw: Uint8Array.of(1) },
      int64Tensor("split", [4], [0, 0, HEADS, HEAD]),
      int64Tensor("join", [3], [0, 0, WIDTH]),
      int64Tensor("axis1", [1], [1]),
      int64Tensor("axis3", [1], [3]),
      int64Tensor("first", [], [0]),
      int64Tensor("step", [], [1]),
      int64Tensor("one", [], [1]),
    ],
    nodes: [
      { opType: "Gather", inputs: ["embed", "input_ids"], outputs: ["words"] },
      { opType: "Gather", inputs: ["places", "position_ids"], outputs: ["where"] },
      { opType: "Add", inputs: ["words", "where"], outputs: ["x"] },
      ...(["q", "k", "v"] as const).flatMap((name) => [
        { opType: "MatMul", inputs: ["x", `w${name}`], outputs: [`${name}flat`] },
        { opType: "Reshape", inputs: [`${name}flat`, "split"], outputs: [`${name}split`] },
        {
          opType: "Transpose",
          inputs: [`${name}split`],
          outputs: [name],
          attributes: [{ name: "perm", ints: [0, 2, 1, 3] }],
        },
      ]),
      {
        opType: "Concat",
        inputs: ["past_key_values.0.key", "k"],
        outputs: ["present.0.key"],
        attributes: [{ name: "axis", int: 2 }],
      },
      {
        opType: "Concat",
        inputs: ["past_key_values.0.value", "v"],
        outputs: ["present.0.value"],
        attributes: [{ name: "axis", int: 2 }],
      },
      {
        opType: "Transpose",
        inputs: ["present.0.key"],
        outputs: ["kt"],
        attributes: [{ name: "perm", ints: [0, 1, 3, 2] }],
      },
      { opType: "MatMul", inputs: ["q", "kt"], outputs: ["raw"] },
      { opType: "Mul", inputs: ["raw", "root"], outputs: ["scores"] },
      { opType: "Shape", inputs: ["attention_mask"], outputs: ["maskShape"] },
      { opType: "Gather", inputs: ["maskShape", "one"], outputs: ["total"] },
      { opType: "Range", inputs: ["first", "total", "step"], outputs: ["columns"] },
      { opType: "Unsqueeze", inputs: ["position_ids", "axis1"], outputs: ["rows1"] },
      { opType: "Unsqueeze", inputs: ["rows1", "axis3"], outputs: ["rows"] },
      { opType: "LessOrEqual", inputs: ["columns", "rows"], outputs: ["seen"] },
      { opType: "Where", inputs: ["seen", "scores", "minus"], outputs: ["masked"] },
      { opType: "Softmax", inputs: ["masked"], outputs: ["shares"], attributes: [{ name: "axis", int: -1 }] },
      { opType: "MatMul", inputs: ["shares", "present.0.value"], outputs: ["mixed"] },
      { opType: "Transpose", inputs: ["mixed"], outputs: ["back"], attributes: [{ name: "perm", ints: [0, 2, 1, 3] }] },
      { opType: "Reshape", inputs: ["back", "join"], outputs: ["flat"] },
      { opType: "MatMul", inputs: ["flat", "wo"], outputs: ["changed"] },
      { opType: "Add", inputs: ["x", "changed"], outputs: ["y"] },
      { opType: "MatMul", inputs: ["y", "wu"], outputs: ["soft"] },
      { opType: "Mul", inputs: ["soft", "scale"], outputs: ["calm"] },
      ...loop,
    ],
  };
}

/** An encoder: each token's embedding through one layer, whatever its neighbours. */
export function tinyEncoder(): GraphParts {
  return {
    inputs: [
      { name: "input_ids", elementType: LONG, shape: ["batch", "length"] },
      { name: "attention_mask", elementType: LONG, shape: ["batch", "length"] },
    ],
    outputs: [{ name: "last_hidden_state", elementType: FLOAT, shape: ["batch", "length", WIDTH] }],
    initializers: [
      floatTensor("embed", [VOCABULARY, WIDTH], pseudoRandom(VOCABULARY * WIDTH, 5)),
      floatTensor("w", [WIDTH, WIDTH], pseudoRandom(WIDTH * WIDTH, 6)),
    ],
    nodes: [
      { opType: "Gather", inputs: ["embed", "input_ids"], outputs: ["x"] },
      { opType: "MatMul", inputs: ["x", "w"], outputs: ["h"] },
      { opType: "Tanh", inputs: ["h"], outputs: ["last_hidden_state"] },
    ],
  };
}

const TEMPLATE =
  "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}" +
  "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}<|end|>{% endfor %}" +
  "{% if tools %}{{ tools | tojson }}{% endif %}<|start|>assistant\n";

type TinyOptions = {
  readonly network?: GraphParts | Uint8Array;
  readonly template?: string | null;
  readonly generation?: object;
  /** Replaces files after their digests were taken. */
  readonly tamper?: Readonly<Record<string, string>>;
  /** Takes files out of the model. */
  readonly without?: readonly string[];
};

/** Models in a temporary folder. */
export type ModelFolders = { readonly model: (options?: TinyOptions) => EngineModel; readonly remove: () => void };

export function modelFolders(): ModelFolders {
  const root = mkdtempSync(join(tmpdir(), "assay-llm-"));
  let made = 0;
  return {
    model: ({ network = tinyDecoder(), template = TEMPLATE, generation = {}, tamper = {}, without = [] } = {}) => {
      const directory = join(root, String(made++));
      mkdirSync(join(directory, "onnx"), { recursive: true });
      const contents: Record<string, Uint8Array> = {
        "onnx/model.onnx": network instanceof Uint8Array ? network : encodeModelFile(network),
        "config.json": json({ vocab_size: VOCABULARY, max_position_embeddings: CONTEXT, eos_token_id: SPECIAL.end }),
        "tokenizer.json": json(tokenizer()),
        "tokenizer_config.json": json({
          eos_token: "<|end|>",
          pad_token: "<|pad|>",
          ...(template === null ? {} : { chat_template: template }),
        }),
        "generation_config.json": json({ eos_token_id: [SPECIAL.end], ...generation }),
      };
      for (const name of without) delete contents[name];
      const files = Object.entries(contents).map(([path, bytes]) => {
        writeFileSync(join(directory, path), tamper[path] ?? bytes);
        return { path, sha256: sha256(bytes), sizeBytes: bytes.length };
      });
      const manifestDigest = sha256(Buffer.from(JSON.stringify([files, directory])));
      return { name: "test/tiny", files: { manifestDigest, directory, entry: "onnx/model.onnx", files } };
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}

export function tokenizer(): object {
  const characters: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCodePoint(printable ? byte : next++));
  }
  const vocab = Object.fromEntries(characters.map((character, id) => [character, id]));
  const added = (id: number, content: string, special: boolean) => ({
    id,
    content,
    special,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  return {
    version: "1.0",
    added_tokens: [
      added(SPECIAL.end, "<|end|>", true),
      added(SPECIAL.start, "<|start|>", true),
      added(SPECIAL.callBegin, "<tool_call>", false),
      added(SPECIAL.callEnd, "</tool_call>", false),
      added(SPECIAL.pad, "<|pad|>", true),
    ],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
    model: { type: "BPE", vocab: { ...vocab, th: 262, the: SPECIAL.the }, merges: ["t h", "th e"] },
  };
}

function json(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value), "utf8");
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * The child's program in one file, as it is shipped; it starts several times faster than from its source. It lies in
 * the package's build folder, where the engine is found, until `remove` is called.
 */
export function bundledChild(): { readonly childEntry: string; readonly remove: () => void } {
  const here = dirname(fileURLToPath(import.meta.url));
  const folder = join(here, "../../dist", `test-${randomUUID()}`);
  const childEntry = join(folder, "llm-child.js");
  buildSync({
    entryPoints: [join(here, "../child/main.ts")],
    outfile: childEntry,
    bundle: true,
    platform: "node",
    format: "esm",
    conditions: ["assay-source"],
    external: ["onnxruntime-node"],
    logLevel: "error",
  });
  return { childEntry, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
