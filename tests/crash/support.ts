// What the tests that break a whole server share: its runtime's program, homes, tensors, and a reader of its log that
// believes nothing the server says of itself.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createHash } from "node:crypto";
import { bytesToHex, equalBytes } from "@assay/core";
import { ed25519Signer, nodeSuite } from "@assay/driver-crypto";
import { buildManifest } from "@assay/onnx";
import type { Tensor } from "@assay/protocol";
import { decodeEntry, parseStatement } from "@assay/receipts";
import type { PushFile } from "@assay/sdk";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const bundled = join(ROOT, "apps/assay/dist/ort-child.js");

/** The runtime's child: the bundle when the repository was built, else the source through a loader. */
export const ORT_CHILD: { readonly childEntry: string; readonly nodeArgs?: readonly string[] } = existsSync(bundled)
  ? { childEntry: bundled }
  : {
      childEntry: join(ROOT, "packages/driver-ort/src/child/main.ts"),
      nodeArgs: ["--conditions=assay-source", "--import", import.meta.resolve("tsx")],
    };

const bundledSettler = join(ROOT, "apps/assay/dist/settler.js");

/** The settler's thread, in the same way. */
export const SETTLER: { readonly entry: string; readonly nodeArgs?: readonly string[] } = existsSync(bundledSettler)
  ? { entry: bundledSettler }
  : { entry: join(ROOT, "packages/service-ledger/src/settle/main.ts"), nodeArgs: ["--conditions=assay-source"] };

/** The operator's key of a home. */
export function operatorSigner(home: string): ReturnType<typeof ed25519Signer> {
  return ed25519Signer(new Uint8Array(readFileSync(join(home, "keys/owner.key"))));
}

/** A model of `models/bench` with a card of its own, so that each text makes another version. */
export function benchModel(file: "tiny-mlp" | "wide-20ms", card: string): { manifest: Uint8Array; files: PushFile[] } {
  const contents = [
    { path: "model.onnx", bytes: new Uint8Array(readFileSync(join(ROOT, `models/bench/${file}.onnx`))) },
    { path: "README.md", bytes: new TextEncoder().encode(card) },
  ];
  const files = contents.map(({ path, bytes }) => ({
    path,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    sizeBytes: bytes.length,
    read: () => Promise.resolve(bytes),
  }));
  const { bytes: manifest } = buildManifest(nodeSuite, {
    files: files.map(({ path, sha256, sizeBytes }) => ({ path, sha256, sizeBytes })),
    entry: "model.onnx",
    task: "other",
  });
  return { manifest, files };
}

/** Input of `tiny-mlp`: float32 `[1, 16]`, another for every `i`. */
export function tinyInput(i: number): Tensor {
  const values = Float32Array.from({ length: 16 }, (_, j) => Math.sin(i + j));
  return { name: "x", datatype: "FP32", shape: [1, 16], data: new Uint8Array(values.buffer) };
}

/** Input of `wide-20ms`: float32 `[1, 3, 32, 32]`. */
export function wideInput(i: number): Tensor {
  const values = Float32Array.from({ length: 3 * 32 * 32 }, (_, j) => Math.cos(i + j));
  return { name: "image", datatype: "FP32", shape: [1, 3, 32, 32], data: new Uint8Array(values.buffer) };
}

export { eventually } from "@assay/testkit/eventually";

/** What the entries of a whole log say of their issuers, each found fault a sentence. */
export type ChainReport = {
  readonly faults: readonly string[];
  readonly executions: ReadonlyMap<string, number>;
  /** Keyset statements by subject. */
  readonly boots: ReadonlyMap<string, number>;
  /** Statements by issuer, keysets not counted. */
  readonly lengths: ReadonlyMap<string, number>;
};

/**
 * Follows every chain of a log from its first entry: `seq` without a gap, `prev` the digest before, every keyset logged
 * before it is used and linked to the one before, no receipt twice (docs/spec/receipt.md sections 3 and 5).
 */
export function followChains(entries: readonly Uint8Array[]): ChainReport {
  const faults: string[] = [];
  const heads = new Map<string, { seq: number; prev: Uint8Array | undefined }>();
  const keysets = new Set<string>();
  const boots = new Map<string, number>();
  const lengths = new Map<string, number>();
  const executions = new Map<string, number>();
  for (const [index, entry] of entries.entries()) {
    for (const envelope of decodeEntry(entry)) {
      const { header, digest } = parseStatement(nodeSuite, envelope);
      const chain = `${header.kind === "keyset" ? "keyset " : ""}${header.issuer}`;
      const head = heads.get(chain) ?? { seq: 0, prev: undefined };
      const where = `entry ${index}: ${header.kind} ${header.seq} of ${header.issuer}`;
      if (header.seq !== head.seq) faults.push(`${where} where ${head.seq} was due`);
      const linked = header.prev && head.prev ? equalBytes(header.prev, head.prev) : header.prev === head.prev;
      if (!linked) faults.push(`${where} does not name the statement before it`);
      heads.set(chain, { seq: header.seq + 1, prev: digest });
      const keyset = bytesToHex(header.keyset);
      if (header.kind === "keyset") {
        keysets.add(keyset);
        boots.set(header.issuer, (boots.get(header.issuer) ?? 0) + 1);
        continue;
      }
      lengths.set(header.issuer, (lengths.get(header.issuer) ?? 0) + 1);
      if (!keysets.has(keyset)) faults.push(`${where} is signed with a keyset that was not logged before`);
      if (header.kind !== "execution") continue;
      const id = header.subject.slice("urn:assay:receipt:".length);
      const before = executions.get(id);
      if (before !== undefined) faults.push(`${where}: receipt ${id} stands at entry ${before} already`);
      executions.set(id, index);
    }
  }
  return { faults, executions, boots, lengths };
}
