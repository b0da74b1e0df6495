import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ELEMENT_TYPE, encodeModelFile, floatTensor, int64Tensor, pseudoRandom } from "@assay/onnx";
import type { GraphParts } from "@assay/onnx";
import type { RuntimeProfile, Tensor } from "@assay/protocol";
import type { OrtModelRef } from "../runtime.ts";

const FLOAT = ELEMENT_TYPE.FLOAT;
const LONG = ELEMENT_TYPE.INT64;

/** y = relu(x w1 + b1) w2 + b2 over rows of 16: float32 [n, 16] to float32 [n, 4]. */
export function mlp(seed = 1): GraphParts {
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: ["n", 16] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: ["n", 4] }],
    initializers: [
      floatTensor("w1", [16, 32], pseudoRandom(512, seed)),
      floatTensor("b1", [32], pseudoRandom(32, seed + 1)),
      floatTensor("w2", [32, 4], pseudoRandom(128, seed + 2)),
      floatTensor("b2", [4], pseudoRandom(4, seed + 3)),
    ],
    nodes: [
      { opType: "Gemm", inputs: ["x", "w1", "b1"], outputs: ["h"] },
      { opType: "Relu", inputs: ["h"], outputs: ["r"] },
      { opType: "Gemm", inputs: ["r", "w2", "b2"], outputs: ["y"] },
    ],
  };
}

/** Gives back its input; `shape` as in the protocol with names for free axes. */
export function identity(elementType: number, shape: readonly (number | string)[]): GraphParts {
  return {
    inputs: [{ name: "x", elementType, shape }],
    outputs: [{ name: "y", elementType, shape }],
    nodes: [{ opType: "Identity", inputs: ["x"], outputs: ["y"] }],
  };
}

/** Subtracts the mean over all rows, so a row's answer depends on its neighbours. */
export function mixesRows(): GraphParts {
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: ["n", 4] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: ["n", 4] }],
    nodes: [
      { opType: "ReduceMean", inputs: ["x"], outputs: ["m"], attributes: [{ name: "axes", ints: [0] }] },
      { opType: "Sub", inputs: ["x", "m"], outputs: ["y"] },
    ],
  };
}

/** Casts float32 to INT4, at which onnxruntime-node ends its process with SIGABRT. */
export function aborts(): Uint8Array {
  const graph: GraphParts = {
    inputs: [{ name: "x", elementType: FLOAT, shape: [2] }],
    outputs: [{ name: "y", elementType: ELEMENT_TYPE.INT4, shape: [2] }],
    nodes: [{ opType: "Cast", inputs: ["x"], outputs: ["y"], attributes: [{ name: "to", int: ELEMENT_TYPE.INT4 }] }],
  };
  return encodeModelFile(graph, 21, 10);
}

/** Runs an empty loop as often as its input says: int64 [] to float32 []. */
export function loops(): GraphParts {
  return {
    inputs: [{ name: "count", elementType: LONG, shape: [] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: [] }],
    initializers: [
      { name: "go", elementType: ELEMENT_TYPE.BOOL, dims: [], raw: Uint8Array.of(1) },
      floatTensor("zero", [], [0]),
      floatTensor("one", [], [1]),
    ],
    nodes: [
      {
        opType: "Loop",
        inputs: ["count", "go", "zero"],
        outputs: ["y"],
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
                { opType: "Add", inputs: ["v", "one"], outputs: ["v_out"] },
              ],
            },
          },
        ],
      },
    ],
  };
}

