import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bytesToHex } from "@assay/core";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { openWitness } from "@assay/driver-log";
import type { Witness } from "@assay/driver-log";
import { keyId } from "@assay/receipts";
import { checkpointSigner, formatVkey, logSigners } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import type { RunningServer } from "../../apps/assay/src/server/start-server.ts";

const directory = mkdtempSync(join(tmpdir(), "assay-witnessed-"));
let witness: Witness;
let http: Server;
let server: RunningServer;
let reachable = true;

beforeAll(async () => {
  // The witness must know the log's keys and the log the witness's, so the home's keys are made first.
  const keystore = openKeystore(join(directory, "keys"));
  const ed25519 = keystore.signer("log", "ed25519");
  const origin = `assay.local/${bytesToHex(keyId(nodeSuite, ed25519.publicKey))}`;
  const logKeys = logSigners(origin, { ed25519, mlDsa44: keystore.signer("log-pq", "ml-dsa-44") }, nodeSuite);
  const signer = checkpointSigner(
    "witness.test",
    "cosignature-ed25519",
    keystore.signer("witness", "ed25519"),
    nodeSuite,
  );
  mkdirSync(join(directory, "witness"));
  witness = await openWitness({
    directory: join(directory, "witness"),
    signers: [signer],
    logs: logKeys.map(({ key }) => key),
    suite: nodeSuite,
    now: Date.now,
  });
  http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (!reachable) {
        response.destroy();
        return;
      }
      void witness.handle(request.method ?? "", request.url ?? "", Buffer.concat(chunks)).then((answer) => {
        response.writeHead(answer.status, answer.headers).end(answer.body);
      });
    });
  });
  await new Promise<void>((resolve) => {
    http.listen(0, "127.0.0.1", resolve);
  });
  const address = http.address();
  const url = `http://127.0.0.1:${typeof address === "object" && address ? address.port : 0}`;
  server = await startServer({
    ...sourceChild(),
    home: directory,
    host: "127.0.0.1",
    port: 0,
    version: "0.0.0-test",
    logLevel: "silent",
    witnesses: [{ vkey: formatVkey(signer.key), url }],
  });
});

afterAll(async () => {
  await server.close();
  http.closeAllConnections();
  http.close();
  await witness.close();
  rmSync(directory, { recursive: true, force: true });
});

async function receipt(waitMs: number): Promise<Uint8Array> {
  const answer = await fetch(`${server.url}/v2/models/demo%2Fdigits/infer`, {
    method: "POST",
    body: JSON.stringify({
      inputs: [{ name: "image", shape: [1, 1, 8, 8], datatype: "FP32", data: Array(64).fill(0) }],
    }),
  });
  expect(answer.status).toBe(200);
  const id = answer.headers.get("assay-receipt-id");
  const grant = answer.headers.get("assay-grant") ?? "";
  const bundle = await fetch(`${server.url}/v1/receipts/${id}/bundle?waitMs=${waitMs}`, {
    headers: { "assay-grant": grant },
  });
  expect(bundle.status).toBe(200);
  return new Uint8Array(await bundle.arrayBuffer());
}

test("a receipt is handed out under a checkpoint that the witness cosigned, with the witness's time", async () => {
  const verdict = await createVerifier({ trust: server.trust, suite: nodeSuite })(await receipt(20_000), Date.now());
  expect(verdict, JSON.stringify(verdict.checks)).toMatchObject({ status: "verified" });
  expect(verdict.checks.find(({ check }) => check === "log")?.facts["witnesses"]).toBe("1");
  expect(verdict.answers.couldBeAltered).toMatch(/as one witness confirms/);
});

test("while the witness is away answers go on, and a verifier that wants its word says that it is missing", async () => {
  reachable = false;
  const verdict = await createVerifier({ trust: server.trust, suite: nodeSuite })(await receipt(1500), Date.now());
  expect(verdict).toMatchObject({ status: "failed", code: "quorum_missing" });
  reachable = true;
  const again = await createVerifier({ trust: server.trust, suite: nodeSuite })(await receipt(30_000), Date.now());
  expect(again.status).toBe("verified");
});
