import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nobleSuite } from "@assay/core/noble";
import type { ManifestInput } from "./manifest.ts";
import { buildManifest, MANIFEST_LIMITS, mediaTypeOf, parseManifest, verifyManifest } from "./manifest.ts";
import { MAX_PATH_BYTES, MAX_SEGMENT_BYTES, pathFault } from "./path.ts";

const sha = (text: string): string => createHash("sha256").update(text).digest("hex");
const file = (path: string, sizeBytes = 3) => ({ path, sizeBytes, sha256: sha(path) });
const input: ManifestInput = {
  files: [file("model.onnx"), file("README.md"), file("data/w.bin"), file("config.json")],
  entry: "model.onnx",
  task: "image-classification",
  preprocessingSha256: sha("pre"),
};
const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const built = buildManifest(nobleSuite, input);
const code = (expected: string) => expect.objectContaining({ code: expected });

describe("buildManifest", () => {
  test("gives an OCI manifest of a ModelPack artifact whose digest is that of its bytes", () => {
    const text = new TextDecoder().decode(built.bytes);
    const value = JSON.parse(text) as Record<string, unknown>;
    expect(built.digest).toBe(sha(text));
    expect(value["schemaVersion"]).toBe(2);
    expect(value["mediaType"]).toBe("application/vnd.oci.image.manifest.v1+json");
    expect(value["artifactType"]).toBe("application/vnd.cncf.model.manifest.v1+json");
    expect(value["config"]).toEqual({
      mediaType: "application/vnd.cncf.model.config.v1+json",
      digest: `sha256:${sha(new TextDecoder().decode(built.configBytes))}`,
      size: built.configBytes.length,
    });
    expect(value["layers"]).toEqual(
      [
        ["README.md", "doc"],
        ["config.json", "weight.config"],
        ["data/w.bin", "weight"],
        ["model.onnx", "weight"],
      ].map(([path, kind]) => ({
        mediaType: `application/vnd.cncf.model.${kind}.v1.raw`,
        digest: `sha256:${sha(path ?? "")}`,
        size: 3,
        annotations: { "org.cncf.model.filepath": path },
      })),
    );
    const config = JSON.parse(new TextDecoder().decode(built.configBytes)) as { modelfs: { diffIds: string[] } };
    expect(config.modelfs.diffIds).toHaveLength(4);
    // Canonical JSON: sorted keys and no spaces.
    expect(text.startsWith('{"annotations":{"assay.model.entry":"model.onnx"')).toBe(true);
  });

  test("does not depend on the order of files, and any change changes the digest", () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([...input.files], { minLength: 4 }), (files) => {
        expect(buildManifest(nobleSuite, { ...input, files }).digest).toBe(built.digest);
      }),
    );
    const { task: _, ...untasked } = input;
    const others = [
      { ...input, files: input.files.map((f) => ({ ...f, sizeBytes: f.sizeBytes + 1 })) },
      { ...input, files: input.files.slice(0, 3) },
      { ...input, preprocessingSha256: sha("other") },
      untasked,
    ].map((other) => buildManifest(nobleSuite, other).digest);
    expect(new Set([...others, built.digest]).size).toBe(5);
  });

  test.each<[string, Partial<ManifestInput>, string]>([
    ["no files", { files: [] }, "manifest_invalid"],
    ["an entry that is missing", { entry: "other.onnx" }, "manifest_invalid"],
    ["an entry that is no model", { entry: "README.md" }, "manifest_invalid"],
    ["a path twice", { files: [file("model.onnx"), file("model.onnx")] }, "manifest_invalid"],
    ["paths that differ in case", { files: [file("model.onnx"), file("MODEL.onnx")] }, "manifest_invalid"],
    [
      "paths that differ in case beyond ASCII",
      { files: [file("model.onnx"), file("\u00c9"), file("e\u0301")] },
      "manifest_invalid",
    ],
    ["a file that is a folder too", { files: [file("model.onnx"), file("a"), file("a/b")] }, "manifest_invalid"],
    ["a path that climbs out", { files: [file("model.onnx"), file("../x")] }, "manifest_invalid"],
    ["a negative size", { files: [file("model.onnx", -1)] }, "manifest_invalid"],
    ["a fraction of a byte", { files: [file("model.onnx", 1.5)] }, "manifest_invalid"],
    [
      "a digest in capitals",
      { files: [{ ...file("model.onnx"), sha256: sha("x").toUpperCase() }] },
      "manifest_invalid",
    ],
    ["a short digest", { files: [{ ...file("model.onnx"), sha256: "00" }] }, "manifest_invalid"],
    [
      "an archive's media type",
      { files: [{ ...file("model.onnx"), mediaType: "application/vnd.cncf.model.weight.v1.tar" as never }] },
      "manifest_invalid",
    ],
    ["a task with spaces", { task: "do it" }, "manifest_invalid"],
    ["a preprocessing digest of another form", { preprocessingSha256: "sha256:00" }, "manifest_invalid"],
    ["a task one over the limit", { task: "a".repeat(MANIFEST_LIMITS.maxTaskLength + 1) }, "manifest_too_large"],
    [
      "a file one byte over the limit",
      { files: [file("model.onnx", MANIFEST_LIMITS.maxFileBytes + 1)] },
      "manifest_too_large",
    ],
    [
      "files over the limit together",
      {
        files: [
          file("model.onnx"),
          ...Array.from({ length: 16 }, (_, i) => file(`w${i}`, MANIFEST_LIMITS.maxFileBytes)),
        ],
      },
      "manifest_too_large",
    ],
    [
      "one file too many",
      { files: Array.from({ length: MANIFEST_LIMITS.maxFiles + 1 }, (_, i) => file(`${i}.onnx`)) },
      "manifest_too_large",
    ],
    [
      "a document over the limit",
      {
        entry: "0.onnx",
        files: [
          file("0.onnx"),
          ...Array.from({ length: 4000 }, (_, i) => file(`${i}/${`${"p".repeat(250)}/`.repeat(4)}q`)),
        ],
      },
      "manifest_too_large",
    ],
  ])("refuses %s", (_, change, expected) => {
    expect(() => buildManifest(nobleSuite, { ...input, ...change })).toThrow(code(expected));
  });

  test("holds its limits", () => {
    const files = Array.from({ length: MANIFEST_LIMITS.maxFiles }, (_, i) => file(`${i}.onnx`));
    expect(buildManifest(nobleSuite, { files, entry: "0.onnx" }).manifest.files).toHaveLength(MANIFEST_LIMITS.maxFiles);
    const edge = { files: [file("m.onnx", MANIFEST_LIMITS.maxFileBytes)], entry: "m.onnx" };
    expect(buildManifest(nobleSuite, { ...edge, task: "a".repeat(MANIFEST_LIMITS.maxTaskLength) }).digest).toHaveLength(
      64,
    );
  });

  test("guesses media types by name", () => {
    expect(mediaTypeOf("a/LICENSE")).toContain(".doc.");
    expect(mediaTypeOf("license.onnx")).toContain(".doc.");
    expect(mediaTypeOf("tokenizer.json")).toContain(".weight.config.");
    expect(mediaTypeOf("run.py")).toContain(".code.");
    expect(mediaTypeOf("model.onnx_data")).toContain(".weight.v1.raw");
  });
});

