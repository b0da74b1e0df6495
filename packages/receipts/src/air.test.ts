import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { CborTag, bytesToHex, decodeCbor, encodeCbor } from "@assay/core";
import type { CborMap, CborValue } from "@assay/core";
import { ed25519Signer, mlDsa44Signer, nodeSuite } from "@assay/driver-crypto";
import { MOCK_TIME_MS, fixedSeed, makeReceipt } from "@assay/testkit";
import {
  AIR_MAX_BYTES,
  AIR_MAX_TEXT_BYTES,
  AIR_PROFILE,
  airClaims,
  exportAir,
  verifyAir,
  viewReceipt,
} from "./index.ts";
import type { AirPolicy, AirVerdict, ExecutionClaims, ReceiptView } from "./index.ts";

const signer = ed25519Signer(fixedSeed("an enclave"));
const viewOf = async (execution: Partial<ExecutionClaims> = {}): Promise<ReceiptView> => {
  const taken = viewReceipt(nodeSuite, (await makeReceipt({ kind: "tee", mlDsa: false, execution })).bytes);
  if ("fault" in taken) throw new Error(taken.fault.message);
  return taken.view;
};
const view = await viewOf();
const exported = await exportAir(view, signer);
const verify = (bytes: Uint8Array, policy: AirPolicy = {}, publicKey = signer.publicKey): Promise<AirVerdict> =>
  verifyAir(bytes, { publicKey, suite: nodeSuite, now: MOCK_TIME_MS + 60_000, policy });

/** The exported receipt with one part changed, signed again unless told otherwise. */
async function changed(change: {
  header?: (map: Map<number | string, CborValue>) => void;
  unprotected?: CborMap;
  claims?: (map: Map<number | string, CborValue>) => void;
  payload?: CborValue;
  signature?: CborValue;
  tag?: number;
}): Promise<Uint8Array> {
  const parts = (decodeCbor(exported) as CborTag).value as readonly CborValue[];
  const header = new Map(decodeCbor(parts[0] as Uint8Array) as CborMap);
  change.header?.(header);
  const claims = new Map(decodeCbor(parts[2] as Uint8Array) as CborMap);
  change.claims?.(claims);
  const protectedBytes = encodeCbor(header);
  const payload = change.payload === undefined ? encodeCbor(claims) : change.payload;
  const signature =
    change.signature ?? (await signer.sign(encodeCbor(["Signature1", protectedBytes, new Uint8Array(), payload])));
  const body = [protectedBytes, change.unprotected ?? new Map(), payload, signature];
  return change.tag === 0 ? encodeCbor(body) : encodeCbor(new CborTag(change.tag ?? 18, body));
}

