import type { Listing, ListingSubject, MeteredUse, ParsedText } from "@assay/protocol";
import { parseDecimal, tokenBounds } from "@assay/routing";
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
 * How many times the cheapest a model may cost to answer under a name that stands for several. The dearest that may
 * answer is what everybody signs for, and by `exact` pays: without a bound one author's price would be everybody's.
 */
const MOST_TIMES_CHEAPEST = 4n;

export type PricedOptions = {
  /** The longest that the answer may take, which bounds prices per second. */
  readonly milliseconds?: number;
  /** Whether the caller, or the contract, said what it may cost: then everything within that may answer. */
  readonly limited?: boolean;
};

/** A source that charges something, and what the request can cost there. */
type Charging = { readonly source: Source; readonly most: MeteredUse; readonly asset: string; readonly cap: bigint };

/**
 * The listings of everything that may answer `parsed`, and the most that it can use of each. A payment is in one asset: of
 * a name that stands for models in several, those of the asset that most models are listed in may answer, and the free.
 * Of those, without a limit by the caller, none that costs more than {@link MOST_TIMES_CHEAPEST} times the cheapest. All of
 * it follows from the request and the listings alone, so that the request that pays is quoted like the one that asked.
 */
export function pricedText(
  parsed: ParsedText,
  sources: readonly Source[],
  listingOf?: (subject: ListingSubject) => Listing | undefined,
  { milliseconds, limited = false }: PricedOptions = {},
): PricedText {
  const bounds = tokenBounds(parsed);
  const free: Omit<Charging, "asset" | "cap">[] = [];
  const charging: Charging[] = [];
  for (const source of sources) {
    if (!source.kinds.includes(parsed.kind)) continue;
    const most = {
      inputTokens: mostInput(bounds, source, parsed),
      outputTokens: mostOutput(bounds, source),
      ...(milliseconds === undefined ? {} : { milliseconds }),
    };
    const listing = listingOf?.(subjectOf(source));
    const rates = listing && ratesOf(listing);
    if (!listing || !rates || rates.every((rate) => rate === 0n)) free.push({ source, most });
    else charging.push({ source, most, asset: listing.asset, cap: capOf(rates, most) });
  }
  const asset = commonest(charging);
  const alike = charging.filter((one) => one.asset === asset);
  const caps = alike.map(({ cap }) => cap).filter((cap) => cap > 0n);
  const cheapest = caps.reduce((least, cap) => (cap < least ? cap : least), caps[0] ?? 0n);
  const several = new Set(sources.map(({ fullName }) => fullName)).size > 1;
  const bound = several && !limited ? cheapest * MOST_TIMES_CHEAPEST : undefined;
  const mostOf = new Map<ListingSubject, MeteredUse>();
  for (const { source, most } of [...alike.filter(({ cap }) => bound === undefined || cap <= bound), ...free]) {
    const subject = subjectOf(source);
    mostOf.set(subject, larger(mostOf.get(subject), most));
  }
  const most = [...mostOf.values()].reduce<MeteredUse>(larger, { inputTokens: 0, outputTokens: 0 });
  return { subjects: [...mostOf.keys()], most, mostOf };
}

function larger(a: MeteredUse | undefined, b: MeteredUse): MeteredUse {
  return {
    ...b,
    inputTokens: Math.max(a?.inputTokens ?? 0, b.inputTokens ?? 0),
    outputTokens: Math.max(a?.outputTokens ?? 0, b.outputTokens ?? 0),
  };
}

type Rates = readonly [call: bigint, input: bigint, output: bigint, second: bigint, gigabyteDay: bigint];
// A listing is read once and compared at every call; it is data that nobody changes.
const rates = new WeakMap<Listing, Rates>();

function ratesOf(listing: Listing): Rates {
  const known = rates.get(listing);
  if (known) return known;
  const { perCall, perMillionInputTokens, perMillionOutputTokens, perSecond, perGigabyteDay } = listing;
  const rate = (text: string | undefined): bigint => (text === undefined ? 0n : parseDecimal(text, "A listed price"));
  const read = [
    rate(perCall),
    rate(perMillionInputTokens),
    rate(perMillionOutputTokens),
    rate(perSecond),
    rate(perGigabyteDay),
  ] as const satisfies Rates;
  rates.set(listing, read);
  return read;
}

/** What `most` costs, in units of 10^-24 of the asset. */
function capOf([call, input, output, second]: Rates, most: MeteredUse): bigint {
  const { inputTokens = 0, outputTokens = 0, milliseconds = 0 } = most;
  return (
    call * 1_000_000n +
    input * BigInt(inputTokens) +
    output * BigInt(outputTokens) +
    second * BigInt(Math.ceil(milliseconds)) * 1000n
  );
}

/** The asset that most models are listed in; of several the first in order. */
function commonest(charging: readonly Charging[]): string | undefined {
  const counts = new Map<string, Set<string>>();
  for (const { source, asset } of charging)
    counts.set(asset, (counts.get(asset) ?? new Set<string>()).add(source.fullName));
  return [...counts].toSorted(([a, m], [b, n]) => n.size - m.size || (a < b ? -1 : 1))[0]?.[0];
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
