import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { decodeCbor, encodeCbor } from "@assay/core";
import type { CborMap, CborValue } from "@assay/core";
import { MOCK_KINDS, makeParty, makeReceipt } from "@assay/testkit";
import { executionFields, keysetFields, releaseFields, serviceFields, supplementFields } from "./claims.ts";
import { utf8Length } from "./table.ts";
import type { Field, FieldKind } from "./table.ts";
import { LIMIT, PROFILE, decodeClaims, encodeClaims, jsonView, parseStatement } from "./index.ts";
import type { ClaimsByKind, OpenMap } from "./index.ts";
import { nobleSuite } from "@assay/core/noble";

const fields: Record<keyof ClaimsByKind, readonly Field[]> = {
  execution: executionFields,
  service: serviceFields,
  supplement: supplementFields,
  release: releaseFields,
  keyset: keysetFields,
};

/** A value that a kind accepts, with every optional part of it present. */
function sample(kind: FieldKind): CborValue {
  switch (kind.type) {
    case "text":
      return kind.oneOf?.[0] ?? "text";
    case "uint":
    case "int":
      return 1;
    case "bool":
      return true;
    case "bytes":
      return new Uint8Array(kind.min);
    case "list":
      return [sample(kind.of)];
    case "map":
      return new Map([...kind.fields.byKey.values()].map((field) => [field.key, sample(field.kind)]));
    case "open":
      return new Map<string, CborValue>([["fact", [1, "a", true, new Uint8Array(1), new Map([["deep", -1]])]]]);
  }
}

/** Values that a kind refuses: of every other type, and just past each of its limits. */
function refused(kind: FieldKind): CborValue[] {
  const types: [string, CborValue][] = [
    ["text", "text"],
    ["number", 1],
    ["bool", true],
    ["bytes", new Uint8Array(32)],
    ["list", []],
    ["map", new Map()],
    ["null", null],
  ];
  const own = { uint: "number", int: "number", open: "map" }[kind.type as string] ?? kind.type;
  const others = types.filter(([type]) => type !== own).map(([, value]) => value);
  switch (kind.type) {
    case "text":
      return [...others, kind.oneOf ? "no such word" : "x".repeat((kind.maxBytes ?? LIMIT.textBytes) + 1)];
    case "uint":
      return [...others, -1, 1n << 53n];
    case "int":
      return [...others, 1n << 53n, -(1n << 60n)];
    case "bytes":
      return [...others, ...(kind.min > 0 ? [new Uint8Array(kind.min - 1)] : []), new Uint8Array(kind.max + 1)];
    case "list":
      return [
        ...others,
        Array.from({ length: kind.max + 1 }, () => sample(kind.of)),
        ...refused(kind.of).map((item) => [item]),
      ];
    case "map": {
      const full = sample(kind) as CborMap;
      const list = [...kind.fields.byKey.values()];
      return [
        ...others,
        new Map([...full, [99, 1]]),
        ...list
          .filter(({ required }) => required)
          .map(({ key }) => new Map([...full].filter(([other]) => other !== key))),
        ...list.flatMap((field) => refused(field.kind).map((value) => new Map([...full, [field.key, value]]))),
      ];
    }
    default:
      return others;
  }
}

const kinds = Object.keys(fields) as (keyof ClaimsByKind)[];
const PRICE = -65833;
/** Parts of a price are held to its amount: two of one and two unlike any text. */
const PARTED = new Map<number, CborValue>([
  [1, "3"],
  [2, "text"],
  [3, "parts"],
  [4, "text"],
  [
    5,
    ["1", "2"].map((amount) => new Map<number, CborValue>([1, 2, 3].map((key) => [key, key === 1 ? amount : "text"]))),
  ],
]);
const full = (kind: keyof ClaimsByKind): Map<number | string, CborValue> =>
  new Map(fields[kind].map((field) => [field.key, field.key === PRICE ? PARTED : sample(field.kind)]));
const read = (kind: keyof ClaimsByKind, map: CborMap) => decodeClaims(kind, encodeCbor(map));
const code = (value: string) => expect.objectContaining({ code: value }) as Error;

