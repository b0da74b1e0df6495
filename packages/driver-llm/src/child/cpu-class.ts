import { createHash } from "node:crypto";
import type { OnnxGraph, OnnxTensor } from "../onnx-writer.ts";
import { ONNX_TYPE, encodeOnnx, floats } from "../onnx-writer.ts";

import type { Ort, OrtTensor } from "./ort.ts";

/**
 * The class of this machine's kernels, by the same probe set and hash as the driver for tensors uses, so that one
 * machine has one class: hash of the outputs of a fixed set of small models, lower-case hex. Machines with equal hashes run the same
 * kernels: matrix product and matrix-vector product, activations, convolution (plain and depthwise), recurrence,
 * reductions with normalisation, and 8-bit products, which saturate on some machines and not on others.
 */
export async function cpuClass(ort: Ort): Promise<string> {
  const hash = createHash("sha256").update("assay cpu class v1\n");
  for (const graph of probeSet()) {
    const session = await ort.create(encodeOnnx(graph));
    const feeds: Record<string, OrtTensor> = {};
    for (const [index, port] of graph.inputs.entries()) {
      const shape = port.shape.map(Number);
      const values = sequence(
        shape.reduce((count, size) => count * size, 1),
        90 + index,
      );
      feeds[port.name] =
        port.type === ONNX_TYPE.UINT8
          ? new ort.Tensor(
              "uint8",
              Uint8Array.from(values, (value) => Math.round(value * 127 + 128)),
              shape,
            )
          : new ort.Tensor("float32", Float32Array.from(values), shape);
    }
    const results = await session.run(feeds);
    for (const port of graph.outputs) {
      const data = results[port.name]?.data;
      if (!ArrayBuffer.isView(data)) throw new Error("A probe model gave no output.");
      hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    await session.release();
  }
  return hash.digest("hex");
}

/** Numbers in [-1, 1] that are exact in float32, from a 32-bit linear congruential generator. */
export function sequence(length: number, seed: number): number[] {
  let state = (seed * 2_654_435_761) >>> 0;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  });
}

function probeSet(): readonly OnnxGraph[] {
  return [perceptron(1), perceptron(7), convolution(), recurrence(), normalisation(), integers()];
}

const FLOAT = ONNX_TYPE.FLOAT;

function weights(name: string, dims: readonly number[], seed: number): OnnxTensor {
  const length = dims.reduce((count, size) => count * size, 1);
  return floats(name, dims, sequence(length, seed));
}

function perceptron(rows: number): OnnxGraph {
  return {
    inputs: [{ name: "x", type: FLOAT, shape: [rows, 67] }],
    outputs: [{ name: "y", type: FLOAT, shape: [rows, 19] }],
    initializers: [
      weights("w1", [67, 83], 1),
      weights("b1", [83], 2),
      weights("w2", [83, 19], 3),
      weights("b2", [19], 4),
    ],
    nodes: [
      { op: "Gemm", inputs: ["x", "w1", "b1"], outputs: ["h"] },
      { op: "Tanh", inputs: ["h"], outputs: ["t"] },
      { op: "Gemm", inputs: ["t", "w2", "b2"], outputs: ["z"] },
      { op: "Softmax", inputs: ["z"], outputs: ["y"], attributes: [{ name: "axis", int: 1 }] },
    ],
  };
}

function convolution(): OnnxGraph {
  return {
    inputs: [{ name: "x", type: FLOAT, shape: [1, 16, 13, 13] }],
    outputs: [{ name: "y", type: FLOAT, shape: [1, 32] }],
    initializers: [weights("w1", [32, 16, 3, 3], 5), weights("b1", [32], 6), weights("w2", [32, 1, 3, 3], 7)],
    nodes: [
      {
        op: "Conv",
        inputs: ["x", "w1", "b1"],
        outputs: ["c"],
        attributes: [
          { name: "kernel_shape", ints: [3, 3] },
          { name: "pads", ints: [1, 1, 1, 1] },
        ],
      },
      { op: "Sigmoid", inputs: ["c"], outputs: ["s"] },
      {
        op: "Conv",
        inputs: ["s", "w2"],
        outputs: ["d"],
        attributes: [
          { name: "kernel_shape", ints: [3, 3] },
          { name: "group", int: 32 },
        ],
      },
      { op: "GlobalAveragePool", inputs: ["d"], outputs: ["p"] },
      { op: "Flatten", inputs: ["p"], outputs: ["y"] },
    ],
  };
}

function recurrence(): OnnxGraph {
  return {
    inputs: [{ name: "x", type: FLOAT, shape: [9, 2, 11] }],
    outputs: [{ name: "y", type: FLOAT, shape: [9, 1, 2, 13] }],
    initializers: [weights("w", [1, 52, 11], 8), weights("r", [1, 52, 13], 9), weights("b", [1, 104], 10)],
    nodes: [
      { op: "LSTM", inputs: ["x", "w", "r", "b"], outputs: ["y"], attributes: [{ name: "hidden_size", int: 13 }] },
    ],
  };
}

function normalisation(): OnnxGraph {
  return {
    inputs: [{ name: "x", type: FLOAT, shape: [3, 5, 37] }],
    outputs: [{ name: "y", type: FLOAT, shape: [3, 37] }],
    initializers: [weights("g", [37], 11), weights("b", [37], 12)],
    nodes: [
      { op: "LayerNormalization", inputs: ["x", "g", "b"], outputs: ["n"], attributes: [{ name: "axis", int: -1 }] },
      { op: "Erf", inputs: ["n"], outputs: ["e"] },
      { op: "Exp", inputs: ["e"], outputs: ["x2"] },
      {
        op: "ReduceMean",
        inputs: ["x2"],
        outputs: ["y"],
        attributes: [
          { name: "axes", ints: [1] },
          { name: "keepdims", int: 0 },
        ],
      },
    ],
  };
}

/** All weights near the extremes, so that kernels which add pairs of products in 16 bits saturate. */
function integers(): OnnxGraph {
  const raw = new Uint8Array(Int8Array.from(sequence(64 * 24, 13), (value) => (value < 0 ? -127 : 127)).buffer);
  return {
    inputs: [{ name: "x", type: ONNX_TYPE.UINT8, shape: [4, 64] }],
    outputs: [{ name: "y", type: ONNX_TYPE.INT32, shape: [4, 24] }],
    initializers: [{ name: "w", type: ONNX_TYPE.INT8, dims: [64, 24], raw }],
    nodes: [{ op: "MatMulInteger", inputs: ["x", "w"], outputs: ["y"] }],
  };
}
