import { expect, test } from "vitest";
import { createGatherer } from "./gather.ts";

/** Longer than any test may take: who waits for it fails. */
const NEVER_MS = 2 ** 30;

function open(options: { readonly waitMs?: number; readonly most?: number } = {}) {
  const groups: (readonly string[])[] = [];
  const ends: (() => void)[] = [];
  const gatherer = createGatherer<string>({
    waitMs: options.waitMs ?? NEVER_MS,
    most: options.most ?? 10,
    fits: (group, member) => !group.includes(member),
    send: (group) => {
      groups.push(group);
      return new Promise((resolve) => ends.push(resolve));
    },
  });
  return { gatherer, groups, sent: async () => ends.shift()?.() };
}
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("what comes alone waits for nobody", async () => {
  const { gatherer, groups } = open();
  gatherer.expect().arrive("a");
  await settled();
  expect(groups).toEqual([["a"]]);
});

test("what is expected is waited for, and no longer than it may still come", async () => {
  const { gatherer, groups } = open();
  const [a, b, c] = [gatherer.expect(), gatherer.expect(), gatherer.expect()];
  a.arrive("a");
  b.arrive("b");
  await settled();
  expect(groups).toEqual([]);
  c.leave();
  await settled();
  expect(groups).toEqual([["a", "b"]]);
});

test("what does not come is waited for until the time is over", async () => {
  const { gatherer, groups } = open({ waitMs: 1 });
  const slow = gatherer.expect();
  gatherer.expect().arrive("a");
  await expect.poll(() => groups).toEqual([["a"]]);
  slow.leave();
});

test("while one group is sent the next gathers, in order, of those that fit and at most so many", async () => {
  const { gatherer, groups, sent } = open({ most: 2 });
  for (const name of ["a", "b", "b", "c", "d"]) gatherer.expect().arrive(name);
  await settled();
  expect(groups).toEqual([["a", "b"]]);
  await sent();
  await settled();
  expect(groups.at(-1)).toEqual(["b", "c"]);
  gatherer.expect().arrive("e");
  await sent();
  await settled();
  expect(groups.at(-1)).toEqual(["d", "e"]);
  await sent();
  await settled();
  gatherer.expect().arrive("f");
  await settled();
  expect(groups).toEqual([["a", "b"], ["b", "c"], ["d", "e"], ["f"]]);
});