describe.each(kinds)("claims of a %s", (kind) => {
  test("with every claim there are read, and written again as the same bytes", () => {
    const bytes = encodeCbor(full(kind));
    const claims = decodeClaims(kind, bytes);
    expect(Object.keys(claims).toSorted()).toEqual(fields[kind].map(({ name }) => name).toSorted());
    expect(encodeClaims(kind, claims as never)).toEqual(bytes);
  });

  test.each(fields[kind].filter(({ required }) => required).map(({ name, key }) => ({ name, key })))(
    "without $name are refused",
    ({ key }) => {
      const map = full(kind);
      map.delete(key);
      expect(() => read(kind, map)).toThrow(code("claims_invalid"));
    },
  );

  test.each(fields[kind])("with a wrong $name are refused", ({ key, kind: fieldKind }) => {
    const wrong = refused(fieldKind);
    expect(wrong.length).toBeGreaterThan(4);
    for (const value of wrong) {
      const map = full(kind).set(key, value);
      expect(() => read(kind, map)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(claims|cbor)_invalid$/) as string }),
      );
    }
  });

  test("with a stranger's claim, as another kind, or as no map are refused", () => {
    for (const key of [0, -65000, -65899 - 1, "note", "x".repeat(3000)]) {
      const map = full(kind).set(key, 1);
      const [thrown] = [() => read(kind, map)].map((run) => {
        try {
          return run();
        } catch (error) {
          return error as Error;
        }
      });
      expect(thrown).toMatchObject({ code: "claims_invalid" });
      expect((thrown as Error).message.length).toBeLessThan(200);
    }
    for (const other of kinds.filter((one) => one !== kind))
      expect(() => read(other, full(kind))).toThrow(code("claims_invalid"));
    expect(() => decodeClaims(kind, encodeCbor([]))).toThrow(code("claims_invalid"));
    expect(() => decodeClaims(kind, new Uint8Array())).toThrow(code("cbor_invalid"));
    expect(() => decodeClaims(kind, new Uint8Array(LIMIT.claimsBytes + 1))).toThrow(code("claims_invalid"));
  });
});

describe("rules between claims of an execution", () => {
  const minimal = (change: Partial<ClaimsByKind["execution"]>): Uint8Array =>
    encodeClaims("execution", {
      profile: PROFILE.execution,
      receiptId: new Uint8Array(16),
      requestRoot: new Uint8Array(32),
      responseRoot: new Uint8Array(32),
      mode: "vanilla",
      kind: "chat",
      issuedAtMs: 1,
      requestFields: 0,
      responseFields: 0,
      finishReason: "stop",
      ...change,
    });
  const model = {
    modelDigest: new Uint8Array(32),
    modelDigestScheme: "sha256-manifest",
    modelDigestCheck: "declared",
  } as const;
  const step = { runId: "r", step: "s", attempt: 1 };

  test("the least there can be is read", () => {
    for (const change of [
      {},
      model,
      { kind: "onnx", modelName: "m", ...model },
      { kind: "step", step },
      { mode: "tee", evidenceDigest: new Uint8Array(32) },
      { mode: "zkml", proofStatementDigest: new Uint8Array(32) },
    ] as const) {
      expect(decodeClaims("execution", minimal(change)).profile).toBe(PROFILE.execution);
    }
  });

  test.each<[string, Partial<ClaimsByKind["execution"]>]>([
    ["tee without evidence", { mode: "tee" }],
    ["zkml without a proof statement", { mode: "zkml" }],
    ["onnx without a model's name", { kind: "onnx", ...model }],
    ["onnx without a model's digest", { kind: "onnx", modelName: "m" }],
    ["a step without its place", { kind: "step" }],
    ["a digest without its scheme", { modelDigest: model.modelDigest, modelDigestCheck: "declared" }],
    ["a digest without how it was checked", { modelDigest: model.modelDigest, modelDigestScheme: "sha256-single" }],
    ["a scheme without a digest", { modelDigestScheme: "sha256-single" }],
    ["a check without a digest", { modelDigestCheck: "measured" }],
  ])("%s is refused", (_name, change) => {
    expect(() => decodeClaims("execution", minimal(change))).toThrow(code("claims_invalid"));
  });
});

