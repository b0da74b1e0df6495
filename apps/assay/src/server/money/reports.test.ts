import { expect, test } from "vitest";
import { nodeSuite } from "@assay/driver-crypto";
import { ledgerReports } from "./reports.ts";
import type { ReportModules } from "./reports.ts";

const waiting = new Promise<never>(() => undefined);

test.each([
  ["starting", false],
  ["down", true],
])("a chain that is not open is told by its configuration: %s", async (state, failed) => {
  let asked = 0;
  const modules: ReportModules = {
    ready: () => {
      asked++;
      return waiting;
    },
    reset: () => waiting,
    open: () => undefined,
    configured: { network: "eip155:84532", chainId: 84532, development: true },
    failed: () => failed,
    blobs: { get: () => waiting },
    log: { checkpoint: () => waiting, resource: () => waiting },
    suite: nodeSuite,
    now: () => 0,
  };
  expect(await ledgerReports(modules).chain()).toMatchObject({
    network: "eip155:84532",
    chainId: 84532,
    development: true,
    state,
    rpcUrl: null,
    assets: [],
  });
  // Whoever asks wants it opened, unless that was tried already.
  expect(asked).toBe(failed ? 0 : 1);
});
