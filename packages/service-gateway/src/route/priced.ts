import type { ListingSubject, ParsedText } from "@assay/protocol";
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

/** The listings of everything that may answer `parsed`, and the most tokens that any of it can use. */
export function pricedText(parsed: ParsedText, sources: readonly Source[]): PricedText {
  const subjects = new Set<ListingSubject>();
  const bounds = tokenBounds(parsed);
  let inputTokens = 0;
  let outputTokens = 0;
  for (const source of sources) {
    if (!source.kinds.includes(parsed.kind)) continue;
    subjects.add(subjectOf(source));
    inputTokens = Math.max(inputTokens, mostInput(bounds, source, parsed));
    outputTokens = Math.max(outputTokens, mostOutput(bounds, source));
  }
  return { subjects: [...subjects], most: { inputTokens, outputTokens } };
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
