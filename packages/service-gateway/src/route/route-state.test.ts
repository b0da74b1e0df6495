import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { healthState } from "@assay/routing";
import { endOf } from "./ends.ts";
import { BUSY_MS, MAX_LEASE_MS, MAX_TRACKED, createRouteState } from "./route-state.ts";
import type { TryEnd } from "./route-state.ts";

const answered: TryEnd = { how: "answered", engineMs: 100, outputTokens: 11, streamed: true };
function clocked() {
  let nowMs = 1_000_000;
  return { state: createRouteState(() => nowMs), pass: (ms: number) => (nowMs += ms), now: () => nowMs };
}

describe("in-flight counts", () => {
  it("count from start to end, each once, however often it is said", () => {
    const { state } = clocked();
    const one = state.lease("c", "p");
    expect(state.load("p").inFlight).toBe(0);
    one.started();
    one.started();
    const two = state.lease("c", "p");
    two.started();
    expect(state.load("p").inFlight).toBe(2);
    one.ended(answered);
    one.ended({ how: "failed" });
    one.started();
    expect(state.load("p").inFlight).toBe(1);
    two.ended({ how: "cancelled" });
    expect(state.load("p").inFlight).toBe(0);
  });

  it("do not count what ended before it started", () => {
    const { state } = clocked();
    const lease = state.lease("c", "p");
    lease.ended({ how: "cancelled" });
    lease.started();
    expect(state.stats().inFlight).toBe(0);
  });

  it("return to nothing in whatever order things happen", () => {
    const step = fc.record({ lease: fc.nat(5), what: fc.constantFrom("started", "firstByte", "ended") });
    const how = fc.constantFrom<TryEnd[]>(
      answered,
      { how: "failed" },
      { how: "busy" },
      { how: "refused" },
      { how: "cancelled" },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), how, (steps, end) => {
        const { state, pass } = clocked();
        const leases = Array.from({ length: 6 }, (_, i) => state.lease(`c${i}`, `p${i % 2}`));
        const open = new Set<number>();
        const over = new Set<number>();
        for (const { lease, what } of steps) {
          pass(1);
          if (what === "ended") {
            leases[lease]?.ended(end);
            open.delete(lease);
            over.add(lease);
          } else {
            leases[lease]?.[what]();
            if (what === "started" && !over.has(lease)) open.add(lease);
          }
          expect(state.stats().inFlight).toBe(open.size);
        }
        for (const lease of leases) lease.ended(end);
        expect(state.stats().inFlight).toBe(0);
      }),
    );
  });

  it("forget a try that nobody ended", () => {
    const { state, pass } = clocked();
    state.lease("c", "p").started();
    pass(MAX_LEASE_MS);
    expect(state.load("p").inFlight).toBe(1);
    pass(1);
    expect(state.load("p").inFlight).toBe(0);
  });

  it("tell a report's own share by the moment it was heard", () => {
    const { state, now, pass } = clocked();
    state.lease("c", "p").started();
    state.heard("p", now());
    pass(10);
    state.lease("c", "p").started();
    const reported = { depth: 4, atMs: now() - 10 };
    expect(state.load("p", reported)).toStrictEqual({
      inFlight: 2,
      report: { depth: 4, ownAtReport: 1, atMs: now() - 10 },
    });
    expect(state.load("p", { depth: 5, atMs: now() }).report?.ownAtReport).toBe(2);
  });
});

describe("what is measured", () => {
  it("is the time to the first byte and between tokens, of streams", () => {
    const { state, pass } = clocked();
    const lease = state.lease("c", "p");
    lease.started();
    pass(50);
    lease.firstByte();
    pass(100);
    lease.firstByte();
    lease.ended(answered);
    expect(state.latency("c")).toStrictEqual({ firstByteMs: 50, perTokenMs: 10, serviceMs: 150, samples: 1 });
  });

  it("leaves out the wait behind others", () => {
    const { state, pass } = clocked();
    state.lease("c", "p").started();
    const lease = state.lease("c", "p");
    lease.started();
    pass(1000);
    lease.firstByte();
    pass(60);
    lease.ended(answered);
    expect(state.latency("c")).toMatchObject({ serviceMs: 100, firstByteMs: 40 });
  });

  it("is not taken of what failed, was refused or was left", () => {
    const { state, pass } = clocked();
    for (const how of ["failed", "busy", "refused", "cancelled"] as const) {
      const lease = state.lease("c", "p");
      lease.started();
      pass(5);
      lease.ended({ how });
    }
    expect(state.latency("c")).toBeUndefined();
  });

  it("is forgotten of the candidate that was longest not asked, and kept of the others", () => {
    const { state } = clocked();
    const use = (name: string): void => {
      const lease = state.lease(name, "p");
      lease.started();
      lease.ended(answered);
    };
    use("first");
    for (let i = 0; i < MAX_TRACKED - 1; i++) use(`c${i}`);
    use("first");
    use("one more");
    expect(state.stats().tracked).toBe(MAX_TRACKED);
    expect(state.latency("first")?.samples).toBe(2);
    expect(state.latency("c0")).toBeUndefined();
  });
});

describe("health", () => {
  const times = (count: number, end: TryEnd) => {
    const { state, now } = clocked();
    for (let i = 0; i < count; i++) {
      const lease = state.lease("c", "p");
      lease.started();
      lease.ended(end);
    }
    return { state, now };
  };

  it("ejects after failures, and not after refusals, cancellations or fullness", () => {
    const failed = times(5, { how: "failed" });
    expect(healthState(failed.state.health("c"), failed.now())).toBe("ejected");
    expect(failed.state.stats().ejected).toBe(1);
    for (const how of ["refused", "cancelled", "busy"] as const) {
      const { state, now } = times(50, { how });
      expect(healthState(state.health("c"), now())).toBe("healthy");
    }
  });

  it("leaves who is full alone for a moment", () => {
    const { state, now } = times(1, { how: "busy" });
    expect(state.busyUntilMs("c")).toBe(now() + BUSY_MS);
    expect(state.busyUntilMs("d")).toBe(0);
  });
});

describe("ends", () => {
  const end = (code: string): string => endOf("failed", { code }, false).how;
  it.each([
    ["upstream_failed", "failed"],
    ["engine_interrupted", "failed"],
    ["internal_error", "failed"],
    ["node_lost", "failed"],
    ["node_answer_invalid", "failed"],
    ["engine_overloaded", "busy"],
    ["upstream_rate_limited", "busy"],
    ["node_draining", "busy"],
    ["parameter_unsupported", "refused"],
    ["context_exceeded", "refused"],
    ["upstream_refused", "refused"],
    ["model_not_found", "refused"],
  ])("with %s are %s", (code, how) => {
    expect(end(code)).toBe(how);
  });

  it("without a code are a failure, and cancelled ones nobody's", () => {
    expect(endOf("failed", {}, false).how).toBe("failed");
    expect(endOf("cancelled", { code: "upstream_failed" }, false).how).toBe("cancelled");
  });
});
