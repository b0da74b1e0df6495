import { merkleLeaf, merkleLevels, merklePath } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { BundledProof, TrustedLog } from "@assay/receipts";
import {
  checkpointSigner,
  formatSignatureLine,
  formatVkey,
  logSigners,
  signCheckpoint,
  signCheckpointText,
} from "@assay/tlog";
import { fixedSigner } from "./parties.ts";

/** A log in memory with fixed keys: entries in, proofs under one signed checkpoint out. */
export type MockLog = {
  readonly trust: TrustedLog;
  readonly append: (entry: Uint8Array) => number;
  /** A proof for `index` under a checkpoint of the whole log, signed at `timeS`; `checkpoint` is the position to use. */
  readonly prove: (index: number, checkpoint: number) => BundledProof;
  readonly note: (timeS: number) => Promise<string>;
};

/** Makes a log of `origin` with `fillers` entries before the first append, cosigned by `witnesses` fixed witnesses. */
export function makeLog(options: {
  readonly origin: string;
  readonly fillers?: number;
  readonly witnesses?: number;
  readonly mlDsa?: boolean;
}): MockLog {
  const suite = nodeSuite;
  const { origin } = options;
  const signers = logSigners(
    origin,
    {
      ed25519: fixedSigner(`${origin}/ed25519`),
      ...(options.mlDsa === false ? {} : { mlDsa44: fixedSigner(`${origin}/ml-dsa-44`, "ml-dsa-44") }),
    },
    suite,
  );
  const witnesses = Array.from({ length: options.witnesses ?? 0 }, (_, i) =>
    checkpointSigner(`witness${i}.example`, "cosignature-ed25519", fixedSigner(`${origin}/witness${i}`), suite),
  );
  const entries: Uint8Array[] = [];
  const append = (entry: Uint8Array): number => entries.push(entry) - 1;
  for (let i = 0; i < (options.fillers ?? 0); i++) append(new Uint8Array([i & 255, i >> 8]));
  const levels = () =>
    merkleLevels(
      suite.sha256,
      entries.map((entry) => merkleLeaf(suite.sha256, entry)),
    );
  return {
    trust: {
      origin,
      keys: signers.map(({ key }) => formatVkey(key)),
      witnesses: witnesses.map(({ key }) => formatVkey(key)),
      quorum: witnesses.length,
    },
    append,
    prove: (index, checkpoint) => {
      const entry = entries[index];
      if (!entry) throw new RangeError(`There is no entry ${index}.`);
      return { entry, index, path: merklePath(levels(), index), checkpoint };
    },
    async note(timeS) {
      const root = levels().at(-1)?.[0] ?? suite.sha256();
      const note = await signCheckpoint({ origin, size: entries.length, root }, signers, timeS);
      const text = note.slice(0, note.indexOf("\n\n") + 1);
      const lines = await Promise.all(witnesses.map((witness) => signCheckpointText(text, witness, timeS)));
      return note + lines.map(formatSignatureLine).join("");
    },
  };
}
