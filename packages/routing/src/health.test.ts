import { describe, expect, it } from "vitest";
import {
  EJECT_AFTER_FAILURES,
  EJECT_FIRST_MS,
  EJECT_MAX_MS,
  EJECT_MIN_SAMPLES,
  UNKNOWN_HEALTH,
  afterOutcome,
  healthState,
} from "./health.ts";
import type { Health } from "./health.ts";

function run(from: Health, outcomes: readonly boolean[], nowMs: number, medianErrorRate = 0): Health {
  return outcomes.reduce((health, failed) => afterOutcome(health, { failed, nowMs, medianErrorRate }), from);
}
const failures = (count: number): boolean[] => Array.from({ length: count }, () => true);

describe("health", () => {
  it("ejects after five failures in a row, and not after four", () => {
    expect(healthState(run(UNKNOWN_HEALTH, failures(EJECT_AFTER_FAILURES - 1), 1000), 1000)).toBe("healthy");
    const ejected = run(UNKNOWN_HEALTH, failures(EJECT_AFTER_FAILURES), 1000);
    expect(healthState(ejected, 1000)).toBe("ejected");
    expect(healthState(ejected, 1000 + EJECT_FIRST_MS - 1)).toBe("ejected");
    expect(healthState(ejected, 1000 + EJECT_FIRST_MS)).toBe("trial");
  });

  it("counts failures in a row only", () => {
    const mixed = [true, true, true, true, false, true, true, true, true];
    expect(healthState(run(UNKNOWN_HEALTH, mixed, 1000), 1000)).toBe("healthy");
  });

  it("ejects for twice as long each time a trial fails, up to its limit", () => {
    let health = run(UNKNOWN_HEALTH, failures(EJECT_AFTER_FAILURES), 0);
    let nowMs = 0;
    let lastsMs = EJECT_FIRST_MS;
    for (let i = 0; i < 12; i++) {
      expect(health.ejectedUntilMs - nowMs).toBe(Math.min(lastsMs, EJECT_MAX_MS));
      nowMs = health.ejectedUntilMs;
      expect(healthState(health, nowMs)).toBe("trial");
      health = afterOutcome(health, { failed: true, nowMs, medianErrorRate: 0 });
      lastsMs *= 2;
    }
    expect(health.ejectedUntilMs - nowMs).toBe(EJECT_MAX_MS);
  });

  it("starts afresh after a trial that succeeds", () => {
    const ejected = run(UNKNOWN_HEALTH, failures(EJECT_AFTER_FAILURES), 0);
    const back = afterOutcome(ejected, { failed: false, nowMs: EJECT_FIRST_MS, medianErrorRate: 0 });
    expect(healthState(back, EJECT_FIRST_MS)).toBe("healthy");
    expect(run(back, failures(EJECT_AFTER_FAILURES - 1), EJECT_FIRST_MS).ejections).toBe(0);
  });

  it("leaves an ejection as it is when requests from before it end", () => {
    const ejected = run(UNKNOWN_HEALTH, failures(EJECT_AFTER_FAILURES), 0);
    const later = run(ejected, [true, false, true], 10);
    expect(later.ejectedUntilMs).toBe(ejected.ejectedUntilMs);
    expect(later.ejections).toBe(1);
  });

  it("ejects by comparison with the others, and only with enough outcomes", () => {
    const third = Array.from({ length: EJECT_MIN_SAMPLES * 3 }, (_, i) => i % 3 === 0);
    expect(run(UNKNOWN_HEALTH, third, 0, 0.05).ejections).toBeGreaterThan(0);
    expect(run(UNKNOWN_HEALTH, third, 0, 0.4).ejections).toBe(0);
    expect(run(UNKNOWN_HEALTH, third.slice(0, EJECT_MIN_SAMPLES - 2), 0, 0).ejections).toBe(0);
  });

  it("ejects nobody for a rare failure where all others have none", () => {
    const rare = Array.from({ length: 400 }, (_, i) => i % 40 === 0);
    expect(run(UNKNOWN_HEALTH, rare, 0, 0).ejections).toBe(0);
  });
});
