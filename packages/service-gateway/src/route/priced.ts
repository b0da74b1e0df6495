import type { Listing, ListingSubject, ParsedText } from "@assay/protocol";
import { tokenBounds } from "@assay/routing";
import type { TokenBounds } from "@assay/routing";
import type { PricedText } from "../openai/types.ts";
import { subjectOf } from "./listed.ts";
import type { Source } from "./sources.ts";

/**
 * Tokens that a request is taken to use at most where neither it nor the model bounds them: models of providers rarely say
 * what they can write, and a quote must be a number. What is used beyond it is not charged.
 */
export const UNBOUNDED = { inputTokens: 32_768, outputTokens: 4096 } as const;

/**
 * The listings of everything that may answer `parsed`, and the most tokens that any of it can use. A payment is in one
 * asset: of a name that stands for models in several, those of the asset that most are listed in may answer, and the free.
 */
export function pricedText(
  parsed: ParsedText,
  sources: readonly Source[],
  listingOf?: (subject: ListingSubject) => Listing | undefined,
): PricedText {
  const subjects = new Set<ListingSubject>();
  const fitting = sources.filter(({ kinds }) => kinds.includes(parsed.kind));
  const assetOf = (source: Source): string | undefined => listingOf?.(subjectOf(source))?.asset;
  const asset = commonest(fitting.map(assetOf));
  const bounds = tokenBounds(parsed);
  let inputTokens = 0;
  let outputTokens = 0;
  for (const source of fitting) {
    const other = assetOf(source);
    if (other !== undefined && other !== asset) continue;
    subjects.add(subjectOf(source));
    inputTokens = Math.max(inputTokens, mostInput(bounds, source, parsed));
    outputTokens = Math.max(outputTokens, mostOutput(bounds, source));
  }
  return { subjects: [...subjects], most: { inputTokens, outputTokens } };
}

/** The one that is there most often; of several the first in order. */
function commonest(assets: readonly (string | undefined)[]): string | undefined {
  const counts = new Map<string, number>();
  for (const asset of assets) if (asset !== undefined) counts.set(asset, (counts.get(asset) ?? 0) + 1);
  return [...counts].toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))[0]?.[0];
}

function mostInput({ inputAtMost }: TokenBounds, { contextTokens }: Source, { kind }: ParsedText): number {
  // Each text of an embedding has the context to itself.
  const context = kind === "embedding" ? undefined : contextTokens;
  return Math.min(inputAtMost ?? context ?? UNBOUNDED.inputTokens, context ?? Infinity);
}

function mostOutput({ outputAtMost, choices }: TokenBounds, { contextTokens, maxOutputTokens }: Source): number {
  const model = Math.min(maxOutputTokens ?? Infinity, contextTokens ?? Infinity);
  const asked = outputAtMost ?? (Number.isFinite(model) ? model : UNBOUNDED.outputTokens);
  return choices * Math.min(asked, model);
}
