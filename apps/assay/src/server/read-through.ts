import type { BlobStore } from "@assay/protocol";

/**
 * A store that fetches what it lacks from another one and keeps it: a second gateway serves content that the first one
 * has. What comes is hashed before it is there, so the other store cannot put in anything else.
 */
export function readThrough(
  local: BlobStore,
  fetchBlob: (sha256: string) => Promise<AsyncIterable<Uint8Array> | undefined>,
): BlobStore {
  const fetching = new Map<string, Promise<void>>();
  const ensure = async (sha256: string): Promise<void> => {
    if (await local.has(sha256)) return;
    const under = fetching.get(sha256);
    if (under) return under;
    const work = (async () => {
      const source = await fetchBlob(sha256);
      if (source) await local.put(source, { expected: sha256 });
    })();
    fetching.set(sha256, work);
    try {
      await work;
    } finally {
      fetching.delete(sha256);
    }
  };
  return {
    put: (source, options) => local.put(source, options),
    async has(sha256) {
      await ensure(sha256);
      return local.has(sha256);
    },
    async sizeBytes(sha256) {
      await ensure(sha256);
      return local.sizeBytes(sha256);
    },
    async get(sha256) {
      await ensure(sha256);
      return local.get(sha256);
    },
    async *stream(sha256, range) {
      await ensure(sha256);
      yield* local.stream(sha256, range);
    },
    async materialise(sha256, path) {
      await ensure(sha256);
      await local.materialise(sha256, path);
    },
    remove: (sha256) => local.remove(sha256),
    list: () => local.list(),
  };
}
