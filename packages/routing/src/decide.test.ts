import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RoutingOptions } from "@assay/protocol";
import { DEFAULT_ASSURANCE_POLICY } from "./assurance.ts";
import { candidateName } from "./candidate.ts";
import type { Candidate } from "./candidate.ts";
import { EXPLORE_PER_MILLE, MAX_CANDIDATES, consider, decide } from "./decide.ts";
import type { DecideContext } from "./decide.ts";
import { routeSeed, seededDraw } from "./draws.ts";
import { MAX_LISTED, candidateSetDigest, routeClaim } from "./facts.ts";
import { UNKNOWN_HEALTH, healthState } from "./health.ts";
import { expandJurisdictions } from "./jurisdiction.ts";
import { HEARTBEAT } from "./predict.ts";
import { costFromDecimal } from "./price.ts";
import { costAtMost } from "./limits.ts";
import { MAX_ATTESTATION_AGE_MS } from "./request.ts";
import type { RouteRequest } from "./request.ts";
import { WEIGHTS } from "./score.ts";

const NOW = 1_700_000_000_000;
const suite = {
  sha256: (...parts: readonly Uint8Array[]) => {
    const hash = createHash("sha256");
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest());
  },
};
const policy = { assurance: DEFAULT_ASSURANCE_POLICY, maxAttestationAgeMs: MAX_ATTESTATION_AGE_MS };

function context(seed = 1): DecideContext {
  return { nowMs: NOW, policy, draw: seededDraw(suite, new Uint8Array(32).fill(seed)) };
}
/** Draws that never explore and take the first, then the last. */
const plain: DecideContext = { nowMs: NOW, policy, draw: (below) => (below === 1000 ? 999 : 0) };

function candidate(changes: Partial<Candidate> = {}): Candidate {
  return {
    node: "urn:assay:node:a",
    engine: "local",
    model: "demo/chat",
    kinds: ["chat", "completion"],
    securityModes: ["vanilla"],
    auditable: true,
    warm: true,
    health: UNKNOWN_HEALTH,
    load: { inFlight: 0, slots: 1 },
    latency: { firstByteMs: 100, perTokenMs: 10, serviceMs: 1000, samples: 10 },
    price: { asset: "USDC", perCall: "0.001", perMillionInputTokens: "1", perMillionOutputTokens: "2" },
    ...changes,
  };
}
function request(limits: RoutingOptions = {}, changes: Partial<RouteRequest> = {}): RouteRequest {
  return {
    kind: "chat",
    limits: [limits],
    tokens: { inputAtLeast: 0, inputAtMost: 1000, outputAtMost: 100, choices: 1 },
    ...changes,
  };
}
const named = (name: string, changes: Partial<Candidate> = {}): Candidate =>
  candidate({ node: `urn:assay:node:${name}`, ...changes });
const outcomes = (found: ReturnType<typeof consider>): string[] => found.candidates.map(({ outcome }) => outcome);
const code = (value: string): unknown => expect.objectContaining({ code: value });

