import { generateKeyPairSync, sign, webcrypto } from "node:crypto";
import { describe, expect, test } from "vitest";
import { nobleSuite } from "@assay/core/noble";
import type { CryptoSuite } from "@assay/core";
import { ed25519Signer, mlDsa44Signer, nodeSuite } from "@assay/driver-crypto";
import { fixedSeed, makeReceipt } from "@assay/testkit";
import { createVerifier, createWebSuite, lazySuite } from "./index.ts";

const subtle = webcrypto.subtle;
/** A subtle that counts what it is asked, and a fallback that does. */
function counted(broken?: (name: string) => boolean) {
  const calls = { native: 0, imports: 0, fallback: 0 };
  const suite = createWebSuite(
    {
      importKey: (format, key, algorithm, extractable, usages) => {
        calls.imports++;
        if (broken?.(algorithm.name)) return Promise.reject(new Error("NotSupportedError"));
        return subtle.importKey(format, key, algorithm, extractable, usages);
      },
      verify: (algorithm, key, signature, data) => {
        calls.native++;
        return subtle.verify(algorithm, key, signature, data);
      },
    },
    {
      ...nobleSuite,
      verify: (...args) => {
        calls.fallback++;
        return nobleSuite.verify(...args);
      },
    },
  );
  return { suite, calls };
}

const message = new Uint8Array([1, 2, 3]);
const pair = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
const jwk = pair.publicKey.export({ format: "jwk" });
const point = new Uint8Array(
  Buffer.concat([Buffer.from([4]), Buffer.from(jwk.x ?? "", "base64url"), Buffer.from(jwk.y ?? "", "base64url")]),
);
const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
function p256Signature(half: "low" | "high"): Uint8Array {
  const raw = sign("sha256", message, { key: pair.privateKey, dsaEncoding: "ieee-p1363" });
  const s = BigInt(`0x${raw.subarray(32).toString("hex")}`);
  const isLow = s <= order / 2n;
  const out = (half === "low") === isLow ? s : order - s;
  return new Uint8Array(Buffer.concat([raw.subarray(0, 32), Buffer.from(out.toString(16).padStart(64, "0"), "hex")]));
}

