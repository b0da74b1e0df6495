import { llmError } from "../errors.ts";
import { count } from "../json.ts";
import type { JsonObject } from "../json.ts";
import { MAX_LOGITS_BYTES, RECHECK_CHUNKS } from "../limits.ts";
import type { Ort, OrtSession, OrtTensor } from "./ort.ts";

/** Keys and values of every layer for the first `length` tokens of a text. Never changed once made, so it may be shared. */
export type Past = { readonly length: number; readonly tensors: readonly OrtTensor[] };

/** A network that continues texts: token ids in, logits of the next token out. */
export type Decoder = {
  /** Numbers in one row of logits. */
  readonly vocabularySize: number;
  readonly empty: Past;
  /** Tokens that may run at once, when others wait for their next one and when a text is only checked. */
  readonly maxChunk: number;
  readonly maxRecheckChunk: number;
  /** Runs `tokens` behind `past`; `row` gives a view of the logits behind each of them, valid until the next run. */
  readonly run: (
    past: Past,
    tokens: readonly number[],
  ) => Promise<{ readonly past: Past; readonly row: (index: number) => Float32Array }>;
  /** As {@link Decoder.run}, when nothing will follow. */
  readonly end: (past: Past, tokens: readonly number[]) => Promise<(index: number) => Float32Array>;
  /** The first `length` tokens of `past`. */
  readonly cut: (past: Past, length: number) => Past;
  readonly bytesOf: (past: Past) => number;
};

type OrtOutputs = Readonly<Record<string, OrtTensor | undefined>>;
type Port = { readonly name: string; readonly type: string; readonly shape: readonly (number | string)[] };

/** Inputs of decoders that are fed; any other would be a network that this loop does not know. */
const KNOWN_INPUTS = new Set(["input_ids", "attention_mask", "position_ids", "num_logits_to_keep"]);
const PAST = /^past_key_values\.(\d+)\.(key|value)$/;

/**
 * The decoder of a session in the layout that transformers.js runs: `input_ids`, `attention_mask`, maybe
 * `position_ids`, `past_key_values.N.key/value` to `logits` and `present.N.key/value`. Undefined when the session is no
 * decoder at all; throws `model_invalid` for one that cannot be fed.
 */
