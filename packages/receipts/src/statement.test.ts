import { beforeAll, describe, expect, test } from "vitest";
import fc from "fast-check";
import { CborTag, concatBytes, decodeCbor, encodeCbor, utf8ToBytes } from "@assay/core";
import type { CborMap, CborValue } from "@assay/core";
import { nobleSuite } from "@assay/core/noble";
import { ed25519Signer, mlDsa44Signer, nodeSuite } from "@assay/driver-crypto";
import { fixedSeed } from "@assay/testkit";
import {
  CONTENT_TYPE,
  LIMIT,
  keyId,
  parseStatement,
  prepareStatement,
  sealStatement,
  signBatch,
  signStatement,
  verifyStatement,
} from "./index.ts";
import type { Statement, StatementHeader, StatementKind, UnsignedStatement } from "./index.ts";

const suite = nodeSuite;
const signer = ed25519Signer(fixedSeed("statement tests"));
const claims = utf8ToBytes("claims");
const header: StatementHeader = {
  kind: "execution",
  algorithm: "ed25519",
  kid: keyId(nobleSuite, signer.publicKey),
  issuer: "urn:assay:node:a",
  subject: "urn:assay:receipt:00",
  issuedAtS: 1_795_255_200,
  keyset: new Uint8Array(32).fill(3),
  seq: 5,
  prev: new Uint8Array(32).fill(4),
};
let statement: Statement;
beforeAll(async () => {
  statement = await signStatement(prepareStatement(suite, header, claims), signer);
});

type Parts = { protectedBytes: CborValue; unprotected: CborValue; payload: CborValue; signature: CborValue };
function rebuilt(change: (parts: Parts, labels: Map<number | string, CborValue>) => unknown, tag = 18): Uint8Array {
  const outer = (decodeCbor(statement.envelope) as CborTag).value as readonly CborValue[];
  const [protectedBytes = null, unprotected = null, payload = null, signature = null] = outer;
  const parts: Parts = { protectedBytes, unprotected, payload, signature };
  const labels = new Map(decodeCbor(protectedBytes as Uint8Array) as CborMap);
  const same = encodeCbor(labels);
  change(parts, labels);
  const after = encodeCbor(labels);
  const protectedOut = Buffer.from(same).equals(Buffer.from(after)) ? parts.protectedBytes : after;
  return encodeCbor(new CborTag(tag, [protectedOut, parts.unprotected, parts.payload, parts.signature]));
}
const cwt = (change: (map: Map<number | string, CborValue>) => unknown) =>
  rebuilt((_, labels) => {
    const map = new Map(labels.get(15) as CborMap);
    change(map);
    labels.set(15, map);
  });
const chain = (...items: CborValue[]) => rebuilt((_, labels) => labels.set(-65800, items));

describe("a statement", () => {
  test.each(Object.keys(CONTENT_TYPE) as StatementKind[])("of kind %s reads back as it was written", async (kind) => {
    for (const change of [{}, { seq: 0, prev: undefined }]) {
      const { prev, ...rest } = { ...header, kind, ...change };
      const written = { ...rest, ...(prev ? { prev } : {}) };
      // The pure suite, because Buffers of the native one do not equal plain byte arrays in an assertion.
      const made = prepareStatement(nobleSuite, written, claims);
      const signature = new Uint8Array(await signer.sign(made.toBeSigned));
      const read = parseStatement(nobleSuite, sealStatement(made, signature).envelope);
      expect(read).toEqual(sealStatement(made, signature));
      expect(read.payload).toEqual(nobleSuite.sha256(claims));
      expect(await verifyStatement(nobleSuite, read, signer.publicKey)).toBe(true);
    }
  });

  test("has a digest that its signature does not change", () => {
    const resealed = sealStatement(statement, new Uint8Array(64));
    expect(parseStatement(suite, resealed.envelope).digest).toEqual(statement.digest);
    expect(resealed.envelope).not.toEqual(statement.envelope);
  });

  test("is signed by ML-DSA-44 as well", async () => {
    const long = mlDsa44Signer(fixedSeed("long"));
    const made = await signStatement(
      prepareStatement(suite, { ...header, algorithm: "ml-dsa-44", kid: keyId(suite, long.publicKey) }, claims),
      long,
    );
    expect(await verifyStatement(suite, parseStatement(suite, made.envelope), long.publicKey)).toBe(true);
    await expect(signStatement(prepareStatement(suite, header, claims), long)).rejects.toMatchObject({
      code: "signer_algorithm_mismatch",
    });
  });

  test("holds under no other key, over no other claims, in no other suite of keys", async () => {
    const other = ed25519Signer(fixedSeed("other"));
    expect(await verifyStatement(suite, statement, other.publicKey)).toBe(false);
    expect(await verifyStatement(suite, statement, new Uint8Array(1312))).toBe(false);
    const moved = sealStatement(prepareStatement(suite, header, utf8ToBytes("claimz")), statement.signature);
    expect(await verifyStatement(suite, moved, signer.publicKey)).toBe(false);
  });
});

