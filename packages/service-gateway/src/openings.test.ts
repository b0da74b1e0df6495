import { encodeCbor } from "@assay/core";
import type { CborValue } from "@assay/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MAX_ANSWER_BYTES, MAX_OPENING_BYTES, createOpeningVault, keptAnswer } from "./openings.ts";
import { decodeSidecar, encodeSidecar } from "./sidecar.ts";
import type { Sidecar } from "./sidecar.ts";

const secret = new Uint8Array(32).fill(1);
const receiptId = new Uint8Array(16).fill(2);
const salt = new Uint8Array(32).fill(3);
const field = (name: string, ...bytes: number[]) => ({ name, value: Uint8Array.from(bytes) });

describe("the vault of openings", () => {
  const vault = createOpeningVault(secret);

  test("what was sealed is opened, in the order of a bundle", () => {
    const sealed = vault.seal(
      receiptId,
      salt,
      [field("model", 1), field("input/x/data", 2, 3)],
      [field("output/y/data")],
    );
    expect(vault.open(receiptId, sealed)).toEqual([
      { side: "request", salt, fields: [field("input/x/data", 2, 3), field("model", 1)] },
      { side: "response", salt, fields: [field("output/y/data")] },
    ]);
    expect(vault.seal(receiptId, salt, [], [])).not.toEqual(vault.seal(receiptId, salt, [], []));
  });

  test("many fields are opened again", () => {
    const fields = Array.from({ length: 4096 }, (_, i) => field(`input/${i}/data`, i & 255));
    expect(vault.open(receiptId, vault.seal(receiptId, salt, fields, []))?.[0]?.fields).toHaveLength(4096);
  });

  test("another receipt, another secret, any changed byte and any cut are refused", () => {
    const sealed = vault.seal(receiptId, salt, [field("model", 1)], []);
    const refused = expect.objectContaining({ code: "opening_unreadable" });
    expect(() => vault.open(new Uint8Array(16), sealed)).toThrow(refused);
    expect(() => createOpeningVault(new Uint8Array(32)).open(receiptId, sealed)).toThrow(refused);
    for (let at = 0; at < sealed.length; at++) {
      const changed = Uint8Array.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => vault.open(receiptId, changed), `byte ${at}`).toThrow(refused);
      expect(() => vault.open(receiptId, sealed.slice(0, at)), `first ${at}`).toThrow(refused);
    }
  });

  test("the error does not carry what was sealed", () => {
    const sealed = vault.seal(receiptId, salt, [{ name: "model", value: new TextEncoder().encode("a-secret") }], []);
    try {
      vault.open(new Uint8Array(16), sealed);
      expect.unreachable();
    } catch (error) {
      expect(JSON.stringify([String(error), (error as { hints: unknown }).hints])).not.toContain("secret");
    }
  });

  describe("of answers", () => {
    const answer = Uint8Array.of(7, 8, 9);
    const sealAnswer = (opening: Uint8Array, bytes = answer): Uint8Array => {
      const sealed = vault.sealAnswer(receiptId, opening, bytes, 1000);
      if (!sealed) throw new Error("It was not sealed.");
      return sealed;
    };

    test("gives an answer until it expires, with and without an opening beside it", () => {
      const opening = vault.seal(receiptId, salt, [field("model", 1)], []);
      const [alone, both] = [sealAnswer(new Uint8Array()), sealAnswer(opening)];
      for (const sealed of [alone, both]) {
        expect(new Uint8Array(vault.answer(receiptId, sealed, 999) ?? [])).toEqual(answer);
        expect(vault.answer(receiptId, sealed, 1000)).toBeUndefined();
      }
      expect(vault.open(receiptId, alone)).toBeUndefined();
      expect(vault.open(receiptId, both)).toEqual(vault.open(receiptId, opening));
      expect(vault.answer(receiptId, opening, 0)).toBeUndefined();
      expect([keptAnswer(alone), keptAnswer(both), keptAnswer(opening), keptAnswer(new Uint8Array())]).toEqual([
        { expiresAtMs: 1000, withOpening: false },
        { expiresAtMs: 1000, withOpening: true },
        undefined,
        undefined,
      ]);
    });

    test("another receipt, another secret, any changed byte and any cut give none", () => {
      const sealed = sealAnswer(new Uint8Array());
      const refused = expect.objectContaining({ code: "opening_unreadable" });
      expect(() => vault.answer(new Uint8Array(16), sealed, 0)).toThrow(refused);
      expect(() => createOpeningVault(new Uint8Array(32)).answer(receiptId, sealed, 0)).toThrow(refused);
      const got = (bytes: Uint8Array): Uint8Array | undefined => {
        try {
          return vault.answer(receiptId, bytes, 0);
        } catch (error) {
          expect(error).toEqual(refused);
          return undefined;
        }
      };
      for (let at = 0; at < sealed.length; at++) {
        const changed = Uint8Array.from(sealed);
        changed[at] = (changed[at] ?? 0) ^ 1;
        // Also the time in the clear: nobody keeps an answer longer by changing it.
        expect(got(changed), `byte ${at}`).toBeUndefined();
        expect(got(sealed.slice(0, at)), `first ${at}`).toBeUndefined();
      }
    });

    test("keeps nothing that is too large alone, or together with an opening", () => {
      const at = (bytes: number): Uint8Array | undefined =>
        vault.sealAnswer(receiptId, new Uint8Array(), new Uint8Array(bytes), 1000);
      expect(at(MAX_ANSWER_BYTES)).toBeDefined();
      expect(at(MAX_ANSWER_BYTES + 1)).toBeUndefined();
      expect(vault.sealAnswer(receiptId, new Uint8Array(8 * 1024 * 1024), new Uint8Array(MAX_ANSWER_BYTES), 1)).toBe(
        undefined,
      );
    });
  });

  test("more than a server keeps is refused before it is sealed", () => {
    const half = new Uint8Array(MAX_OPENING_BYTES / 2);
    const pair = [{ name: "input/x/data", value: half }];
    expect(vault.seal(receiptId, salt, pair, pair).length).toBeGreaterThan(MAX_OPENING_BYTES);
    const more = [...pair, field("model", 1)];
    expect(() => vault.seal(receiptId, salt, more, pair)).toThrow(
      expect.objectContaining({ code: "opening_too_large" }),
    );
  });
});

