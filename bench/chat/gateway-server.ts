import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { createClient } from "@assay/sdk";
import { startServer } from "../../apps/assay/src/server/start-server.ts";

// The product as it ships, over a home of its own, with one upstream.
const [childEntry = "", upstream = "", home = ""] = process.argv.slice(2);
const server = await startServer({
  home,
  host: "127.0.0.1",
  port: 0,
  childEntry,
  version: "bench",
  seed: false,
  logLevel: "info",
});
await server.databaseReady;
const client = createClient({
  url: server.url,
  suite: nodeSuite,
  signer: openKeystore(`${home}/keys`).signer("owner", "ed25519"),
});
await client.admin({
  method: "POST",
  path: "/v1/upstreams",
  body: { name: "up", kind: "openai-compatible", baseUrl: upstream },
});
console.log(JSON.stringify({ port: Number(new URL(server.url).port) }));
process.on("SIGTERM", () => void server.close().then(() => process.exit(0)));
