import { describe, expect, test } from "vitest";
import type { JsonValue } from "@assay/core";
import { nodeSuite as suite } from "@assay/driver-crypto";
import { MOCK_TIME_MS, makeReceipt } from "@assay/testkit";
import {
  CLOCK_SKEW_MS,
  EMPTY_TRUST,
  decodeBundle,
  encodeBundle,
  parseTrust,
  trustView,
  verifyReceipt,
} from "./index.ts";

const { trust, bundle, bytes, now } = await makeReceipt();
const good = {
  ...(trustView(trust) as Record<string, JsonValue>),
  keysets: ["ab".repeat(32)],
  revoked: [{ key: "cd".repeat(32), sinceMs: 5, reason: "leaked" }],
  roots: [{ kind: "tpm", der: "AAAA", simulated: true }],
  chains: [{ chain: "eip155:8453", contracts: { anchor: "0x00" } }],
};
const parse = (value: unknown) => parseTrust(JSON.stringify(value));
const identity = (good as unknown as { identities: object[] }).identities[0];
const log = (good as unknown as { logs: { keys: string[]; witnesses: string[] }[] }).logs[0]!;

describe("a trust file", () => {
  test("reads back as it was written", () => {
    expect(trustView(parse(good))).toEqual(good);
    expect(parse(trustView(trust))).toEqual(trust);
    expect(parse({ version: 1 })).toEqual(EMPTY_TRUST);
    expect(parseTrust(new TextEncoder().encode(JSON.stringify(good)))).toEqual(parse(good));
  });

  test.each<[string, unknown, string]>([
    ["a list", [], "the file"],
    ["null", null, "the file"],
    ["no version", { ...good, version: undefined }, "version"],
    ["a later version", { ...good, version: 2 }, "version"],
    ["an unknown part", { ...good, identites: [] }, "identites"],
    ["identities that are no list", { ...good, identities: {} }, "identities"],
    ["too many keysets", { ...good, keysets: Array.from({ length: 10_001 }, () => "ab".repeat(32)) }, "keysets"],
    ["an identity that is a text", { ...good, identities: ["key"] }, "identities[0]"],
    [
      "an identity of an unknown algorithm",
      { ...good, identities: [{ ...identity, algorithm: "rsa" }] },
      "identities[0].algorithm",
    ],
    [
      "an identity of the batch algorithm",
      { ...good, identities: [{ ...identity, algorithm: "ed25519-batch" }] },
      "identities[0].algorithm",
    ],
    [
      "an identity without a key",
      { ...good, identities: [{ ...identity, publicKey: undefined }] },
      "identities[0].publicKey",
    ],
    [
      "a key that is not base64",
      { ...good, identities: [{ ...identity, publicKey: "%%%%" }] },
      "identities[0].publicKey",
    ],
    [
      "a key of 31 bytes",
      { ...good, identities: [{ ...identity, publicKey: Buffer.alloc(31).toString("base64") }] },
      "identities[0].publicKey",
    ],
    [
      "a key of another algorithm's length",
      { ...good, identities: [{ ...identity, algorithm: "p256" }] },
      "identities[0].publicKey",
    ],
    ["an identity without a label", { ...good, identities: [{ ...identity, label: "" }] }, "identities[0].label"],
    ["an empty subject", { ...good, identities: [{ ...identity, subject: "" }] }, "identities[0].subject"],
    ["an identity with a misspelt part", { ...good, identities: [{ ...identity, sujbect: "urn:x" }] }, "sujbect"],
    ["a keyset in capitals", { ...good, keysets: ["AB".repeat(32)] }, "keysets[0]"],
    ["a short keyset", { ...good, keysets: ["ab"] }, "keysets[0]"],
    ["a keyset that is no text", { ...good, keysets: [1] }, "keysets[0]"],
    ["a log without an origin", { ...good, logs: [{ ...log, origin: undefined }] }, "logs[0].origin"],
    ["one log twice", { ...good, logs: [log, log] }, "logs[1].origin"],
    ["a log without keys", { ...good, logs: [{ ...log, keys: [] }] }, "logs[0].keys"],
    ["a log key that is no text", { ...good, logs: [{ ...log, keys: [1] }] }, "logs[0].keys[0]"],
    ["a quorum above its witnesses", { ...good, logs: [{ ...log, quorum: 3 }] }, "logs[0].quorum"],
    ["a negative quorum", { ...good, logs: [{ ...log, quorum: -1 }] }, "logs[0].quorum"],
    ["a fraction for a quorum", { ...good, logs: [{ ...log, quorum: 1.5 }] }, "logs[0].quorum"],
    [
      "a misspelt quorum, which would mean none",
      { ...good, logs: [{ ...log, quorum: undefined, qourum: 2 }] },
      "qourum",
    ],
    [
      "leniency that is a text",
      { ...good, logs: [{ ...log, ignoreUnknownSignatures: "no" }] },
      "ignoreUnknownSignatures",
    ],
    [
      "a revocation in capitals, which would revoke nothing",
      { ...good, revoked: [{ key: "CD".repeat(32), sinceMs: 0, reason: "r" }] },
      "revoked[0].key",
    ],
    ["a revocation of a short key", { ...good, revoked: [{ key: "cd", sinceMs: 0, reason: "r" }] }, "revoked[0].key"],
    [
      "a revocation without a time",
      { ...good, revoked: [{ key: "cd".repeat(32), reason: "r" }] },
      "revoked[0].sinceMs",
    ],
    [
      "a revocation without a reason",
      { ...good, revoked: [{ key: "cd".repeat(32), sinceMs: 0 }] },
      "revoked[0].reason",
    ],
    [
      "a root that does not say if it is simulated",
      { ...good, roots: [{ kind: "tpm", der: "AAAA" }] },
      "roots[0].simulated",
    ],
    ["a root without its kind", { ...good, roots: [{ der: "AAAA", simulated: true }] }, "roots[0].kind"],
    ["a chain without its id", { ...good, chains: [{ contracts: {} }] }, "chains[0].chain"],
    ["a contract that is no text", { ...good, chains: [{ chain: "c", contracts: { a: 1 } }] }, "chains[0].contracts.a"],
    ["contracts that are a list", { ...good, chains: [{ chain: "c", contracts: [] }] }, "chains[0].contracts"],
  ])("with %s is refused, naming it", (_name, value, where) => {
    expect(() => parse(value)).toThrow(
      expect.objectContaining({ code: "trust_invalid", message: expect.stringContaining(where) as string }),
    );
  });

  test.each(["", "{", "nothing", `${"[".repeat(20)}${"]".repeat(20)}`, " ".repeat(4 * 1024 * 1024 + 1)])(
    "that is no JSON within limits is refused (%#)",
    (text) => {
      expect(() => parseTrust(text)).toThrow(expect.objectContaining({ code: "json_invalid" }));
    },
  );
});

