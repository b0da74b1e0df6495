import { AssayError } from "@assay/core";
import { expect, test } from "vitest";
import { retryAfterOf, withRetryAfter } from "./retry-after.ts";

test("the time is found on the error itself and on a cause", () => {
  const busy = withRetryAfter(new AssayError("engine_overloaded", "Busy."), 1500);
  expect(busy.code).toBe("engine_overloaded");
  expect(retryAfterOf(busy)).toBe(1500);
  expect(retryAfterOf(new AssayError("engine_interrupted", "Cut.", { cause: busy }))).toBe(1500);
});

test("what is no time is none, and a ring of causes ends", () => {
  expect(retryAfterOf(undefined)).toBeUndefined();
  expect(retryAfterOf({ retryAfterMs: 5 })).toBeUndefined();
  expect(retryAfterOf(Object.assign(new Error("x"), { retryAfterMs: "5" }))).toBeUndefined();
  expect(retryAfterOf(withRetryAfter(new Error("x"), -1))).toBeUndefined();
  expect(retryAfterOf(withRetryAfter(new Error("x"), Number.NaN))).toBeUndefined();
  const ring = new Error("x");
  ring.cause = ring;
  expect(retryAfterOf(ring)).toBeUndefined();
});