describe("rules between claims of a service statement", () => {
  const priced = (amountAtomic: string, amounts?: readonly string[]): Uint8Array =>
    encodeClaims("service", {
      profile: PROFILE.service,
      receiptId: new Uint8Array(16),
      executionDigest: new Uint8Array(32),
      issuedAtMs: 1,
      retention: "none",
      price: {
        amountAtomic,
        asset: "USDC",
        rateSource: amounts ? "parts" : "listing",
        ...(amounts
          ? { parts: amounts.map((amount) => ({ amountAtomic: amount, subject: "model:a/b", rateSource: "listing" })) }
          : {}),
      },
    });
  const LARGEST = `${2n ** 256n - 1n}`;

  test.each<[string, readonly string[] | undefined]>([
    ["2000", undefined],
    ["any text, as it was before there were parts", undefined],
    ["2500", ["2000", "500"]],
    ["0", ["0", "0"]],
    [LARGEST, [LARGEST, "0"]],
    ["8", ["1", "1", "1", "1", "1", "1", "1", "1"]],
  ])("a price of %s may have the parts %j", (amount, parts) => {
    expect(decodeClaims("service", priced(amount, parts)).price?.parts?.length).toBe(parts?.length);
  });

  test.each<[string, readonly string[]]>([
    ["2500", ["2000", "499"]],
    ["2500", ["2000", "501"]],
    ["2500", ["2500"]],
    ["0", []],
    ["2500", ["3000", "-500"]],
    ["2500", ["2000", "0500"]],
    ["2500", ["2000", "500.0"]],
    ["0x9c4", ["2000", "500"]],
    ["2500", ["2000", "500", ""]],
    ["0".repeat(400), ["0", "0"]],
    [`${10n ** 78n}`, [`${10n ** 78n}`, "0"]],
  ])("a price of %s with the parts %j is refused", (amount, parts) => {
    expect(() => decodeClaims("service", priced(amount, parts))).toThrow(code("claims_invalid"));
  });

  test("more than eight parts have no form", () => {
    expect(() =>
      priced(
        "0",
        Array.from({ length: 9 }, () => "0"),
      ),
    ).toThrow(code("claims_invalid"));
  });
});