describe("hard limits", () => {
  const silent = NOW - HEARTBEAT.deadAfterMs - 1;
  const ejected = { ...UNKNOWN_HEALTH, ejections: 1, ejectedUntilMs: NOW + 7_000 };
  const trial = { ...UNKNOWN_HEALTH, ejections: 1, ejectedUntilMs: NOW - 1 };
  const tee = { securityModes: ["tee"] } as const;
  it.each<[string, Partial<Candidate>, RoutingOptions, Partial<RouteRequest>]>([
    ["model", {}, {}, { models: ["demo/other"] }],
    ["digest", { manifestDigest: "aa" }, {}, { manifestDigest: "bb" }],
    ["digest", {}, {}, { manifestDigest: "bb" }],
    ["kind", { kinds: ["embedding"] }, {}, {}],
    ["family", { family: "qwen" }, { family: "llama" }, {}],
    ["family", {}, { family: "llama" }, {}],
    ["cpu_class", {}, { cpuClass: "c1" }, {}],
    ["context", { contextTokens: 10 }, {}, { tokens: { inputAtLeast: 11, choices: 1 } }],
    ["jurisdiction", {}, { jurisdiction: ["EU"] }, {}],
    ["jurisdiction", { jurisdiction: { country: "US", evidence: "attested" } }, { jurisdiction: ["EU", "CH"] }, {}],
    [
      "jurisdiction_evidence",
      { jurisdiction: { country: "DE", evidence: "declared" } },
      { jurisdiction: ["DE"], jurisdictionEvidence: "registry" },
      {},
    ],
    ["jurisdiction_evidence", {}, { jurisdictionEvidence: "declared" }, {}],
    ["price", {}, { maxPrice: "0.002199999999999999" }, {}],
    ["price_unbounded", {}, { maxPrice: "1000" }, { tokens: { inputAtLeast: 0, inputAtMost: 5, choices: 1 } }],
    ["price_unbounded", {}, { maxPrice: "1000" }, { tokens: { inputAtLeast: 0, outputAtMost: 5, choices: 1 } }],
    ["mode", {}, { mode: "tee" }, {}],
    ["attestation", tee, { mode: "tee" }, {}],
    ["attestation", { ...tee, attestation: { verifiedAtMs: NOW - 5, expiresAtMs: NOW } }, { mode: "tee" }, {}],
    ["attestation", { ...tee, attestation: { verifiedAtMs: NOW + 5, expiresAtMs: NOW + 9 } }, { mode: "tee" }, {}],
    [
      "attestation",
      { ...tee, attestation: { verifiedAtMs: NOW - MAX_ATTESTATION_AGE_MS - 1, expiresAtMs: NOW + 9 } },
      { mode: "tee" },
      {},
    ],
    ["audit", { auditable: false }, { valueAtRisk: "500" }, {}],
    ["silent", { lastSeenMs: silent }, {}, {}],
    ["draining", { draining: true }, {}, {}],
    ["ejected", { health: ejected }, {}, {}],
    ["trial", { health: trial, load: { inFlight: 1 } }, {}, {}],
    ["full", { load: { inFlight: 2, slots: 1, capacity: 2 } }, {}, {}],
    ["latency", {}, { maxLatencyMs: 99 }, {}],
    ["latency", {}, { maxLatencyMs: 1099 }, { whole: true }],
    ["latency", { load: { inFlight: 1, slots: 1 } }, { maxLatencyMs: 1099 }, {}],
  ])("refuse by %s", (refusal, changes, limits, asked) => {
    const found = consider(request(limits, asked), [candidate(changes)], plain);
    expect(outcomes(found)).toStrictEqual([`refused:${refusal}`]);
    expect("refusal" in found).toBe(true);
  });

  it("refuse an unknown price under any price limit, and nobody for it without one", () => {
    const { price: _, ...unpriced } = candidate();
    expect(outcomes(consider(request({ maxPrice: "1000000" }), [unpriced], plain))).toStrictEqual([
      "refused:price_unknown",
    ]);
    expect(decide(request(), [unpriced], plain).chosen.candidate).toBe(unpriced);
  });

  it("count every choice that may be billed", () => {
    const tokens = { inputAtLeast: 0, inputAtMost: 1000, outputAtMost: 100, choices: 3 };
    expect(outcomes(consider(request({ maxPrice: "0.0025" }, { tokens }), [candidate()], plain))).toStrictEqual([
      "refused:price",
    ]);
    expect(decide(request({ maxPrice: "0.0026" }, { tokens }), [candidate()], plain).chosen.outcome).toBe("chosen");
  });

  it("are all held where several parties limit", () => {
    const german = candidate({ jurisdiction: { country: "DE", evidence: "registry" } });
    const both = { ...request(), limits: [{ jurisdiction: ["EU"] }, { jurisdiction: ["FR"] }] };
    expect(outcomes(consider(both, [german], plain))).toStrictEqual(["refused:jurisdiction"]);
    const cheap = { ...request(), limits: [{ maxPrice: "5" }, { maxPrice: "0.001" }] };
    expect(outcomes(consider(cheap, [german], plain))).toStrictEqual(["refused:price"]);
  });

  it("let pass what is exactly at them", () => {
    const attestation = { verifiedAtMs: NOW - MAX_ATTESTATION_AGE_MS, expiresAtMs: NOW + 1 };
    const limits: RoutingOptions = {
      maxPrice: "0.0022",
      mode: "tee",
      jurisdiction: ["EEA"],
      jurisdictionEvidence: "registry",
      maxLatencyMs: 100,
      family: "llama",
      cpuClass: "c1",
    };
    const fit = candidate({
      family: "llama",
      cpuClass: "c1",
      securityModes: ["vanilla", "tee"],
      attestation,
      jurisdiction: { country: "NO", evidence: "registry" },
      lastSeenMs: NOW - HEARTBEAT.deadAfterMs,
    });
    const { chosen, assurance } = decide(request(limits), [fit], plain);
    expect(chosen.candidate).toBe(fit);
    expect(assurance.assurance).toBe("tee");
  });

  it("refuse texts that say nothing", () => {
    expect(() => decide(request({ jurisdiction: ["Mars"] }), [candidate()], plain)).toThrow(
      code("jurisdiction_unknown"),
    );
    expect(() => decide(request({ maxPrice: "cheap" }), [candidate()], plain)).toThrow(code("decimal_invalid"));
    expect(() => decide(request({ valueAtRisk: "-1" }), [candidate()], plain)).toThrow(code("decimal_invalid"));
  });
});

