import { describe, expect, it } from "vitest";
import { DEFAULT_ASSURANCE_POLICY, MAX_TIERS, checkAssurancePolicy, demandedAssurance, modeOf } from "./assurance.ts";
import type { AssurancePolicy, AssuranceTier } from "./assurance.ts";

const policy = (...tiers: AssuranceTier[]): AssurancePolicy => ({ version: 1, tiers });
const vanilla = (upTo: string | null): AssuranceTier => ({ upTo, assurance: "vanilla" });

describe("assurance policies", () => {
  it("takes the default one", () => {
    expect(() => checkAssurancePolicy(DEFAULT_ASSURANCE_POLICY)).not.toThrow();
  });

  it.each<[string, AssurancePolicy]>([
    ["no tiers", policy()],
    ["too many tiers", policy(...Array.from({ length: MAX_TIERS + 1 }, (_, i) => vanilla(String(i + 1))))],
    ["an open tier before the last", policy(vanilla(null), vanilla("5"))],
    ["a value twice", policy(vanilla("5"), vanilla("5.0"))],
    ["falling values", policy(vanilla("5"), vanilla("4"))],
    ["falling assurance", policy({ upTo: "5", assurance: "tee" }, { upTo: "6", assurance: "vanilla" })],
    ["an audit without its share", policy({ upTo: "5", assurance: "vanilla+audit" })],
    ["a share without an audit", policy({ upTo: "5", assurance: "tee", auditShare: "0.1" })],
    ["no share at all", policy({ upTo: "5", assurance: "vanilla+audit", auditShare: "0" })],
    ["a share above one", policy({ upTo: "5", assurance: "vanilla+audit", auditShare: "1.01" })],
    ["a share that is no number", policy({ upTo: "5", assurance: "vanilla+audit", auditShare: "half" })],
    ["a value that is no number", policy(vanilla("much"))],
  ])("refuses %s", (_, faulty) => {
    expect(() => checkAssurancePolicy(faulty)).toThrow(expect.objectContaining({ code: "assurance_policy_invalid" }));
  });

  it("takes as many tiers as are allowed", () => {
    const tiers = Array.from({ length: MAX_TIERS }, (_, i) => vanilla(String(i + 1)));
    expect(() => checkAssurancePolicy(policy(...tiers))).not.toThrow();
  });
});

describe("demanded assurance", () => {
  const of = (...limits: Parameters<typeof demandedAssurance>[0]) =>
    demandedAssurance(limits, DEFAULT_ASSURANCE_POLICY);

  it("goes by the value at risk, limits included", () => {
    expect(of({}).assurance).toBe("vanilla");
    expect(of({ valueAtRisk: "100" }).assurance).toBe("vanilla");
    expect(of({ valueAtRisk: "100.000001" })).toMatchObject({ assurance: "vanilla+audit", auditShare: "0.05" });
    expect(of({ valueAtRisk: "500" }).reason).toContain("up to 1000");
    expect(of({ valueAtRisk: "1000.01" }).assurance).toBe("tee");
    expect(of({ valueAtRisk: "100000000" }).assurance).toBe("zkml");
  });

  it("takes the stronger of mode and value, whoever asks", () => {
    expect(of({ mode: "vanilla", valueAtRisk: "5000" }).assurance).toBe("tee");
    expect(of({ mode: "tee", valueAtRisk: "5" }).assurance).toBe("tee");
    expect(of({ valueAtRisk: "5" }, { mode: "zkml" }).assurance).toBe("zkml");
    expect(of({ mode: "tee" }).auditShare).toBeUndefined();
  });

  it("refuses what no execution gives", () => {
    expect(() => of({ mode: "tee", valueAtRisk: "200000" })).toThrow(
      expect.objectContaining({ code: "assurance_unavailable" }),
    );
    expect(() => of({ mode: "tee" }, { mode: "zkml" })).toThrow(
      expect.objectContaining({ code: "assurance_unavailable" }),
    );
  });

  it("refuses a value above every tier instead of using the last", () => {
    expect(() => demandedAssurance([{ valueAtRisk: "11" }], policy(vanilla("10")))).toThrow(
      expect.objectContaining({ code: "assurance_unavailable", hints: [expect.stringContaining("10")] }),
    );
  });

  it("names the mode that gives it", () => {
    expect(modeOf("vanilla+audit")).toBe("vanilla");
    expect(modeOf("zkml")).toBe("zkml");
  });
});
