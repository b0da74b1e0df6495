import { describe, expect, it, vi } from "vitest";
import type { Transport } from "../rpc/transport.ts";
import { startKeeper } from "./keeper.ts";

type Counting = {
  readonly rpc: Transport;
  height: number;
  beats: number;
  dumps: number;
  looks: number;
  fail: boolean;
};

/** A node that counts: its height is what was mined. */
function counting(): Counting {
  const node: Counting = {
    height: 5,
    beats: 0,
    dumps: 0,
    looks: 0,
    fail: false,
    rpc: {
      request(method) {
        if (node.fail) return Promise.reject(new Error("away"));
        if (method === "evm_mine") {
          node.height++;
          node.beats++;
        } else if (method === "anvil_dumpState") node.dumps++;
        else node.looks++;
        return Promise.resolve(method === "eth_blockNumber" ? `0x${node.height.toString(16)}` : "0x00");
      },
      retryAfterMs: () => 0,
      isDown: () => false,
    },
  };
  return node;
}

const soon = { timeout: 60_000, interval: 2 };

describe("a kept chain", () => {
  it("has a heartbeat and is saved while something happens on it, and neither when it is quiet", async () => {
    const node = counting();
    const keeper = startKeeper(
      () => node.rpc,
      () => Promise.resolve(1),
      () => undefined,
      { beatMs: 1, busyMs: 60, idleBeatMs: 3_600_000 },
    );
    await vi.waitFor(() => expect(node.beats).toBeGreaterThan(2), soon);
    await vi.waitFor(() => expect(keeper.facts().savedBlock).toBe(node.height), soon);
    // Quiet: many looks later there is no block more.
    await vi.waitFor(async () => {
      const { beats, looks } = node;
      await vi.waitFor(() => expect(node.looks).toBeGreaterThan(looks + 10), soon);
      expect(node.beats).toBe(beats);
    }, soon);
    const { beats, dumps } = node;
    // A transaction's block, which is not the keeper's own.
    node.height++;
    await vi.waitFor(() => expect(node.beats).toBeGreaterThan(beats), soon);
    await vi.waitFor(() => expect(node.dumps).toBeGreaterThan(dumps), soon);
    await keeper.stop();
    const { looks } = node;
    await keeper.stop();
    expect(node.looks).toBe(looks);
  });

  it("is mined on now and then when it is quiet: time passes", async () => {
    const node = counting();
    const keeper = startKeeper(
      () => node.rpc,
      () => Promise.resolve(1),
      () => undefined,
      { beatMs: 1, busyMs: 0, idleBeatMs: 5 },
    );
    await vi.waitFor(() => expect(node.beats).toBeGreaterThan(3), soon);
    await keeper.stop();
  });

  it("survives a node that is away and a disk that is full, and says both", async () => {
    const node = counting();
    const failures: unknown[] = [];
    let full = true;
    const keeper = startKeeper(
      () => node.rpc,
      () => (full ? Promise.reject(new Error("no space")) : Promise.resolve(7)),
      (cause) => failures.push(cause),
      { beatMs: 1, busyMs: 3_600_000 },
    );
    await vi.waitFor(() => expect(failures.map(String)).toContain("Error: no space"), soon);
    expect(keeper.facts()).toEqual({ savedBlock: undefined, stateBytes: undefined });
    node.fail = true;
    await vi.waitFor(() => expect(failures.map(String)).toContain("Error: away"), soon);
    node.fail = false;
    full = false;
    await vi.waitFor(() => expect(keeper.facts().stateBytes).toBe(7), soon);
    await keeper.stop();
  });

  it("is saved by one at a time, also when asked to while it saves", async () => {
    const node = counting();
    let writing = 0;
    let most = 0;
    const keeper = startKeeper(
      () => node.rpc,
      async () => {
        most = Math.max(most, ++writing);
        await new Promise((resolve) => setImmediate(resolve));
        writing--;
        return 1;
      },
      () => undefined,
      { beatMs: 1 },
    );
    await Promise.all(Array.from({ length: 8 }, () => keeper.save()));
    keeper.touch();
    const { dumps } = node;
    await vi.waitFor(() => expect(node.dumps).toBeGreaterThan(dumps), soon);
    await keeper.stop();
    expect(most).toBe(1);
  });
});
