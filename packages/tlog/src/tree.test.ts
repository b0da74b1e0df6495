import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesToHex, hexToBytes } from "@assay/core";
import { nobleSuite as suite } from "@assay/core/noble";
import { decodeBundle, encodeBundle, MAX_ENTRY_BYTES } from "./bundle.ts";
import { leafHash } from "./leaf.ts";
import { consistencyProof, expectedRoot, inclusionProof, verifyConsistency, verifyInclusion } from "./proof.ts";
import { MAX_TREE_SIZE, parseDecimal } from "./size.ts";
import { newTiles, parseTilePath, tileHashReader, tileOf, tilePath, tileWidth } from "./tiles.ts";
import type { TileReader } from "./tiles.ts";
import { createCompactTree, emptyRoot, rootAt, subtreesOf } from "./tree.ts";
import type { HashReader } from "./tree.ts";

// RFC 6962 section 2.1 written down as it stands, on another SHA-256 than the suite's: what all else is held against.
const sha = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const ZERO = Buffer.from([0]);
const ONE = Buffer.from([1]);
const splitAt = (n: number): number => 2 ** Math.ceil(Math.log2(n) - 1);
function mth(d: Uint8Array[]): Buffer {
  if (d.length === 0) return sha();
  if (d.length === 1) return sha(ZERO, d.at(0)!);
  const k = splitAt(d.length);
  return sha(ONE, mth(d.slice(0, k)), mth(d.slice(k)));
}
function naivePath(m: number, d: Uint8Array[]): Buffer[] {
  if (d.length <= 1) return [];
  const k = splitAt(d.length);
  return m < k
    ? [...naivePath(m, d.slice(0, k)), mth(d.slice(k))]
    : [...naivePath(m - k, d.slice(k)), mth(d.slice(0, k))];
}
function naiveSubproof(m: number, d: Uint8Array[], whole: boolean): Buffer[] {
  if (m === d.length) return whole ? [] : [mth(d)];
  const k = splitAt(d.length);
  return m <= k
    ? [...naiveSubproof(m, d.slice(0, k), whole), mth(d.slice(k))]
    : [...naiveSubproof(m - k, d.slice(k), false), mth(d.slice(0, k))];
}

const entriesOf = (n: number): Uint8Array[] => Array.from({ length: n }, (_, i) => Buffer.from(`entry ${i}`));
const hex = (hashes: readonly Uint8Array[]): string[] => hashes.map(bytesToHex);
const arrayReader =
  (entries: Uint8Array[]): HashReader =>
  (nodes) =>
    Promise.resolve(nodes.map(({ level, index }) => mth(entries.slice(index * 2 ** level, (index + 1) * 2 ** level))));

// Tiles of a tree, kept by path, as a log would have written them.
function tilesFor(entries: Uint8Array[]): { files: Map<string, Uint8Array>; read: TileReader } {
  const levels = new Map<string, Uint8Array>();
  const tree = createCompactTree(suite);
  for (const entry of entries) {
    tree.append(leafHash(entry, suite), (level, index, hash) => levels.set(`${level}/${index}`, hash));
  }
  const files = new Map<string, Uint8Array>();
  for (const tile of newTiles(0, entries.length)) {
    const hashes = Array.from({ length: tile.width }, (_, i) =>
      levels.get(`${tile.level * 8}/${tile.index * 256 + i}`)!,
    );
    files.set(tilePath(tile), Buffer.concat(hashes));
  }
  const read: TileReader = (tile) => {
    const bytes = files.get(tilePath(tile));
    return bytes ? Promise.resolve(bytes) : Promise.reject(new Error(`no ${tilePath(tile)}`));
  };
  return { files, read };
}