describe("export", () => {
  test("of a tee receipt verifies, and its claims are the execution's", async () => {
    const verdict = await verify(exported);
    expect(verdict.status, JSON.stringify(verdict.rows)).toBe("verified");
    const { claims, statement } = view.execution;
    expect(verdict.claims).toEqual({
      iss: statement.header.issuer,
      iat: statement.header.issuedAtS,
      cti: claims.receiptId,
      model_id: claims.modelName,
      model_version: claims.modelVersion,
      model_hash: claims.modelDigest,
      model_hash_scheme: "sha256-manifest",
      request_hash: claims.requestRoot,
      response_hash: claims.responseRoot,
      attestation_doc_hash: claims.evidenceDigest,
      enclave_measurements: claims.measurements,
      policy_version: claims.policyVersion,
      sequence_number: statement.header.seq,
      execution_time_ms: 81,
      memory_peak_mb: 900,
      security_mode: "production",
    });
    expect(verdict.doesNotProve).toMatch(/\.$/);
  });

  test("begins with the tag, four parts and the two-entry header of the profile", () => {
    expect(bytesToHex(exported.subarray(0, 9))).toBe("d28446a2012703183d");
    expect(new TextDecoder("latin1").decode(exported)).toContain(AIR_PROFILE);
  });

  test("carries the client's nonce", async () => {
    const nonce = new Uint8Array(16).fill(5);
    const bytes = await exportAir(await viewOf({ clientNonce: nonce }), signer);
    expect((await verify(bytes, { nonce: bytesToHex(nonce) })).status).toBe("verified");
    expect((await verify(bytes, { nonce: "00".repeat(16) })).code).toBe("NONCE_MISMATCH");
  });

  test.each([
    [{ measurements: undefined }, "measurements"],
    [{ measurements: { measurement_type: "sev-snp" } }, "measurements"],
    [{ measurements: { measurement_type: "nitro-pcr", pcr0: new Uint8Array(48) } }, "measurements"],
    [{ measurements: { ...view.execution.claims.measurements, pcr0: new Uint8Array(47) } }, "measurements"],
    [{ measurements: { ...view.execution.claims.measurements, pcr9: new Uint8Array(48) } }, "measurements"],
    [
      {
        measurements: {
          ...view.execution.claims.measurements,
          measurement_type: "tdx-mrtd-rtmr",
          pcr8: new Uint8Array(48),
        },
      },
      "measurements",
    ],
    [{ policyVersion: undefined }, "policyVersion"],
    [{ policyVersion: "" }, "policyVersion"],
    [{ engineUs: undefined }, "engineUs"],
    [{ memoryPeakMb: undefined }, "memoryPeakMb"],
    [{ securityMode: undefined }, "securityMode"],
    [{ modelName: undefined }, "modelName"],
    [{ modelVersion: undefined }, "modelVersion"],
    [{ modelDigest: new Uint8Array(32) }, "modelDigest"],
    [{ receiptId: new Uint8Array(16) }, "receiptId"],
    [{ evidenceDigest: undefined }, "evidenceDigest"],
    [{ mode: "vanilla" }, "mode tee"],
  ])("refuses %j", (change, named) => {
    const claims = { ...view.execution.claims, ...change } as ExecutionClaims;
    expect(() => airClaims(view.execution.statement, claims)).toThrow(
      expect.objectContaining({ code: "air_requires_tee", message: expect.stringContaining(named) as string }),
    );
  });

  test("names everything that a vanilla receipt lacks at once", async () => {
    const taken = viewReceipt(nodeSuite, (await makeReceipt({ mlDsa: false })).bytes);
    if ("fault" in taken) throw new Error(taken.fault.message);
    await expect(exportAir(taken.view, signer)).rejects.toThrow(
      /mode tee, evidenceDigest, measurements.*policyVersion, memoryPeakMb, securityMode/,
    );
  });

  test("refuses a signer that is not Ed25519", async () => {
    await expect(exportAir(view, mlDsa44Signer(fixedSeed("a")))).rejects.toMatchObject({
      code: "signer_algorithm_mismatch",
    });
  });
});

const hash = (fill: number) => new Uint8Array(32).fill(fill);
const measured = (change: (map: Map<number | string, CborValue>) => void) => ({
  claims: (claims: Map<number | string, CborValue>) => {
    const map = new Map(claims.get(-65543) as CborMap);
    change(map);
    claims.set(-65543, map);
  },
});
const set = (key: number, value: CborValue) => ({
  claims: (map: Map<number | string, CborValue>) => void map.set(key, value),
});
const drop = (key: number) => ({ claims: (map: Map<number | string, CborValue>) => void map.delete(key) });

