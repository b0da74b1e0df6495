import { AssayError } from "@assay/core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FIRST_PROBE_MS, LONGEST_PROBE_MS, createCircuit, probeDelayMs } from "./circuit.ts";
import { isAway, toDatabaseError } from "./errors.ts";

const code = (value: string): object => expect.objectContaining({ code: value }) as object;
const refused = (): Error => Object.assign(new Error("connect"), { code: "ECONNREFUSED" });

describe("circuit", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("lets no call through after the first failure, until a probe succeeds", async () => {
    let away = true;
    const probe = vi.fn(() => (away ? Promise.reject(refused()) : Promise.resolve()));
    const circuit = createCircuit({ probe, random: () => 1 });
    const work = vi.fn(() => Promise.reject(refused()));
    await expect(circuit.guard(work)).rejects.toEqual(refused());
    for (let i = 0; i < 100; i++) await expect(circuit.guard(work)).rejects.toEqual(code("database_unavailable"));
    expect(work).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(FIRST_PROBE_MS);
    expect(probe).toHaveBeenCalledTimes(1);
    expect(circuit.isOpen()).toBe(true);
    away = false;
    await vi.advanceTimersByTimeAsync(2 * FIRST_PROBE_MS);
    expect(await circuit.guard(() => Promise.resolve("back"))).toBe("back");
    // Once closed it probes no more.
    await vi.advanceTimersByTimeAsync(10 * LONGEST_PROBE_MS);
    expect(probe).toHaveBeenCalledTimes(2);
  });

  it("stays closed when a statement is refused, and passes its error on", async () => {
    const circuit = createCircuit({ probe: () => Promise.resolve() });
    const wrong = Object.assign(new Error("syntax error"), { code: "42601" });
    await expect(circuit.guard(() => Promise.reject(wrong))).rejects.toBe(wrong);
    expect(circuit.isOpen()).toBe(false);
  });

  it("probes at a bounded rate for as long as the database is away, and not after it is closed", async () => {
    const probe = vi.fn(() => Promise.reject(refused()));
    const circuit = createCircuit({ probe, random: () => 1 });
    circuit.trip(refused());
    circuit.trip(refused());
    await vi.advanceTimersByTimeAsync(120 * LONGEST_PROBE_MS);
    const calls = probe.mock.calls.length;
    expect(calls).toBeGreaterThan(100);
    expect(calls).toBeLessThan(140);
    circuit.close();
    await vi.advanceTimersByTimeAsync(10 * LONGEST_PROBE_MS);
    expect(probe).toHaveBeenCalledTimes(calls);
    await expect(circuit.guard(() => Promise.resolve())).rejects.toEqual(code("database_unavailable"));
  });

  it("waits longer each time up to a ceiling, with half of the wait random", () => {
    expect([0, 1, 2].map((attempt) => probeDelayMs(attempt, () => 1))).toEqual([25, 50, 100]);
    expect(probeDelayMs(0, () => 0)).toBe(FIRST_PROBE_MS / 2);
    expect(probeDelayMs(10_000, () => 1)).toBe(LONGEST_PROBE_MS);
  });
});

describe("errors", () => {
  it.each([
    ["57P01", "database_unavailable"],
    ["57P03", "database_unavailable"],
    ["53300", "database_unavailable"],
    ["08006", "database_unavailable"],
    ["ENOENT", "database_unavailable"],
    ["57014", "database_timeout"],
    ["55P03", "database_timeout"],
    ["53100", "storage_full"],
    ["25006", "database_read_only"],
    ["23505", "database_error"],
  ])("%s is %s", (given, wanted) => {
    expect(toDatabaseError(Object.assign(new Error("x"), { code: given })).code).toBe(wanted);
  });

  it("recognises what has no code, and several addresses that all refuse", () => {
    expect(isAway(new Error("Connection terminated unexpectedly"))).toBe(true);
    expect(isAway(new AggregateError([refused(), refused()]))).toBe(true);
    expect(isAway(new AggregateError([refused(), new Error("no")]))).toBe(false);
    expect(isAway(new AggregateError([]))).toBe(false);
    expect(isAway("ECONNREFUSED")).toBe(false);
    const own = new AssayError("index_fenced", "x");
    expect(toDatabaseError(own)).toBe(own);
  });
});
