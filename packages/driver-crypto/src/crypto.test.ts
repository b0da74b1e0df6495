import { generateKeyPairSync, sign } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { nobleSuite } from "@assay/core/noble";
import { p256 } from "@noble/curves/nist.js";
import { ed25519Signer, mlDsa44Signer, nodeSuite, openKeystore, randomSeed } from "./index.ts";

const directory = mkdtempSync(join(tmpdir(), "assay-keys-"));
afterAll(() => rmSync(directory, { recursive: true }));
const message = new Uint8Array([1, 2, 3]);

describe.each([nodeSuite, nobleSuite])("suite $name", (suite) => {
  test.each(["ed25519", "ml-dsa-44"] as const)("%s verifies its own and nothing else", async (algorithm) => {
    const signer = algorithm === "ed25519" ? ed25519Signer(randomSeed()) : mlDsa44Signer(randomSeed());
    const signature = await signer.sign(message);
    expect(await suite.verify(algorithm, signer.publicKey, message, signature)).toBe(true);
    expect(await suite.verify(algorithm, signer.publicKey, new Uint8Array([1, 2, 4]), signature)).toBe(false);
    const flipped = signature.slice();
    flipped[9] = (flipped[9] ?? 0) ^ 1;
    expect(await suite.verify(algorithm, signer.publicKey, message, flipped)).toBe(false);
    expect(await suite.verify(algorithm, signer.publicKey, message, signature.subarray(1))).toBe(false);
    expect(await suite.verify(algorithm, signer.publicKey.subarray(1), message, signature)).toBe(false);
  });

  test("p256 takes compressed and uncompressed keys and refuses a high s", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
    const jwk = publicKey.export({ format: "jwk" });
    const point = Buffer.concat([Buffer.from([4]), Buffer.from(jwk.x!, "base64url"), Buffer.from(jwk.y!, "base64url")]);
    const compressed = p256.Point.fromHex(point.toString("hex")).toBytes(true);
    const raw = sign("sha256", message, { key: privateKey, dsaEncoding: "ieee-p1363" });
    const order = p256.Point.Fn.ORDER;
    const s = BigInt(`0x${raw.subarray(32).toString("hex")}`);
    const withS = (value: bigint) =>
      Buffer.concat([raw.subarray(0, 32), Buffer.from(value.toString(16).padStart(64, "0"), "hex")]);
    const low = s > order / 2n ? order - s : s;
    expect(await suite.verify("p256", point, message, withS(low))).toBe(true);
    expect(await suite.verify("p256", compressed, message, withS(low))).toBe(true);
    expect(await suite.verify("p256", compressed, message, withS(order - low))).toBe(false);
  });

  test("an Ed25519 signature with s + L is refused", async () => {
    const signer = ed25519Signer(randomSeed());
    const signature = await signer.sign(message);
    const L = 2n ** 252n + 27742317777372353535851937790883648493n;
    let s = 0n;
    for (let i = 63; i >= 32; i--) s = (s << 8n) | BigInt(signature[i]!);
    s += L;
    const forged = signature.slice();
    for (let i = 32; i < 64; i++) {
      forged[i] = Number(s & 0xffn);
      s >>= 8n;
    }
    expect(await suite.verify("ed25519", signer.publicKey, message, forged)).toBe(false);
  });
});

describe("keystore", () => {
  test("makes a key once, keeps it, and writes it 0600", () => {
    const store = openKeystore(directory);
    const first = store.signer("node", "ed25519");
    expect(openKeystore(directory).signer("node", "ed25519").publicKey).toEqual(first.publicKey);
    expect(store.signer("other", "ed25519").publicKey).not.toEqual(first.publicKey);
    expect(statSync(join(directory, "node.key")).mode & 0o777).toBe(0o600);
    expect(store.secret("openings")).toHaveLength(32);
    expect(store.secret("openings")).toEqual(new Uint8Array(readFileSync(join(directory, "openings.key"))));
  });

  test("refuses a key file that others can read, or of another size", () => {
    const store = openKeystore(directory);
    writeFileSync(join(directory, "open.key"), new Uint8Array(32));
    chmodSync(join(directory, "open.key"), 0o644);
    expect(() => store.signer("open", "ed25519")).toThrow(expect.objectContaining({ code: "key_file_permissions" }));
    writeFileSync(join(directory, "short.key"), new Uint8Array(31), { mode: 0o600 });
    expect(() => store.signer("short", "ed25519")).toThrow(expect.objectContaining({ code: "key_file_invalid" }));
  });
});
