import fc from "fast-check";
import { expect, test } from "vitest";
import { addressKey, createRateLimiter } from "./rate-limit.ts";

test("a burst passes, the next waits, and time gives back what the rate says", () => {
  let nowMs = 1000;
  const limiter = createRateLimiter({ rate: { perSecond: 2, burst: 3 }, maxKeys: 10, now: () => nowMs });
  expect([1, 2, 3].map(() => limiter.take("a"))).toEqual([undefined, undefined, undefined]);
  expect(limiter.take("a")).toBe(500);
  expect(limiter.take("b")).toBeUndefined();
  nowMs += 499;
  expect(limiter.take("a")).toBe(1);
  nowMs += 1;
  expect(limiter.take("a")).toBeUndefined();
  expect(limiter.take("a")).toBe(500);
});

test("a clock that goes back gives nothing and takes nothing", () => {
  let nowMs = 10_000;
  const limiter = createRateLimiter({ rate: { perSecond: 1, burst: 1 }, maxKeys: 10, now: () => nowMs });
  expect(limiter.take("a")).toBeUndefined();
  nowMs = 0;
  expect(limiter.take("a")).toBe(1000);
});

test("never more than burst plus rate times time, whatever the arrivals", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 700 }), { minLength: 1, maxLength: 200 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 5 }),
      (pauses, perSecond, burst) => {
        let nowMs = 0;
        const limiter = createRateLimiter({ rate: { perSecond, burst }, maxKeys: 4, now: () => nowMs });
        let passed = 0;
        for (const pause of pauses) {
          nowMs += pause;
          if (limiter.take("a") === undefined) passed++;
        }
        expect(passed).toBeLessThanOrEqual(burst + (nowMs * perSecond) / 1000 + 1e-6);
        expect(passed).toBeGreaterThan(0);
      },
    ),
  );
});

test("remembers at most so many keys, and forgets the one touched longest ago", () => {
  const limiter = createRateLimiter({ rate: { perSecond: 1, burst: 1 }, maxKeys: 3, now: () => 0 });
  for (const key of ["a", "b", "c"]) limiter.take(key);
  expect(limiter.take("a")).toBe(1000);
  limiter.take("d");
  expect(limiter.size()).toBe(3);
  // "b" was forgotten, "a" was touched since.
  expect(limiter.take("a")).toBe(1000);
  expect(limiter.take("b")).toBeUndefined();
  expect(limiter.size()).toBe(3);
});

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"],
  ["2001:0DB8:0001:0002::1", "2001:db8:1:2::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("the address %s is limited as %s", (address, key) => {
  expect(addressKey(address)).toBe(key);
});