export function createDecoder(
  ort: Ort,
  session: OrtSession,
  config: JsonObject,
  limits: { readonly context: number; readonly chunk: number },
): Decoder | undefined {
  const inputs: readonly Port[] = session.inputMetadata.flatMap((port) => (port.isTensor ? [port] : []));
  const outputs: readonly Port[] = session.outputMetadata.flatMap((port) => (port.isTensor ? [port] : []));
  const logitsPort = outputs.find((port) => port.name === "logits");
  const pastPorts = inputs.filter((port) => PAST.test(port.name));
  if (logitsPort === undefined || pastPorts.length === 0) return undefined;
  for (const { name } of inputs) {
    if (!KNOWN_INPUTS.has(name) && !PAST.test(name)) {
      throw llmError("model_invalid", `The decoder has an input ${JSON.stringify(name)}, which is not known here.`);
    }
  }
  if (!inputs.some((port) => port.name === "input_ids"))
    throw llmError("model_invalid", "The decoder has no input_ids.");
  const kvType = pastPorts[0]?.type;
  if ((kvType !== "float32" && kvType !== "float16") || pastPorts.some((port) => port.type !== kvType)) {
    throw llmError("model_invalid", "The decoder's cache is neither float32 nor float16.");
  }
  const halfLogits = logitsPort.type === "float16";
  if (!halfLogits && logitsPort.type !== "float32")
    throw llmError("model_invalid", "The logits are neither float32 nor float16.");
  const lastSize = logitsPort.shape.at(-1);
  const vocabularySize = typeof lastSize === "number" && lastSize > 0 ? lastSize : count(config["vocab_size"]);
  const heads = count(config["num_key_value_heads"]) || count(config["num_attention_heads"]) || count(config["n_head"]);
  const width =
    count(config["head_dim"]) ||
    (count(config["hidden_size"]) || count(config["n_embd"])) /
      (count(config["num_attention_heads"]) || count(config["n_head"]) || 1);
  if (vocabularySize === 0)
    throw llmError("model_invalid", "Neither the logits nor config.json tell the vocabulary's size.");

  const fixed = (size: number | string | undefined, otherwise: number): number =>
    typeof size === "number" && size > 0 && size < 2 ** 31 ? size : otherwise;
  const shapes = pastPorts.map((port) => [1, fixed(port.shape[1], heads), 0, fixed(port.shape[3], width)] as const);
  if (
    pastPorts.some((port) => port.shape.length !== 4) ||
    shapes.some((shape) => !Number.isInteger(shape[1] * shape[3]) || shape[1] * shape[3] === 0)
  ) {
    throw llmError("model_invalid", "The shape of the decoder's cache is not known.");
  }
  const presentNames = pastPorts.map((port) => port.name.replace("past_key_values", "present"));
  for (const name of presentNames) {
    if (!outputs.some((port) => port.name === name))
      throw llmError("model_invalid", `The decoder has no output ${name}.`);
  }
  const fetches = ["logits", ...presentNames];
  const hasMask = inputs.some((port) => port.name === "attention_mask");
  const hasPositions = inputs.some((port) => port.name === "position_ids");
  const hasKeep = inputs.some((port) => port.name === "num_logits_to_keep");
  const ones = new BigInt64Array(limits.context + 1).fill(1n);
  const positions = BigInt64Array.from({ length: limits.context + 1 }, (_, index) => BigInt(index));
  // The tensor class takes 16-bit integers for half precision, see `loadOrt`.
  const typed = (length: number): Float32Array =>
    kvType === "float32" ? new Float32Array(length) : (new Uint16Array(length) as never);
  const chunkOf = (most: number): number =>
    Math.max(1, Math.min(most, Math.floor(MAX_LOGITS_BYTES / (4 * vocabularySize))));
  const feeds: Record<string, OrtTensor> = {};
  if (hasKeep) feeds["num_logits_to_keep"] = new ort.Tensor("int64", BigInt64Array.of(0n), []);

  const feed = async (past: Past, tokens: readonly number[], outputs: readonly string[]): Promise<OrtOutputs> => {
    const length = past.length + tokens.length;
    if (length > limits.context) throw new RangeError("the text is longer than the context");
    const size = tokens.length;
    feeds["input_ids"] = new ort.Tensor("int64", BigInt64Array.from(tokens, BigInt), [1, size]);
    if (hasMask) feeds["attention_mask"] = new ort.Tensor("int64", ones.subarray(0, length), [1, length]);
    if (hasPositions)
      feeds["position_ids"] = new ort.Tensor("int64", positions.subarray(past.length, length), [1, size]);
    for (const [index, port] of pastPorts.entries()) {
      const tensor = past.tensors[index];
      if (tensor !== undefined) feeds[port.name] = tensor;
    }
    return await session.run(feeds, outputs);
  };
  const rowsOf = (results: OrtOutputs, size: number): ((index: number) => Float32Array) => {
    const logits = results["logits"];
    if (logits === undefined || logits.dims.at(-1) !== vocabularySize || logits.dims.at(-2) !== size) {
      throw llmError("model_failed", "The network's logits do not have the shape of its vocabulary and its input.");
    }
    const data = halfLogits ? widen(logits.data as unknown as Uint16Array) : (logits.data as Float32Array);
    return (index) => data.subarray(index * vocabularySize, (index + 1) * vocabularySize);
  };

  return {
    vocabularySize,
    maxChunk: chunkOf(limits.chunk),
    maxRecheckChunk: chunkOf(RECHECK_CHUNKS * limits.chunk),
    empty: { length: 0, tensors: shapes.map((shape) => new ort.Tensor(kvType, typed(0), [...shape])) },
    run: async (past, tokens) => {
      const results = await feed(past, tokens, fetches);
      const row = rowsOf(results, tokens.length);
      const tensors = presentNames.map((name) => results[name]);
      return { past: { length: past.length + tokens.length, tensors: tensors as OrtTensor[] }, row };
    },
    end: async (past, tokens) => rowsOf(await feed(past, tokens, ["logits"]), tokens.length),
    cut: (past, length) => {
      if (length >= past.length) return past;
      const tensors = past.tensors.map((tensor) => {
        const [, tensorHeads = 0, tensorLength = 0, tensorWidth = 0] = tensor.dims;
        const from = tensor.data as Float32Array;
        const to = typed(tensorHeads * length * tensorWidth);
        for (let head = 0; head < tensorHeads; head++) {
          const start = head * tensorLength * tensorWidth;
          to.set(from.subarray(start, start + length * tensorWidth), head * length * tensorWidth);
        }
        return new ort.Tensor(kvType, to, [1, tensorHeads, length, tensorWidth]);
      });
      return { length, tensors };
    },
    bytesOf: (past) => past.tensors.reduce((sum, tensor) => sum + (tensor.data as Float32Array).byteLength, 0),
  };
}

/** Half precision numbers, given as their bits. */
function widen(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  });
}
