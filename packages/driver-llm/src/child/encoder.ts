import { llmError } from "../errors.ts";
import type { JsonObject } from "../json.ts";
import type { Ort, OrtSession, OrtTensor } from "./ort.ts";

/** A network that turns texts into vectors of length 1. */
export type Encoder = {
  /** Vectors of one batch of token lists; shorter ones are padded on the right and the padding is masked. */
  readonly run: (batch: readonly (readonly number[])[], pad: number) => Promise<Float32Array[]>;
};

/**
 * The encoder of a session: `sentence_embedding` as it is, or `last_hidden_state` (also called `token_embeddings`)
 * averaged over the tokens of the text, or its first one where the model's pooling says so; then divided by its
 * Euclidean length. Undefined when the session has neither output.
 */
export function createEncoder(ort: Ort, session: OrtSession, pooling: JsonObject | undefined): Encoder | undefined {
  const sentence = session.outputNames.find((name) => name === "sentence_embedding");
  const states = session.outputNames.find((name) => name === "last_hidden_state" || name === "token_embeddings");
  const output = sentence ?? states;
  if (output === undefined || !session.inputNames.includes("input_ids")) return undefined;
  for (const name of session.inputNames) {
    if (!["input_ids", "attention_mask", "token_type_ids", "position_ids"].includes(name)) {
      throw llmError("model_invalid", `The encoder has an input ${JSON.stringify(name)}, which is not known here.`);
    }
  }
  const first = pooling?.["pooling_mode_cls_token"] === true;

  return {
    run: async (batch, pad) => {
      const rows = batch.length;
      const length = Math.max(1, ...batch.map((tokens) => tokens.length));
      const ids = new BigInt64Array(rows * length).fill(BigInt(pad));
      const mask = new BigInt64Array(rows * length);
      for (const [row, tokens] of batch.entries()) {
        for (const [index, token] of tokens.entries()) {
          ids[row * length + index] = BigInt(token);
          mask[row * length + index] = 1n;
        }
      }
      const shape = [rows, length];
      const positions = (): BigInt64Array =>
        BigInt64Array.from({ length: rows * length }, (_, index) => BigInt(index % length));
      const feeds: Record<string, OrtTensor> = {};
      for (const name of session.inputNames) {
        const data =
          name === "input_ids"
            ? ids
            : name === "attention_mask"
              ? mask
              : name === "position_ids"
                ? positions()
                : new BigInt64Array(rows * length);
        feeds[name] = new ort.Tensor("int64", data, shape);
      }
      const result = (await session.run(feeds, [output]))[output];
      const width = result?.dims.at(-1) ?? 0;
      const data = result?.data;
      const expected = rows * width * (sentence === undefined ? length : 1);
      if (!(data instanceof Float32Array) || width === 0 || data.length !== expected) {
        throw llmError("model_failed", "The network's vectors are no float32 rows of its texts.");
      }
      return batch.map((tokens, row) => {
        if (sentence !== undefined) return unit(data.slice(row * width, (row + 1) * width));
        const start = row * length * width;
        return unit(first ? data.slice(start, start + width) : mean(data, start, tokens.length, width));
      });
    },
  };
}

function mean(data: Float32Array, start: number, length: number, width: number): Float32Array {
  const sums = new Float64Array(width);
  for (let token = 0; token < length; token++) {
    for (let index = 0; index < width; index++) {
      sums[index] = (sums[index] ?? 0) + (data[start + token * width + index] ?? 0);
    }
  }
  return Float32Array.from(sums, (sum) => sum / Math.max(1, length));
}

function unit(vector: Float32Array): Float32Array {
  let square = 0;
  for (const value of vector) square += value * value;
  const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
  return vector.map((value) => value * scale);
}