describe("parseManifest", () => {
  test("gives back what was built", () => {
    expect(parseManifest(nobleSuite, built.bytes)).toEqual(built);
    const bare = buildManifest(nobleSuite, { files: [file("m.onnx")], entry: "m.onnx" });
    expect(parseManifest(nobleSuite, bare.bytes)).toEqual(bare);
  });

  type Doc = {
    layers: { annotations: object; size: unknown; digest: string }[];
    annotations: object;
    config: { digest: string };
  };
  test.each<[string, (doc: Doc) => unknown]>([
    ["an array", () => []],
    ["null", () => null],
    ["no layers", (doc) => ({ ...doc, layers: undefined })],
    ["a layer that is a text", (doc) => ({ ...doc, layers: ["x"] })],
    ["a layer without its path", (doc) => ({ ...doc, layers: doc.layers.map((l) => ({ ...l, annotations: {} })) })],
    ["an unknown field", (doc) => ({ ...doc, extra: 1 })],
    ["an unknown annotation", (doc) => ({ ...doc, annotations: { ...doc.annotations, x: "y" } })],
    ["no annotations", (doc) => ({ ...doc, annotations: undefined })],
    ["another order of layers", (doc) => ({ ...doc, layers: [...doc.layers].reverse() })],
    [
      "a configuration digest that does not fit",
      (doc) => ({ ...doc, config: { ...doc.config, digest: `sha256:${sha("x")}` } }),
    ],
    ["a size as text", (doc) => ({ ...doc, layers: doc.layers.map((l) => ({ ...l, size: "3" })) })],
    ["another hash", (doc) => ({ ...doc, layers: doc.layers.map((l) => ({ ...l, digest: `sha512:${sha("x")}` })) })],
    ["deeper nesting", (doc) => ({ ...doc, annotations: { a: { b: { c: { d: {} } } } } })],
  ])("refuses %s", (_, change) => {
    const doc = JSON.parse(new TextDecoder().decode(built.bytes)) as Doc;
    expect(() => parseManifest(nobleSuite, encode(change(doc)))).toThrow(code("manifest_invalid"));
  });

  test("refuses the same document spelled differently", () => {
    const text = new TextDecoder().decode(built.bytes);
    for (const other of [`${text}\n`, text.replace(":2", ":2.0"), text.replace('"size":3', '"size":3,"size":3'), "{"]) {
      expect(other).not.toBe(text);
      expect(() => parseManifest(nobleSuite, new TextEncoder().encode(other))).toThrow(code("manifest_invalid"));
    }
  });

  test("refuses more bytes than the limit before reading them", () => {
    const padded = new Uint8Array(MANIFEST_LIMITS.maxBytes + 1).fill(0x20);
    expect(() => parseManifest(nobleSuite, padded)).toThrow(code("manifest_too_large"));
  });

  test("refuses more layers than the limit", () => {
    const doc = JSON.parse(new TextDecoder().decode(built.bytes)) as Doc;
    const layers = Array.from({ length: MANIFEST_LIMITS.maxFiles + 1 }, () => 0);
    expect(() => parseManifest(nobleSuite, encode({ ...doc, layers }))).toThrow(code("manifest_too_large"));
  });

  test("one changed byte is refused or gives another digest", () => {
    fc.assert(
      fc.property(fc.nat(built.bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const mutant = built.bytes.slice();
        mutant[at] = (mutant[at] ?? 0) ^ flip;
        const files = new Map(built.manifest.files.map((f) => [f.path, f]));
        expect(verifyManifest(nobleSuite, mutant, { digest: built.digest, files }).verified).toBe(false);
      }),
      { numRuns: 300 },
    );
  });
});

