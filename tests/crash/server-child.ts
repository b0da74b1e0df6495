// One whole server over the home named by the first argument, for tests that kill it. Facts go out as JSON lines,
// commands come in as lines; when the input ends, the server closes, so that it never outlives its test.
import { writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { nodeSuite } from "@assay/driver-crypto";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import { paidRecords } from "./paid-records.ts";
import type { ServerChildOptions } from "./server-process.ts";
import { ORT_CHILD, SETTLER } from "./support.ts";

const [home = "", given = "{}"] = process.argv.slice(2);
const { port = 0, settling, maxUnsettled } = JSON.parse(given) as ServerChildOptions;
const say = (fact: object): void => void writeSync(1, `${JSON.stringify(fact)}\n`);
const fault = (error: unknown): object => ({
  code: error instanceof Error && "code" in error ? error.code : undefined,
  message: error instanceof Error ? error.message : String(error),
});

const server = await startServer({
  home,
  host: "127.0.0.1",
  port,
  seed: false,
  logLevel: "warn",
  // Often, so that kills meet tiles and checkpoints half written too.
  log: { checkpointIntervalMs: 25 },
  version: "0.0.0-crash",
  ...ORT_CHILD,
  ...(settling
    ? {
        money: {
          chain: { kind: "embedded", profile: 31337 },
          settler: SETTLER,
          settling,
          eager: true,
          ...(maxUnsettled === undefined ? {} : { maxUnsettledPerPayer: { USDC: BigInt(maxUnsettled) } }),
        },
      }
    : {}),
}).catch((error: unknown) => {
  say({ event: "failed", ...fault(error) });
  throw error;
});
say({ event: "listening", url: server.url });
server.databaseReady.then(
  () => say({ event: "database" }),
  (error: unknown) => say({ event: "failed", ...fault(error) }),
);
server.money?.ready().then(
  ({ place }) => say({ event: "money", rpcUrl: place.rpcUrl, payTo: place.payTo, deployments: place.deployments }),
  (error: unknown) => say({ event: "failed", ...fault(error) }),
);

const commands: Readonly<Record<string, () => Promise<object>>> = {
  settle: async () => {
    const note = await server.log.checkpoint({ atLeast: server.log.size() });
    return { event: "settled", size: note.size };
  },
  rebuild: async () => ({ event: "rebuilt", ...(await server.rebuildIndex()) }),
  // What the log says was paid: in a file, because a pipe holds little.
  paid: async () => {
    const file = join(home, "paid.json");
    writeFileSync(file, JSON.stringify(await paidRecords(nodeSuite, server.log)));
    return { event: "paid", file };
  },
};
const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  commands[line]?.().then(say, (error: unknown) => say({ event: "failed", ...fault(error) }));
});
input.once("close", () => void server.close());
