import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { EngineModel } from "@assay/protocol";
import { buildSync } from "esbuild";
import { sequence } from "../child/cpu-class.ts";
import { ONNX_TYPE, encodeOnnx, floats, longs } from "../onnx-writer.ts";
import type { OnnxGraph } from "../onnx-writer.ts";

const FLOAT = ONNX_TYPE.FLOAT;
const LONG = ONNX_TYPE.INT64;
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
): OnnxGraph {
  const { seed = 1, scale = 8, hang = false } = options;
  const weights = (name: string, rows: number, columns: number, index: number) =>
    floats(
      name,
      [rows, columns],
      sequence(rows * columns, seed * 100 + index).map((value) => value * Math.sqrt(3 / rows)),
    );
  const loop = hang
    ? [
        {
          op: "Loop",
          inputs: ["many", "go", "zero"],
          outputs: ["wasted"],
          attributes: [
            {
              name: "body",
              graph: {
                inputs: [
                  { name: "i", type: LONG, shape: [] },
                  { name: "cond", type: ONNX_TYPE.BOOL, shape: [] },
                  { name: "v", type: FLOAT, shape: [] },
                ],
                outputs: [
                  { name: "cond_out", type: ONNX_TYPE.BOOL, shape: [] },
                  { name: "v_out", type: FLOAT, shape: [] },
                ],
                nodes: [
                  { op: "Identity", inputs: ["cond"], outputs: ["cond_out"] },
                  { op: "Add", inputs: ["v", "zero"], outputs: ["v_out"] },
                ],
              },
            },
          ],
        },
        { op: "Add", inputs: ["calm", "wasted"], outputs: ["logits"] },
      ]
    : [{ op: "Identity", inputs: ["calm"], outputs: ["logits"] }];
  return {
    inputs: [
      { name: "input_ids", type: LONG, shape: ["batch", "length"] },
      { name: "attention_mask", type: LONG, shape: ["batch", "total"] },
      { name: "position_ids", type: LONG, shape: ["batch", "length"] },
      { name: "past_key_values.0.key", type: FLOAT, shape: ["batch", HEADS, "past", HEAD] },
      { name: "past_key_values.0.value", type: FLOAT, shape: ["batch", HEADS, "past", HEAD] },
    ],
    outputs: [
      { name: "logits", type: FLOAT, shape: ["batch", "length", VOCABULARY] },
      { name: "present.0.key", type: FLOAT, shape: ["batch", HEADS, "total", HEAD] },
      { name: "present.0.value", type: FLOAT, shape: ["batch", HEADS, "total", HEAD] },
    ],
    initializers: [
      weights("embed", VOCABULARY, WIDTH, 1),
      weights("places", CONTEXT, WIDTH, 2),
      weights("wq", WIDTH, WIDTH, 3),
      weights("wk", WIDTH, WIDTH, 4),
      weights("wv", WIDTH, WIDTH, 5),
      weights("wo", WIDTH, WIDTH, 6),
      weights("wu", WIDTH, VOCABULARY, 7),
      floats("scale", [], [scale]),
      floats("root", [], [1 / Math.sqrt(HEAD)]),
      floats("minus", [], [-1e9]),
      floats("zero", [], [0]),
      longs("many", [], [1e15]),
      { name: "go", type: ONNX_TYPE.BOOL, dims: [], raw: Uint8Array.of(1) },
      longs("split", [4], [0, 0, HEADS, HEAD]),
      longs("join", [3], [0, 0, WIDTH]),
      longs("axis1", [1], [1]),
      longs("axis3", [1], [3]),
      longs("first", [], [0]),
      longs("step", [], [1]),
      longs("one", [], [1]),
    ],
    nodes: [
      { op: "Gather", inputs: ["embed", "input_ids"], outputs: ["words"] },
      { op: "Gather", inputs: ["places", "position_ids"], outputs: ["where"] },
      { op: "Add", inputs: ["words", "where"], outputs: ["x"] },
      ...(["q", "k", "v"] as const).flatMap((name) => [
        { op: "MatMul", inputs: ["x", `w${name}`], outputs: [`${name}flat`] },
        { op: "Reshape", inputs: [`${name}flat`, "split"], outputs: [`${name}split`] },
        {
          op: "Transpose",
          inputs: [`${name}split`],
          outputs: [name],
          attributes: [{ name: "perm", ints: [0, 2, 1, 3] }],
        },
      ]),
      {
        op: "Concat",
        inputs: ["past_key_values.0.key", "k"],
        outputs: ["present.0.key"],
        attributes: [{ name: "axis", int: 2 }],
      },
      {
        op: "Concat",
        inputs: ["past_key_values.0.value", "v"],
        outputs: ["present.0.value"],
        attributes: [{ name: "axis", int: 2 }],
      },
      {
        op: "Transpose",
        inputs: ["present.0.key"],
        outputs: ["kt"],
        attributes: [{ name: "perm", ints: [0, 1, 3, 2] }],
      },
      { op: "MatMul", inputs: ["q", "kt"], outputs: ["raw"] },
      { op: "Mul", inputs: ["raw", "root"], outputs: ["scores"] },
      { op: "Shape", inputs: ["attention_mask"], outputs: ["maskShape"] },
      { op: "Gather", inputs: ["maskShape", "one"], outputs: ["total"] },
      { op: "Range", inputs: ["first", "total", "step"], outputs: ["columns"] },
      { op: "Unsqueeze", inputs: ["position_ids", "axis1"], outputs: ["rows1"] },
      { op: "Unsqueeze", inputs: ["rows1", "axis3"], outputs: ["rows"] },
      { op: "LessOrEqual", inputs: ["columns", "rows"], outputs: ["seen"] },
      { op: "Where", inputs: ["seen", "scores", "minus"], outputs: ["masked"] },
      { op: "Softmax", inputs: ["masked"], outputs: ["shares"], attributes: [{ name: "axis", int: -1 }] },
      { op: "MatMul", inputs: ["shares", "present.0.value"], outputs: ["mixed"] },
      { op: "Transpose", inputs: ["mixed"], outputs: ["back"], attributes: [{ name: "perm", ints: [0, 2, 1, 3] }] },
      { op: "Reshape", inputs: ["back", "join"], outputs: ["flat"] },
      { op: "MatMul", inputs: ["flat", "wo"], outputs: ["changed"] },
      { op: "Add", inputs: ["x", "changed"], outputs: ["y"] },
      { op: "MatMul", inputs: ["y", "wu"], outputs: ["soft"] },
      { op: "Mul", inputs: ["soft", "scale"], outputs: ["calm"] },
      ...loop,
    ],
  };
}

