import { describe, expect, it } from "vitest";
import { REGIONS, evidenceSuffices, expandJurisdictions } from "./jurisdiction.ts";

describe("jurisdictions", () => {
  it("expands regions and keeps countries", () => {
    expect(REGIONS["EU"]?.countries).toHaveLength(27);
    expect(new Set(REGIONS["EU"]?.countries).size).toBe(27);
    const eea = expandJurisdictions(["EEA", "CH"]);
    expect(eea.size).toBe(31);
    for (const code of ["NO", "IS", "LI", "DE", "CH"]) expect(eea.has(code)).toBe(true);
    expect(expandJurisdictions(["EU"]).has("GB")).toBe(false);
    expect(expandJurisdictions(["EU"]).has("NO")).toBe(false);
  });

  it("names the day and the source of each region", () => {
    for (const { asOf, source } of Object.values(REGIONS)) {
      expect(asOf).toMatch(/^\d{4}-\d{2}-\d{2}$/);
      expect(source.length).toBeGreaterThan(20);
    }
  });

  it.each(["eu", "de", "DEU", "", "Europe", "UK", "EL", "__proto__", "constructor", "D3"])("refuses %j", (text) => {
    expect(() => expandJurisdictions(["DE", text])).toThrow(expect.objectContaining({ code: "jurisdiction_unknown" }));
  });

  it("says what a common slip is in the standard", () => {
    expect(() => expandJurisdictions(["UK"])).toThrow(
      expect.objectContaining({ hints: [expect.stringContaining("GB")] }),
    );
  });

  it("orders evidence", () => {
    expect(evidenceSuffices("attested", "declared")).toBe(true);
    expect(evidenceSuffices("registry", "registry")).toBe(true);
    expect(evidenceSuffices("declared", "registry")).toBe(false);
    expect(evidenceSuffices("registry", "attested")).toBe(false);
  });
});