describe("sidecars", () => {
  test("whatever is written is read again", () => {
    const bytes = fc.uint8Array({ maxLength: 64 });
    const sidecars = fc.record(
      {
        claims: fc.array(bytes, { maxLength: 3 }),
        visibility: fc.constantFrom("public" as const, "private" as const),
        owner: fc.string(),
        grantSha256: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      },
      { requiredKeys: ["claims", "visibility"] },
    );
    fc.assert(
      fc.property(sidecars, (sidecar) => {
        expect(decodeSidecar(encodeSidecar(sidecar as Sidecar))).toEqual(sidecar);
      }),
    );
  });

  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["no map", encodeCbor([1])],
    ["no claims", encodeCbor(new Map<number, CborValue>([[3, 1]]))],
    ["claims that are no list", encodeCbor(new Map<number, CborValue>([[1, 1]]))],
    ["claims that are no bytes", encodeCbor(new Map<number, CborValue>([[1, [1]]]))],
    ["bytes after its end", Uint8Array.of(...encodeSidecar({ claims: [], visibility: "public" }), 0)],
    ["a cut", encodeSidecar({ claims: [new Uint8Array(9)], visibility: "public" }).slice(0, -3)],
    ["too much", new Uint8Array(1024 * 1024 + 1)],
  ])("%s is damage", (_, bytes) => {
    expect(() => decodeSidecar(bytes)).toThrow(expect.objectContaining({ code: "record_invalid" }));
  });

  test("whatever the bytes, they are read or refused as damage", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeSidecar(bytes);
        } catch (error) {
          expect((error as { code: string }).code).toBe("record_invalid");
        }
      }),
    );
  });
});
