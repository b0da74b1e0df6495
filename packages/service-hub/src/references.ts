import type { CryptoSuite } from "@assay/core";
import { parseManifest } from "@assay/onnx";
import type { BlobStore } from "@assay/protocol";
import type { Catalogue } from "./catalogue.ts";

/**
 * Whether a version of a model, any that was ever released, is made of a blob: one of its files, its manifest or the
 * configuration beside it. Throws what a manifest that cannot be read throws: then nobody knows.
 */
export function createReferences({
  catalogue,
  blobs,
  suite,
}: {
  readonly catalogue: Pick<Catalogue, "names" | "versions">;
  readonly blobs: Pick<BlobStore, "get">;
  readonly suite: Pick<CryptoSuite, "sha256">;
}): (sha256: string) => Promise<boolean> {
  // Manifests never change; a version's blobs are a set of a few digests.
  const known = new Map<string, ReadonlySet<string>>();
  const blobsOf = async (manifestDigest: string): Promise<ReadonlySet<string>> => {
    const before = known.get(manifestDigest);
    if (before) return before;
    const { digest, configDigest, manifest } = parseManifest(suite, await blobs.get(manifestDigest));
    const found = new Set([digest, configDigest, ...manifest.files.map(({ sha256 }) => sha256)]);
    known.set(manifestDigest, found);
    return found;
  };
  return async (sha256) => {
    for (const name of catalogue.names())
      for (const { manifestDigest } of catalogue.versions(name))
        if ((await blobsOf(manifestDigest)).has(sha256)) return true;
    return false;
  };
}
