/**
 * Embeddings against a bare onnxruntime-node run of the same padded batch, alternating in one process:
 * `node --conditions=assay-source --import tsx packages/driver-llm/src/embed.bench.ts [MODEL_FOLDER [ENTRY [TEXTS [ROUNDS]]]]`.
 * Without a folder, a synthetic encoder of six layers of width 192 is measured. Prints one JSON line.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ELEMENT_TYPE, floatTensor, pseudoRandom } from "@assay/onnx";
import type { GraphParts } from "@assay/onnx";
import type { EngineModel } from "@assay/protocol";
import { createEncoder } from "./child/encoder.ts";
import { loadOrt } from "./child/ort.ts";
import { createLocalEngine } from "./engine.ts";
import { bundledChild, modelFolders } from "./testing/tiny-model.ts";

const WIDTH = 192;
const INNER = 768;
const LAYERS = 6;

function synthetic(): GraphParts {
  const layers = Array.from({ length: LAYERS }, (_, layer) => layer);
  return {
    inputs: [
      { name: "input_ids", elementType: ELEMENT_TYPE.INT64, shape: ["batch", "length"] },
      { name: "attention_mask", elementType: ELEMENT_TYPE.INT64, shape: ["batch", "length"] },
    ],
    outputs: [{ name: "last_hidden_state", elementType: ELEMENT_TYPE.FLOAT, shape: ["batch", "length", WIDTH] }],
    initializers: [
      floatTensor("embed", [264, WIDTH], pseudoRandom(264 * WIDTH, 1)),
      ...layers.flatMap((layer) => [
        floatTensor(`up${layer}`, [WIDTH, INNER], pseudoRandom(WIDTH * INNER, layer + 2)),
        floatTensor(`down${layer}`, [INNER, WIDTH], pseudoRandom(WIDTH * INNER, layer + 20)),
      ]),
    ],
    nodes: [
      { opType: "Gather", inputs: ["embed", "input_ids"], outputs: ["h0"] },
      ...layers.flatMap((layer) => [
        { opType: "MatMul", inputs: [`h${layer}`, `up${layer}`], outputs: [`u${layer}`] },
        { opType: "Tanh", inputs: [`u${layer}`], outputs: [`t${layer}`] },
        { opType: "MatMul", inputs: [`t${layer}`, `down${layer}`], outputs: [`h${layer + 1}`] },
      ]),
      { opType: "Identity", inputs: [`h${LAYERS}`], outputs: ["last_hidden_state"] },
    ],
  };
}

const folders = modelFolders();
const directory = process.argv[2];
const entry = process.argv[3] ?? "model.onnx";
const texts = Number(process.argv[4] ?? 32);
const rounds = Number(process.argv[5] ?? 15);

function modelOf(): EngineModel {
  if (directory === undefined) return folders.model({ network: synthetic(), template: null });
  const files = [entry, "config.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"]
    .filter((path) => existsSync(join(directory, path)))
    .map((path) => {
      const bytes = readFileSync(join(directory, path));
      return { path, sha256: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length };
    });
  return { name: "bench", files: { manifestDigest: "0".repeat(64), directory, entry, files } };
}

const model = modelOf();
const files = model.files;
if (files === undefined) throw new TypeError("the model has no files");
const ort = await loadOrt(1);
const session = await ort.create(readFileSync(join(files.directory, files.entry)));
const encoder = createEncoder(ort, session, undefined);
const child = bundledChild();
const engine = createLocalEngine({ childEntry: child.childEntry });
const inputs = Array.from({ length: texts }, (_, index) =>
  pseudoRandom(32, index).map((value) => Math.floor((value + 1) * 100)),
);
const signal = new AbortController().signal;
const pairs: { readonly bareMs: number; readonly engineMs: number }[] = [];
for (let round = -2; round < rounds; round++) {
  const first = performance.now();
  await encoder?.run(inputs, 0);
  const second = performance.now();
  await engine.embed({ model, inputs }, { signal });
  if (round >= 0) pairs.push({ bareMs: second - first, engineMs: performance.now() - second });
}
await engine.close();
child.remove();
folders.remove();
const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
process.stdout.write(
  `${JSON.stringify({
    texts,
    tokensEach: 32,
    rounds,
    bareMs: Number(median(pairs.map((pair) => pair.bareMs)).toFixed(2)),
    engineMs: Number(median(pairs.map((pair) => pair.engineMs)).toFixed(2)),
    ratio: Number(median(pairs.map((pair) => pair.bareMs / pair.engineMs)).toFixed(3)),
  })}\n`,
);