describe("times that no clock shows", () => {
  const far = 2 ** 53 - 1;
  test("in claims, headers and keysets end in a verdict, never in a throw", async () => {
    for (const issuedAtMs of [8.64e15 + 1, far]) {
      const made = await makeReceipt({ mlDsa: false, execution: { issuedAtMs } });
      const verdict = await verifyReceipt(made.bytes, { trust: made.trust, suite, now: made.now });
      expect(verdict.status).toBe("failed");
      expect(verdict.checks.find(({ check }) => check === "policy")).toMatchObject({
        code: "issued_in_future",
        facts: { issued: `${issuedAtMs} ms after 1970` },
      });
    }
    const { makeParty } = await import("@assay/testkit");
    const party = await makeParty({ name: "late", role: "node", notBeforeMs: far - 1000, notAfterMs: far });
    const early = await party.state("execution", (await executionOf()) as never, {
      subject: "urn:assay:receipt:00",
      issuedAtMs: MOCK_TIME_MS,
    });
    const receipt = encodeBundle({
      profile: bundle.profile,
      statements: [{ envelope: early.statement.envelope, claims: early.claims }],
      keysets: [{ envelope: party.keysetStatement.envelope, document: party.keyset.bytes }],
    });
    const verdict = await verifyReceipt(receipt, { trust, suite, now });
    expect(verdict.checks.find(({ check }) => check === "keyset")).toMatchObject({
      code: "keyset_expired",
      facts: { until: `${far} ms after 1970` },
    });
  });

  test("a verifier whose clock is not a number accepts nothing", async () => {
    const verdict = await verifyReceipt(bytes, { trust, suite, now: Number.NaN });
    expect(verdict).toMatchObject({ status: "failed", code: "issued_in_future" });
    expect((await verifyReceipt(bytes, { trust, suite, now: MOCK_TIME_MS - CLOCK_SKEW_MS - 1 })).code).toBe(
      "issued_in_future",
    );
  });
});