/** Adds to each row a loop's count that is enormous unless the input is zero: float32 [n] to float32 [n]. */
export function loopsUnlessZero(): GraphParts {
  const { nodes = [], initializers = [] } = loops();
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: ["n"] }],
    outputs: [{ name: "z", elementType: FLOAT, shape: ["n"] }],
    initializers: [...initializers, floatTensor("many", [], [1e15])],
    nodes: [
      { opType: "Abs", inputs: ["x"], outputs: ["a"] },
      { opType: "ReduceMax", inputs: ["a"], outputs: ["m"], attributes: [{ name: "keepdims", int: 0 }] },
      { opType: "Mul", inputs: ["m", "many"], outputs: ["c"] },
      { opType: "Cast", inputs: ["c"], outputs: ["count"], attributes: [{ name: "to", int: LONG }] },
      ...nodes,
      { opType: "Add", inputs: ["x", "y"], outputs: ["z"] },
    ],
  };
}

/** Fills as many float32 as its input says and sums them: int64 [1] to float32 [1]. */
export function eats(): GraphParts {
  return {
    inputs: [{ name: "size", elementType: LONG, shape: [1] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: [1] }],
    nodes: [
      {
        opType: "ConstantOfShape",
        inputs: ["size"],
        outputs: ["big"],
        attributes: [{ name: "value", tensor: floatTensor("", [1], [1]) }],
      },
      { opType: "Exp", inputs: ["big"], outputs: ["e"] },
      { opType: "ReduceSum", inputs: ["e"], outputs: ["s"], attributes: [{ name: "keepdims", int: 0 }] },
      { opType: "Reshape", inputs: ["s", "one"], outputs: ["y"] },
    ],
    initializers: [int64Tensor("one", [1], [1])],
  };
}

/** Picks rows of a table: an index past its end makes the engine report an error. */
export function gathers(): GraphParts {
  return {
    inputs: [{ name: "i", elementType: LONG, shape: ["n"] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: ["n", 2] }],
    initializers: [floatTensor("table", [3, 2], [0, 1, 2, 3, 4, 5])],
    nodes: [{ opType: "Gather", inputs: ["table", "i"], outputs: ["y"] }],
  };
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A temporary folder of model files. */
export type ModelFolder = {
  readonly path: string;
  put(name: string, bytes: Uint8Array): string;
  model(name: string, content: GraphParts | Uint8Array, profile: RuntimeProfile): OrtModelRef;
  remove(): void;
};

export function modelFolder(): ModelFolder {
  const path = mkdtempSync(join(tmpdir(), "assay-ort-"));
  const put = (name: string, bytes: Uint8Array): string => {
    const file = join(path, name);
    writeFileSync(file, bytes);
    return file;
  };
  return {
    path,
    put,
    model: (name, content, profile) => {
      const bytes = content instanceof Uint8Array ? content : encodeModelFile(content);
      return { manifestDigest: "0".repeat(64), path: put(name, bytes), sha256: sha256(bytes), profile };
    },
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** How a child is started from its TypeScript source. */
export function sourceChild(entry = "../child/main.ts"): { childEntry: string; nodeArgs: readonly string[] } {
  const require = createRequire(import.meta.url);
  const loader = pathToFileURL(require.resolve("tsx")).href;
  return {
    childEntry: join(dirname(fileURLToPath(import.meta.url)), entry),
    nodeArgs: ["--conditions=assay-source", "--import", loader],
  };
}

export function fp32(name: string, shape: readonly number[], values: readonly number[]): Tensor {
  return { name, datatype: "FP32", shape, data: new Uint8Array(Float32Array.from(values).buffer) };
}

export function int64(name: string, shape: readonly number[], values: readonly number[]): Tensor {
  return { name, datatype: "INT64", shape, data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer) };
}

export function numbers(tensor: Tensor | undefined): number[] {
  if (tensor === undefined) throw new Error("there is no such tensor");
  return [...new Float32Array(tensor.data.slice().buffer)];
}

/** The first of a list that must have one. */
export function first<T>(list: readonly T[]): T {
  return at(list, 0);
}

/** An element that must be there. */
export function at<T>(list: readonly T[], index: number): T {
  const found = list[index];
  if (found === undefined) throw new Error(`there is no element ${index}`);
  return found;
}
