// One gateway of several over the home named by the first argument, for tests that kill it; the second argument says
// how, as JSON. Facts go out as JSON lines; when the input ends, it closes, so that it never outlives its test.
import { writeSync } from "node:fs";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import { ORT_CHILD } from "./support.ts";

const [home = "", how = "{}"] = process.argv.slice(2);
const say = (fact: object): void => void writeSync(1, `${JSON.stringify(fact)}\n`);
const options = JSON.parse(how) as {
  readonly port?: number;
  readonly databaseUrl?: string;
  readonly peer?: { readonly url: string; readonly invite?: string };
};

const server = await startServer({
  home,
  host: "127.0.0.1",
  port: options.port ?? 0,
  seed: false,
  logLevel: "warn",
  auditShare: 0,
  version: "0.0.0-crash",
  ...(options.databaseUrl === undefined ? {} : { databaseUrl: options.databaseUrl }),
  ...(options.peer ? { peer: options.peer } : { log: { checkpointIntervalMs: 25 } }),
  ...ORT_CHILD,
}).catch((error: unknown) => {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  say({ event: "failed", code, message: error instanceof Error ? error.message : String(error) });
  throw error;
});
say({ event: "listening", url: server.url });
server.databaseReady.then(
  () => say({ event: "database" }),
  () => undefined,
);
process.stdin.resume();
process.stdin.once("end", () => void server.close());
