import { describe, expect, it } from "vitest";
import { parseRouting, ROUTING_HEADERS } from "./routing.ts";

describe("routing options", () => {
  const all = {
    objective: "price",
    mode: "vanilla",
    jurisdiction: ["DE", "EU"],
    jurisdictionEvidence: "registry",
    maxPrice: "0.25",
    maxLatencyMs: 500,
    family: "llama",
    cpuClass: "ab12",
    valueAtRisk: "1000000",
  };

  it("come from the body in camelCase or snake_case, and from headers", () => {
    expect(parseRouting(all)).toEqual(all);
    expect(
      parseRouting({
        jurisdiction: "de, eu",
        jurisdiction_evidence: "registry",
        max_price: "0.25",
        max_latency_ms: 500,
        cpu_class: null,
      }),
    ).toEqual({ jurisdiction: ["DE", "EU"], jurisdictionEvidence: "registry", maxPrice: "0.25", maxLatencyMs: 500 });
    const headers = {
      "assay-objective": "price",
      "assay-mode": "vanilla",
      "assay-jurisdiction": "DE,EU",
      "assay-jurisdiction-evidence": "registry",
      "assay-max-price": "0.25",
      "assay-max-latency-ms": "500",
      "assay-family": "llama",
      "assay-cpu-class": "ab12",
      "assay-value-at-risk": "1000000",
    };
    expect(parseRouting(undefined, headers)).toEqual(all);
    expect(Object.keys(headers).toSorted()).toEqual(ROUTING_HEADERS.toSorted());
  });

  it("of the body win over headers, one by one", () => {
    expect(parseRouting({ objective: "latency" }, { "assay-objective": "price", "assay-family": "llama" })).toEqual({
      objective: "latency",
      family: "llama",
    });
    expect(parseRouting(null, { "assay-objective": "" })).toEqual({});
  });

  it.each<[string, unknown, string, string]>([
    ["an unknown option", { speed: 1 }, "parameter_unknown", "assay.speed"],
    ["a list", [], "parameter_invalid", "assay"],
    ["a text", "fast", "parameter_invalid", "assay"],
    ["an unknown objective", { objective: "cheap" }, "parameter_invalid", "assay.objective"],
    ["a country that is none", { jurisdiction: ["UK"] }, "parameter_invalid", "assay.jurisdiction[0]"],
    ["no place", { jurisdiction: [] }, "parameter_invalid", "assay.jurisdiction"],
    ["a price as a number", { maxPrice: 0.1 }, "parameter_invalid", "assay.maxPrice"],
    ["a price with an exponent", { max_price: "1e3" }, "parameter_invalid", "assay.maxPrice"],
    ["a negative price", { maxPrice: "-1" }, "parameter_invalid", "assay.maxPrice"],
    ["a price with a leading zero", { maxPrice: "01" }, "parameter_invalid", "assay.maxPrice"],
    ["no time at all", { maxLatencyMs: 0 }, "parameter_invalid", "assay.maxLatencyMs"],
    ["more than an hour", { maxLatencyMs: 3_600_001 }, "parameter_invalid", "assay.maxLatencyMs"],
    ["a name with a space", { family: "a b" }, "parameter_invalid", "assay.family"],
    ["an option under both names", { maxPrice: "1", max_price: "1" }, "parameter_invalid", "assay.max_price"],
  ])("refuse %s", (_, member, code, path) => {
    expect(() => parseRouting(member)).toThrow(
      expect.objectContaining({ code, hints: expect.arrayContaining([path]) }),
    );
  });

  it.each<[string, string, string]>([
    ["assay-objective", "cheap", "assay-objective"],
    ["assay-jurisdiction", "DE,XX", "assay-jurisdiction[1]"],
    ["assay-max-latency-ms", "soon", "assay-max-latency-ms"],
    ["assay-max-price", "free", "assay-max-price"],
  ])("refuse the header %s: %s", (name, value, path) => {
    expect(() => parseRouting(undefined, { [name]: value })).toThrow(
      expect.objectContaining({ code: "parameter_invalid", hints: [path] }),
    );
  });
});
