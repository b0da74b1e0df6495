import { expect, test } from "vitest";
import type { Past } from "./decoder.ts";
import { createPrefixCache } from "./prefix-cache.ts";

const past = (length: number): Past => ({ length, tensors: [] });
const decoder = { cut: (_: Past, length: number) => past(length), bytesOf: ({ length }: Past) => length };
const count = (length: number, from = 0): number[] => Array.from({ length }, (_, index) => index + from);

test("finds the longest shared beginning, but never a whole text", () => {
  const cache = createPrefixCache(decoder, 1000);
  cache.put(count(20), past(20));
  cache.put([...count(12), ...count(10, 100)], past(22));
  expect(cache.find(count(30))?.length).toBe(20);
  expect(cache.find([...count(12), ...count(5, 100)])?.length).toBe(16);
  expect(cache.find(count(20))?.length).toBe(19);
  expect(cache.find([...count(7), 99])).toBeUndefined();
  expect(cache.find(count(30, 500))).toBeUndefined();
});

test("keeps within its bytes, forgets the least used first, and holds no beginning twice", () => {
  const cache = createPrefixCache(decoder, 50);
  cache.put(count(10), past(10));
  cache.put(count(20), past(20));
  expect(cache.bytes()).toBe(20);
  cache.put(count(15), past(15));
  expect(cache.bytes()).toBe(20);
  cache.put(count(20, 100), past(20));
  cache.find(count(30));
  cache.put(count(20, 200), past(20));
  expect(cache.bytes()).toBe(40);
  expect(cache.find(count(30))?.length).toBe(20);
  expect(cache.find(count(30, 100))).toBeUndefined();
  cache.put(count(60, 300), past(60));
  expect(cache.find(count(70, 300))).toBeUndefined();
  cache.put(count(4, 700), past(4));
  cache.put(count(9, 800), past(8));
  expect(cache.bytes()).toBe(40);
});
