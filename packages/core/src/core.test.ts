import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nobleSuite } from "./noble.ts";
import * as core from "./index.ts";

const sha256 = (...parts: readonly Uint8Array[]): Uint8Array => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

describe("bytes", () => {
  test("hex, base64 and base64url round trip and agree with Buffer", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const buffer = Buffer.from(bytes);
        expect(core.bytesToHex(bytes)).toBe(buffer.toString("hex"));
        expect(core.bytesToBase64(bytes)).toBe(buffer.toString("base64"));
        expect(core.bytesToBase64Url(bytes)).toBe(buffer.toString("base64url"));
        expect(core.hexToBytes(core.bytesToHex(bytes))).toEqual(bytes);
        expect(core.base64ToBytes(core.bytesToBase64(bytes))).toEqual(bytes);
        expect(core.base64UrlToBytes(core.bytesToBase64Url(bytes))).toEqual(bytes);
      }),
    );
  });

  test("a byte string has one spelling only", () => {
    for (const text of ["0", "AB", "0g", "é0"]) expect(() => core.hexToBytes(text)).toThrow(/hexadecimal/);
    for (const text of ["QQ", "QR==", "QQ==\n", "Q===", "QQ=A", "_w=="]) {
      expect(() => core.base64ToBytes(text), text).toThrow(/base64/);
    }
    for (const text of ["Q", "QR", "+w", "QQ=="]) expect(() => core.base64UrlToBytes(text), text).toThrow(/base64url/);
  });

  test("UTF-8 agrees with the platform, and its decoder is strict", () => {
    const encoder = new TextEncoder();
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(core.utf8ToBytes(text)).toEqual(encoder.encode(text));
        expect(core.bytesToUtf8(encoder.encode(text))).toBe(decoder.decode(encoder.encode(text)));
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 8 }), (bytes) => {
        let platform: string | undefined;
        let ours: string | undefined;
        try {
          platform = decoder.decode(bytes);
        } catch {}
        try {
          ours = core.bytesToUtf8(bytes);
        } catch {}
        expect(ours).toBe(platform);
      }),
      { numRuns: 3000 },
    );
    expect(core.utf8ToBytes("\ud800x")).toEqual(encoder.encode("\ud800x"));
  });

  test("compareBytes and equalBytes", () => {
    expect(core.compareBytes(new Uint8Array([1]), new Uint8Array([1, 0]))).toBeLessThan(0);
    expect(core.compareBytes(new Uint8Array([2]), new Uint8Array([1, 0]))).toBeGreaterThan(0);
    expect(core.equalBytes(new Uint8Array([1, 2]), new Uint8Array([1, 2]))).toBe(true);
    expect(core.equalBytes(new Uint8Array([1, 2]), new Uint8Array([1, 3]))).toBe(false);
    expect(core.equalBytes(new Uint8Array([1]), new Uint8Array([1, 3]))).toBe(false);
  });
});

describe("merkle", () => {
  const naive = (leaves: readonly Uint8Array[]): Uint8Array => {
    if (leaves.length === 0) return sha256(new Uint8Array());
    if (leaves.length === 1) return leaves[0]!;
    let k = 1;
    while (k * 2 < leaves.length) k *= 2;
    return sha256(new Uint8Array([1]), naive(leaves.slice(0, k)), naive(leaves.slice(k)));
  };
  const leavesOf = (n: number) => Array.from({ length: n }, (_, i) => core.merkleLeaf(sha256, new Uint8Array([i])));

  test("the root is RFC 6962's for every size to 40, and every path leads to it", () => {
    for (let size = 0; size <= 40; size++) {
      const leaves = leavesOf(size);
      const root = core.merkleRoot(sha256, leaves);
      expect(root).toEqual(naive(leaves));
      const levels = core.merkleLevels(sha256, leaves);
      for (let index = 0; index < size; index++) {
        const path = core.merklePath(levels, index);
        expect(core.merkleRootFromPath(sha256, leaves[index]!, index, size, path)).toEqual(root);
        expect(core.merkleRootFromPath(sha256, leaves[index]!, index, size, [...path, root])).toBeUndefined();
        if (path.length > 0) {
          expect(core.merkleRootFromPath(sha256, leaves[index]!, index, size, path.slice(1))).toBeUndefined();
          const other = core.merkleRootFromPath(sha256, leaves[index]!, index ^ 1, size, path);
          if (other) expect(other).not.toEqual(root);
        }
      }
    }
  });

  test("impossible positions have no root", () => {
    const leaf = leavesOf(1)[0]!;
    for (const [index, size] of [
      [1, 1],
      [-1, 1],
      [0, 0],
      [0.5, 1],
      [2 ** 53, 2 ** 54],
    ] as const) {
      expect(core.merkleRootFromPath(sha256, leaf, index, size, [])).toBeUndefined();
    }
    expect(core.merkleRootFromPath(sha256, leaf, 0, 2, [new Uint8Array(31)])).toBeUndefined();
  });
});

describe("json", () => {
  test("canonical form sorts keys and prints numbers as ECMAScript does", () => {
    expect(core.bytesToUtf8(core.canonicalJson({ b: 1, a: [1e21, 0.1, "é"], c: null }))).toBe(
      '{"a":[1e+21,0.1,"é"],"b":1,"c":null}',
    );
    expect(() => core.canonicalJson(Number.NaN)).toThrow(expect.objectContaining({ code: "json_unencodable" }));
  });

  test("parsing is bounded in bytes and depth and refuses bad syntax", () => {
    expect(core.parseJson('{"a":[1,"[[[["]}', { maxDepth: 2 })).toEqual({ a: [1, "[[[["] });
    expect(core.parseJson('["\\"[["]', { maxDepth: 1 })).toEqual(['"[[']);
    expect(() => core.parseJson("[[[1]]]", { maxDepth: 2 })).toThrow(/nests 3 deep/);
    expect(() => core.parseJson("[1,2,3]", { maxBytes: 3 })).toThrow(/longer than 3/);
    for (const text of ["", "{", "[1,]", "NaN", "{'a':1}"]) {
      expect(() => core.parseJson(text)).toThrow(expect.objectContaining({ code: "json_invalid" }));
    }
    expect(() => core.parseJson(new Uint8Array([0x22, 0xff, 0x22]))).toThrow(/UTF-8/);
    expect(() => core.parseJson("[".repeat(1_000_000))).toThrow(/nests/);
  });
});

describe("errors", () => {
  test("carry code, hints, cause and the page that explains them", () => {
    const cause = new Error("inner");
    const error = new core.AssayError("some_code", "It broke.", { hints: ["Mend it."], cause });
    expect(error).toMatchObject({
      code: "some_code",
      message: "It broke.",
      hints: ["Mend it."],
      docsPath: "/errors/some_code.md",
      cause,
    });
    expect(core.isAssayError(error)).toBe(true);
    expect(core.isAssayError(new Error("x"))).toBe(false);
    expect(core.isAssayError(null)).toBe(false);
  });
});

describe("noble suite", () => {
  test("hashes like the platform and refuses malformed keys and signatures", async () => {
    const parts = [new Uint8Array([1, 2]), new Uint8Array([3])];
    expect(nobleSuite.sha256(...parts)).toEqual(sha256(...parts));
    for (const algorithm of ["ed25519", "p256", "ml-dsa-44"] as const) {
      expect(await nobleSuite.verify(algorithm, new Uint8Array(3), new Uint8Array(), new Uint8Array(5))).toBe(false);
    }
  });
});
