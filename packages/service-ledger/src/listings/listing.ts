import { createHash } from "node:crypto";
import { AssayError, canonicalJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ListedPayee, Listing, ListingSubject } from "@assay/protocol";
import { isDecimal } from "@assay/routing";

/** Payees of a listing at most: each is a transfer of every payout. */
export const MAX_PAYEES = 8;
/** A whole, in which shares are written. */
export const WHOLE_BASIS_POINTS = 10_000;
const MAX_NAME = 256;
const SERVICES = ["storage", "openings", "anchoring", "verification", "audit", "proving"] as const;
const RATES = ["perCall", "perMillionInputTokens", "perMillionOutputTokens", "perSecond", "perGigabyteDay"] as const;

/** Whether a text names something that can have a price: `model:me/net`, `service:storage`. */
export function isListingSubject(text: string): text is ListingSubject {
  if (text.length > MAX_NAME) return false;
  return /^model:[^\s\p{C}]+$/u.test(text) || SERVICES.some((service) => text === `service:${service}`);
}

/**
 * A listing from outside, or from the disk. Refuses with `listing_invalid`: an unknown member, a price that is no
 * decimal, an address that is none, more than 8 payees, one that stands twice, and shares above the whole.
 */
export function parseListing(json: JsonValue): Listing {
  const fields = objectOf(json, "A listing");
  const known: readonly string[] = ["subject", "asset", ...RATES, "payees", "owner", "changedAtMs"];
  const unknown = Object.keys(fields).find((key) => !known.includes(key));
  if (unknown !== undefined) throw invalid(`it has ${JSON.stringify(unknown.slice(0, 64))}, which no listing has`);
  const { subject, asset, payees, owner, changedAtMs } = fields;
  if (typeof subject !== "string" || !isListingSubject(subject))
    throw invalid("its subject is neither a model nor a service of the gateway");
  if (typeof asset !== "string" || !/^[A-Za-z0-9.]{1,16}$/.test(asset))
    throw invalid("its asset is not the symbol of a token");
  if (typeof owner !== "string" || owner.length === 0 || owner.length > MAX_NAME) throw invalid("it has no owner");
  if (typeof changedAtMs !== "number" || !Number.isSafeInteger(changedAtMs) || changedAtMs < 0)
    throw invalid("it has no time of its change");
  const rates: Partial<Record<(typeof RATES)[number], string>> = {};
  for (const rate of RATES) {
    const value = fields[rate];
    if (value === undefined) continue;
    if (typeof value !== "string" || !isDecimal(value)) throw invalid(`its ${rate} is not a decimal text`);
    rates[rate] = value;
  }
  const shares = payees === undefined ? [] : payeesOf(payees);
  return {
    subject,
    asset,
    ...rates,
    ...(shares.length === 0 ? {} : { payees: shares }),
    owner,
    changedAtMs,
  };
}

type Rate = (typeof RATES)[number];

/** What is measured of each thing that is sold here; a rate for anything else would never be charged. */
const MEASURED: Readonly<Record<"model" | (typeof SERVICES)[number], readonly Rate[]>> = {
  model: ["perCall", "perMillionInputTokens", "perMillionOutputTokens", "perSecond"],
  storage: ["perCall", "perGigabyteDay"],
  openings: ["perCall"],
  anchoring: ["perCall"],
  verification: ["perCall", "perSecond"],
  audit: ["perCall", "perSecond"],
  proving: [],
};
const RATE_WORDS: Readonly<Record<Rate, string>> = {
  perCall: "the call",
  perMillionInputTokens: "the token",
  perMillionOutputTokens: "the token",
  perSecond: "the second",
  perGigabyteDay: "the gigabyte and day",
};

/**
 * Refuses a price that nobody would ever be asked for, with `listing_invalid`: for what is not sold here (proofs), by what
 * is not measured of it, and payees of what is paid for together with an answer. Of a listing that is to
 * be set; those that are stored already are left alone.
 */
export function assertSold(listing: Listing): void {
  const what = SERVICES.find((service) => listing.subject === `service:${service}`) ?? "model";
  const refuse = (message: string, hint: string): never => {
    throw new AssayError("listing_invalid", message, { hints: [hint] });
  };
  if (what === "proving")
    refuse(
      "Nothing here makes proofs: a price for service:proving would never be asked for.",
      "Price a model instead.",
    );
  const wrong = RATES.find((rate) => listing[rate] !== undefined && !MEASURED[what].includes(rate));
  if (wrong !== undefined)
    refuse(
      `${what === "model" ? "A model" : listing.subject} is not sold by ${RATE_WORDS[wrong]}: that is not measured of it.`,
      `It is by ${[...new Set(MEASURED[what].map((rate) => RATE_WORDS[rate]))].join(", by ")}.`,
    );
  if ((what === "openings" || what === "anchoring") && (listing.payees?.length ?? 0) > 0)
    refuse(
      `${listing.subject} has no payees of its own: it is paid for together with an answer.`,
      "Leave the payees out; those of the model share what is paid.",
    );
}

function payeesOf(json: JsonValue): readonly ListedPayee[] {
  if (!Array.isArray(json) || json.length > MAX_PAYEES)
    throw invalid(`its payees are not a list of at most ${MAX_PAYEES}`);
  const payees = (json as readonly JsonValue[]).map((item): ListedPayee => {
    const { address, basisPoints, ...rest } = objectOf(item, "A payee");
    if (Object.keys(rest).length > 0) throw invalid("a payee has an address and basis points, and nothing else");
    if (typeof address !== "string" || !/^0x[0-9a-fA-F]{40}$/.test(address) || /^0x0{40}$/.test(address))
      throw invalid("a payee's address is not 0x and 40 hexadecimal digits, other than zero");
    if (typeof basisPoints !== "number" || !Number.isInteger(basisPoints) || basisPoints < 1)
      throw invalid("a payee's share is not a whole number of basis points");
    return { address: `0x${address.slice(2).toLowerCase()}`, basisPoints };
  });
  if (new Set(payees.map(({ address }) => address)).size !== payees.length) throw invalid("a payee stands twice");
  if (payees.reduce((sum, { basisPoints }) => sum + basisPoints, 0) > WHOLE_BASIS_POINTS)
    throw invalid(`its payees get more than ${WHOLE_BASIS_POINTS} basis points`);
  return payees;
}

const digests = new WeakMap<Listing, string>();

/** SHA-256 of a listing's canonical JSON (RFC 8785), lower-case hex: the price's `rateSource` names it. */
export function listingDigest(listing: Listing): string {
  const known = digests.get(listing);
  if (known !== undefined) return known;
  const digest = createHash("sha256")
    .update(canonicalJson(listingJson(listing)))
    .digest("hex");
  // Each call names its listing, which is data that nobody changes.
  digests.set(listing, digest);
  return digest;
}

/** A listing as JSON: what is absent has no member. */
export function listingJson(listing: Listing): JsonValue {
  return Object.fromEntries(
    Object.entries(listing).filter(
      (entry): entry is [string, Exclude<(typeof entry)[1], undefined>] => entry[1] !== undefined,
    ),
  );
}

function objectOf(json: JsonValue, what: string): { readonly [key: string]: JsonValue } {
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw invalid(`${what} is not an object`);
  return json as { readonly [key: string]: JsonValue };
}

function invalid(why: string): AssayError<"listing_invalid"> {
  return new AssayError("listing_invalid", `This is not a listing: ${why}.`, {
    hints: ['A price is a decimal text like "0.002", in units of the listing\'s asset.'],
  });
}
