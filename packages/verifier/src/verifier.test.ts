import { describe, expect, test } from "vitest";
import { nodeSuite } from "@assay/driver-crypto";
import { nobleSuite } from "@assay/core/noble";
import { EMPTY_TRUST, encodeBundle, verifyReceipt } from "@assay/receipts";
import type { CheckModules } from "@assay/receipts";
import { MOCK_KINDS, makeReceipt } from "@assay/testkit";
import { createVerifier } from "./index.ts";

const pass = () => Promise.resolve({ status: "pass" as const, code: "ok", message: "Checked.", facts: {} });
const others: Omit<CheckModules, "log"> = { attestation: pass, proof: pass };

describe("every kind of receipt the format must carry", () => {
  test.each(MOCK_KINDS)("%s", async (kind) => {
    const { bytes, trust, now } = await makeReceipt({ kind });
    const verdict = await createVerifier({ trust, suite: nodeSuite, checks: others })(bytes, now);
    const expected = kind === "zkml-pending" ? "inconclusive" : "verified";
    expect(verdict, JSON.stringify(verdict, null, 1)).toMatchObject({ status: expected });
    if (kind === "zkml-pending") expect(verdict.code).toBe("proof_pending");
    for (const sentence of Object.values(verdict.answers)) expect(sentence).toMatch(/\.$/);
  });

  test("the noble suite reaches the same verdict", async () => {
    const { bytes, trust, now } = await makeReceipt();
    const [native, pure] = await Promise.all(
      [nodeSuite, nobleSuite].map((suite) => createVerifier({ trust, suite })(bytes, now)),
    );
    expect(pure).toEqual(native);
    expect(pure?.status).toBe("verified");
  });
});

describe("a check that could not be made is never a pass", () => {
  test("tee without an attestation check, zkml without a proof check", async () => {
    for (const [kind, code] of [
      ["tee", "attestation_unchecked"],
      ["zkml", "proof_unchecked"],
    ] as const) {
      const { bytes, trust, now } = await makeReceipt({ kind });
      expect(await createVerifier({ trust, suite: nodeSuite })(bytes, now)).toMatchObject({
        status: "inconclusive",
        code,
      });
    }
  });

  test("a bundle without log proofs", async () => {
    const { bundle, trust, now } = await makeReceipt();
    const { log: _log, checkpoints: _checkpoints, ...rest } = bundle;
    const verdict = await createVerifier({ trust, suite: nodeSuite })(encodeBundle(rest), now);
    expect(verdict).toMatchObject({ status: "inconclusive", code: "not_logged" });
  });

  test("a check that breaks on what it is given", async () => {
    const broken = () => Promise.reject(new Error("out of its depth"));
    const tee = await makeReceipt({ kind: "tee" });
    const verdict = await createVerifier({ trust: tee.trust, suite: nodeSuite, checks: { attestation: broken } })(
      tee.bytes,
      tee.now,
    );
    expect(verdict).toMatchObject({ status: "inconclusive", code: "check_broke" });
    const plain = await makeReceipt();
    const options = { trust: plain.trust, suite: nodeSuite, now: plain.now, checks: { log: broken } };
    expect(await verifyReceipt(plain.bytes, options)).toMatchObject({ status: "inconclusive", code: "check_broke" });
  });

  test("a payment that the policy wants checked", async () => {
    const { bytes, trust, now } = await makeReceipt({ kind: "paid-chat" });
    const verdict = await createVerifier({ trust, suite: nodeSuite, policy: { require: ["payment"] } })(bytes, now);
    expect(verdict).toMatchObject({ status: "inconclusive", code: "payment_unchecked" });
  });
});