describe("an envelope is refused", () => {
  const refusals: readonly (readonly [string, () => Uint8Array, string])[] = [
    ["empty", () => new Uint8Array(), "cbor_invalid"],
    ["without a tag", () => statement.envelope.slice(1), "statement_invalid"],
    ["under another tag", () => rebuilt(() => undefined, 98), "statement_invalid"],
    ["tagged twice", () => concatBytes(new Uint8Array([0xd2]), statement.envelope), "statement_invalid"],
    ["as a map", () => encodeCbor(new CborTag(18, new Map())), "statement_invalid"],
    [
      "of three parts",
      () => encodeCbor(new CborTag(18, [new Uint8Array(), new Map(), new Uint8Array(32)])),
      "statement_invalid",
    ],
    [
      "of five parts",
      () =>
        encodeCbor(new CborTag(18, [statement.protectedBytes, new Map(), statement.payload, statement.signature, 0])),
      "statement_invalid",
    ],
    [
      "with an unprotected kid",
      () => rebuilt((parts) => (parts.unprotected = new Map([[4, new Uint8Array(8)]]))),
      "statement_invalid",
    ],
    ["with a list for the unprotected header", () => rebuilt((parts) => (parts.unprotected = [])), "statement_invalid"],
    ["with a detached payload", () => rebuilt((parts) => (parts.payload = null)), "statement_invalid"],
    ["with a payload of 31 bytes", () => rebuilt((parts) => (parts.payload = new Uint8Array(31))), "statement_invalid"],
    ["with the claims as payload", () => rebuilt((parts) => (parts.payload = claims)), "statement_invalid"],
    ["with a text for a signature", () => rebuilt((parts) => (parts.signature = "sig")), "statement_invalid"],
    [
      "with a map for a protected header",
      () => rebuilt((parts) => (parts.protectedBytes = new Map())),
      "statement_invalid",
    ],
    [
      "with an empty protected header",
      () => rebuilt((parts) => (parts.protectedBytes = new Uint8Array())),
      "cbor_invalid",
    ],
    ["with an unknown alg", () => rebuilt((_, labels) => labels.set(1, -8)), "statement_invalid"],
    ["with an alg as text", () => rebuilt((_, labels) => labels.set(1, "EdDSA")), "statement_invalid"],
    ["without a kid", () => rebuilt((_, labels) => labels.delete(4)), "statement_invalid"],
    ["with a kid of 7 bytes", () => rebuilt((_, labels) => labels.set(4, new Uint8Array(7))), "statement_invalid"],
    ["with a seventh parameter", () => rebuilt((_, labels) => labels.set(3, 61)), "statement_invalid"],
    ["with a critical header", () => rebuilt((_, labels) => labels.set(2, [15])), "statement_invalid"],
    ["hashed by SHA-384", () => rebuilt((_, labels) => labels.set(258, -43)), "statement_invalid"],
    [
      "of an unknown content type",
      () => rebuilt((_, labels) => labels.set(259, "application/json")),
      "statement_invalid",
    ],
    ["of a content type by number", () => rebuilt((_, labels) => labels.set(259, 60)), "statement_invalid"],
    ["without an issuer", () => cwt((map) => map.delete(1)), "statement_invalid"],
    ["with an empty issuer", () => cwt((map) => map.set(1, "")), "statement_invalid"],
    ["with an issuer of 513 bytes", () => cwt((map) => map.set(1, "a".repeat(513))), "statement_invalid"],
    [
      "with a subject of 514 bytes in 257 characters",
      () => cwt((map) => map.set(2, "é".repeat(257))),
      "statement_invalid",
    ],
    ["with an expiry", () => cwt((map) => map.set(4, 1)), "statement_invalid"],
    ["with a negative time", () => cwt((map) => map.set(6, -1)), "statement_invalid"],
    ["with a time of 2^53", () => cwt((map) => map.set(6, 1n << 53n)), "statement_invalid"],
    ["with CWT claims as a list", () => rebuilt((_, labels) => labels.set(15, [])), "statement_invalid"],
    ["without a chain", () => rebuilt((_, labels) => labels.set(-65800, null)), "statement_invalid"],
    ["with a chain of two", () => chain(header.keyset, 5), "statement_invalid"],
    ["with a keyset digest of 31 bytes", () => chain(new Uint8Array(31), 5, new Uint8Array(32)), "statement_invalid"],
    ["with a negative seq", () => chain(header.keyset, -1, new Uint8Array(32)), "statement_invalid"],
    ["with a prev at seq 0", () => chain(header.keyset, 0, new Uint8Array(32)), "statement_invalid"],
    ["without a prev above seq 0", () => chain(header.keyset, 1, new Uint8Array()), "statement_invalid"],
    ["with a prev of 20 bytes", () => chain(header.keyset, 1, new Uint8Array(20)), "statement_invalid"],
    ["with a null prev", () => chain(header.keyset, 0, null), "statement_invalid"],
    ["above 16 KiB", () => rebuilt((parts) => (parts.signature = new Uint8Array(LIMIT.envelopeBytes))), "cbor_invalid"],
    ["with a byte after it", () => concatBytes(statement.envelope, new Uint8Array(1)), "cbor_invalid"],
    [
      "with a head in long form",
      () => concatBytes(new Uint8Array([0xd2, 0x98, 4]), statement.envelope.slice(2)),
      "cbor_invalid",
    ],
  ];
  test.each(refusals)("%s", (_name, make, code) => {
    expect(() => parseStatement(suite, make())).toThrow(expect.objectContaining({ code }));
  });

  test("its rebuilding itself changes nothing, and names of 512 bytes are accepted", () => {
    expect(rebuilt(() => undefined)).toEqual(statement.envelope);
    expect(
      parseStatement(
        suite,
        cwt((map) => map.set(1, "é".repeat(256))),
      ).header.issuer,
    ).toHaveLength(256);
  });

  test("or its signature fails, at every byte and every bit", async () => {
    for (let at = 0; at < statement.envelope.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const envelope = statement.envelope.slice();
        envelope[at] = envelope[at]! ^ (1 << bit);
        let read: Statement;
        try {
          read = parseStatement(suite, envelope);
        } catch {
          continue;
        }
        expect(await verifyStatement(suite, read, signer.publicKey), `byte ${at} bit ${bit}`).toBe(false);
      }
    }
  });
});

