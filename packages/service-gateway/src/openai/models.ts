import type { ListedEngineModel, Listing } from "@assay/protocol";

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

/** A hub's version in OpenAI's words, with its price when it has one. */
export function openAiHubModel(
  model: { readonly name: string; readonly owner: string; readonly releasedAtMs: number },
  listing?: Listing,
): OpenAiModel {
  return {
    id: model.name,
    object: "model",
    created: Math.floor(model.releasedAtMs / 1000),
    owned_by: model.owner,
    ...(listing ? { price: priceOf(listing) } : {}),
  };
}

/** An upstream's model or a contract in OpenAI's words. What is listed here is the price, whatever the upstream's is. */
export function openAiTextModel(model: ListedTextModel, listing?: Listing): OpenAiModel {
  const price = listing ? priceOf(listing) : model.price;
  return {
    id: model.name,
    object: "model",
    created: model.createdS ?? 0,
    owned_by: model.ownedBy ?? "upstream",
    kinds: model.kinds,
    ...(model.contextTokens === undefined ? {} : { context_tokens: model.contextTokens }),
    ...(model.maxOutputTokens === undefined ? {} : { max_output_tokens: model.maxOutputTokens }),
    ...(price ? { price } : {}),
  };
}

/** The rates of a listing, and its asset. */
function priceOf(listing: Listing): Readonly<Record<string, string>> {
  const { asset, perCall, perMillionInputTokens, perMillionOutputTokens, perSecond, perGigabyteDay } = listing;
  const rates = { perCall, perMillionInputTokens, perMillionOutputTokens, perSecond, perGigabyteDay };
  const listed = Object.entries(rates).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { asset, ...Object.fromEntries(listed) };
}
