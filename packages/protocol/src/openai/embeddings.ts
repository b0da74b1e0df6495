import { AssayError, bytesToBase64 } from "@assay/core";
import type { EmbedOutcome } from "../text/engine.ts";
import type { ParsedText } from "../text/execution.ts";

/** What an answer with vectors is made of. */
export type EmbeddingAnswer = {
  /** The receipt's id, 32 lower-case hexadecimal digits. */
  readonly receiptId: string;
  readonly model: string;
  readonly parsed: ParsedText;
  readonly outcome: Pick<EmbedOutcome, "vectors" | "usage">;
};

/**
 * The body of an answer with vectors, as OpenAI has it: lists of numbers, or base64 of little-endian float32 when
 * `encoding_format` is base64. Numbers are the shortest decimals of the float32 values taken as doubles. Throws `engine_interrupted` for a value that is no finite number.
 */
export function renderEmbeddings({ receiptId, model, parsed, outcome }: EmbeddingAnswer): string {
  const { vectors, usage } = outcome;
  if (vectors.some((vector) => vector.some((value) => !Number.isFinite(value)))) {
    throw new AssayError("engine_interrupted", "The engine gave a vector with a value that is no number.", {
      hints: ["This is a fault of the model or its engine, not of the request."],
    });
  }
  const pieces = vectors.map((vector, index) => {
    const value = parsed.encodingFormat === "base64" ? JSON.stringify(bytesToBase64(bytesOf(vector))) : numbers(vector);
    return `{"object":"embedding","index":${index},"embedding":${value}}`;
  });
  const { prompt_tokens: prompt, total_tokens: total, estimated } = usage;
  const tail = JSON.stringify({
    model,
    usage: { prompt_tokens: prompt, total_tokens: total, ...(estimated === undefined ? {} : { estimated }) },
    assay: { receipt_id: receiptId },
  });
  return `{"object":"list","data":[${pieces.join(",")}],${tail.slice(1)}`;
}

function numbers(vector: Float32Array): string {
  let out = "";
  for (const value of vector) {
    out += out === "" ? String(value) : `,${value}`;
  }
  return `[${out}]`;
}

function bytesOf(vector: Float32Array): Uint8Array {
  const out = new Uint8Array(vector.length * 4);
  const view = new DataView(out.buffer);
  for (const [i, value] of vector.entries()) view.setFloat32(i * 4, value, true);
  return out;
}
