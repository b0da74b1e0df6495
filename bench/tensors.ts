// What it costs to read and write an image tensor (float32 [1, 3, 224, 224]) in the two forms of the Open Inference
// Protocol. Prints CPU time per operation, the best of several rounds, and the ratio of JSON to binary.
// The floor is a plain copy of the tensor's bytes, measured in the same run.
//
//   npx tsx --conditions=assay-source bench/tensors.ts
import { encodeInferRequest, encodeInferResponse, joinBody, parseInferRequest } from "@assay/protocol";
import type { Tensor } from "@assay/protocol";

const ROUNDS = 9;
const GOAL = 50;

const count = 3 * 224 * 224;
const values = new Float32Array(count);
// A fixed linear congruential sequence: the same tensor in every run.
let state = 1;
for (let i = 0; i < count; i++) {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  values[i] = state / 4_294_967_296 - 0.5;
}
const tensor: Tensor = {
  name: "image",
  datatype: "FP32",
  shape: [1, 3, 224, 224],
  data: new Uint8Array(values.buffer),
};

/** Microseconds of CPU per call, the least of the rounds: other work on the machine can only add to it. */
function measure(times: number, run: () => unknown): number {
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage();
    for (let i = 0; i < times; i++) run();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / times);
  }
  return least;
}

const binary = encodeInferRequest({ inputs: [tensor] });
const binaryBody = joinBody(binary);
const jsonBody = joinBody(encodeInferRequest({ inputs: [tensor], binary: false }));
// What a client sends that prints float32 values as doubles, as most do: 16 to 17 digits each.
const longBody = new TextEncoder().encode(
  JSON.stringify({
    inputs: [{ name: "image", shape: tensor.shape, datatype: "FP32", data: [...values] }],
  }),
);
const decoder = new TextDecoder();

const floor = measure(200, () => tensor.data.slice());
const readBinary = measure(2000, () => parseInferRequest(binaryBody, binary.headerLength));
const readBinaryCopied = measure(200, () => parseInferRequest(binaryBody, binary.headerLength).inputs[0]?.data.slice());
const readShort = measure(5, () => parseInferRequest(jsonBody, undefined));
const readLong = measure(5, () => parseInferRequest(longBody, undefined));
const readPlatform = measure(5, () => {
  const parsed = JSON.parse(decoder.decode(longBody)) as { inputs: { data: number[] }[] };
  return Float32Array.from(parsed.inputs[0]?.data ?? []);
});
const writeBinary = measure(200, () =>
  joinBody(encodeInferResponse({ modelName: "m", outputs: [{ tensor, binary: true }] })),
);
const writeJson = measure(3, () =>
  joinBody(encodeInferResponse({ modelName: "m", outputs: [{ tensor, binary: false }] })),
);
const writePlatform = measure(3, () => new TextEncoder().encode(JSON.stringify([...values])));

const rows: [string, number, number][] = [
  ["copy of the bytes (floor)", floor, tensor.data.length],
  ["read binary, as views", readBinary, binaryBody.length],
  ["read binary, copied out", readBinaryCopied, binaryBody.length],
  ["read JSON, shortest float32", readShort, jsonBody.length],
  ["read JSON, float32 as doubles", readLong, longBody.length],
  ["  same, JSON.parse + Float32Array.from", readPlatform, longBody.length],
  ["write binary, joined", writeBinary, binaryBody.length],
  ["write JSON, shortest float32", writeJson, jsonBody.length],
  ["  as doubles, JSON.stringify", writePlatform, longBody.length],
];
console.log(`float32 [1, 3, 224, 224], Node ${process.version}, CPU us per operation, least of ${ROUNDS} rounds`);
for (const [name, us, bytes] of rows)
  console.log(`${name.padEnd(42)} ${us.toFixed(1).padStart(10)} us ${String(bytes).padStart(9)} bytes`);
const ratios = {
  "read JSON (doubles) / read binary copied": readLong / readBinaryCopied,
  "read JSON (shortest) / read binary copied": readShort / readBinaryCopied,
  "write JSON / write binary": writeJson / writeBinary,
  "read JSON (doubles) / JSON.parse": readLong / readPlatform,
};
for (const [name, value] of Object.entries(ratios)) console.log(`ratio ${name.padEnd(42)} ${value.toFixed(2)}`);
// Judged with the binary tensor copied out of the body, which a reader of views never pays.
const ratio = readLong / readBinaryCopied;
const verdict = ratio >= GOAL ? "met" : "missed";
console.log(`binary is ${ratio.toFixed(0)} times cheaper to read than JSON; the goal is ${GOAL}: ${verdict}`);
