import { readFileSync } from "node:fs";
import { bytesToHex } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { buildManifest } from "@assay/onnx";
import { ownerOf } from "@assay/service-gateway";
import type { SettlerOptions } from "@assay/service-ledger";
import { startServer } from "../../apps/assay/src/server/start-server.ts";

// The product as it ships, over a home of its own, with one model released under two names: bench/free and bench/paid. With
// a settler's program it has an embedded chain too; with an empty one it is the product under ASSAY_CHAIN=off.
const [childEntry = "", settler = "", path = "", home = "", settling = "{}"] = process.argv.slice(2);
const server = await startServer({
  home,
  host: "127.0.0.1",
  port: 0,
  childEntry,
  version: "bench",
  seed: false,
  logLevel: "warn",
  ...(settler === ""
    ? {}
    : {
        money: {
          chain: { kind: "embedded", profile: 31337 },
          settler: { entry: settler },
          settling: JSON.parse(settling) as SettlerOptions,
          eager: true,
        },
      }),
});
const bytes = new Uint8Array(readFileSync(path));
const sha256 = bytesToHex(nodeSuite.sha256(bytes));
const manifest = buildManifest(nodeSuite, {
  files: [{ path: "model.onnx", sizeBytes: bytes.length, sha256 }],
  entry: "model.onnx",
});
await (await openBlobStore({ directory: `${home}/blobs` })).put(bytes);
const owner = ownerOf(openKeystore(`${home}/keys`).signer("owner", "ed25519").publicKey);
for (const name of ["bench/free", "bench/paid"])
  await server.hub.release({ name, manifest: manifest.bytes, owner, visibility: "public" });
await server.databaseReady;
await server.money?.ready();
console.log(JSON.stringify({ port: Number(new URL(server.url).port) }));
process.on("SIGTERM", () => void server.close().then(() => process.exit(0)));
