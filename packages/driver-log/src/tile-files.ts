import { writeDurable } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";

/** Files written at a time: two keep the disk busy and leave threads of the pool for appends. */
const PARALLEL_WRITES = 2;

/** Tiles and bundles as files under the log's directory, by their resource paths. */
export type TileFiles = {
  /** Writes all files and returns when their bytes and names are on stable storage. */
  write(list: readonly (readonly [path: string, bytes: Uint8Array])[]): Promise<void>;
  readonly read: (path: string) => Promise<Uint8Array | undefined>;
  /**
   * Removes the partial tiles or bundles that the full one at `path` has replaced. Leaves them where that fails: they
   * are true, and only in the way of space.
   */
  removePartials(path: string): Promise<void>;
};

/** {@link TileFiles} under `directory`. */
export function tileFiles(directory: string, files: FileOps): TileFiles {
  const known = new Set<string>([directory]);

  // Makes the directories of `path`; the ones whose names changed are added to `touched`.
  async function makeDirectories(path: string, touched: Set<string>): Promise<void> {
    const steps = path.split("/").slice(0, -1);
    let at = directory;
    for (const step of steps) {
      const parent = at;
      at = `${at}/${step}`;
      if (known.has(at)) continue;
      // Its name may be new, or left unsynced by a crash: either way it is made durable once per opening.
      await files.mkdir(at);
      touched.add(parent);
      known.add(at);
    }
    touched.add(at);
  }

  return {
    async write(list) {
      const touched = new Set<string>();
      for (const [path] of list) await makeDirectories(path, touched);
      try {
        await inParallel(list, ([path, bytes]) => writeDurable(files, `${directory}/${path}`, bytes));
        await inParallel([...touched], (path) => files.syncDirectory(path));
      } catch (error) {
        // Names that were not synced this time have to be synced the next time.
        known.clear();
        known.add(directory);
        throw error;
      }
    },
    read: (path) => files.readFile(`${directory}/${path}`),
    async removePartials(path) {
      const partials = `${directory}/${path}.p`;
      try {
        for (const name of await files.readdir(partials)) await files.unlink(`${partials}/${name}`);
        await files.rmdir(partials);
        known.delete(partials);
      } catch {
        // Most often there are none.
      }
    },
  };
}

async function inParallel<T>(list: readonly T[], run: (one: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < list.length) {
      const one = list[next++];
      if (one !== undefined) await run(one);
    }
  };
  // All workers are waited for before the first failure is passed on: none may still write afterwards.
  const settled = await Promise.allSettled(Array.from({ length: PARALLEL_WRITES }, worker));
  for (const result of settled) if (result.status === "rejected") throw result.reason;
}