describe("the refusal when nobody remains", () => {
  it("says which limits removed how many", () => {
    const eu = named("eu", { jurisdiction: { country: "FR", evidence: "declared" } });
    const all = [named("us1"), named("us2"), eu];
    const attempt = (): unknown => decide(request({ jurisdiction: ["EU"], maxPrice: "0.0001" }), all, plain);
    expect(attempt).toThrow(code("no_route"));
    expect(attempt).toThrow(
      "None of 3 candidates may answer: 2 are not known to be where the request may go, 1 may cost more than the " +
        "limit; besides, 2 may cost more than the limit.",
    );
  });

  it("speaks of one candidate as of one", () => {
    const only = (): unknown => decide(request({ jurisdiction: ["EU"] }), [named("us")], plain);
    expect(only).toThrow(/^The only candidate may not answer: 1 is not known to be where the request may go\.$/);
    const embeds = named("embeds", { kinds: ["embedding"] });
    const two = (): unknown => decide(request({ jurisdiction: ["EU"] }), [named("us"), embeds], plain);
    expect(two).toThrow(
      /^None of 2 candidates may answer: 1 is not known to be where the request may go, 1 does another kind of work\.$/,
    );
  });

  it("names the limits that a candidate breaks besides the first", () => {
    const embeds = named("embeds", { kinds: ["embedding"] });
    const found = consider(request({ jurisdiction: ["EU"], mode: "tee" }), [named("us"), embeds], plain);
    expect(outcomes(found)).toEqual(["refused:jurisdiction", "refused:kind"]);
    expect("refusal" in found && found.refusal).toMatchObject({
      code: "no_route",
      message:
        "None of 2 candidates may answer: 1 is not known to be where the request may go, 1 does another kind of work; " +
        "besides, 1 does not offer the mode that is demanded.",
    });
    const far: RoutingOptions = {
      family: "llama",
      cpuClass: "c",
      jurisdiction: ["EU"],
      jurisdictionEvidence: "registry",
      maxPrice: "0.0001",
      mode: "tee",
    };
    const all = consider(request(far), [named("us"), named("us2")], plain);
    expect("refusal" in all && all.refusal.message).toBe(
      "None of 2 candidates may answer: 2 are of another family; besides, 2 have another CPU class, 2 are not known to " +
        "be where the request may go, 2 have weaker evidence of where they are, 2 may cost more than the limit, " +
        "2 do not offer the mode that is demanded.",
    );
  });

  it("names no further limit where no wider one would help, nor what only the moment refuses", () => {
    const message = (asked: RouteRequest, one: Candidate): string => {
      const found = consider(asked, [one, named("other", { kinds: ["embedding"] })], plain);
      return "refusal" in found ? found.refusal.message : "";
    };
    const limits: RoutingOptions = { jurisdiction: ["EU"], mode: "tee" };
    expect(message(request(limits, { models: ["demo/other"] }), named("a"))).not.toContain("besides");
    expect(message(request(limits, { manifestDigest: "bb" }), named("a"))).not.toContain("besides");
    const short = request(limits, { tokens: { inputAtLeast: 9, inputAtMost: 9, outputAtMost: 9, choices: 1 } });
    expect(message(short, named("a", { contextTokens: 8 }))).toMatch(/too short a context, 1 does another/);
    expect(message(request({ jurisdiction: ["EU"] }), named("a", { draining: true }))).toMatch(
      /may go, 1 does another kind of work\.$/,
    );
  });

  it("hints at every limit that it names", () => {
    const found = consider(request({ jurisdiction: ["EU"], maxPrice: "0.0001" }), [named("us")], plain);
    expect("refusal" in found && found.refusal.hints).toEqual([
      expect.stringContaining("assay.jurisdiction"),
      expect.stringContaining("maxPrice"),
    ]);
  });

  it("is of its own kind where only the moment is wrong, and says when to come again", () => {
    const resting = candidate({ health: { ...UNKNOWN_HEALTH, ejections: 1, ejectedUntilMs: NOW + 7_000 } });
    const found = consider(request(), [resting, named("b", { kinds: ["embedding"] })], plain);
    expect("refusal" in found && found.refusal).toMatchObject({ code: "nodes_unavailable", retryAfterMs: 7_000 });
  });

  it("is of its own kind where the assurance is missing, and never lowers it", () => {
    expect(() => decide(request({ valueAtRisk: "5000" }), [candidate()], plain)).toThrow(code("assurance_unavailable"));
    expect(() => decide(request({ mode: "zkml" }), [named("a"), named("b")], plain)).toThrow(
      code("assurance_unavailable"),
    );
  });

  it("does not blame the assurance for what another limit refused", () => {
    expect(() => decide(request({ mode: "tee", family: "llama" }), [candidate()], plain)).toThrow(code("no_route"));
  });

  it("is of its own kind where the model does other work", () => {
    const embeds = candidate({ kinds: ["embedding"] });
    expect(() => decide(request(), [embeds], plain)).toThrow(code("kind_unsupported"));
    expect(() => decide(request(), [embeds, named("b", { draining: true })], plain)).toThrow(code("nodes_unavailable"));
  });

  it("exists without any candidate", () => {
    expect(() => decide(request(), [], plain)).toThrow(code("no_route"));
  });

  it("refuses more candidates than a decision looks at", () => {
    const many = Array.from({ length: MAX_CANDIDATES + 1 }, (_, i) => named(String(i)));
    expect(() => decide(request(), many, plain)).toThrow(code("candidates_too_many"));
    expect(decide(request(), many.slice(1), plain).candidates).toHaveLength(MAX_CANDIDATES);
  });
});

