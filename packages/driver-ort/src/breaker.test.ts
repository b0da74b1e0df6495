import { describe, expect, test } from "vitest";
import { createBreaker } from "./breaker.ts";

const make = (): ReturnType<typeof createBreaker> => createBreaker({ maxStrikes: 3, windowMs: 100, maxModels: 2 });

describe("the breaker", () => {
  test("suspects after one strike, refuses after the last of the window, and stays so until told", () => {
    const breaker = make();
    expect(breaker.suspect("a", 0)).toBe(false);
    breaker.strike("a", "model_timeout", 0);
    breaker.strike("a", "model_timeout", 10);
    expect([breaker.suspect("a", 20), breaker.refusal("a")]).toEqual([true, undefined]);
    breaker.strike("a", "model_aborted", 20);
    expect(breaker.refusal("a")).toBe("model_aborted");
    expect([breaker.suspect("a", 10_000), breaker.refusal("a")]).toEqual([true, "model_aborted"]);
    expect(breaker.refusal("b")).toBeUndefined();
    breaker.forget("a");
    expect([breaker.suspect("a", 20), breaker.refusal("a")]).toEqual([false, undefined]);
  });

  test("forgives strikes that are further apart than its window", () => {
    const breaker = make();
    for (const at of [0, 90, 180, 270, 360]) breaker.strike("a", "model_timeout", at);
    expect(breaker.refusal("a")).toBeUndefined();
    expect([breaker.suspect("a", 459), breaker.suspect("a", 460)]).toEqual([true, false]);
  });

  test("remembers so many models and no more", () => {
    const breaker = make();
    for (const model of ["a", "b", "a", "c"]) breaker.strike(model, "model_timeout", 0);
    expect(["a", "b", "c"].map((model) => breaker.suspect(model, 1))).toEqual([true, false, true]);
  });
});