describe("open maps", () => {
  const supplement = (body: CborValue) =>
    read("supplement", full("supplement").set(-65842, body)) as ClaimsByKind["supplement"];
  const nested = (depth: number): CborValue => (depth === 0 ? 1 : new Map([["in", nested(depth - 1)]]));

  test("are six deep and 4,096 items large, and no more", () => {
    expect(supplement(nested(6)).body).toBeDefined();
    expect(() => supplement(nested(7))).toThrow(code("claims_invalid"));
    const list = (length: number) => new Map([["list", Array.from({ length }, () => 0)]]);
    expect(supplement(list(LIMIT.openItems - 2)).body).toBeDefined();
    expect(() => supplement(list(LIMIT.openItems - 1))).toThrow(code("claims_invalid"));
  });

  test.each<[string, CborValue]>([
    ["a null", new Map([["a", null]])],
    ["a number for a key", new Map([[1, 1]])],
    ["a number for a key within", new Map([["a", new Map([[1, 1]])]])],
    ["a list", [1]],
  ])("with %s are refused", (_name, body) => {
    expect(() => supplement(body)).toThrow(code("claims_invalid"));
  });

  test("are written within the same limits", () => {
    const claims = supplement(new Map());
    const write = (body: OpenMap) => encodeClaims("supplement", { ...claims, body });
    const deep = (depth: number): OpenMap => (depth === 0 ? {} : { in: deep(depth - 1) });
    expect(write(deep(6)).length).toBeGreaterThan(6);
    expect(() => write(deep(7))).toThrow(code("claims_invalid"));
    expect(() => write({ list: Array.from({ length: LIMIT.openItems }, () => 0) })).toThrow(code("claims_invalid"));
    expect(() => write({ fraction: 0.5 })).toThrow(code("cbor_unencodable"));
  });

  test("keep a key named __proto__ as data, through reading, writing and the JSON view", () => {
    const body = new Map<string, CborValue>([["__proto__", new Map([["admin", true]])]]);
    const claims = supplement(body);
    expect(Object.keys(claims.body)).toEqual(["__proto__"]);
    expect((claims.body as { admin?: boolean }).admin).toBeUndefined();
    const again = decodeCbor(encodeClaims("supplement", claims)) as CborMap;
    expect(again.get(-65842)).toEqual(body);
    expect(JSON.stringify(jsonView(claims.body))).toBe('{"__proto__":{"admin":true}}');
  });

  test("refuse an integer beyond 2^53", () => {
    const claims = { ...supplement(new Map()), body: { n: 1n << 60n } as unknown as OpenMap };
    expect(() => decodeClaims("supplement", encodeClaims("supplement", claims))).toThrow(
      expect.objectContaining({ code: "claims_invalid" }),
    );
  });

  test("of any content read back as they were written", () => {
    const value = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        fc.string({ unit: "grapheme" }),
        fc.maxSafeInteger(),
        fc.boolean(),
        fc.uint8Array(),
        fc.array(tie("value"), { maxLength: 4 }),
        fc.dictionary(fc.string(), tie("value"), { maxKeys: 4 }),
      ),
    })).value;
    fc.assert(
      fc.property(fc.dictionary(fc.string(), value, { maxKeys: 5 }), (content) => {
        const body = content as OpenMap;
        const claims = { ...supplement(new Map()), body };
        const bytes = encodeClaims("supplement", claims);
        const back = decodeClaims("supplement", bytes);
        expect(encodeClaims("supplement", back)).toEqual(bytes);
        expect(jsonView(back.body)).toEqual(jsonView(body));
      }),
      { numRuns: 80 },
    );
  });
});

describe("real claims", () => {
  test.each(MOCK_KINDS)("of %s are written again as the same bytes", async (kind) => {
    const { bundle } = await makeReceipt({ kind, mlDsa: false });
    for (const { envelope, claims } of bundle.statements) {
      const statementKind = parseStatement(nobleSuite, envelope).header.kind;
      expect(encodeClaims(statementKind, decodeClaims(statementKind, claims) as never)).toEqual(claims);
    }
  });

  test("that cannot be written name the claim", async () => {
    const { document } = (await makeParty({ name: "p", role: "node", notBeforeMs: 0, notAfterMs: 1 })).keyset;
    const write = (change: object) => () => encodeClaims("keyset", { ...document, ...change } as never);
    expect(write({ subject: undefined })).toThrow(/subject is missing/);
    expect(write({ bootSeq: -1 })).toThrow(/bootSeq must be an unsigned integer/);
    expect(write({ bootSeq: 1.5 })).toThrow(/bootSeq/);
    expect(write({ keys: {} })).toThrow(/keys must be a list/);
    expect(write({ identity: [] })).toThrow(/identity must be a map/);
    expect(write({ extensions: [1] })).toThrow(/extensions must be a map/);
    expect(write({ extensions: "x" })).toThrow(/extensions must be a map/);
  });
});

describe("limits of texts", () => {
  test("count bytes of UTF-8, as the platform encodes them", () => {
    const units = fc.array(fc.constantFrom("a", "\u007f", "\u0080", "\u07ff", "\u0800", "\uffff", "\ud83d", "\ude00"));
    fc.assert(fc.property(units, (parts) => utf8Length(parts.join("")) === Buffer.byteLength(parts.join(""))));
    const name = (text: string) => () => read("release", full("release").set(-65537, text));
    expect(name("\u{1f600}".repeat(128))()).toMatchObject({ modelName: "\u{1f600}".repeat(128) });
    expect(name(`${"\u{1f600}".repeat(128)}a`)).toThrow(code("claims_invalid"));
    expect(name("é".repeat(257))).toThrow(code("claims_invalid"));
  });
});
