import { describe, expect, test } from "vitest";
import { utf8ToBytes } from "@assay/core";
import { nodeSuite as suite } from "@assay/driver-crypto";
import { MOCK_TIME_MS, makeParty, makeReceipt } from "@assay/testkit";
import {
  ALGORITHM,
  LIMIT,
  MAX_ENVELOPES,
  decodeEntry,
  encodeBundle,
  encodeEntry,
  findContradictions,
  findKey,
  keyId,
  keysetFault,
  parseStatement,
  prepareStatement,
  sealKeyset,
  sealStatement,
  verifyReceipt,
} from "./index.ts";
import type { KeysetDocument, KeysetKey, Statement } from "./index.ts";

const window = { notBeforeMs: MOCK_TIME_MS - 3_600_000, notAfterMs: MOCK_TIME_MS + 3_600_000 };
const party = await makeParty({ name: "alpha", role: "node", ...window });
const { document } = party.keyset;
const first = document.keys[0]!;
const second = document.keys[1]!;
const withKey = (change: Partial<KeysetKey>): Partial<KeysetDocument> => ({ keys: [{ ...first, ...change }] });

describe("a keyset document", () => {
  test("of a party is acceptable", () => {
    expect(keysetFault(suite, document)).toBeUndefined();
    expect(sealKeyset(suite, document).digest).toEqual(party.keyset.digest);
  });

  test.each<[string, Partial<KeysetDocument>]>([
    ["no key", { keys: [] }],
    ["an end before its begin", { notAfterMs: document.notBeforeMs - 1 }],
    ["an end at its begin", { notAfterMs: document.notBeforeMs }],
    ["an identity of an unknown algorithm", { identity: { ...document.identity, algorithm: -8 } }],
    [
      "an identity of the batch algorithm",
      { identity: { ...document.identity, algorithm: ALGORITHM["ed25519-batch"] } },
    ],
    ["a key of an unknown algorithm", withKey({ algorithm: -7 })],
    ["a key of the batch algorithm", withKey({ algorithm: ALGORITHM["ed25519-batch"] })],
    ["a key under another's id", withKey({ kid: second.kid })],
    ["one key for two uses", { keys: [first, { ...first, use: "supplement" }] }],
    ["one key under two algorithms", { keys: [first, { ...first, algorithm: ALGORITHM.p256 }] }],
    [
      "the identity key as a signing key",
      withKey({ publicKey: document.identity.publicKey, kid: keyId(suite, document.identity.publicKey) }),
    ],
  ])("with %s is refused", (_name, change) => {
    expect(keysetFault(suite, { ...document, ...change })).toMatch(/\.$/);
    expect(() => sealKeyset(suite, { ...document, ...change })).toThrow(
      expect.objectContaining({ code: "keyset_invalid" }),
    );
  });

  test("gives out a key for its own id, use and algorithm only", () => {
    expect(findKey(document, first.kid, "execution", "ed25519")).toEqual(first);
    expect(findKey(document, first.kid, "execution", "ed25519-batch")).toEqual(first);
    expect(findKey(document, first.kid, "supplement", "ed25519")).toBeUndefined();
    expect(findKey(document, second.kid, "execution", "ed25519")).toBeUndefined();
    expect(findKey(document, first.kid, "execution", "p256")).toBeUndefined();
    expect(findKey(document, first.kid, "execution", "ml-dsa-44")).toBeUndefined();
    expect(findKey(document, new Uint8Array(8), "execution", "ed25519")).toBeUndefined();
  });
});

describe("a log entry", () => {
  const envelope = (length: number) => new Uint8Array(length).fill(1);
  test("of one to four envelopes reads back", () => {
    for (let count = 1; count <= MAX_ENVELOPES; count++) {
      const envelopes = Array.from({ length: count }, (_, i) => envelope(i + 1));
      expect(decodeEntry(encodeEntry(envelopes))).toEqual(envelopes);
    }
  });

  test.each<[string, Uint8Array[]]>([
    ["nothing", []],
    ["five envelopes", Array.from({ length: 5 }, () => envelope(1))],
    ["more than 65,535 bytes", [envelope(LIMIT.entryBytes)]],
  ])("of %s is not written", (_name, envelopes) => {
    expect(() => encodeEntry(envelopes)).toThrow(expect.objectContaining({ code: "entry_invalid" }));
  });

  test("at exactly 65,535 bytes is written and read", () => {
    const overhead = encodeEntry([envelope(60_000)]).length - 60_000;
    expect(decodeEntry(encodeEntry([envelope(LIMIT.entryBytes - overhead)]))[0]).toHaveLength(
      LIMIT.entryBytes - overhead,
    );
    expect(() => encodeEntry([envelope(LIMIT.entryBytes - overhead + 1)])).toThrow(/65536 bytes/);
  });

  const tag = Buffer.concat([Buffer.from([0x71]), Buffer.from("urn:assay:entry:1")]);
  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["a map", new Uint8Array([0xa0])],
    ["an empty list", new Uint8Array([0x80])],
    ["the tag alone", Buffer.concat([Buffer.from([0x81]), tag])],
    ["another tag", Buffer.concat([Buffer.from([0x82, 0x61, 0x61]), Buffer.from([0x41, 1])])],
    ["a text for an envelope", Buffer.concat([Buffer.from([0x82]), tag, Buffer.from([0x61, 0x61])])],
    ["five envelopes", Buffer.concat([Buffer.from([0x86]), tag, Buffer.alloc(5, 0x40)])],
    ["a byte after the end", Buffer.concat([Buffer.from([0x82]), tag, Buffer.from([0x40, 0])])],
    ["nested lists", Buffer.concat([Buffer.from([0x82]), tag, Buffer.from([0x81, 0x40])])],
  ])("of %s is not read", (_name, bytes) => {
    expect(() => decodeEntry(new Uint8Array(bytes))).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^(entry|cbor)_invalid$/) as string }),
    );
  });
});