const batchHeader: StatementHeader = { ...header, algorithm: "ed25519-batch" };
const sign = signer.signSync!;
const unsigned = (count: number, name = "b"): UnsignedStatement[] =>
  Array.from({ length: count }, (_, i) =>
    prepareStatement(suite, { ...batchHeader, seq: i + 1 }, utf8ToBytes(`${name} ${i}`)),
  );
type BatchParts = [number, number, Uint8Array[], Uint8Array];
const partsOf = ({ signature }: Statement) => decodeCbor(signature) as unknown as BatchParts;

describe("a batch", () => {
  test("of every size from 1 to 40: each statement verifies alone, and from its bytes", async () => {
    for (let size = 1; size <= 40; size++) {
      const signed = signBatch(suite, unsigned(size), sign);
      expect(signed).toHaveLength(size);
      for (const one of signed)
        expect(await verifyStatement(suite, parseStatement(suite, one.envelope), signer.publicKey), `${size}`).toBe(
          true,
        );
      expect(new Set(signed.map((one) => Buffer.from(partsOf(one)[3]).toString("hex"))).size).toBe(1);
    }
  });

  test("of nothing is nothing, and a header of another algorithm is refused", () => {
    expect(signBatch(suite, [], sign)).toEqual([]);
    expect(() => signBatch(suite, [prepareStatement(suite, header, claims)], sign)).toThrow(
      expect.objectContaining({ code: "signer_algorithm_mismatch" }),
    );
  });

  test("fails under another size, index, path, signature, statement or batch", async () => {
    for (let size = 1; size <= 18; size++) {
      const signed = signBatch(suite, unsigned(size), sign);
      const foreign = signBatch(suite, unsigned(size, "c"), sign);
      for (const [i, one] of signed.entries()) {
        const [count, index, path, signature] = partsOf(one);
        const verifies = (...parts: CborValue[]) =>
          verifyStatement(suite, { ...one, signature: encodeCbor(parts) }, signer.publicKey);
        expect(await verifies(count, index, path, signature)).toBe(true);
        const wrong: CborValue[][] = [
          [count + 1, index, path, signature],
          [count - 1, index, path, signature],
          [count, index + 1, path, signature],
          [count, index - 1, path, signature],
          [count, index, [...path, new Uint8Array(32)], signature],
          [count, index, path, new Uint8Array(64)],
          [count, index, path, partsOf(foreign[i]!)[3]],
          [count, index, path, signature, 0],
          [count, index, path],
          [count, index, path, signature.slice(1)],
          ["1", index, path, signature],
          [0, 0, [], signature],
          [65_537, index, path, signature],
          ...path.flatMap((_, at) => [
            [count, index, path.toSpliced(at, 1), signature],
            [count, index, path.with(at, new Uint8Array(32)), signature],
            [count, index, path.with(at, path[at]!.slice(1)), signature],
          ]),
          ...(path.length > 1 ? [[count, index, path.toReversed(), signature]] : []),
          [count, index, Array.from({ length: 17 }, () => new Uint8Array(32)), signature],
        ];
        for (const parts of wrong) expect(await verifies(...parts), `${size}/${i} ${parts.length}`).toBe(false);
        expect(await verifyStatement(suite, { ...one, signature: new Uint8Array(64) }, signer.publicKey)).toBe(false);
        expect(await verifyStatement(suite, { ...one, signature: partsOf(one)[3] }, signer.publicKey)).toBe(false);
        const neighbour = signed[(i + 1) % size]!;
        if (size > 1)
          expect(await verifyStatement(suite, { ...one, signature: neighbour.signature }, signer.publicKey)).toBe(
            false,
          );
      }
    }
  });

  test("is not a plain signature, nor the reverse", async () => {
    const [one] = signBatch(suite, unsigned(1), sign);
    const plain = { ...one!, header: { ...one!.header, algorithm: "ed25519" as const } };
    expect(await verifyStatement(suite, plain, signer.publicKey)).toBe(false);
    expect(await verifyStatement(suite, { ...statement, header: batchHeader }, signer.publicKey)).toBe(false);
  });

  test("asks a cache once a root, and remembers only what verified under that key", async () => {
    const signed = signBatch(suite, unsigned(7), sign);
    const known = new Set<string>();
    const cache = { has: (key: string) => known.has(key), add: (key: string) => void known.add(key) };
    let asked = 0;
    const counting = {
      ...suite,
      verify: (...args: Parameters<typeof suite.verify>) => {
        asked++;
        return suite.verify(...args);
      },
    };
    for (const one of signed) expect(await verifyStatement(counting, one, signer.publicKey, cache)).toBe(true);
    expect(asked).toBe(1);
    const other = ed25519Signer(fixedSeed("other")).publicKey;
    expect(await verifyStatement(counting, signed[0]!, other, cache)).toBe(false);
    expect(await verifyStatement(counting, signed[0]!, other, cache)).toBe(false);
    expect(asked).toBe(3);
    expect(known.size).toBe(1);
    const [count, index, path, signature] = partsOf(signed[0]!);
    const moved = { ...signed[0]!, signature: encodeCbor([count, index + 1, path, signature]) };
    expect(await verifyStatement(counting, moved, signer.publicKey, cache)).toBe(false);
  });

  test("signature of random bytes never verifies and never throws", async () => {
    const [one] = signBatch(suite, unsigned(1), sign);
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 120 }),
        async (signature) => !(await verifyStatement(suite, { ...one!, signature }, signer.publicKey)),
      ),
    );
  });
});