/** An encoder: each token's embedding through one layer, whatever its neighbours. */
export function tinyEncoder(): OnnxGraph {
  return {
    inputs: [
      { name: "input_ids", type: LONG, shape: ["batch", "length"] },
      { name: "attention_mask", type: LONG, shape: ["batch", "length"] },
    ],
    outputs: [{ name: "last_hidden_state", type: FLOAT, shape: ["batch", "length", WIDTH] }],
    initializers: [
      floats("embed", [VOCABULARY, WIDTH], sequence(VOCABULARY * WIDTH, 5)),
      floats("w", [WIDTH, WIDTH], sequence(WIDTH * WIDTH, 6)),
    ],
    nodes: [
      { op: "Gather", inputs: ["embed", "input_ids"], outputs: ["x"] },
      { op: "MatMul", inputs: ["x", "w"], outputs: ["h"] },
      { op: "Tanh", inputs: ["h"], outputs: ["last_hidden_state"] },
    ],
  };
}

const TEMPLATE =
  "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}" +
  "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}<|end|>{% endfor %}" +
  "{% if tools %}{{ tools | tojson }}{% endif %}<|start|>assistant\n";

type TinyOptions = {
  readonly network?: OnnxGraph | Uint8Array;
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
        "onnx/model.onnx": network instanceof Uint8Array ? network : encodeOnnx(network),
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
