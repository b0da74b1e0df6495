// Makes a log for verify.go: `npx tsx --conditions=assay-source tests/system/go/make-log.ts LOGDIR [ENTRIES]`.
// LOGDIR must not exist. Prints the verifier key; keeps an earlier checkpoint as LOGDIR/checkpoint.older.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ed25519Signer, mlDsa44Signer, nodeSuite } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import { formatVkey } from "@assay/tlog";

const [directory, entriesText = "70000"] = process.argv.slice(2);
const entries = Number(entriesText);
if (directory === undefined || !Number.isSafeInteger(entries) || entries < 1000) {
  console.error("usage: make-log LOGDIR [ENTRIES >= 1000]");
  process.exit(2);
}
mkdirSync(directory);
const log = await openLog({
  directory,
  origin: "log.example/go",
  signers: { ed25519: ed25519Signer(new Uint8Array(32).fill(1)), mlDsa44: mlDsa44Signer(new Uint8Array(32).fill(2)) },
  suite: nodeSuite,
});
const none = new Uint8Array();
async function fill(to: number): Promise<void> {
  while (log.size() < to) {
    const from = log.size();
    const count = Math.min(1000, to - from);
    await log.append(
      Array.from({ length: count }, (_, i) => ({
        entry: Buffer.from(`entry number ${from + i}`),
        claims: none,
        opening: none,
      })),
    );
  }
}
await fill(entries - 1000);
const older = await log.checkpoint({ atLeast: log.size() });
writeFileSync(join(directory, "checkpoint.older"), older.note);
await fill(entries);
await log.checkpoint({ atLeast: entries });
const [key] = log.keys;
await log.close();
if (key) console.log(formatVkey(key));