type Change = Parameters<typeof changed>[0];
const refusals: readonly (readonly [string, Change, 1 | 2 | 3, string])[] = [
  ["no tag", { tag: 0 }, 1, "COSE_DECODE_FAILED"],
  ["another tag", { tag: 17 }, 1, "COSE_DECODE_FAILED"],
  ["an unprotected kid", { unprotected: new Map([[4, new Uint8Array(8)]]) }, 1, "NON_EMPTY_UNPROTECTED"],
  ["ES256", { header: (map) => void map.set(1, -7) }, 1, "BAD_ALG"],
  ["the fully specified Ed25519 id", { header: (map) => void map.set(1, -19) }, 1, "BAD_ALG"],
  ["no alg", { header: (map) => void map.delete(1) }, 1, "BAD_ALG"],
  ["another content type", { header: (map) => void map.set(3, 60) }, 1, "BAD_CONTENT_TYPE"],
  ["a third header parameter", { header: (map) => void map.set(4, new Uint8Array(8)) }, 1, "BAD_PROTECTED_HEADER"],
  ["a detached payload", { payload: null }, 1, "MISSING_PAYLOAD"],
  ["an empty payload", { payload: new Uint8Array() }, 1, "MISSING_PAYLOAD"],
  ["a payload that is a list", { payload: encodeCbor([1]) }, 1, "PAYLOAD_NOT_MAP"],
  ["keys out of order", { payload: new Uint8Array([0xa2, 6, 1, 1, 0x61, 0x61]) }, 1, "PAYLOAD_NOT_MAP"],
  ["a key twice", { payload: new Uint8Array([0xa2, 6, 1, 6, 1]) }, 1, "PAYLOAD_NOT_MAP"],
  ["another profile", set(265, "https://spec.cyntrisec.com/air/v2"), 1, "WRONG_PROFILE"],
  ["no profile", drop(265), 1, "WRONG_PROFILE"],
  ["a short signature", { signature: new Uint8Array(63) }, 2, "BAD_SIG_LENGTH"],
  ["a signature of nothing", { signature: new Uint8Array(64) }, 2, "SIG_FAILED"],
  ["an unknown claim", set(-65550, 1), 3, "UNKNOWN_CLAIM"],
  ["a text key", { claims: (map) => void map.set("note", 1) }, 3, "UNKNOWN_CLAIM"],
  ["iat zero", set(6, 0), 3, "ZERO_IAT"],
  ["iat negative", set(6, -1), 3, "WRONG_TYPE"],
  ["iat of 2^53", set(6, 1n << 53n), 3, "WRONG_TYPE"],
  ["a short cti", set(7, new Uint8Array(15).fill(1)), 3, "BAD_CTI_LENGTH"],
  ["cti zero", set(7, new Uint8Array(16)), 3, "BAD_CTI_LENGTH"],
  ["a nonce of 7 bytes", set(10, new Uint8Array(7)), 3, "BAD_NONCE_LENGTH"],
  ["a nonce of 65 bytes", set(10, new Uint8Array(65)), 3, "BAD_NONCE_LENGTH"],
  ["model_hash zero", set(-65539, hash(0)), 3, "ZERO_MODEL_HASH"],
  ["model_hash of 31 bytes", set(-65539, new Uint8Array(31).fill(1)), 3, "BAD_HASH_LENGTH"],
  ["an empty model_id", set(-65537, ""), 3, "BAD_TEXT_LENGTH"],
  ["a model_id past the bound", set(-65537, "a".repeat(AIR_MAX_TEXT_BYTES + 1)), 3, "BAD_TEXT_LENGTH"],
  ["a model_id past the bound in bytes", set(-65537, "é".repeat(AIR_MAX_TEXT_BYTES / 2 + 1)), 3, "BAD_TEXT_LENGTH"],
  ["an issuer that is a number", set(1, 5), 3, "WRONG_TYPE"],
  ["an unknown scheme", set(-65549, "sha512"), 3, "UNKNOWN_MODEL_HASH_SCHEME"],
  ["an unknown security mode", set(-65548, "debug"), 3, "UNKNOWN_SECURITY_MODE"],
  ["measurements that are no map", set(-65543, 1), 3, "WRONG_TYPE"],
  ["measurements without a type", measured((map) => void map.delete("measurement_type")), 3, "UNKNOWN_MTYPE"],
  ["an unknown platform", measured((map) => void map.set("measurement_type", "sev-snp")), 3, "UNKNOWN_MTYPE"],
  [
    "an inherited name as platform",
    measured((map) => void map.set("measurement_type", "toString")),
    3,
    "UNKNOWN_MTYPE",
  ],
  ["a register of 32 bytes", measured((map) => void map.set("pcr1", hash(1))), 3, "BAD_MEASUREMENT_LENGTH"],
  [
    "an optional register of 49 bytes",
    measured((map) => void map.set("pcr8", new Uint8Array(49))),
    3,
    "BAD_MEASUREMENT_LENGTH",
  ],
  ["no pcr2", measured((map) => void map.delete("pcr2")), 3, "MISSING_CLAIM"],
  ["a register that is a text", measured((map) => void map.set("pcr0", "00")), 3, "WRONG_TYPE"],
  ["a register nobody defined", measured((map) => void map.set("pcr9", new Uint8Array(48))), 3, "UNKNOWN_MEASUREMENT"],
  ["a register under a number", measured((map) => void map.set(0, new Uint8Array(48))), 3, "UNKNOWN_MEASUREMENT"],
  [
    "pcr8 on TDX",
    measured((map) => map.set("measurement_type", "tdx-mrtd-rtmr").set("pcr8", new Uint8Array(48))),
    3,
    "UNKNOWN_MEASUREMENT",
  ],
];

