import type { CryptoSuite } from "@assay/core";
import { HASH_BYTES, nodeHash, tileOf, tilePath, TILE_WIDTH } from "@assay/tlog";
import type { HashReader } from "@assay/tlog";
import { corrupt } from "./errors.ts";

/** Full tiles kept with their inner nodes, 16 kB each: the upper levels of a billion entries and what is in use. */
const CACHED_TILES = 512;

// A heap: node 1 is the tile's root, node 256 + i its hash i.
type Expanded = (Uint8Array | undefined)[];

/**
 * A reader of subtree hashes that keeps full tiles, and every node computed from them, so that a proof of a popular
 * part of the tree costs no hashing. `tail` gives the partial tile at the right edge, `read` the bytes of a full one.
 */
export function cachedHashReader(
  suite: CryptoSuite,
  read: (path: string) => Promise<Uint8Array | undefined>,
): (size: number, tail: (level: number, index: number) => Uint8Array | undefined) => HashReader {
  const cache = new Map<string, Promise<Expanded>>();

  async function load(path: string): Promise<Expanded> {
    const bytes = await read(path);
    if (bytes?.length !== TILE_WIDTH * HASH_BYTES) throw corrupt(`The log lacks the full tile ${path}.`);
    return expand(bytes);
  }
  function full(path: string): Promise<Expanded> {
    const hit = cache.get(path);
    // Taken out and put back, so that the first in the map is the one unused for longest.
    if (hit) cache.delete(path);
    const tile = hit ?? load(path);
    cache.set(path, tile);
    if (!hit) tile.catch(() => cache.delete(path));
    if (cache.size > CACHED_TILES) {
      const [oldest] = cache.keys();
      if (oldest !== undefined) cache.delete(oldest);
    }
    return tile;
  }
  function node(tile: Expanded, at: number): Uint8Array {
    const known = tile[at];
    if (known) return known;
    if (at >= TILE_WIDTH) throw corrupt("A tile lacks a hash that the size of the tree needs.");
    return (tile[at] = nodeHash(node(tile, 2 * at), node(tile, 2 * at + 1), suite));
  }

  return (size, tail) => async (nodes) => {
    const places = nodes.map((one) => tileOf(one, size));
    const partial = new Map<string, Expanded>();
    const hashes: Uint8Array[] = [];
    for (const { tile, from, count } of places) {
      const path = tilePath(tile);
      let expanded = partial.get(path);
      if (!expanded && tile.width < TILE_WIDTH) {
        const bytes = tail(tile.level, tile.index);
        expanded = bytes ? expand(bytes) : undefined;
        if (expanded) partial.set(path, expanded);
      }
      // A tile that was partial at `size` may be full by now: the full one begins with the same hashes.
      expanded ??= await full(tilePath({ ...tile, width: TILE_WIDTH }));
      hashes.push(node(expanded, (TILE_WIDTH + from) / count));
    }
    return hashes;
  };
}

function expand(bytes: Uint8Array): Expanded {
  const tile: Expanded = Array.from({ length: 2 * TILE_WIDTH });
  for (let i = 0; i * HASH_BYTES < bytes.length; i++) {
    tile[TILE_WIDTH + i] = bytes.slice(i * HASH_BYTES, (i + 1) * HASH_BYTES);
  }
  return tile;
}
