import type { ListedEngineModel } from "@assay/protocol";

/** A model that answers text under a name which is not the hub's: an upstream's, or an operator's contract. */
export type ListedTextModel = ListedEngineModel & {
  /** Since when it is listed, Unix seconds; 0 when nobody knows. */
  readonly createdS?: number;
  /** What a call costs, by the name of what is counted: decimal texts in `asset`. */
  readonly price?: { readonly asset: string } & Readonly<Record<string, string>>;
};

/** One entry of OpenAI's list of models, with what else is known of it. */
export type OpenAiModel = {
  readonly id: string;
  readonly object: "model";
  readonly created: number;
  readonly owned_by: string;
  readonly kinds?: readonly string[];
  readonly context_tokens?: number;
  readonly max_output_tokens?: number;
  readonly price?: Readonly<Record<string, string>>;
};

/** A hub's version in OpenAI's words. */
export function openAiHubModel(model: {
  readonly name: string;
  readonly owner: string;
  readonly releasedAtMs: number;
}): OpenAiModel {
  return {
    id: model.name,
    object: "model",
    created: Math.floor(model.releasedAtMs / 1000),
    owned_by: model.owner,
  };
}

/** An upstream's model or a contract in OpenAI's words. */
export function openAiTextModel(model: ListedTextModel): OpenAiModel {
  return {
    id: model.name,
    object: "model",
    created: model.createdS ?? 0,
    owned_by: model.ownedBy ?? "upstream",
    kinds: model.kinds,
    ...(model.contextTokens === undefined ? {} : { context_tokens: model.contextTokens }),
    ...(model.maxOutputTokens === undefined ? {} : { max_output_tokens: model.maxOutputTokens }),
    ...(model.price ? { price: model.price } : {}),
  };
}
