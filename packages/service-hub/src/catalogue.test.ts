import { PROFILE } from "@assay/receipts";
import type { ReleaseAction, ReleaseClaims } from "@assay/receipts";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createCatalogue, parseModelName } from "./catalogue.ts";
import type { ModelVersion } from "./catalogue.ts";

const claims = (
  modelName: string,
  version: number,
  action: ReleaseAction = "release",
  changes: Partial<ReleaseClaims> = {},
): ReleaseClaims => ({
  profile: PROFILE.release,
  releaseId: new Uint8Array(16),
  modelName,
  version,
  modelDigest: new Uint8Array(32).fill(version),
  action,
  owner: "ed25519:aa",
  visibility: "public",
  sizeBytes: 10,
  issuedAtMs: 1000 + version,
  ...changes,
});
const code = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return "none";
};
const isPublic = ({ visibility }: ModelVersion): boolean => visibility === "public";

describe("the catalogue", () => {
  test("a bare name means the version released or rolled back to last", () => {
    const catalogue = createCatalogue();
    catalogue.apply(claims("a/net", 1), 5);
    catalogue.apply(claims("a/net", 2), 6);
    expect(catalogue.resolve("a/net")).toMatchObject({ version: 2, logIndex: 6, manifestDigest: "02".repeat(32) });
    catalogue.apply(claims("a/net", 1, "rollback"), 7);
    expect(catalogue.resolve("a/net").version).toBe(1);
    expect(catalogue.resolve("a/net", 2).version).toBe(2);
    expect(catalogue.versions("a/net").map(({ version }) => version)).toEqual([2, 1]);
    expect(catalogue.names()).toEqual(["a/net"]);
  });

  test("deprecating the current version leaves the name without one, another leaves it alone", () => {
    const catalogue = createCatalogue();
    catalogue.apply(claims("a/net", 1), 1);
    catalogue.apply(claims("a/net", 2), 2);
    catalogue.apply(claims("a/net", 1, "deprecate"), 3);
    expect(catalogue.resolve("a/net").version).toBe(2);
    expect(catalogue.resolve("a/net", 1).status).toBe("deprecated");
    catalogue.apply(claims("a/net", 2, "deprecate"), 4);
    expect(code(() => catalogue.resolve("a/net"))).toBe("model_deprecated");
    expect(catalogue.current("a/net")).toBeUndefined();
    expect(catalogue.resolve("a/net", 2).status).toBe("deprecated");
    catalogue.apply(claims("a/net", 1, "rollback"), 5);
    expect(catalogue.resolve("a/net")).toMatchObject({ version: 1, status: "released" });
  });

  test("what is not there is refused by code", () => {
    const catalogue = createCatalogue();
    catalogue.apply(claims("a/net", 1), 1);
    expect(code(() => catalogue.resolve("a/other"))).toBe("model_not_found");
    expect(code(() => catalogue.resolve("a/net", 2))).toBe("version_not_found");
    expect(code(() => catalogue.resolve("__proto__"))).toBe("model_not_found");
    expect(catalogue.versions("a/other")).toEqual([]);
    expect(catalogue.current("a/other")).toBeUndefined();
  });

  test("what the caller may not see is as if it were not there, hints included", () => {
    const catalogue = createCatalogue();
    catalogue.apply(claims("a/net", 1, "release", { visibility: "private" }), 1);
    expect(code(() => catalogue.resolve("a/net", undefined, isPublic))).toBe("model_not_found");
    expect(code(() => catalogue.resolve("a/net", 1, isPublic))).toBe("model_not_found");
    expect(code(() => catalogue.resolve("a/net", 2, isPublic))).toBe("model_not_found");
    expect(() => catalogue.resolve("b/net", undefined, isPublic)).toThrow(expect.objectContaining({ hints: [] }));
    catalogue.apply(claims("a/net", 1, "deprecate", { visibility: "private" }), 2);
    expect(code(() => catalogue.resolve("a/net", undefined, isPublic))).toBe("model_not_found");
    // One public version beside it: the bare name still means the private one, and the hint tells of the public one.
    catalogue.apply(claims("a/net", 2), 3);
    catalogue.apply(claims("a/net", 1, "rollback", { visibility: "private" }), 4);
    expect(code(() => catalogue.resolve("a/net", undefined, isPublic))).toBe("model_not_found");
    expect(catalogue.resolve("a/net", 2, isPublic).version).toBe(2);
    expect(() => catalogue.resolve("a/net", 1, isPublic)).toThrow(expect.objectContaining({ hints: ["It has: 2."] }));
  });

  test("a hint lists a few of many versions", () => {
    const catalogue = createCatalogue();
    for (let version = 1; version <= 100; version++) catalogue.apply(claims("a/net", version), version);
    expect(() => catalogue.resolve("a/net", 101)).toThrow(
      expect.objectContaining({ hints: [expect.stringMatching(/^It has: …, 85, .*, 100\.$/)] }),
    );
  });
});

describe("names", () => {
  test.each([
    ["a/b", { name: "a/b" }],
    ["a/b@1", { name: "a/b", version: 1 }],
    ["a/b@999999999", { name: "a/b", version: 999_999_999 }],
    ["0123456789abcdef/net.v2-x_y", { name: "0123456789abcdef/net.v2-x_y" }],
  ])("%s", (text, expected) => {
    expect(parseModelName(text)).toEqual(expected);
  });

  test.each([
    "",
    "a",
    "a/",
    "/b",
    "a/b/c",
    "A/b",
    "a/b@",
    "a/b@0",
    "a/b@01",
    "a/b@1e2",
    "a/b@-1",
    "a/b@1@2",
    "a/b@1000000000",
    "a/ b",
    "a/b\n",
    "a/../b",
    "-a/b",
    "a/.b",
  ])("%j is refused", (text) => {
    expect(code(() => parseModelName(text))).toBe("model_name_invalid");
  });

  test("whatever the text, a name comes back as it was or is refused", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z0-9./@_-]{1,20}$/)), (text) => {
        try {
          const { name, version } = parseModelName(text);
          expect(version === undefined ? name : `${name}@${version}`).toBe(text);
        } catch (error) {
          expect((error as { code: string }).code).toBe("model_name_invalid");
        }
      }),
    );
  });
});