const code = (run: () => unknown): string => {
  try {
    run();
    return "accepted";
  } catch (error) {
    return (error as { code: string }).code;
  }
};
const tally = (size: number): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { level, width } of newTiles(0, size)) {
    const name = width === 256 ? `full ${level}` : `partial ${level} of ${width}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
};
const refuse = (...args: Parameters<typeof verifyInclusion>): void => expect(verifyInclusion(...args)).toBe(false);

describe("roots", () => {
  test("the eight trees of the Certificate Transparency reference tests", () => {
    const inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const roots = [
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
      "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
      "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
      "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const tree = createCompactTree(suite);
    expect(bytesToHex(tree.root())).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (const [i, input] of inputs.entries()) {
      tree.append(leafHash(hexToBytes(input), suite));
      expect(bytesToHex(tree.root())).toBe(roots[i]);
    }
  });

  test("the compact tree equals the definition at every size, also when started again from its edge", () => {
    const entries = entriesOf(70);
    let tree = createCompactTree(suite);
    for (let n = 1; n <= entries.length; n++) {
      tree.append(leafHash(entries.at(n - 1)!, suite));
      expect(bytesToHex(tree.root())).toBe(bytesToHex(mth(entries.slice(0, n))));
      tree = createCompactTree(suite, tree.size(), tree.edge());
    }
  });

  test("the listener hears of every complete subtree once, with its hash", () => {
    const entries = entriesOf(37);
    const heard = new Map<string, string>();
    const tree = createCompactTree(suite);
    for (const entry of entries) {
      tree.append(leafHash(entry, suite), (level, index, hash) => {
        expect(heard.has(`${level}/${index}`)).toBe(false);
        heard.set(`${level}/${index}`, bytesToHex(hash));
      });
    }
    expect(heard.size).toBe(37 + 18 + 9 + 4 + 2 + 1);
    for (const [name, hash] of heard) {
      const [level = 0, index = 0] = name.split("/").map(Number);
      expect(hash).toBe(bytesToHex(mth(entries.slice(index * 2 ** level, (index + 1) * 2 ** level))));
    }
  });

  test("refuses an edge that does not belong to the size, and impossible sizes", () => {
    const hash = new Uint8Array(32);
    expect(code(() => createCompactTree(suite, 3, [hash]))).toBe("tlog_edge");
    expect(code(() => createCompactTree(suite, 1, [new Uint8Array(31)]))).toBe("tlog_edge");
    expect(code(() => createCompactTree(suite, -1))).toBe("tlog_range");
    expect(code(() => createCompactTree(suite, 2 ** 53))).toBe("tlog_range");
    expect(code(() => createCompactTree(suite, 1.5))).toBe("tlog_range");
    expect(subtreesOf(0, MAX_TREE_SIZE)).toHaveLength(53);
  });
});

describe("inclusion", () => {
  test("every path of every tree up to 40 entries equals the definition and verifies", async () => {
    for (let n = 1; n <= 40; n++) {
      const entries = entriesOf(n);
      const root = mth(entries);
      for (let i = 0; i < n; i++) {
        const path = await inclusionProof(i, n, arrayReader(entries), suite);
        expect(hex(path)).toEqual(hex(naivePath(i, entries)));
        expect(verifyInclusion(i, n, leafHash(entries.at(i)!, suite), path, root, suite)).toBe(true);
      }
    }
  });

  test("refuses every other position, size, leaf, root and any changed path", async () => {
    const n = 23;
    const entries = entriesOf(n);
    const root = mth(entries);
    for (let i = 0; i < n; i++) {
      const path = naivePath(i, entries);
      const leaf = leafHash(entries.at(i)!, suite);
      for (let other = 0; other < n; other++) if (other !== i) refuse(other, n, leaf, path, root, suite);
      refuse(i, n, leafHash(entries.at((i + 1) % n)!, suite), path, root, suite);
      refuse(i, n, leaf, path.slice(1), root, suite);
      refuse(i, n, leaf, [...path, new Uint8Array(32)], root, suite);
      refuse(i, n, leaf, [...path].reverse(), root, suite);
      expect(verifyInclusion(i, n, leaf, path, new Uint8Array(32), suite)).toBe(false);
      refuse(i, n, leaf, path, root.subarray(1), suite);
      refuse(i, n, leaf.slice(1), path, root, suite);
      refuse(i, n, leaf, [path.at(0)!.subarray(1), ...path.slice(1)], root, suite);
    }
  });

  test("refuses positions that no tree has", () => {
    const hash = new Uint8Array(32);
    const root = (index: number, size: number, length: number): Uint8Array | undefined =>
      expectedRoot(
        index,
        size,
        hash,
        Array.from({ length }, () => hash),
        suite,
      );
    expect(root(0, 0, 0)).toBeUndefined();
    expect(root(1, 1, 0)).toBeUndefined();
    expect(root(-1, 1, 0)).toBeUndefined();
    expect(root(0.5, 2, 1)).toBeUndefined();
    expect(root(0, 2 ** 53, 53)).toBeUndefined();
    expect(root(0, Number.NaN, 0)).toBeUndefined();
    expect(root(0, 1, 0)).toEqual(hash);
    expect(root(0, MAX_TREE_SIZE, 53)).toHaveLength(32);
    expect(root(0, MAX_TREE_SIZE, 64)).toBeUndefined();
  });

  test("making one is refused outside the tree", async () => {
    const read = arrayReader(entriesOf(3));
    await expect(inclusionProof(3, 3, read, suite)).rejects.toMatchObject({ code: "tlog_range" });
    await expect(inclusionProof(0, 0, read, suite)).rejects.toMatchObject({ code: "tlog_range" });
    await expect(inclusionProof(-1, 3, read, suite)).rejects.toMatchObject({ code: "tlog_range" });
    await expect(inclusionProof(0, 2 ** 53, read, suite)).rejects.toMatchObject({ code: "tlog_range" });
  });
});

describe("consistency", () => {
  test("every pair of sizes up to 33 equals the definition and verifies", async () => {
    const entries = entriesOf(33);
    const roots = Array.from({ length: 34 }, (_, n) => mth(entries.slice(0, n)));
    for (let n = 0; n <= 33; n++) {
      for (let m = 0; m <= n; m++) {
        const proof = await consistencyProof(m, n, arrayReader(entries), suite);
        expect(hex(proof)).toEqual(m > 0 ? hex(naiveSubproof(m, entries.slice(0, n), true)) : []);
        expect(verifyConsistency({ size: m, root: roots.at(m)! }, { size: n, root: roots.at(n)! }, proof, suite)).toBe(
          true,
        );
      }
    }
  });

  test("refuses other roots, other sizes and changed proofs", () => {
    const entries = entriesOf(21);
    const at = (n: number): { size: number; root: Uint8Array } => ({ size: n, root: mth(entries.slice(0, n)) });
    for (let n = 2; n <= 21; n++) {
      for (let m = 1; m < n; m++) {
        const proof = naiveSubproof(m, entries.slice(0, n), true);
        const refuse = (...args: Parameters<typeof verifyConsistency>): void =>
          expect(verifyConsistency(...args), `${m} ${n}`).toBe(false);
        refuse({ size: m, root: mth(entries.slice(1, m + 1)) }, at(n), proof, suite);
        refuse(at(m), { size: n, root: new Uint8Array(32) }, proof, suite);
        refuse(at(m), at(n), proof.slice(0, -1), suite);
        refuse(at(m), at(n), proof.slice(1), suite);
        refuse(at(m), at(n), [...proof, new Uint8Array(32)], suite);
        refuse(at(m), at(n), [], suite);
        refuse(at(n), at(m), proof, suite);
        for (const i of proof.keys()) {
          const changed = proof.map((hash, k) => (k === i ? hash.map((byte, b) => (b === 7 ? byte ^ 1 : byte)) : hash));
          refuse(at(m), at(n), changed, suite);
        }
      }
    }
  });

  test("edges: empty trees, equal sizes, impossible sizes, too many or short hashes", () => {
    const empty = { size: 0, root: emptyRoot(suite) };
    const some = { size: 3, root: mth(entriesOf(3)) };
    const hash = new Uint8Array(32);
    expect(verifyConsistency(empty, empty, [], suite)).toBe(true);
    expect(verifyConsistency(empty, some, [], suite)).toBe(true);
    expect(verifyConsistency(some, some, [], suite)).toBe(true);
    expect(verifyConsistency(empty, some, [hash], suite)).toBe(false);
    expect(verifyConsistency(some, some, [hash], suite)).toBe(false);
    expect(verifyConsistency({ size: 0, root: hash }, some, [], suite)).toBe(false);
    expect(verifyConsistency({ size: 0, root: hash }, { size: 0, root: hash }, [], suite)).toBe(false);
    expect(verifyConsistency(some, { size: 3, root: hash }, [], suite)).toBe(false);
    expect(verifyConsistency({ ...some, size: -1 }, some, [], suite)).toBe(false);
    expect(verifyConsistency(some, { ...some, size: 2 ** 53 }, [], suite)).toBe(false);
    expect(verifyConsistency(some, { size: 4, root: hash.subarray(1) }, [hash, hash], suite)).toBe(false);
    expect(verifyConsistency(some, { size: 4, root: hash }, [hash.subarray(1), hash, hash], suite)).toBe(false);
    const many = Array.from({ length: 64 }, () => hash);
    expect(verifyConsistency({ size: 3, root: hash }, { size: MAX_TREE_SIZE, root: hash }, many, suite)).toBe(false);
  });

  test("making one is refused backwards", async () => {
    const read = arrayReader(entriesOf(3));
    await expect(consistencyProof(3, 2, read, suite)).rejects.toMatchObject({ code: "tlog_range" });
    await expect(consistencyProof(-1, 2, read, suite)).rejects.toMatchObject({ code: "tlog_range" });
  });
});

describe("tiles", () => {
  test("paths: the specification's example and the grammar, both ways", () => {
    expect(tilePath({ level: 0, index: 1234067, width: 256 })).toBe("tile/0/x001/x234/067");
    expect(tilePath({ level: "entries", index: 0, width: 17 })).toBe("tile/entries/000.p/17");
    expect(parseTilePath("tile/63/999.p/255")).toEqual({ level: 63, index: 999, width: 255 });
    fc.assert(
      fc.property(
        fc.oneof(fc.constant("entries" as const), fc.nat(63)),
        fc.maxSafeNat(),
        fc.integer({ min: 1, max: 256 }),
        (level, index, width) => {
          expect(parseTilePath(tilePath({ level, index, width }))).toEqual({ level, index, width });
        },
      ),
    );
  });

  test.each([
    "tile/0/0",
    "tile/0/00",
    "tile/0/0000",
    "tile/00/000",
    "tile/64/000",
    "tile/-1/000",
    "tile/x/000",
    "tile/0/x000/001",
    "tile/0/001/002",
    "tile/0/x001/x2/003",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/01",
    "tile/0/000.p/",
    "tile/0/000.p/1/",
    "/tile/0/000",
    "tile/0/000\n",
    "tile/0/../000",
    "tile/entries/x999/x999/x999/x999/x999/999",
    "checkpoint",
    "",
  ])("refuses the path %j", (path) => {
    expect(parseTilePath(path)).toBeUndefined();
  });

  test("refuses to name tiles that do not exist", () => {
    expect(() => tilePath({ level: 64, index: 0, width: 1 })).toThrow(/no tile/);
    expect(() => tilePath({ level: 0, index: 0, width: 0 })).toThrow(/no tile/);
    expect(() => tilePath({ level: 0, index: 0, width: 257 })).toThrow(/no tile/);
    expect(() => tilePath({ level: 0, index: -1, width: 1 })).toThrow(/index/);
  });

  test("the tiles of a tree of 70,000 and of 256, as the specification counts them", () => {
    expect(tally(70_000)).toEqual({
      "full 0": 273,
      "partial 0 of 112": 1,
      "full 1": 1,
      "partial 1 of 17": 1,
      "partial 2 of 1": 1,
    });
    expect(tally(256)).toEqual({ "full 0": 1, "partial 1 of 1": 1 });
    expect(tally(0)).toEqual({});
    expect(tileWidth(0, 1, 256)).toBe(0);
    expect([...newTiles(300, 300)]).toEqual([]);
    expect([...newTiles(300, 301)]).toEqual([{ level: 0, index: 1, width: 45 }]);
    expect([...newTiles(511, 512)]).toEqual([
      { level: 0, index: 1, width: 256 },
      { level: 1, index: 0, width: 2 },
    ]);
  });

  test("proofs from tiles equal the definition, across tile borders", async () => {
    const entries = entriesOf(66_000);
    const { read } = tilesFor(entries);
    const hashes = entries.map((entry) => sha(ZERO, entry));
    // The definition over leaf hashes, memoised by range, so that 66,000 entries stay quick.
    const memo = new Map<string, Buffer>();
    const over = (from: number, to: number): Buffer => {
      if (to - from === 1) return hashes.at(from)!;
      const name = `${from}-${to}`;
      let hash = memo.get(name);
      if (!hash) {
        const k = splitAt(to - from);
        hash = sha(ONE, over(from, from + k), over(from + k, to));
        memo.set(name, hash);
      }
      return hash;
    };
    for (const size of [1, 255, 256, 257, 65_535, 65_536, 65_537, 66_000]) {
      const reader = tileHashReader(66_000, read, suite);
      expect(bytesToHex(await rootAt(size, reader, suite))).toBe(bytesToHex(over(0, size)));
      for (const index of [0, 1, 254, 255, 256, 65_535, 65_536, size - 1].filter((i) => i < size)) {
        const path = await inclusionProof(index, size, reader, suite);
        expect(verifyInclusion(index, size, hashes.at(index) ?? ZERO, path, over(0, size), suite)).toBe(true);
      }
      const proof = await consistencyProof(size, 66_000, reader, suite);
      expect(
        verifyConsistency({ size, root: over(0, size) }, { size: 66_000, root: over(0, 66_000) }, proof, suite),
      ).toBe(true);
    }
  });

  test("refuses nodes beyond the tree and tiles of the wrong length", async () => {
    const { read } = tilesFor(entriesOf(300));
    const reader = tileHashReader(300, read, suite);
    await expect(reader([{ level: 0, index: 300 }])).rejects.toMatchObject({ code: "tlog_range" });
    await expect(reader([{ level: 9, index: 0 }])).rejects.toMatchObject({ code: "tlog_range" });
    expect(() => tileOf({ level: 3, index: 37 }, 300)).toThrow(/no subtree/);
    const short = tileHashReader(300, () => Promise.resolve(new Uint8Array(31)), suite);
    await expect(short([{ level: 0, index: 0 }])).rejects.toMatchObject({ code: "tlog_tile_malformed" });
    const failing = tileHashReader(300, () => Promise.reject(new Error("gone")), suite);
    await expect(
      failing([
        { level: 0, index: 0 },
        { level: 0, index: 299 },
      ]),
    ).rejects.toThrow("gone");
  });
});

describe("bundles", () => {
  test("round trip", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 600 }), { minLength: 1, maxLength: 256 }), (entries) => {
        expect(hex(decodeBundle(encodeBundle(entries), entries.length))).toEqual(hex(entries));
      }),
      { numRuns: 30 },
    );
  });

  test("the longest entry fits, one byte more does not; 1 to 256 entries", () => {
    const longest = new Uint8Array(MAX_ENTRY_BYTES);
    expect(decodeBundle(encodeBundle([longest]), 1)[0]).toHaveLength(65_535);
    expect(() => encodeBundle([new Uint8Array(MAX_ENTRY_BYTES + 1)])).toThrow(/65536 bytes/);
    expect(() => encodeBundle([])).toThrow(/0 entries/);
    expect(() => encodeBundle(Array.from({ length: 257 }, () => new Uint8Array()))).toThrow(/257 entries/);
  });

  test("refuses truncation, another width and trailing bytes", () => {
    const bytes = encodeBundle([Buffer.from("one"), Buffer.from("two")]);
    for (let cut = 0; cut < bytes.length; cut++) {
      expect(() => decodeBundle(bytes.subarray(0, cut), 2)).toThrow(/malformed/);
    }
    expect(() => decodeBundle(bytes, 1)).toThrow(/exactly 1/);
    expect(() => decodeBundle(bytes, 3)).toThrow(/exactly 3/);
    expect(() => decodeBundle(Buffer.concat([bytes, Buffer.from([0])]), 2)).toThrow(/malformed/);
  });
});

test("decimals have one spelling and end at 2^53 - 1", () => {
  expect(parseDecimal("0")).toBe(0);
  expect(parseDecimal("9007199254740991")).toBe(MAX_TREE_SIZE);
  for (const text of [
    "",
    "00",
    "01",
    "-1",
    "+1",
    "1 ",
    " 1",
    "1.0",
    "1e3",
    "0x1",
    "9007199254740992",
    "99999999999999999",
    "１",
  ]) {
    expect([text, parseDecimal(text)]).toEqual([text, undefined]);
  }
});