describe("contradictions", () => {
  const made = (seq: number, text: string, prev?: Uint8Array, issuer = "urn:assay:node:a"): Statement => {
    const header = { ...party.header("execution", { subject: "urn:s", issuedAtMs: MOCK_TIME_MS }), issuer, seq };
    const { prev: _prev, ...rest } = header;
    const before = seq === 0 ? {} : { prev: prev ?? new Uint8Array(32).fill(seq) };
    return sealStatement(prepareStatement(suite, { ...rest, ...before }, utf8ToBytes(text)), new Uint8Array(64));
  };
  const zero = made(0, "zero");
  const one = made(1, "one", zero.digest);
  const two = made(2, "two", one.digest);

  test("an honest chain has none, in any order, with repeats and gaps, beside other issuers", () => {
    expect(findContradictions([])).toEqual([]);
    expect(findContradictions([zero, one, two])).toEqual([]);
    expect(findContradictions([two, zero, one, zero, one])).toEqual([]);
    expect(findContradictions([zero, two])).toEqual([]);
    expect(findContradictions([zero, one, made(0, "b", undefined, "urn:b"), made(1, "c", undefined, "urn:c")])).toEqual(
      [],
    );
  });

  test("two statements at one position convict their issuer", () => {
    const other = made(1, "another one", zero.digest);
    expect(findContradictions([zero, one, other, one])).toEqual([
      { kind: "same_seq", issuer: "urn:assay:node:a", seq: 1, statements: [one, other] },
    ]);
    const third = made(1, "a third", zero.digest);
    expect(findContradictions([one, other, third])).toHaveLength(3);
  });

  test("a statement that denies the one before it convicts its issuer, found in any order", () => {
    const broken = made(2, "two", new Uint8Array(32).fill(9));
    for (const list of [
      [zero, one, broken],
      [broken, one, zero],
    ]) {
      expect(findContradictions(list)).toEqual([
        { kind: "broken_prev", issuer: "urn:assay:node:a", seq: 2, statements: [one, broken] },
      ]);
    }
  });

  test("of two statements at one position, following either is no second offence", () => {
    const other = made(1, "another one", zero.digest);
    const follows = made(2, "two", other.digest);
    expect(findContradictions([one, other, two, follows]).map(({ kind, seq }) => `${kind} ${seq}`)).toEqual([
      "same_seq 1",
      "same_seq 2",
    ]);
  });

  test("keysets are numbered by boot and do not clash with statements, only with one another", async () => {
    const keyset = party.keysetStatement;
    const execution = made(0, "zero", undefined, party.subject);
    expect(keyset.header.seq).toBe(0);
    expect(findContradictions([keyset, execution])).toEqual([]);
    const fork = await makeParty({
      name: "alpha",
      role: "node",
      ...window,
      changes: { configDigest: new Uint8Array(32) },
    });
    expect(findContradictions([keyset, fork.keysetStatement])).toMatchObject([
      { kind: "same_seq", issuer: party.subject },
    ]);
  });
});

describe("parts that stand twice", () => {
  test("are refused, whichever they are", async () => {
    const { bundle, trust, now } = await makeReceipt({ kind: "onnx", mlDsa: false });
    const [opening] = bundle.openings!;
    const { openField } = await import("./index.ts");
    const field = openField(suite, opening!, "model");
    const judge = (change: Partial<typeof bundle>) =>
      verifyReceipt(encodeBundle({ ...bundle, ...change }), { trust, suite, now });
    for (const [change, code] of [
      [{ keysets: [...bundle.keysets, bundle.keysets[0]!] }, "part_duplicate"],
      [{ fields: [field, field] }, "part_duplicate"],
      [{ evidence: [...bundle.evidence!, ...bundle.evidence!] }, "evidence_duplicate"],
      [{ log: [...bundle.log!, ...bundle.log!] }, "log_duplicate"],
      [{ openings: [opening!, opening!] }, "opening_duplicate"],
      [{ statements: [...bundle.statements, bundle.statements[1]!] }, "statement_duplicate"],
    ] as const) {
      expect(await judge(change), code).toMatchObject({ status: "failed", code });
    }
    expect((await judge({ fields: [field] })).checks.find(({ check }) => check === "commitments")?.status).toBe("pass");
    expect(parseStatement(suite, bundle.statements[0]!.envelope).header.kind).toBe("execution");
  });
});