describe("the choice", () => {
  it("follows the objective", () => {
    const cheap = named("cheap", {
      price: { asset: "USDC", perCall: "0.0001" },
      latency: { firstByteMs: 60_000, perTokenMs: 10, serviceMs: 60_000, samples: 9 },
    });
    const quick = named("quick", { price: { asset: "USDC", perCall: "1" } });
    const safe = named("safe", {
      price: { asset: "USDC", perCall: "1" },
      securityModes: ["vanilla", "tee"],
      latency: { firstByteMs: 60_000, perTokenMs: 10, serviceMs: 60_000, samples: 9 },
    });
    const choose = (objective: RoutingOptions["objective"] & string): string =>
      decide(request({ objective }), [safe, quick, cheap], plain).chosen.candidate.node;
    expect(choose("price")).toBe(cheap.node);
    expect(choose("latency")).toBe(quick.node);
    expect(choose("security")).toBe(safe.node);
  });

  it("prefers the emptier of two equals, by our own count before an older report", () => {
    const report = { depth: 3, ownAtReport: 3, atMs: NOW - 1500 };
    const done = named("done", { load: { slots: 1, inFlight: 0, report } });
    const busy = named("busy", { load: { slots: 1, inFlight: 2, report: { ...report, depth: 0, ownAtReport: 0 } } });
    const { chosen, facts } = decide(request(), [busy, done], plain);
    expect(chosen.candidate).toBe(done);
    expect(facts.compared).toHaveLength(2);
  });

  it("does not compare prices of different assets", () => {
    const euro = named("euro", { price: { asset: "EURC", perCall: "5" } });
    const found = consider(request({ objective: "price" }), [named("usd"), euro], plain);
    const [a, b] = found.candidates;
    expect(a?.score).toBe(b?.score);
  });

  it("puts a node whose heartbeats are late behind one that is heard", () => {
    const late = named("late", { lastSeenMs: NOW - HEARTBEAT.suspectAfterMs - 1 });
    for (let seed = 0; seed < 50; seed++)
      expect(decide(request(), [late, named("heard", { lastSeenMs: NOW })], context(seed)).chosen.candidate).not.toBe(
        late,
      );
  });

  it("tries the cold now and then, within every limit", () => {
    const { latency: _, ...unknown } = named("cold", { price: { asset: "USDC", perCall: "1" } });
    const { latency: _2, ...far } = named("far", { jurisdiction: { country: "US", evidence: "attested" } });
    const home = { jurisdiction: { country: "DE", evidence: "registry" } } as const;
    const all = [named("warm", home), { ...unknown, ...home }, far];
    let explored = 0;
    const tries = 5000;
    let state = 1;
    for (let i = 0; i < tries; i++) {
      const draw = (below: number): number => {
        state = (state * 48_271) % 2_147_483_647;
        return state % below;
      };
      const { chosen, facts } = decide(request({ objective: "price", jurisdiction: ["DE"] }), all, { ...plain, draw });
      expect(chosen.candidate.node).not.toBe(far.node);
      if (facts.explored) {
        explored++;
        expect(chosen.candidate.node).toBe("urn:assay:node:cold");
      }
    }
    expect(explored / tries).toBeGreaterThan(EXPLORE_PER_MILLE / 1000 / 2);
    expect(explored / tries).toBeLessThan((EXPLORE_PER_MILLE / 1000) * 2);
  });

  it("has weights that sum to one", () => {
    for (const { latency, price, security, locality } of Object.values(WEIGHTS.by))
      expect(latency + price + security + locality).toBeCloseTo(1, 12);
  });
});

