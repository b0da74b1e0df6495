// How many receipts one core verifies in a second, beside the floor: the Ed25519 verifications alone.
// Run: npx tsx --conditions=assay-source bench/verify.ts
import { nobleSuite } from "@assay/core/noble";
import type { CryptoSuite } from "@assay/core";
import { ed25519Signer, nodeSuite } from "@assay/driver-crypto";
import {
  decodeClaims,
  encodeBundle,
  encodeClaims,
  encodeEntry,
  parseStatement,
  prepareStatement,
  signBatch,
} from "@assay/receipts";
import type { Bundle } from "@assay/receipts";
import { MOCK_TIME_MS, fixedSeed, makeLog, makeReceipt } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";

const SECONDS = 2;
const BATCH = 64;
const suite = nodeSuite;

type Work = {
  readonly receipts: readonly Uint8Array[];
  readonly trust: Awaited<ReturnType<typeof makeReceipt>>["trust"];
  readonly now: number;
};

/** `count` different onnx receipts whose statements are signed in two batches (a node's and a gateway's), in one log. */
async function batchSigned(count: number): Promise<Work> {
  const base = await makeReceipt({ kind: "onnx" });
  const [execution, service] = base.bundle.statements;
  if (!execution || !service) throw new Error("The mock receipt has no two statements.");
  const nodeSigner = ed25519Signer(fixedSeed("alpha/execution"));
  const gatewaySigner = ed25519Signer(fixedSeed("front/service"));
  if (!nodeSigner.signSync || !gatewaySigner.signSync) throw new Error("The signers must be local.");
  const executionHeader = parseStatement(suite, execution.envelope).header;
  const serviceHeader = parseStatement(suite, service.envelope).header;
  const claims = decodeClaims("execution", execution.claims);
  const executions = Array.from({ length: count }, (_, i) => {
    const bytes = encodeClaims("execution", { ...claims, engineUs: 400 + i });
    return { bytes, unsigned: prepareStatement(suite, { ...executionHeader, algorithm: "ed25519-batch" }, bytes) };
  });
  const services = executions.map(({ unsigned }) => {
    const bytes = encodeClaims("service", {
      ...decodeClaims("service", service.claims),
      executionDigest: unsigned.digest,
    });
    return { bytes, unsigned: prepareStatement(suite, { ...serviceHeader, algorithm: "ed25519-batch" }, bytes) };
  });
  const signedExecutions = signBatch(
    suite,
    executions.map(({ unsigned }) => unsigned),
    nodeSigner.signSync,
  );
  const signedServices = signBatch(
    suite,
    services.map(({ unsigned }) => unsigned),
    gatewaySigner.signSync,
  );
  const log = makeLog({ origin: "assay.example/log", fillers: 700, witnesses: 2 });
  const pairs = signedExecutions.map((signed, i) => {
    const other = signedServices[i];
    const executionClaims = executions[i]?.bytes;
    const serviceClaims = services[i]?.bytes;
    if (!other || !executionClaims || !serviceClaims) throw new Error("The batches differ in size.");
    return {
      index: log.append(encodeEntry([signed.envelope, other.envelope])),
      statements: [
        { envelope: signed.envelope, claims: executionClaims },
        { envelope: other.envelope, claims: serviceClaims },
      ],
    };
  });
  const note = await log.note(Math.floor(MOCK_TIME_MS / 1000) + 1);
  const receipts = pairs.map(({ index, statements }) => {
    const bundle: Bundle = { ...base.bundle, statements, log: [log.prove(index, 0)], checkpoints: [note] };
    return encodeBundle(bundle);
  });
  return { receipts, trust: base.trust, now: base.now };
}

/** Runs `step` for about `seconds` of processor time, warm, and returns the rate per second of it. */
async function rate(seconds: number, step: (i: number) => Promise<unknown>): Promise<number> {
  // The compiler's own work counts as processor time, so half as much is spent before the clock starts.
  await run(seconds / 2, step);
  return run(seconds, step);
}

async function run(seconds: number, step: (i: number) => Promise<unknown>): Promise<number> {
  const start = process.cpuUsage();
  let done = 0;
  let used = 0;
  while (used < seconds) {
    for (let i = 0; i < 20; i++) await step(done++);
    const { user, system } = process.cpuUsage(start);
    used = (user + system) / 1e6;
  }
  return done / used;
}

function picker(work: Work): (i: number) => Uint8Array {
  return (i) => {
    const receipt = work.receipts[i % work.receipts.length];
    if (!receipt) throw new Error("There are no receipts.");
    return receipt;
  };
}

async function cached(work: Work, suite: CryptoSuite): Promise<number> {
  const verify = createVerifier({ trust: work.trust, suite });
  const pick = picker(work);
  const first = await verify(pick(0), work.now);
  if (first.status !== "verified") throw new Error(`The receipt is ${first.status}: ${first.code}.`);
  return rate(SECONDS, (i) => verify(pick(i), work.now));
}

async function uncached(work: Work, suite: CryptoSuite, seconds: number): Promise<number> {
  const pick = picker(work);
  return rate(seconds, (i) => createVerifier({ trust: work.trust, suite })(pick(i), work.now));
}

async function floor(suite: CryptoSuite, seconds: number): Promise<number> {
  const signer = ed25519Signer(fixedSeed("floor"));
  const message = new Uint8Array(300).fill(1);
  const signature = await signer.sign(message);
  return rate(seconds, () => suite.verify("ed25519", signer.publicKey, message, signature));
}

const batch = await batchSigned(BATCH);
const single = await makeReceipt({ kind: "onnx" });
const singleWork: Work = { receipts: [single.bytes], trust: single.trust, now: single.now };
const noPostQuantum = await makeReceipt({ kind: "onnx", mlDsa: false });
const noPostQuantumWork: Work = { receipts: [noPostQuantum.bytes], trust: noPostQuantum.trust, now: noPostQuantum.now };
const native = await floor(nodeSuite, SECONDS);
const pure = await floor(nobleSuite, SECONDS);

/** `signatures` are the verifications that a receipt cannot do without under that cache. */
function line(name: string, perSecond: number, signatures: number, ed25519PerSecond: number): void {
  const bound = signatures === 0 ? undefined : ed25519PerSecond / signatures;
  const ratio =
    bound === undefined
      ? "no signature left to verify"
      : `${(perSecond / bound).toFixed(2)} of the floor ${bound.toFixed(0)}/s`;
  console.log(`${name.padEnd(64)} ${perSecond.toFixed(0).padStart(7)}/s   ${ratio}`);
}

console.log(`node ${process.version}, receipts of ${picker(batch)(0).length} bytes, per second of processor time`);
line("Ed25519 alone, native", native, 1, native);
line("Ed25519 alone, pure JavaScript", pure, 1, pure);
line(`native, cached checkpoint, batches of ${BATCH}`, await cached(batch, nodeSuite), 0, native);
line("native, cached checkpoint, signed one by one", await cached(singleWork, nodeSuite), 2, native);
line("native, nothing cached, no ML-DSA (7 Ed25519)", await uncached(noPostQuantumWork, nodeSuite, SECONDS), 7, native);
line("native, nothing cached, with ML-DSA in pure JavaScript", await uncached(batch, nodeSuite, SECONDS), 7, native);
line(`pure JavaScript, cached checkpoint, batches of ${BATCH}`, await cached(batch, nobleSuite), 0, pure);
line("pure JavaScript, cached checkpoint, signed one by one", await cached(singleWork, nobleSuite), 2, pure);
line("pure JavaScript, nothing cached", await uncached(batch, nobleSuite, SECONDS), 7, pure);