async function executionOf(): Promise<unknown> {
  const { decodeClaims } = await import("./index.ts");
  return decodeClaims("execution", decodeBundle(bytes).statements[0]!.claims);
}

describe("a bundle's limits", () => {
  const blob = { type: "preprocessing", data: new Uint8Array() };
  test("are crossed one by one", () => {
    const repeat = <T>(item: T, count: number): T[] => Array.from({ length: count }, () => item);
    const [proof] = bundle.log!;
    const refusals: Partial<typeof bundle>[] = [
      { statements: repeat(bundle.statements[0]!, 65) },
      { keysets: repeat(bundle.keysets[0]!, 65) },
      { log: repeat(proof!, 65) },
      { log: [{ ...proof!, path: repeat(new Uint8Array(32), 64) }] },
      { log: [{ ...proof!, path: [new Uint8Array(31)] }] },
      { log: [{ ...proof!, entry: new Uint8Array(65_536) }] },
      { log: [{ ...proof!, index: -1 }] },
      { log: [{ ...proof!, index: 2 ** 53 }] },
      { checkpoints: repeat("", 65) },
      { checkpoints: ["x".repeat(256 * 1024 + 1)] },
      { evidence: repeat(blob, 65) },
      { evidence: [{ ...blob, type: "x".repeat(257) }] },
      { anchors: repeat({}, 17) },
      { openings: repeat(bundle.openings![0]!, 3) },
      { openings: [{ ...bundle.openings![0]!, salt: new Uint8Array(31) }] },
      { openings: [{ ...bundle.openings![0]!, side: "both" as never }] },
      { statements: [{ envelope: new Uint8Array(16 * 1024 + 1), claims: new Uint8Array() }] },
      { statements: [{ envelope: new Uint8Array(), claims: new Uint8Array(256 * 1024 + 1) }] },
      { profile: "urn:assay:bundle:2" as never },
      { statements: undefined as never },
      { keysets: undefined as never },
    ];
    for (const [i, change] of refusals.entries()) {
      expect(() => encodeBundle({ ...bundle, ...change }), `${i}`).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(claims_invalid|cbor_unencodable)$/) as string }),
      );
    }
    expect(
      decodeBundle(encodeBundle({ ...bundle, log: [{ ...proof!, path: repeat(new Uint8Array(32), 63) }] })).log,
    ).toHaveLength(1);
  });

  test("hold for bytes as well as for values, whole size included", async () => {
    const large = new Uint8Array(64 * 1024 * 1024 + 1);
    expect(() => decodeBundle(large)).toThrow(expect.objectContaining({ code: "bundle_too_large" }));
    expect(() => encodeBundle({ ...bundle, evidence: [{ type: "x", data: large.subarray(1) }] })).toThrow(
      expect.objectContaining({ code: "bundle_too_large" }),
    );
    expect(await verifyReceipt(large, { trust, suite, now })).toMatchObject({
      status: "failed",
      code: "bundle_too_large",
    });
    expect(() => decodeBundle(new Uint8Array([0x80]))).toThrow(expect.objectContaining({ code: "claims_invalid" }));
    expect(() => decodeBundle(new Uint8Array([0xa1, 0x61, 0x61, 0]))).toThrow(
      expect.objectContaining({ code: "claims_invalid" }),
    );
  });
});