const maybe = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(of, { nil: undefined });
const present = <T extends object>(record: T): Partial<T> =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<T>;
const decimals = fc.constantFrom("0", "0.0001", "0.5", "1", "12.25", "1000");
const anyCandidate = fc
  .record({
    node: fc.constantFrom("a", "b", "c", "d", "e", "f"),
    model: fc.constantFrom("m1", "m2"),
    kinds: fc.constantFrom(["chat"] as const, ["chat", "completion"] as const, ["embedding"] as const),
    family: maybe(fc.constantFrom("llama", "qwen")),
    cpuClass: maybe(fc.constantFrom("c1", "c2")),
    contextTokens: maybe(fc.constantFrom(128, 4096)),
    securityModes: fc.constantFrom(["vanilla"] as const, ["vanilla", "tee"] as const, ["zkml"] as const),
    attestation: maybe(
      fc.record({
        verifiedAtMs: fc.constantFrom(NOW - 1, NOW - 10 ** 9),
        expiresAtMs: fc.constantFrom(NOW - 1, NOW + 1),
      }),
    ),
    auditable: fc.boolean(),
    jurisdiction: maybe(
      fc.record({
        country: fc.constantFrom("DE", "NO", "US"),
        evidence: fc.constantFrom("declared", "registry", "attested"),
      }),
    ),
    price: maybe(fc.record({ asset: fc.constant("USDC"), perCall: decimals, perMillionOutputTokens: decimals })),
    warm: fc.boolean(),
    draining: maybe(fc.boolean()),
    lastSeenMs: maybe(fc.constantFrom(NOW, NOW - 7_000, NOW - 60_000)),
    ejectedUntilMs: fc.constantFrom(0, NOW - 1, NOW + 1),
    load: fc.record({ inFlight: fc.nat(5), slots: fc.constantFrom(1, 2), capacity: fc.constantFrom(3, 100) }),
    latency: maybe(
      fc.record({
        firstByteMs: fc.nat(5000),
        perTokenMs: fc.nat(50),
        serviceMs: fc.nat(20_000),
        samples: fc.nat(10),
      }),
    ),
  })
  .map(({ ejectedUntilMs, ...rest }) => {
    const { latency: _, price: _2, ...bare } = candidate();
    const health = { ...UNKNOWN_HEALTH, ejections: ejectedUntilMs === 0 ? 0 : 1, ejectedUntilMs };
    return { ...bare, ...present(rest), health } as Candidate;
  });
