import type { EmbedRequest } from "@assay/protocol";
import { llmError } from "../errors.ts";
import { EMBED_BATCH_TOKENS } from "../limits.ts";
import type { Job } from "./job.ts";
import type { Model } from "./model.ts";
import { encode } from "./prompt.ts";

export type PreparedEmbedding = {
  readonly texts: readonly (readonly number[])[];
  readonly tokens: number;
  readonly pad: number;
};
export type Embedded = {
  readonly vectors: readonly Float32Array[];
  readonly tokens: number;
  readonly engineMs: number;
};

/** Splits the texts of a request. Throws the codes that `LanguageEngine.check` names. */
export function prepareEmbedding(model: Model, request: EmbedRequest): PreparedEmbedding {
  if (model.encoder === undefined) throw llmError("kind_unsupported", "The model writes texts and gives no vectors.");
  if (request.dimensions !== undefined) {
    throw llmError("parameter_unsupported", "This engine does not shorten vectors, so it does not apply dimensions.", [
      "dimensions",
    ]);
  }
  const texts = request.inputs.map((input) => {
    // Vectors leave no room for an answer, so a text may fill the whole context.
    if (typeof input === "string") return encode({ ...model, context: model.context + 1 }, [input], true);
    if (input.length > model.context)
      throw llmError(
        "context_exceeded",
        `A text has ${input.length} tokens, and the model's context has ${model.context}.`,
      );
    if (
      !input.every((token) => Number.isInteger(token) && token >= 0 && model.tokenizer.id_to_token(token) !== undefined)
    ) {
      throw llmError("parameter_invalid", "An input has a token that the model does not know.", ["input"]);
    }
    return input;
  });
  if (texts.some((tokens) => tokens.length === 0)) throw llmError("parameter_invalid", "An input is empty.", ["input"]);
  const pad = model.tokenizer.token_to_id(model.specials["pad_token"] ?? "") ?? 0;
  return { texts, tokens: texts.reduce((sum, tokens) => sum + tokens.length, 0), pad };
}

/**
 * Runs texts through the encoder. Texts of like length share a batch, since all rows of one are as long as its longest;
 * the vectors come in the order of the request.
 */
export function createEmbedding(
  id: number,
  model: Model,
  prepared: PreparedEmbedding,
  done: (result: Embedded) => void,
): Job {
  const { texts, tokens, pad } = prepared;
  const started = performance.now();
  const order = texts.map((_, index) => index).sort((a, b) => (texts[a]?.length ?? 0) - (texts[b]?.length ?? 0));
  const vectors = Array.from<Float32Array>({ length: texts.length });
  let at = 0;
  return {
    id,
    paused: () => false,
    step: async () => {
      const batch: number[] = [];
      for (let index = order[at]; index !== undefined; index = order[at]) {
        const rows = batch.length + 1;
        if (batch.length > 0 && rows * (texts[index]?.length ?? 0) > EMBED_BATCH_TOKENS) break;
        batch.push(index);
        at++;
      }
      const found =
        (await model.encoder?.run(
          batch.map((index) => texts[index] ?? []),
          pad,
        )) ?? [];
      for (const [row, index] of batch.entries()) {
        const vector = found[row];
        if (vector !== undefined) vectors[index] = vector;
      }
      if (at < order.length) return false;
      done({ vectors, tokens, engineMs: performance.now() - started });
      return true;
    },
    close: () => undefined,
  };
}
