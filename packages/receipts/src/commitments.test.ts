import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { equalBytes, utf8ToBytes } from "@assay/core";
import { nobleSuite } from "@assay/core/noble";
import { nodeSuite as suite } from "@assay/driver-crypto";
import {
  LIMIT,
  checkField,
  commitFields,
  openField,
  prefixProof,
  tensorFields,
  transcriptLeaf,
  transcriptRoot,
  transcriptSalt,
  verifyPrefix,
} from "./index.ts";
import type { FieldOpening, FieldValue } from "./index.ts";

const master = new Uint8Array(32).fill(7);
const fieldsOf = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }),
    value: fc.uint8Array({ maxLength: 40 }),
  }),
  { selector: ({ name }) => name, minLength: 1, maxLength: 24 },
);
const legal = (fields: readonly FieldValue[]) => fields.every(({ name }) => !name.includes("\0"));

describe("field trees", () => {
  test("any subset of fields opens against the root, whatever the order they were given in", () => {
    fc.assert(
      fc.property(fieldsOf.filter(legal), fc.nat(), (fields, seed) => {
        const tree = commitFields(suite, master, "request", fields);
        const shuffled = fields.toSorted((a, b) => ((a.name.length * seed) % 7) - ((b.name.length * seed) % 7));
        expect(equalBytes(commitFields(nobleSuite, master, "request", shuffled).root, tree.root)).toBe(true);
        const opening = { side: "request" as const, salt: master, fields };
        for (const { name } of fields.filter((_, i) => ((seed >> (i % 30)) & 1) === 0)) {
          expect(checkField(suite, openField(suite, opening, name), tree.root, tree.count)).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });

  const fields: FieldValue[] = ["a", "b", "c", "d", "e"].map((name) => ({ name, value: utf8ToBytes(`value ${name}`) }));
  const tree = commitFields(suite, master, "request", fields);
  const opened = openField(suite, { side: "request", salt: master, fields }, "c");

  test.each<[string, Partial<FieldOpening>]>([
    ["another name", { name: "d" }],
    ["another value", { value: utf8ToBytes("value d") }],
    ["another salt", { salt: new Uint8Array(32) }],
    ["the master salt", { salt: master }],
    ["a salt of 31 bytes with the name's first byte in front", { salt: opened.salt.subarray(0, 31) }],
    ["another index", { index: opened.index + 1 }],
    ["an index past the end", { index: 5 }],
    ["a negative index", { index: -1 }],
    ["a fraction for an index", { index: 1.5 }],
    ["a shorter path", { path: opened.path.slice(1) }],
    ["a longer path", { path: [...opened.path, new Uint8Array(32)] }],
    ["a path in another order", { path: opened.path.toReversed() }],
    ["a short hash in the path", { path: opened.path.map((hash) => hash.subarray(1)) }],
    ["no name", { name: "" }],
  ])("%s does not open", (_name, change) => {
    expect(checkField(suite, opened, tree.root, tree.count)).toBe(true);
    expect(checkField(suite, { ...opened, ...change }, tree.root, tree.count)).toBe(false);
  });

  test("nor does a field under another root or count, or of the other side", () => {
    expect(checkField(suite, opened, new Uint8Array(32), tree.count)).toBe(false);
    expect(checkField(suite, opened, tree.root, 4)).toBe(false);
    expect(checkField(suite, opened, tree.root, 9)).toBe(false);
    const other = openField(suite, { side: "response", salt: master, fields }, "c");
    expect(equalBytes(other.salt, opened.salt)).toBe(false);
    expect(checkField(suite, other, tree.root, tree.count)).toBe(false);
  });

  test("the border between name and value cannot be moved", () => {
    const split = [{ name: "a", value: utf8ToBytes("b\0c") }];
    const one = commitFields(suite, master, "request", split);
    const honest = openField(suite, { side: "request", salt: master, fields: split }, "a");
    expect(checkField(suite, honest, one.root, 1)).toBe(true);
    // The same leaf bytes, read as a field that nobody committed to.
    expect(checkField(suite, { ...honest, name: "a\0b", value: utf8ToBytes("c") }, one.root, 1)).toBe(false);
  });

  test.each<[string, FieldValue[]]>([
    ["an empty name", [{ name: "", value: master }]],
    ["a NUL in a name", [{ name: "a\0", value: master }]],
    ["a name of 1,025 characters", [{ name: "a".repeat(1025), value: master }]],
    ["one name twice", [fields[0]!, fields[1]!, { name: "a", value: master }]],
    [
      "two names that are one in UTF-8",
      [
        { name: "\ud800", value: master },
        { name: "\ufffd", value: master },
      ],
    ],
  ])("%s is refused", (_name, list) => {
    expect(() => commitFields(suite, master, "request", list)).toThrow(
      expect.objectContaining({ code: "field_invalid" }),
    );
  });

  test("10,000 fields are committed to and one more is refused", () => {
    const many = Array.from({ length: LIMIT.openedFields + 1 }, (_, i) => ({ name: `f${i}`, value: new Uint8Array() }));
    expect(() => commitFields(suite, master, "request", many)).toThrow(
      expect.objectContaining({ code: "field_invalid" }),
    );
    expect(commitFields(suite, master, "request", many.slice(1)).count).toBe(LIMIT.openedFields);
  });

  test("no fields have the empty root, and a field that is not there does not open", () => {
    const none = commitFields(suite, master, "response", []);
    expect(none).toMatchObject({ count: 0, root: suite.sha256(new Uint8Array()) });
    expect(() => openField(suite, { side: "request", salt: master, fields }, "z")).toThrow(
      expect.objectContaining({ code: "field_unknown" }),
    );
  });

  test("a tensor is its meta and its bytes, under two names", () => {
    const data = new Uint8Array(8).fill(1);
    const [bytes, meta] = tensorFields("output", { name: "y", datatype: "FP32", shape: [1, 2], data });
    expect(bytes).toEqual({ name: "output/y/data", value: data });
    expect(meta.name).toBe("output/y/meta");
    expect(Buffer.from(meta.value).toString("hex")).toBe("826446503332820102");
  });
});

describe("transcripts", () => {
  const salt = transcriptSalt(suite, master);
  const stream = Array.from({ length: 33 }, (_, i) => utf8ToBytes(`frame ${i}`));

  test("every prefix of streams of 1 to 33 frames verifies, with the shortest proof, and nothing else does", () => {
    for (let count = 1; count <= stream.length; count++) {
      const frames = stream.slice(0, count);
      const leaves = frames.map((frame) => transcriptLeaf(suite, salt, frame));
      const root = transcriptRoot(suite, salt, frames);
      for (let length = 0; length <= count; length++) {
        const prefix = frames.slice(0, length);
        const proof = prefixProof(suite, leaves, length);
        const check = (frames: readonly Uint8Array[], hashes: readonly Uint8Array[] = proof, key = salt) =>
          verifyPrefix(suite, key, frames, count, hashes, root);
        expect(check(prefix), `${length} of ${count}`).toBe(true);
        expect(proof.length).toBeLessThanOrEqual(6);
        expect(check([...prefix, utf8ToBytes("more")])).toBe(false);
        expect(check(prefix, [...proof, root])).toBe(false);
        if (proof.length > 0) {
          expect(check(prefix, proof.slice(1))).toBe(false);
          expect(check(prefix, proof.with(0, new Uint8Array(32)))).toBe(false);
          expect(check(prefix, proof.with(0, proof[0]!.subarray(1)))).toBe(false);
        }
        if (length > 0) {
          expect(check(prefix.slice(0, -1))).toBe(false);
          expect(check(prefix.with(length - 1, utf8ToBytes("other")))).toBe(false);
          expect(check(prefix, proof, master)).toBe(false);
        }
        if (length > 1) expect(check(prefix.toReversed())).toBe(false);
        if (length > 0) expect(verifyPrefix(suite, salt, prefix, count, proof, new Uint8Array(32))).toBe(false);
      }
    }
  });

  test("a whole stream verifies under its own count alone, and impossible counts are refused", () => {
    const root = transcriptRoot(suite, salt, stream);
    expect(verifyPrefix(suite, salt, stream, 33, [], root)).toBe(true);
    for (const count of [0, 1, 32, 34, 64, -1, 33.5, Number.NaN, 2 ** 53]) {
      expect(verifyPrefix(suite, salt, stream, count, [], root), `${count}`).toBe(false);
    }
    expect(verifyPrefix(suite, salt, [], 0, [], suite.sha256())).toBe(false);
  });

  test("a frame's border cannot be moved", () => {
    const root = transcriptRoot(suite, salt, [utf8ToBytes("ab"), utf8ToBytes("c")]);
    expect(verifyPrefix(suite, salt, [utf8ToBytes("a"), utf8ToBytes("bc")], 2, [], root)).toBe(false);
    expect(verifyPrefix(suite, salt, [utf8ToBytes("abc")], 1, [], root)).toBe(false);
  });
});