const anyLimits: fc.Arbitrary<RoutingOptions> = fc
  .record({
    objective: maybe(fc.constantFrom("balanced", "latency", "price", "security")),
    mode: maybe(fc.constantFrom("vanilla", "tee", "zkml")),
    jurisdiction: maybe(fc.constantFrom(["EU"], ["EEA"], ["US", "NO"])),
    jurisdictionEvidence: maybe(fc.constantFrom("declared", "registry", "attested")),
    maxPrice: maybe(decimals),
    maxLatencyMs: maybe(fc.nat(8000)),
    family: maybe(fc.constantFrom("llama", "qwen")),
    cpuClass: maybe(fc.constantFrom("c1", "c2")),
    valueAtRisk: maybe(fc.constantFrom("1", "500", "5000")),
  })
  .map((limits) => present(limits) as RoutingOptions);
const anyRequest: fc.Arbitrary<RouteRequest> = fc
  .record({
    kind: fc.constantFrom("chat", "completion", "embedding"),
    models: maybe(fc.constantFrom(["m1"], ["m1", "m2"])),
    limits: fc.array(anyLimits, { minLength: 1, maxLength: 2 }),
    tokens: fc.constantFrom(
      { inputAtLeast: 0, inputAtMost: 10, outputAtMost: 10, choices: 1 },
      { inputAtLeast: 500, choices: 2 },
    ),
  })
  .map((one) => present(one) as RouteRequest);
const anySet = fc.uniqueArray(anyCandidate, { selector: candidateName, maxLength: 10 });

/** The limits once more, written down from their meaning and not from the code under test. */
function allowed(one: Candidate, asked: RouteRequest): boolean {
  const order = ["declared", "registry", "attested"];
  return (
    (asked.models?.includes(one.model) ?? true) &&
    one.kinds.includes(asked.kind) &&
    one.draining !== true &&
    healthState(one.health, NOW) !== "ejected" &&
    (healthState(one.health, NOW) !== "trial" || one.load.inFlight === 0) &&
    (one.lastSeenMs === undefined || NOW - one.lastSeenMs <= 15_000) &&
    one.load.inFlight < (one.load.capacity ?? Infinity) &&
    asked.tokens.inputAtLeast <= (one.contextTokens ?? Infinity) &&
    asked.limits.every((limit) => {
      const cost = costAtMost(one, asked.tokens);
      return (
        (limit.family ?? one.family) === one.family &&
        (limit.cpuClass ?? one.cpuClass) === one.cpuClass &&
        (!limit.jurisdiction || expandJurisdictions(limit.jurisdiction).has(one.jurisdiction?.country ?? "")) &&
        (!limit.jurisdictionEvidence ||
          order.indexOf(one.jurisdiction?.evidence ?? "") >= order.indexOf(limit.jurisdictionEvidence)) &&
        (limit.maxPrice === undefined || (cost !== undefined && cost <= costFromDecimal(limit.maxPrice, "It"))) &&
        (limit.mode !== "zkml" || one.securityModes.includes("zkml")) &&
        (limit.mode !== "tee" ||
          (one.securityModes.includes("tee") &&
            (one.attestation?.expiresAtMs ?? 0) > NOW &&
            NOW - (one.attestation?.verifiedAtMs ?? 0) <= MAX_ATTESTATION_AGE_MS)) &&
        (limit.valueAtRisk !== "5000" || one.securityModes.some((mode) => mode !== "vanilla"))
      );
    })
  );
}

