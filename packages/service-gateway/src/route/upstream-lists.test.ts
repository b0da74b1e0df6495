import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ListedEngineModel } from "@assay/protocol";
import { LIST_RETRY_MS, LIST_TTL_MS, LIST_WAIT_MS, MAX_LISTED_MODELS, createUpstreamLists } from "./upstream-lists.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const model = (name: string): ListedEngineModel => ({ name, kinds: ["chat"] });
function counted(answer: () => Promise<readonly ListedEngineModel[]>) {
  let asked = 0;
  const models = () => {
    asked++;
    return answer();
  };
  return { upstream: { name: "u", models }, asked: () => asked };
}

describe("upstreams' lists", () => {
  it("are asked for once, and again when they are old", async () => {
    const { upstream, asked } = counted(() => Promise.resolve([model("a")]));
    const lists = createUpstreamLists(Date.now);
    expect(lists.known(upstream)).toStrictEqual([]);
    await lists.settled([upstream]);
    // The same upstream by another object, as a composition makes them.
    expect(lists.known({ ...upstream })).toStrictEqual([model("a")]);
    expect(asked()).toBe(1);
    vi.advanceTimersByTime(LIST_TTL_MS - 1);
    lists.known(upstream);
    expect(asked()).toBe(1);
    vi.advanceTimersByTime(1);
    expect(lists.known(upstream)).toStrictEqual([model("a")]);
    expect(asked()).toBe(2);
  });

  it("stay what they were while the upstream is away, and it is asked again soon", async () => {
    let away = false;
    const { upstream, asked } = counted(() =>
      away ? Promise.reject(new Error("away")) : Promise.resolve([model("a")]),
    );
    const lists = createUpstreamLists(Date.now);
    await lists.settled([upstream]);
    away = true;
    vi.advanceTimersByTime(LIST_TTL_MS);
    lists.known(upstream);
    await vi.advanceTimersByTimeAsync(LIST_RETRY_MS - 1);
    expect(lists.known(upstream)).toStrictEqual([model("a")]);
    expect(asked()).toBe(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(lists.known(upstream)).toStrictEqual([model("a")]);
    expect(asked()).toBe(3);
  });

  it("are not waited for longer than a moment, and come later all the same", async () => {
    let give: (models: readonly ListedEngineModel[]) => void = () => undefined;
    const { upstream, asked } = counted(() => new Promise((resolve) => (give = resolve)));
    const lists = createUpstreamLists(Date.now);
    const waiting = lists.settled([upstream]);
    let over = false;
    void waiting.then(() => (over = true));
    await vi.advanceTimersByTimeAsync(LIST_WAIT_MS - 1);
    expect(over).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(over).toBe(true);
    expect(lists.known(upstream)).toStrictEqual([]);
    give([model("late")]);
    await vi.advanceTimersByTimeAsync(0);
    expect(lists.known(upstream)).toStrictEqual([model("late")]);
    expect(asked()).toBe(1);
  });

  it("are forgotten when upstreams change", async () => {
    const { upstream, asked } = counted(() => Promise.resolve([model("a")]));
    const lists = createUpstreamLists(Date.now);
    await lists.settled([upstream]);
    lists.forget();
    expect(lists.known(upstream)).toStrictEqual([]);
    expect(asked()).toBe(2);
  });

  it("are cut at their limit", async () => {
    const many = Array.from({ length: MAX_LISTED_MODELS + 1 }, (_, i) => model(`m${i}`));
    const { upstream } = counted(() => Promise.resolve(many));
    const lists = createUpstreamLists(Date.now);
    await lists.settled([upstream]);
    expect(lists.known(upstream)).toHaveLength(MAX_LISTED_MODELS);
  });
});