describe("a suite on WebCrypto", () => {
  test("asks the platform for Ed25519 after one probe, and imports a key once", async () => {
    const { suite, calls } = counted();
    const signer = ed25519Signer(fixedSeed("web"));
    const signature = await signer.sign(message);
    for (let i = 0; i < 5; i++) expect(await suite.verify("ed25519", signer.publicKey, message, signature)).toBe(true);
    expect(calls).toEqual({ native: 2 + 5, imports: 2, fallback: 0 });
  });

  test("asks the platform for P-256 with an uncompressed key, and the fallback for a compressed one", async () => {
    const { suite, calls } = counted();
    const signature = p256Signature("low");
    expect(await suite.verify("p256", point, message, signature)).toBe(true);
    expect(calls).toMatchObject({ native: 3, fallback: 0 });
    const compressed = new Uint8Array([2 + ((point[64] ?? 0) & 1), ...point.subarray(1, 33)]);
    expect(await suite.verify("p256", compressed, message, signature)).toBe(true);
    expect(calls).toMatchObject({ native: 3, fallback: 1 });
  });

  test("falls back where the platform lacks an algorithm, asking it once", async () => {
    const { suite, calls } = counted(() => true);
    const signer = ed25519Signer(fixedSeed("web"));
    const signature = await signer.sign(message);
    for (let i = 0; i < 3; i++) expect(await suite.verify("ed25519", signer.publicKey, message, signature)).toBe(true);
    expect(await suite.verify("p256", point, message, p256Signature("low"))).toBe(true);
    expect(calls).toEqual({ native: 0, imports: 2, fallback: 4 });
  });

  test("falls back where the platform says yes to everything, or throws at once", async () => {
    for (const verify of [
      () => Promise.resolve(true),
      () => {
        throw new Error("no");
      },
    ]) {
      const suite = createWebSuite({ importKey: () => Promise.resolve(1), verify }, nobleSuite);
      const signer = ed25519Signer(fixedSeed("web"));
      expect(await suite.verify("ed25519", signer.publicKey, message, await signer.sign(message))).toBe(true);
      expect(await suite.verify("ed25519", signer.publicKey, message, new Uint8Array(64))).toBe(false);
    }
  });

  test("takes ML-DSA-44 and hashes from the fallback", async () => {
    const { suite, calls } = counted();
    const signer = mlDsa44Signer(fixedSeed("web"));
    expect(await suite.verify("ml-dsa-44", signer.publicKey, message, await signer.sign(message))).toBe(true);
    expect(calls).toEqual({ native: 0, imports: 0, fallback: 1 });
    expect(suite.sha256(message, message)).toEqual(nobleSuite.sha256(message, message));
  });

  const suites: CryptoSuite[] = [createWebSuite(subtle, nobleSuite), nodeSuite, nobleSuite];
  test.each(suites)("$name refuses what the others refuse", async (suite) => {
    const signer = ed25519Signer(fixedSeed("web"));
    const signature = new Uint8Array(await signer.sign(message));
    const raised = signature.slice();
    const groupOrder = 2n ** 252n + 27742317777372353535851937790883648493n;
    let s = raised.subarray(32).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n) + groupOrder;
    for (let i = 32; i < 64; i++, s >>= 8n) raised[i] = Number(s & 0xffn);
    const flipped = signature.map((byte, i) => (i === 40 ? byte ^ 1 : byte));
    expect(await suite.verify("ed25519", signer.publicKey, message, signature)).toBe(true);
    expect(await suite.verify("p256", point, message, p256Signature("low"))).toBe(true);
    for (const refused of [
      suite.verify("ed25519", signer.publicKey, message, raised),
      suite.verify("ed25519", signer.publicKey, message, flipped),
      suite.verify("ed25519", signer.publicKey, message.subarray(1), signature),
      suite.verify("ed25519", signer.publicKey, message, signature.subarray(1)),
      suite.verify("ed25519", signer.publicKey.subarray(1), message, signature),
      suite.verify("ed25519", new Uint8Array(32).fill(0xff), message, signature),
      suite.verify("p256", point, message, p256Signature("high")),
      suite.verify("p256", point.subarray(1), message, p256Signature("low")),
      suite.verify("p256", new Uint8Array(65).fill(4), message, p256Signature("low")),
      suite.verify("p256", point, message, new Uint8Array(64)),
      suite.verify("p256", point, message, p256Signature("low").subarray(1)),
      suite.verify("ed25519", point, message, p256Signature("low")),
      suite.verify("rsa" as "p256", point, message, signature),
    ])
      expect(await refused).toBe(false);
  });

  test("loads a lazy fallback once and only when it is needed, and again after a failure", async () => {
    let loads = 0;
    const fallback = lazySuite(nobleSuite.sha256, () => {
      loads++;
      return loads === 1 ? Promise.reject(new Error("offline")) : Promise.resolve(nobleSuite);
    });
    const suite = createWebSuite(subtle, fallback);
    const ed25519 = ed25519Signer(fixedSeed("web"));
    expect(await suite.verify("ed25519", ed25519.publicKey, message, await ed25519.sign(message))).toBe(true);
    expect(loads).toBe(0);
    const signer = mlDsa44Signer(fixedSeed("web"));
    const signature = await signer.sign(message);
    const verify = () => suite.verify("ml-dsa-44", signer.publicKey, message, signature);
    expect(await verify()).toBe(false);
    expect(await verify()).toBe(true);
    expect(await verify()).toBe(true);
    expect(loads).toBe(2);
  });

  test("verifies a receipt as the native suite does", async () => {
    const { bytes, trust, now } = await makeReceipt();
    const [web, native] = await Promise.all(
      [createWebSuite(subtle, nobleSuite), nodeSuite].map((suite) => createVerifier({ trust, suite })(bytes, now)),
    );
    expect(web).toEqual(native);
    expect(web?.status).toBe("verified");
  });
});