describe("verifyManifest", () => {
  const files = new Map(built.manifest.files.map((f) => [f.path, { sizeBytes: f.sizeBytes, sha256: f.sha256 }]));
  const faults = (change: (map: typeof files) => void, digest = built.digest): string[] => {
    const copy = new Map(files);
    change(copy);
    const verdict = verifyManifest(nobleSuite, built.bytes, { digest, files: copy });
    return verdict.verified ? [] : verdict.faults.map((fault) => fault.code);
  };
  test("accepts what is listed, all of it and nothing else", () => {
    expect(faults(() => undefined)).toEqual([]);
    expect(faults((map) => map.delete("model.onnx"))).toEqual(["file_missing"]);
    expect(faults((map) => map.set("extra", file("extra")))).toEqual(["file_unlisted"]);
    expect(faults((map) => map.set("model.onnx", file("model.onnx", 4)))).toEqual(["file_size_mismatch"]);
    expect(faults((map) => map.set("model.onnx", { sizeBytes: 3, sha256: sha("other") }))).toEqual([
      "file_digest_mismatch",
    ]);
    expect(faults(() => undefined, sha("other"))).toEqual(["manifest_digest_mismatch"]);
    const garbage = verifyManifest(nobleSuite, encode({}), { digest: sha("{}"), files });
    expect(garbage.verified ? [] : garbage.faults.map((f) => f.code)).toEqual(["manifest_invalid"]);
  });
});

describe("pathFault", () => {
  test.each(["a", "a/b", "model.onnx", "...", ".hidden", "a b", "\u00e9/\u{1f600}", "x".repeat(MAX_SEGMENT_BYTES)])(
    "accepts %j",
    (path) => {
      expect(pathFault(path)).toBeUndefined();
    },
  );
  const long = `${"a".repeat(200)}/`.repeat(5);
  test.each<[string, string]>([
    ["", "empty"],
    ["/a", "absolute"],
    ["a//b", "empty segment"],
    ["a/", "empty segment"],
    ["./a", "segment"],
    ["a/..", "segment"],
    ["..", "segment"],
    ["a\\b", "backslash"],
    ["C:a", "drive"],
    ["a\u0000b", "control"],
    ["a\nb", "control"],
    ["a\u0085b", "control"],
    ["\ud800", "Unicode"],
    ["x".repeat(MAX_SEGMENT_BYTES + 1), "longer"],
    ["\u00e9".repeat(128), "longer"],
    [long + "b".repeat(MAX_PATH_BYTES - long.length + 1), "longer"],
  ])("refuses %j", (path, why) => {
    expect(pathFault(path)).toContain(why);
  });
  test("takes a path of exactly the limit", () => {
    expect(pathFault(long + "b".repeat(MAX_PATH_BYTES - long.length))).toBeUndefined();
  });
});