describe("properties", () => {
  it("no hard limit is ever broken, and nobody within them all is refused without a reason", () => {
    fc.assert(
      fc.property(anyRequest, anySet, fc.nat(255), (asked, set, seed) => {
        let found;
        try {
          found = consider(asked, set, context(seed));
        } catch (error) {
          expect(error).toMatchObject({ code: "assurance_unavailable" });
          return;
        }
        for (const { outcome, candidate: one } of found.candidates)
          if (outcome === "chosen" || outcome === "eligible") expect(allowed(one, asked)).toBe(true);
        if ("decision" in found)
          expect(found.decision.chosen.prediction.firstByteMs).toBeLessThanOrEqual(
            Math.min(Infinity, ...asked.limits.flatMap(({ maxLatencyMs }) => maxLatencyMs ?? [])),
          );
      }),
      { numRuns: 2000 },
    );
  });

  it("every candidate has an outcome, one is chosen, and scores are within their bounds", () => {
    fc.assert(
      fc.property(anySet, fc.nat(255), (set, seed) => {
        const found = consider(request(), set, context(seed));
        expect(found.candidates.map(({ candidate: one }) => one)).toStrictEqual(set);
        const chosen = found.candidates.filter(({ outcome }) => outcome === "chosen");
        expect(chosen).toHaveLength("decision" in found ? 1 : 0);
        for (const { outcome, score } of found.candidates) {
          expect(score === undefined).toBe(outcome.startsWith("refused:"));
          expect(score ?? 0).toBeGreaterThanOrEqual(0);
          expect(score ?? 0).toBeLessThanOrEqual(1_000_000);
        }
        if ("decision" in found)
          expect(found.decision.runnersUp).toHaveLength(
            found.candidates.filter(({ outcome }) => outcome === "eligible").length,
          );
      }),
    );
  });

  it("the same seed decides the same, whatever order the candidates come in", () => {
    fc.assert(
      fc.property(anyRequest, anySet, fc.nat(255), (asked, set, seed) => {
        const decided = (of: readonly Candidate[]): string | undefined => {
          try {
            const found = consider(asked, of, context(seed));
            return "decision" in found ? found.decision.chosen.name : found.refusal.code;
          } catch (error) {
            return String(error);
          }
        };
        expect(decided(set)).toBe(decided(set));
        expect(decided(set.toReversed())).toBe(decided(set));
      }),
    );
  });

  it("who was tried is never chosen again", () => {
    fc.assert(
      fc.property(anySet, fc.nat(255), (set, seed) => {
        const tried = new Map<string, string>();
        for (let i = 0; i <= set.length; i++) {
          const found = consider(request({}, { tried }), set, context(seed));
          if (!("decision" in found)) return;
          const { name } = found.decision.chosen;
          expect(tried.has(name)).toBe(false);
          tried.set(name, "engine_unavailable");
        }
        expect.fail("more were chosen than there are");
      }),
    );
  });
});

