import { AssayError } from "@assay/core";
import { expect, it } from "vitest";
import { MAX_RETRY_AFTER_MS, retryAfterOf, withRetryAfter } from "./retry-after.ts";

const error = (cause?: unknown) => new AssayError("engine_overloaded", "Full.", { cause });

it("is carried by the error and found through what it caused", () => {
  const busy = withRetryAfter(error(), 1200.2);
  expect(busy.retryAfterMs).toBe(1201);
  expect(retryAfterOf(busy)).toBe(1201);
  expect(retryAfterOf(error(error(busy)))).toBe(1201);
});

it("is held between nothing and a day", () => {
  expect(withRetryAfter(error(), -5).retryAfterMs).toBe(0);
  expect(withRetryAfter(error(), Number.NaN).retryAfterMs).toBe(0);
  expect(withRetryAfter(error(), Number.POSITIVE_INFINITY).retryAfterMs).toBe(MAX_RETRY_AFTER_MS);
});

it("is absent where nothing asks for one, and a cycle of causes ends", () => {
  expect(retryAfterOf(error())).toBeUndefined();
  expect(retryAfterOf("text")).toBeUndefined();
  expect(retryAfterOf(null)).toBeUndefined();
  expect(retryAfterOf({ retryAfterMs: "soon" })).toBeUndefined();
  const circle: { cause?: unknown } = {};
  circle.cause = circle;
  expect(retryAfterOf(circle)).toBeUndefined();
});
