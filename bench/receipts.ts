// Durable receipts per second: two signatures, the log's journal on disk, nothing else.
//   npx tsx --conditions=assay-source bench/receipts.ts
import { mkdtempSync, openSync, rmSync, writeSync, fdatasyncSync, closeSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ed25519Signer, mlDsa44Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import { PROFILE, commitFields, createIssuer, encodeClaims, receiptSubject, tensorFields } from "@assay/receipts";
import { createRecorder } from "@assay/service-gateway";
import { timeOrderedId } from "@assay/service-node";
import { percentile } from "./infer/load.ts";

const suite = nodeSuite;
const directory = mkdtempSync(join(tmpdir(), "assay-bench-receipts-"));
const now = Date.now;
const log = await openLog({
  directory,
  origin: "bench.example/log",
  signers: { ed25519: ed25519Signer(randomSeed()), mlDsa44: mlDsa44Signer(randomSeed()) },
  suite,
  checkpointIntervalMs: 1000,
});

async function issuer(role: "node" | "gateway", use: "execution" | "service") {
  return createIssuer({
    suite,
    subject: `urn:assay:${role}:bench`,
    role,
    identity: ed25519Signer(randomSeed()),
    keys: { [use]: ed25519Signer(randomSeed()) },
    instanceId: new Uint8Array(randomBytes(16)),
    bootSeq: 0,
    notBeforeMs: now(),
    notAfterMs: now() + 86_400_000,
  });
}

const issuers = { node: await issuer("node", "execution"), gateway: await issuer("gateway", "service") };
const recorder = createRecorder({
  log,
  suite,
  issuers,
  rotate: () => Promise.resolve(issuers),
  now,
  onRecorded: () => undefined,
});
await recorder.begin();

const digest = suite.sha256(new Uint8Array([1]));
const tensor = { name: "x", datatype: "FP32", shape: [1, 16], data: new Uint8Array(64) };

async function once(): Promise<void> {
  const salt = new Uint8Array(randomBytes(32));
  const receiptId = timeOrderedId(now(), new Uint8Array(randomBytes(10)));
  const request = commitFields(suite, salt, "request", tensorFields("input", tensor));
  const response = commitFields(suite, salt, "response", tensorFields("output", tensor));
  const issuedAtMs = now();
  await recorder.record({
    receiptId,
    subject: receiptSubject(receiptId),
    issuedAtMs,
    claims: encodeClaims("execution", {
      profile: PROFILE.execution,
      receiptId,
      modelName: "bench/model",
      modelVersion: "1",
      modelDigest: digest,
      modelDigestScheme: "sha256-manifest",
      modelDigestCheck: "hashed-at-load",
      requestRoot: request.root,
      responseRoot: response.root,
      requestFields: request.count,
      responseFields: response.count,
      mode: "vanilla",
      kind: "onnx",
      issuedAtMs,
      usage: { inputBytes: 64, outputBytes: 64 },
      finishReason: "stop",
      engineUs: 10,
    }),
    service: (executionDigest) => ({
      profile: PROFILE.service,
      receiptId,
      executionDigest,
      issuedAtMs,
      retention: "none",
      route: { chosen: "urn:assay:node:bench" },
    }),
    model: "bench/model",
    manifestDigest: null,
    mode: "vanilla",
    grantSha256: digest,
    opening: new Uint8Array(),
  });
}

/** The floor: as many bytes, written and flushed in as many batches, and nothing else. */
function floor(batch: number, batches: number): number {
  const file = openSync(join(directory, "floor"), "w");
  const bytes = Buffer.alloc(batch * 1500);
  const startedMs = performance.now();
  for (let i = 0; i < batches; i++) {
    writeSync(file, bytes);
    fdatasyncSync(file);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  closeSync(file);
  return (batch * batches) / seconds;
}

for (const concurrency of [1, 16, 256]) {
  const total = concurrency === 1 ? 2000 : concurrency * 200;
  const run = async (count: number): Promise<number[]> => {
    let left = count;
    const latenciesMs: number[] = [];
    await Promise.all(
      Array.from({ length: concurrency }, async () => {
        while (left-- > 0) {
          const startedMs = performance.now();
          await once();
          latenciesMs.push(performance.now() - startedMs);
        }
      }),
    );
    return latenciesMs;
  };
  await run(Math.ceil(total / 5));
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  const latenciesMs = await run(total);
  const seconds = (performance.now() - startedMs) / 1000;
  const used = process.cpuUsage(cpu);
  const perSecond = latenciesMs.length / seconds;
  const bare = floor(concurrency, Math.min(200, Math.ceil(total / concurrency)));
  console.log(
    `${concurrency} at a time: ${perSecond.toFixed(0)} durable receipts/s, p50 ${percentile(latenciesMs, 0.5).toFixed(2)} ms, p99 ${percentile(latenciesMs, 0.99).toFixed(2)} ms, ` +
      `${((used.user + used.system) / latenciesMs.length).toFixed(1)} us CPU each; ${(perSecond / bare).toFixed(3)} of bare write+fdatasync of the same bytes${concurrency === 256 ? " (goal 10,000/s)" : ""}`,
  );
}
await log.close();
rmSync(directory, { recursive: true, force: true });
