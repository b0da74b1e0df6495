import { readFileSync } from "node:fs";
import { bytesToHex } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { buildManifest } from "@assay/onnx";
import { ownerOf } from "@assay/service-gateway";
import { startServer } from "../../apps/assay/src/server/start-server.ts";

// The product as it ships, over a home of its own, with one model released as bench/model.
const [childEntry = "", path = "", home = ""] = process.argv.slice(2);
const server = await startServer({
  home,
  host: "127.0.0.1",
  port: 0,
  childEntry,
  version: "bench",
  seed: false,
  logLevel: "info",
});
const bytes = new Uint8Array(readFileSync(path));
const sha256 = bytesToHex(nodeSuite.sha256(bytes));
const manifest = buildManifest(nodeSuite, {
  files: [{ path: "model.onnx", sizeBytes: bytes.length, sha256 }],
  entry: "model.onnx",
});
const blobs = await openBlobStore({ directory: `${home}/blobs` });
await blobs.put(bytes);
await server.hub.release({
  name: "bench/model",
  manifest: manifest.bytes,
  owner: ownerOf(openKeystore(`${home}/keys`).signer("owner", "ed25519").publicKey),
  visibility: "public",
});
await server.databaseReady;
console.log(JSON.stringify({ port: Number(new URL(server.url).port) }));
process.on("SIGTERM", () => void server.close().then(() => process.exit(0)));
