import { AssayError } from "@assay/core";
import { JURISDICTION_EVIDENCE } from "@assay/protocol";
import type { JurisdictionEvidence } from "@assay/protocol";

/** A named set of countries as it stood on a day. */
export type Region = { readonly countries: readonly string[]; readonly asOf: string; readonly source: string };

const EU = [
  ["AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI"],
  ["FR", "DE", "GR", "HU", "IE", "IT", "LV", "LT", "LU"],
  ["MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE"],
].flat();

/** The regions that may be asked for by name. */
export const REGIONS: Readonly<Record<string, Region>> = {
  EU: {
    countries: EU,
    asOf: "2020-02-01",
    source: "Treaty on European Union, article 52, after the withdrawal of the United Kingdom",
  },
  EEA: {
    countries: [...EU, "IS", "LI", "NO"],
    asOf: "2020-02-01",
    source: "Agreement on the European Economic Area, article 2, after the withdrawal of the United Kingdom",
  },
};

/** Codes that people write and ISO 3166-1 has otherwise. */
const MISTAKEN: Readonly<Record<string, string>> = { UK: "GB", EL: "GR" };

/**
 * The countries of a list of country codes and regions. Throws `jurisdiction_unknown` for a text that is neither: a
 * limit that nobody understands must not pass for one that holds.
 */
export function expandJurisdictions(asked: readonly string[]): ReadonlySet<string> {
  const countries = new Set<string>();
  for (const text of asked) {
    const region = Object.hasOwn(REGIONS, text) ? REGIONS[text] : undefined;
    if (region) for (const country of region.countries) countries.add(country);
    else if (/^[A-Z]{2}$/.test(text) && !Object.hasOwn(MISTAKEN, text)) countries.add(text);
    else {
      const meant = MISTAKEN[text];
      throw new AssayError(
        "jurisdiction_unknown",
        `${JSON.stringify(text.slice(0, 32))} is no country and no region.`,
        {
          hints: [
            meant === undefined
              ? `A country is two capital letters of ISO 3166-1; a region is one of ${Object.keys(REGIONS).join(", ")}.`
              : `ISO 3166-1 has ${meant} for it.`,
          ],
        },
      );
    }
  }
  return countries;
}

/** Whether evidence of kind `given` is at least as strong as `asked`: declared, then registry, then attested. */
export function evidenceSuffices(given: JurisdictionEvidence, asked: JurisdictionEvidence): boolean {
  return JURISDICTION_EVIDENCE.indexOf(given) >= JURISDICTION_EVIDENCE.indexOf(asked);
}
