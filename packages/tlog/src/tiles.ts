import { AssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { nodeHash } from "./leaf.ts";
import { assertSize, MAX_TREE_SIZE } from "./size.ts";
import { HASH_BYTES } from "./tree.ts";
import type { HashReader, TreeNode } from "./tree.ts";

/** Levels of the binary tree in one tile, fixed by C2SP tlog-tiles. */
export const TILE_HEIGHT = 8;
/** Hashes in a full tile, and entries in a full bundle. */
export const TILE_WIDTH = 256;
/** Highest tile level in the C2SP path grammar. */
export const MAX_TILE_LEVEL = 63;

/** A tile of hashes (`level` 0 and up) or a bundle of entries, with how many of its 256 places are filled. */
export type TileId = {
  readonly level: number | "entries";
  readonly index: number;
  /** 1 to 256; below 256 the tile is partial. */
  readonly width: number;
};

/** Bytes of one tile, `width` hashes of 32 bytes each. Rejects when the tile cannot be had. */
export type TileReader = (tile: TileId) => Promise<Uint8Array>;

/** The resource name of a tile: `tile/0/x001/x234/067` or `tile/entries/000.p/17` (tlog-tiles, "Merkle Tree"). */
export function tilePath(tile: TileId): string {
  const { level, index, width } = tile;
  const levelFits = level === "entries" || (Number.isInteger(level) && level >= 0 && level <= MAX_TILE_LEVEL);
  if (!levelFits || !Number.isInteger(width) || width < 1 || width > TILE_WIDTH) {
    throw new AssayError("tlog_range", `There is no tile at level ${level} of width ${width}.`);
  }
  assertSize(index, "tile index");
  let rest = Math.floor(index / 1000);
  let path = String(index % 1000).padStart(3, "0");
  for (; rest > 0; rest = Math.floor(rest / 1000)) path = `x${String(rest % 1000).padStart(3, "0")}/${path}`;
  return `tile/${level}/${path}${width === TILE_WIDTH ? "" : `.p/${width}`}`;
}

// Six groups of three digits hold every index below 2^53.
const TILE_PATH = /^tile\/(entries|0|[1-9][0-9]?)\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/;

/** The tile that `path` names, or `undefined` for every other spelling, leading zero groups included. */
export function parseTilePath(path: string): TileId | undefined {
  const match = TILE_PATH.exec(path);
  if (!match) return undefined;
  const [, levelText = "", indexText = "", widthText] = match;
  const level = levelText === "entries" ? "entries" : Number(levelText);
  const index = Number(indexText.replace(/[x/]/g, ""));
  const width = widthText === undefined ? TILE_WIDTH : Number(widthText);
  if (level !== "entries" && level > MAX_TILE_LEVEL) return undefined;
  if (index > MAX_TREE_SIZE || (widthText !== undefined && width >= TILE_WIDTH)) return undefined;
  const tile: TileId = { level, index, width };
  return tilePath(tile) === path ? tile : undefined;
}

/** How many hashes tile `index` of `level` has in a tree of `size` entries: 0 when there is no such tile. */
export function tileWidth(level: number, index: number, size: number): number {
  const hashes = Math.floor(size / TILE_WIDTH ** level);
  return Math.max(0, Math.min(TILE_WIDTH, hashes - index * TILE_WIDTH));
}

/**
 * Every hash tile of a tree of `newSize` entries that a tree of `oldSize` does not have in the same width, lowest
 * level first. With `oldSize` 0 these are all tiles of the tree.
 */
export function* newTiles(oldSize: number, newSize: number): Generator<TileId & { readonly level: number }> {
  assertSize(oldSize, "old tree size");
  assertSize(newSize, "new tree size");
  for (let level = 0, unit = 1; unit <= newSize; level++, unit *= TILE_WIDTH) {
    const before = Math.floor(oldSize / unit);
    const after = Math.floor(newSize / unit);
    if (before === after) continue;
    for (let index = Math.floor(before / TILE_WIDTH); index * TILE_WIDTH < after; index++) {
      yield { level, index, width: Math.min(TILE_WIDTH, after - index * TILE_WIDTH) };
    }
  }
}

/** The tile that holds what `node` is computed from, in a tree of `size` entries, and where in it. */
export function tileOf(
  node: TreeNode,
  size: number,
): { tile: TileId & { level: number }; from: number; count: number } {
  const level = Math.floor(node.level / TILE_HEIGHT);
  const count = 2 ** (node.level - level * TILE_HEIGHT);
  const first = node.index * count;
  const index = Math.floor(first / TILE_WIDTH);
  const width = tileWidth(level, index, size);
  const from = first - index * TILE_WIDTH;
  if (from + count > width) {
    throw new AssayError(
      "tlog_range",
      `A tree of ${size} entries has no subtree ${node.index} at level ${node.level}.`,
    );
  }
  return { tile: { level, index, width }, from, count };
}

/** Hash over `count` (a power of two) neighbouring hashes of a tile, beginning with hash `from`. */
export function hashInTile(bytes: Uint8Array, from: number, count: number, suite: CryptoSuite): Uint8Array {
  let row: Uint8Array[] = [];
  for (let i = from; i < from + count; i++) row.push(bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
  while (row.length > 1) {
    const next: Uint8Array[] = [];
    for (let i = 0; i + 1 < row.length; i += 2) {
      const [left, right] = [row[i], row[i + 1]];
      if (left && right) next.push(nodeHash(left, right, suite));
    }
    row = next;
  }
  const [hash] = row;
  if (hash?.length !== HASH_BYTES) {
    throw new AssayError(
      "tlog_tile_malformed",
      `A tile of ${bytes.length} bytes lacks hashes ${from} to ${from + count - 1}.`,
    );
  }
  return hash.slice();
}

/**
 * Reads subtree hashes of a tree of `size` entries from its tiles, each tile once per call. The tiles are not
 * authenticated: a proof built from them stands or falls with the signed root that its verifier compares to.
 * Rejects with `tlog_tile_malformed` for a tile of the wrong length and `tlog_range` beyond the tree.
 */
export function tileHashReader(size: number, readTile: TileReader, suite: CryptoSuite): HashReader {
  return async (nodes) => {
    const places = nodes.map((node) => tileOf(node, size));
    const tiles = new Map<string, Promise<Uint8Array>>();
    for (const { tile } of places) {
      const path = tilePath(tile);
      if (!tiles.has(path)) tiles.set(path, readChecked(tile, readTile));
    }
    // Every read is awaited before any hash is taken, so that no rejection is left without a handler.
    const bytes = new Map<string, Uint8Array>();
    const settled = await Promise.all([...tiles].map(async ([path, read]) => [path, await read] as const));
    for (const [path, value] of settled) bytes.set(path, value);
    return places.map(({ tile, from, count }) =>
      hashInTile(bytes.get(tilePath(tile)) ?? new Uint8Array(), from, count, suite),
    );
  };
}

async function readChecked(tile: TileId, readTile: TileReader): Promise<Uint8Array> {
  const bytes = await readTile(tile);
  if (bytes.length === tile.width * HASH_BYTES) return bytes;
  throw new AssayError("tlog_tile_malformed", `Tile ${tilePath(tile)} has ${bytes.length} bytes.`, {
    hints: [`A tile of ${tile.width} hashes has ${tile.width * HASH_BYTES} bytes.`],
  });
}
