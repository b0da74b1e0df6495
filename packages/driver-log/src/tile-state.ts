import type { CryptoSuite } from "@assay/core";
import {
  createCompactTree,
  decodeBundle,
  encodeBundle,
  HASH_BYTES,
  leafHash,
  subtreesOf,
  tileHashReader,
  tilePath,
  tileWidth,
  TILE_HEIGHT,
  TILE_WIDTH,
} from "@assay/tlog";
import type { TileReader } from "@assay/tlog";
import { corrupt } from "./errors.ts";

const TILE_BYTES = TILE_WIDTH * HASH_BYTES;

/**
 * The tree with the right edge of its tiles: everything needed to go on from a size, and nothing else. Hashes and
 * entries below the edge are in files.
 */
export type TileState = {
  readonly size: () => number;
  readonly root: () => Uint8Array;
  /** Adds an entry, whose bytes it keeps. Full tiles and bundles come out of {@link drain}. */
  append(entry: Uint8Array): void;
  /** Full tiles and bundles since the last call, by resource path, bundles first. */
  drain(): (readonly [path: string, bytes: Uint8Array])[];
  /** The partial tiles and bundle at the right edge, by resource path. */
  partials(): (readonly [path: string, bytes: Uint8Array])[];
  /** The hashes of the right edge's tile at `level`, when `index` is that tile. */
  readonly tail: (level: number, index: number) => Uint8Array | undefined;
  /** An independent copy, to work on and keep only if the work succeeds. */
  copy(): TileState;
};

type Parts = {
  readonly size: number;
  readonly edge: readonly Uint8Array[];
  readonly tails: Buffer[];
  readonly bundle: Uint8Array[];
};

/** The state of an empty log. */
export function emptyTileState(suite: CryptoSuite): TileState {
  return build({ size: 0, edge: [], tails: [], bundle: [] }, suite);
}

/**
 * The state at `size`, from the partial tiles and bundle that a checkpoint of that size left on disk. Reads at most
 * one file per tile level, whatever the size. Throws `log_corrupt` when one is missing or has another length, or
 * when the entries of the last bundle do not hash to the last tile; the caller compares the root.
 */
export async function loadTileState(
  size: number,
  readTile: (path: string) => Promise<Uint8Array | undefined>,
  suite: CryptoSuite,
): Promise<TileState> {
  const read: TileReader = async (tile) => {
    const path = tilePath(tile);
    const bytes = await readTile(path);
    if (!bytes) throw corrupt(`The log lacks ${path}, which its checkpoint of ${size} entries needs.`);
    return bytes;
  };
  const tails: Buffer[] = [];
  for (let level = 0, unit = 1; unit <= size; level++, unit *= TILE_WIDTH) {
    const width = Math.floor(size / unit) % TILE_WIDTH;
    const tail = Buffer.alloc(TILE_BYTES);
    if (width > 0) {
      const bytes = await read({ level, index: Math.floor(size / unit / TILE_WIDTH), width });
      if (bytes.length !== width * HASH_BYTES) throw corrupt(`A tile of level ${level} has ${bytes.length} bytes.`);
      tail.set(bytes);
    }
    tails.push(tail);
  }
  const fromTails: TileReader = (tile) =>
    Promise.resolve((tails[tile.level as number] ?? Buffer.alloc(0)).subarray(0, tile.width * HASH_BYTES));
  const edge = await tileHashReader(size, fromTails, suite)(subtreesOf(0, size));
  const width = size % TILE_WIDTH;
  const index = Math.floor(size / TILE_WIDTH);
  let bundle: Uint8Array[] = [];
  if (width > 0) {
    const bytes = await read({ level: "entries", index, width });
    try {
      bundle = decodeBundle(bytes, width);
    } catch {
      throw corrupt(`The entry bundle ${index} is malformed.`);
    }
    for (const [i, entry] of bundle.entries()) {
      const hash = tails[0]?.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES);
      if (!hash?.equals(leafHash(entry, suite)))
        throw corrupt(`Entry ${index * TILE_WIDTH + i} does not hash to its tile.`);
    }
  }
  return build({ size, edge, tails, bundle }, suite);
}

function build(parts: Parts, suite: CryptoSuite): TileState {
  const tree = createCompactTree(suite, parts.size, parts.edge);
  const { tails } = parts;
  let { bundle } = parts;
  let full: (readonly [string, Uint8Array])[] = [];
  const onNode = (level: number, index: number, hash: Uint8Array): void => {
    if (level % TILE_HEIGHT !== 0) return;
    const tileLevel = level / TILE_HEIGHT;
    const tail = (tails[tileLevel] ??= Buffer.alloc(TILE_BYTES));
    const place = index % TILE_WIDTH;
    tail.set(hash, place * HASH_BYTES);
    if (place !== TILE_WIDTH - 1) return;
    const tile = { level: tileLevel, index: (index - place) / TILE_WIDTH, width: TILE_WIDTH };
    full.push([tilePath(tile), Uint8Array.from(tail)]);
  };
  const tail = (level: number, index: number): Uint8Array | undefined => {
    const width = tileWidth(level, index, tree.size());
    return width > 0 && width < TILE_WIDTH ? tails[level]?.subarray(0, width * HASH_BYTES) : undefined;
  };
  return {
    size: () => tree.size(),
    root: () => tree.root(),
    append(entry) {
      tree.append(leafHash(entry, suite), onNode);
      bundle.push(entry);
      if (bundle.length < TILE_WIDTH) return;
      const index = tree.size() / TILE_WIDTH - 1;
      full.push([tilePath({ level: "entries", index, width: TILE_WIDTH }), encodeBundle(bundle)]);
      bundle = [];
    },
    drain() {
      const drained = full;
      full = [];
      return drained;
    },
    partials() {
      const size = tree.size();
      const list: (readonly [string, Uint8Array])[] = [];
      const width = size % TILE_WIDTH;
      const index = Math.floor(size / TILE_WIDTH);
      if (width > 0) list.push([tilePath({ level: "entries", index, width }), encodeBundle(bundle)]);
      for (let level = 0, unit = 1; unit <= size; level++, unit *= TILE_WIDTH) {
        const index = Math.floor(size / unit / TILE_WIDTH);
        const bytes = tail(level, index);
        if (bytes) list.push([tilePath({ level, index, width: bytes.length / HASH_BYTES }), Uint8Array.from(bytes)]);
      }
      return list;
    },
    tail,
    copy: () =>
      build(
        { size: tree.size(), edge: tree.edge(), tails: tails.map((one) => Buffer.from(one)), bundle: [...bundle] },
        suite,
      ),
  };
}