describe("trust is an argument", () => {
  test("a wholly forged bundle is inconclusive, whatever it says of itself", async () => {
    const { trust } = await makeReceipt();
    const forged = await makeReceipt({ nodeName: "mallory", gatewayName: "mallet", origin: "mallory.example/log" });
    const verdict = await createVerifier({ trust, suite: nodeSuite })(forged.bytes, forged.now);
    expect(verdict).toMatchObject({ status: "inconclusive", code: "keyset_not_trusted" });
    expect(verdict.checks.find(({ check }) => check === "log")).toMatchObject({
      status: "inconclusive",
      code: "log_not_trusted",
    });
    expect((await createVerifier({ trust: EMPTY_TRUST, suite: nodeSuite })(forged.bytes, forged.now)).status).toBe(
      "inconclusive",
    );
  });

  test("trusted keys in an untrusted log, and the reverse, are inconclusive", async () => {
    const { bytes, trust, now } = await makeReceipt();
    for (const partial of [
      { ...trust, logs: [] },
      { ...trust, identities: [] },
      { ...trust, identities: trust.identities.slice(1) },
    ]) {
      expect((await createVerifier({ trust: partial, suite: nodeSuite })(bytes, now)).status).toBe("inconclusive");
    }
  });

  test("keysets can be pinned by digest instead of by identity", async () => {
    const { bytes, trust, now, node, gateway } = await makeReceipt();
    const keysets = [node, gateway].map(({ keyset }) => Buffer.from(keyset.digest).toString("hex"));
    const verdict = await createVerifier({ trust: { ...trust, identities: [], keysets }, suite: nodeSuite })(
      bytes,
      now,
    );
    expect(verdict.status).toBe("verified");
  });

  test("an identity trusted for another subject vouches for nothing", async () => {
    const { bytes, trust, now } = await makeReceipt();
    const identities = trust.identities.map((identity) => ({ ...identity, subject: "urn:assay:node:other" }));
    expect((await createVerifier({ trust: { ...trust, identities }, suite: nodeSuite })(bytes, now)).code).toBe(
      "keyset_not_trusted",
    );
  });

  test("a revocation counts from its log time on", async () => {
    const { bytes, trust, now, node } = await makeReceipt();
    const key = Buffer.from(node.keyset.digest).toString("hex");
    const revoked = (sinceMs: number) => ({ ...trust, revoked: [{ key, sinceMs, reason: "the key leaked" }] });
    expect((await createVerifier({ trust: revoked(0), suite: nodeSuite })(bytes, now)).code).toBe("keyset_revoked");
    expect((await createVerifier({ trust: revoked(now), suite: nodeSuite })(bytes, now)).status).toBe("verified");
  });

  test("a quorum of witnesses that is not there, and signatures nobody names", async () => {
    const two = await makeReceipt({ witnesses: 2 });
    const one = await makeReceipt({ witnesses: 1 });
    const short = { ...two.trust, logs: two.trust.logs };
    expect((await createVerifier({ trust: short, suite: nodeSuite })(one.bytes, one.now)).code).toBe("quorum_missing");
    const fewer = one.trust;
    expect((await createVerifier({ trust: fewer, suite: nodeSuite })(two.bytes, two.now)).code).toBe(
      "signature_unknown",
    );
    const lenient = { ...fewer, logs: fewer.logs.map((log) => ({ ...log, ignoreUnknownSignatures: true })) };
    expect((await createVerifier({ trust: lenient, suite: nodeSuite })(two.bytes, two.now)).status).toBe("verified");
  });

  test("a checkpoint without the log's post-quantum signature, when that key is pinned", async () => {
    const both = await makeReceipt();
    const only = await makeReceipt({ mlDsa: false });
    expect((await createVerifier({ trust: both.trust, suite: nodeSuite })(only.bytes, only.now)).code).toBe(
      "log_signature_missing",
    );
  });
});

describe("policy", () => {
  test.each([
    [{ modes: ["tee" as const] }, "mode_refused"],
    [{ modelDigest: "00".repeat(32) }, "model_refused"],
    [{ clientNonce: "00".repeat(16) }, "nonce_mismatch"],
    [{ maxAgeMs: 1000 }, "too_old"],
    [{ labels: ["production"] }, "label_refused"],
  ])("%j", async (policy, code) => {
    const { bytes, trust, now } = await makeReceipt();
    expect(await createVerifier({ trust, suite: nodeSuite, policy })(bytes, now)).toMatchObject({
      status: "failed",
      code,
    });
  });

  test("a receipt from the future fails", async () => {
    const { bytes, trust } = await makeReceipt();
    expect((await createVerifier({ trust, suite: nodeSuite })(bytes, 0)).code).toBe("issued_in_future");
  });
});