describe("import refuses", () => {
  test.each(refusals)("%s", async (_name, change, layer, code) => {
    const verdict = await verify(await changed(change));
    const failed = verdict.rows.filter(({ status }) => status === "fail");
    expect(verdict).toMatchObject({ status: "failed", code, claims: null });
    expect(new Set(failed.map((row) => row.layer))).toEqual(new Set([layer]));
    expect(verdict.rows.every((row) => row.layer <= layer)).toBe(true);
  });

  test.each([1, 6, 7, -65537, -65538, -65539, -65540, -65541, -65542, -65543, -65544, -65545, -65546, -65547, -65548])(
    "a receipt without the claim %d",
    async (key) => {
      expect((await verify(await changed(drop(key)))).code).toBe("MISSING_CLAIM");
    },
  );

  test("another key, and a receipt above the size bound", async () => {
    expect((await verify(exported, {}, ed25519Signer(fixedSeed("other")).publicKey)).code).toBe("SIG_FAILED");
    expect((await verify(exported, {}, new Uint8Array(5))).code).toBe("SIG_FAILED");
    expect((await verify(new Uint8Array(AIR_MAX_BYTES + 1))).code).toBe("RECEIPT_TOO_LARGE");
    expect((await verify(new Uint8Array(AIR_MAX_BYTES))).code).toBe("COSE_DECODE_FAILED");
  });

  test("each byte flipped, cut anywhere, and random bytes, without a throw", async () => {
    for (let at = 0; at < exported.length; at++) {
      const flipped = exported.slice();
      flipped[at] = flipped[at]! ^ (1 << (at % 8));
      expect((await verify(flipped)).status).toBe("failed");
    }
    for (let length = 0; length < exported.length; length += 7)
      expect((await verify(exported.subarray(0, length))).status).toBe("failed");
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => (await verify(bytes)).status === "failed"),
      { numRuns: 200 },
    );
  });
});

describe("what is accepted beside the export", () => {
  test("TDX registers, no scheme, the longest texts, an optional register", async () => {
    const tdx = measured((map) => map.set("measurement_type", "tdx-mrtd-rtmr").set("pcr4", new Uint8Array(48)));
    expect((await verify(await changed(tdx), { platform: "tdx-mrtd-rtmr" })).status).toBe("verified");
    expect((await verify(await changed(drop(-65549)))).status).toBe("verified");
    expect((await verify(await changed(set(1, "i".repeat(AIR_MAX_TEXT_BYTES))))).status).toBe("verified");
  });
});

describe("policy", () => {
  const { claims } = view.execution;
  const good: AirPolicy = {
    maxAgeMs: 120_000,
    modelHash: bytesToHex(claims.modelDigest!),
    modelId: claims.modelName!,
    requestHash: bytesToHex(claims.requestRoot),
    responseHash: bytesToHex(claims.responseRoot),
    attestationDocHash: bytesToHex(claims.evidenceDigest!),
    platform: "nitro-pcr",
    seen: () => false,
  };

  test("that the receipt meets", async () => {
    const verdict = await verify(exported, good);
    expect(verdict.status, JSON.stringify(verdict.rows)).toBe("verified");
    expect(verdict.rows.filter(({ status }) => status === "absent").map(({ check }) => check)).toEqual(["NONCE"]);
  });

  test.each<[AirPolicy, string]>([
    [{ maxAgeMs: 59_000 }, "TIMESTAMP_STALE"],
    [{ modelHash: "00".repeat(32) }, "MODEL_HASH_MISMATCH"],
    [{ modelId: "acme/other" }, "MODEL_ID_MISMATCH"],
    [{ requestHash: "" }, "REQUEST_HASH_MISMATCH"],
    [{ responseHash: "00".repeat(32) }, "RESPONSE_HASH_MISMATCH"],
    [{ attestationDocHash: "00".repeat(32) }, "ATTESTATION_DOC_HASH_MISMATCH"],
    [{ platform: "tdx-mrtd-rtmr" }, "PLATFORM_MISMATCH"],
    [{ nonce: "00".repeat(8) }, "NONCE_MISSING"],
    [{ seen: (cti) => cti === bytesToHex(claims.receiptId) }, "REPLAY_CTI"],
  ])("%j", async (policy, code) => {
    const verdict = await verify(exported, { ...good, ...policy });
    expect(verdict).toMatchObject({ status: "failed", code });
    // The form held, so a caller may still show what was refused.
    expect(verdict.claims?.model_id).toBe(claims.modelName);
  });

  test("an evaluation receipt needs leave, and the future is refused", async () => {
    const evaluation = await changed(set(-65548, "evaluation"));
    expect((await verify(evaluation)).code).toBe("EVALUATION_MODE_REJECTED");
    expect((await verify(evaluation, { allowEvaluation: true })).status).toBe("verified");
    const at = (now: number) => verifyAir(exported, { publicKey: signer.publicKey, suite: nodeSuite, now });
    expect((await at(MOCK_TIME_MS - 300_000)).status).toBe("verified");
    expect((await at(MOCK_TIME_MS - 300_001)).code).toBe("TIMESTAMP_FUTURE");
    expect((await at(Number.NaN)).code).toBe("TIMESTAMP_FUTURE");
  });
});