describe("what a statement says of it", () => {
  const set = [named("a"), named("b"), named("c", { kinds: ["embedding"] })];
  const receiptId = new Uint8Array(16).fill(7);
  const checkpointRoot = new Uint8Array(32).fill(9);
  const seed = routeSeed(suite, receiptId, checkpointRoot);

  it("lets anybody who has the input decide again", () => {
    const draw = (): DecideContext["draw"] => seededDraw(suite, seed);
    const decision = decide(request(), set, { ...plain, draw: draw() });
    const digest = candidateSetDigest(suite, request(), set, NOW);
    const claim = routeClaim(decision, digest, { decidedAtMs: NOW, seed, requestId: receiptId, checkpointRoot });
    expect(claim.chosen).toBe(decision.chosen.candidate.node);
    expect(claim.facts["target"]).toBe(decide(request(), set, { ...plain, draw: draw() }).chosen.name);
    expect(claim.candidates).toContainEqual({ node: "urn:assay:node:c#local/demo/chat", outcome: "refused:kind" });
    expect(claim.facts["candidateSet"]).toStrictEqual(digest);
  });

  it("has another digest when anything that was looked at differs", () => {
    const digest = (...args: Parameters<typeof candidateSetDigest> extends [unknown, ...infer Rest] ? Rest : never) =>
      Buffer.from(candidateSetDigest(suite, ...args)).toString("hex");
    const base = digest(request(), set, NOW);
    expect(digest(request({ family: "llama" }), set, NOW)).not.toBe(base);
    expect(digest(request(), set.slice(1), NOW)).not.toBe(base);
    expect(digest(request(), [named("a", { load: { inFlight: 1, slots: 1 } }), ...set.slice(1)], NOW)).not.toBe(base);
    expect(digest(request(), set, NOW + 1)).not.toBe(base);
    expect(digest(request({}, { tried: new Map([["x", "engine_unavailable"]]) }), set, NOW)).not.toBe(base);
    expect(digest(request(), set, NOW)).toBe(base);
  });

  it("has another digest when any member of a candidate or of a request differs", () => {
    const full: Candidate = candidate({
      version: "1",
      manifestDigest: "aa",
      aliases: ["x"],
      family: "llama",
      contextTokens: 1,
      maxOutputTokens: 1,
      attestation: { verifiedAtMs: 1, expiresAtMs: 2 },
      jurisdiction: { country: "DE", evidence: "declared" },
      price: { asset: "USDC", decimals: 6, perCall: "1", perMillionInputTokens: "1", perMillionOutputTokens: "1" },
      cpuClass: "c",
      accelerator: "g",
      load: { inFlight: 1, slots: 1, capacity: 1, report: { depth: 1, ownAtReport: 1, atMs: 1 } },
      lastSeenMs: 1,
      draining: false,
    });
    const asked: RouteRequest = {
      kind: "chat",
      models: ["m"],
      manifestDigest: "aa",
      limits: [
        {
          objective: "price",
          mode: "vanilla",
          jurisdiction: ["DE"],
          jurisdictionEvidence: "declared",
          maxPrice: "1",
          maxLatencyMs: 1,
          family: "llama",
          cpuClass: "c",
          valueAtRisk: "1",
        },
      ],
      tokens: { inputAtLeast: 1, inputAtMost: 1, outputAtMost: 1, choices: 1 },
      whole: true,
    };
    // Every value at every depth, one changed at a time.
    const changed = function* (value: unknown): Generator {
      if (typeof value === "string") yield `${value}x`;
      else if (typeof value === "number") yield value + 1;
      else if (typeof value === "boolean") yield !value;
      else
        for (const [key, item] of Object.entries(value as object))
          for (const other of changed(item))
            yield Array.isArray(value) ? value.with(Number(key), other) : { ...(value as object), [key]: other };
    };
    const digests = new Set([Buffer.from(candidateSetDigest(suite, asked, [full], NOW)).toString("hex")]);
    let count = 1;
    for (const one of changed(full)) {
      digests.add(Buffer.from(candidateSetDigest(suite, asked, [one as Candidate], NOW)).toString("hex"));
      count++;
    }
    for (const one of changed(asked)) {
      digests.add(Buffer.from(candidateSetDigest(suite, one as RouteRequest, [full], NOW)).toString("hex"));
      count++;
    }
    expect(count).toBeGreaterThan(55);
    expect(digests.size).toBe(count);
  });

  it("differs for another receipt or another checkpoint", () => {
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
    expect(hex(routeSeed(suite, new Uint8Array(16), checkpointRoot))).not.toBe(hex(seed));
    expect(hex(routeSeed(suite, receiptId, new Uint8Array(32)))).not.toBe(hex(seed));
  });

  it("lists as many candidates as a claim takes, the chosen first, and counts the rest", () => {
    const many = Array.from({ length: MAX_LISTED + 5 }, (_, i) => named(`n${i}`));
    const decision = decide(request(), many, plain);
    const source = { decidedAtMs: NOW, seed, requestId: receiptId, checkpointRoot };
    const claim = routeClaim(decision, new Uint8Array(32), source);
    expect(claim.candidates).toHaveLength(MAX_LISTED);
    expect(claim.candidates[0]?.outcome).toBe("chosen");
    expect(claim.facts["candidates"]).toBe(MAX_LISTED + 5);
  });
});
