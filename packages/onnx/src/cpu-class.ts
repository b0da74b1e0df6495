import { bytesToHex, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { GraphParts, TensorParts, ValueParts } from "./encode.ts";
import { encodeModelFile, floatTensor } from "./encode.ts";
import { ELEMENT_TYPE, FLOAT } from "./types.ts";

/** A small model with its only input, `x`, and the type of its only output, `y`. */
export type CpuProbe = {
  readonly model: Uint8Array;
  readonly input: {
    readonly datatype: "FP32" | "UINT8";
    readonly shape: readonly number[];
    /** Little-endian elements, alone in their buffer. */
    readonly data: Uint8Array;
  };
  readonly output: "FP32" | "INT32";
};

/**
 * Hash of the outputs of a fixed set of small models, lower-case hex. Machines with equal hashes run the same
 * kernels: matrix product and matrix-vector product, activations, convolution (plain and depthwise), recurrence,
 * reductions with normalisation, and 8-bit products, which saturate on some machines and not on others.
 *
 * `run` gives the bytes of a probe's output, little-endian; what it throws is thrown.
 */
export async function cpuClass(
  sha256: CryptoSuite["sha256"],
  run: (probe: CpuProbe) => Promise<Uint8Array>,
): Promise<string> {
  const outputs: Uint8Array[] = [];
  for (const probe of cpuProbes()) outputs.push(await run(probe));
  return bytesToHex(sha256(utf8ToBytes("assay cpu class v1\n"), ...outputs));
}

/** Numbers in [-1, 1] that are exact in float32, from a 32-bit linear congruential generator. */
export function pseudoRandom(length: number, seed: number): number[] {
  let state = (seed * 2_654_435_761) >>> 0;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  });
}

/** A graph of one input whose shape is known and one output. */
type ProbeGraph = Omit<GraphParts, "inputs" | "outputs"> & {
  readonly inputs: readonly [Omit<ValueParts, "shape"> & { readonly shape: readonly number[] }];
  readonly outputs: readonly [ValueParts];
};

function cpuProbes(): readonly CpuProbe[] {
  return [perceptron(1), perceptron(7), convolution(), recurrence(), normalisation(), integers()].map(probeOf);
}

function probeOf(graph: ProbeGraph): CpuProbe {
  const [{ shape, elementType }] = graph.inputs;
  const length = shape.reduce((count, size) => count * size, 1);
  const values = pseudoRandom(length, 90);
  const input =
    elementType === ELEMENT_TYPE.UINT8
      ? ({ datatype: "UINT8", data: Uint8Array.from(values, (value) => Math.round(value * 127 + 128)) } as const)
      : ({ datatype: "FP32", data: new Uint8Array(Float32Array.from(values).buffer) } as const);
  return {
    model: encodeModelFile(graph),
    input: { ...input, shape },
    output: graph.outputs[0].elementType === FLOAT ? "FP32" : "INT32",
  };
}

function weights(name: string, dims: readonly number[], seed: number): TensorParts {
  const length = dims.reduce((count, size) => count * size, 1);
  return floatTensor(name, dims, pseudoRandom(length, seed));
}

function perceptron(rows: number): ProbeGraph {
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: [rows, 67] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: [rows, 19] }],
    initializers: [
      weights("w1", [67, 83], 1),
      weights("b1", [83], 2),
      weights("w2", [83, 19], 3),
      weights("b2", [19], 4),
    ],
    nodes: [
      { opType: "Gemm", inputs: ["x", "w1", "b1"], outputs: ["h"] },
      { opType: "Tanh", inputs: ["h"], outputs: ["t"] },
      { opType: "Gemm", inputs: ["t", "w2", "b2"], outputs: ["z"] },
      { opType: "Softmax", inputs: ["z"], outputs: ["y"], attributes: [{ name: "axis", int: 1 }] },
    ],
  };
}

function convolution(): ProbeGraph {
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: [1, 16, 13, 13] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: [1, 32] }],
    initializers: [weights("w1", [32, 16, 3, 3], 5), weights("b1", [32], 6), weights("w2", [32, 1, 3, 3], 7)],
    nodes: [
      {
        opType: "Conv",
        inputs: ["x", "w1", "b1"],
        outputs: ["c"],
        attributes: [
          { name: "kernel_shape", ints: [3, 3] },
          { name: "pads", ints: [1, 1, 1, 1] },
        ],
      },
      { opType: "Sigmoid", inputs: ["c"], outputs: ["s"] },
      {
        opType: "Conv",
        inputs: ["s", "w2"],
        outputs: ["d"],
        attributes: [
          { name: "kernel_shape", ints: [3, 3] },
          { name: "group", int: 32 },
        ],
      },
      { opType: "GlobalAveragePool", inputs: ["d"], outputs: ["p"] },
      { opType: "Flatten", inputs: ["p"], outputs: ["y"] },
    ],
  };
}

function recurrence(): ProbeGraph {
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: [9, 2, 11] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: [9, 1, 2, 13] }],
    initializers: [weights("w", [1, 52, 11], 8), weights("r", [1, 52, 13], 9), weights("b", [1, 104], 10)],
    nodes: [
      { opType: "LSTM", inputs: ["x", "w", "r", "b"], outputs: ["y"], attributes: [{ name: "hidden_size", int: 13 }] },
    ],
  };
}

function normalisation(): ProbeGraph {
  return {
    inputs: [{ name: "x", elementType: FLOAT, shape: [3, 5, 37] }],
    outputs: [{ name: "y", elementType: FLOAT, shape: [3, 37] }],
    initializers: [weights("g", [37], 11), weights("b", [37], 12)],
    nodes: [
      {
        opType: "LayerNormalization",
        inputs: ["x", "g", "b"],
        outputs: ["n"],
        attributes: [{ name: "axis", int: -1 }],
      },
      { opType: "Erf", inputs: ["n"], outputs: ["e"] },
      { opType: "Exp", inputs: ["e"], outputs: ["x2"] },
      {
        opType: "ReduceMean",
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
function integers(): ProbeGraph {
  const raw = new Uint8Array(Int8Array.from(pseudoRandom(64 * 24, 13), (value) => (value < 0 ? -127 : 127)).buffer);
  return {
    inputs: [{ name: "x", elementType: ELEMENT_TYPE.UINT8, shape: [4, 64] }],
    outputs: [{ name: "y", elementType: ELEMENT_TYPE.INT32, shape: [4, 24] }],
    initializers: [{ name: "w", elementType: ELEMENT_TYPE.INT8, dims: [64, 24], raw }],
    nodes: [{ opType: "MatMulInteger", inputs: ["x", "w"], outputs: ["y"] }],
  };
}
