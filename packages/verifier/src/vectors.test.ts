import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { nobleSuite } from "@assay/core/noble";
import { nodeSuite } from "@assay/driver-crypto";
import { parseTrust } from "@assay/receipts";
import type { Policy } from "@assay/receipts";
import { vectorsView } from "@assay/testkit";
import { createVerifier } from "./index.ts";

type Published = {
  vectors: {
    name: string;
    receipt: string;
    trust: unknown;
    policy: Policy;
    now: number;
    expect: { status: string; code: string };
  }[];
};
const text = readFileSync(new URL("../../../vectors/receipts.json", import.meta.url), "utf8");
const { vectors } = JSON.parse(text) as Published;

describe("published vectors", () => {
  test("are the ones that the code makes", async () => {
    expect(JSON.parse(text)).toEqual(await vectorsView());
  });

  test("refuse more often than they accept", () => {
    const accepted = vectors.filter(({ expect }) => expect.status === "verified").length;
    expect(vectors.length - accepted).toBeGreaterThan(2 * accepted);
  });

  test.each(vectors)("$name", async ({ receipt, trust, policy, now, expect: expected }) => {
    const bytes = new Uint8Array(Buffer.from(receipt, "base64"));
    for (const suite of [nodeSuite, nobleSuite]) {
      const verdict = await createVerifier({ trust: parseTrust(JSON.stringify(trust)), suite, policy })(bytes, now);
      expect({ status: verdict.status, code: verdict.code }).toEqual(expected);
    }
  });
});
