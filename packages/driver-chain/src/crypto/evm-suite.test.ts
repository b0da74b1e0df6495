import { randomBytes } from "node:crypto";
import { bytesToHex, hexToBytes } from "@assay/core";
import fc from "fast-check";
import { keccak256, recoverAddress } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import { addressOf, evmSigner, evmSignerOn, evmSuiteOn, nativeEvmSuite } from "./evm-suite.ts";
import { loadNative } from "./native.ts";

const native = loadNative();
const code = (value: string): object => expect.objectContaining({ code: value }) as object;
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

describe("the suite", () => {
  it("says what it computes with, and falls back when no binding loads", () => {
    expect(nativeEvmSuite().backend).toBe(native === undefined ? "noble" : "libsecp256k1");
    expect(evmSuiteOn(undefined).backend).toBe("noble");
    const missing = () => {
      throw new Error("No native build was found");
    };
    expect(loadNative(missing)).toBeUndefined();
    expect(loadNative(() => ({ ecdsaSign: true }))).toBeUndefined();
  });

  it("hashes as Ethereum does", () => {
    for (const input of [new Uint8Array(), randomBytes(1), randomBytes(200)])
      expect(`0x${bytesToHex(nativeEvmSuite().keccak256(input))}`).toBe(keccak256(input));
  });

  it("recovers the signer of a digest, native and noble alike, and as viem does", async () => {
    const key = randomBytes(32);
    const digest = randomBytes(32);
    const signature = await evmSigner(key).signDigest(digest);
    for (const suite of [evmSuiteOn(native), evmSuiteOn(undefined)]) {
      const found = suite.recover(digest, signature.subarray(0, 64), signature[64] === 28 ? 1 : 0);
      expect(`0x${bytesToHex(found!)}`).toBe(addressOf(key));
    }
    const byViem = await recoverAddress({ hash: digest, signature: `0x${bytesToHex(signature)}` });
    expect(byViem.toLowerCase()).toBe(addressOf(key));
  });

  it("decides alike on arbitrary digests and signatures, high s included", () => {
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const extremes = [0n, 1n, order / 2n, order / 2n + 1n, order - 1n, order, 2n ** 256n - 1n].map((value) =>
      hexToBytes(value.toString(16).padStart(64, "0")),
    );
    const scalar = fc.oneof(bytes(32), fc.constantFrom(...extremes));
    fc.assert(
      fc.property(bytes(32), scalar, scalar, fc.constantFrom(0 as const, 1 as const), (digest, r, s, recovery) => {
        const signature = new Uint8Array([...r, ...s]);
        const a = evmSuiteOn(native).recover(digest, signature, recovery);
        const b = evmSuiteOn(undefined).recover(digest, signature, recovery);
        expect(a && bytesToHex(a)).toBe(b && bytesToHex(b));
      }),
      { numRuns: 200 },
    );
  });

  it("gives nothing for lengths that no signature or digest has", () => {
    for (const suite of [evmSuiteOn(native), evmSuiteOn(undefined)]) {
      expect(suite.recover(new Uint8Array(31), new Uint8Array(64).fill(1), 0)).toBeUndefined();
      expect(suite.recover(new Uint8Array(32), new Uint8Array(65).fill(1), 0)).toBeUndefined();
      expect(suite.recover(new Uint8Array(32), new Uint8Array(64), 0)).toBeUndefined();
    }
  });
});

describe("a signer", () => {
  it("signs as viem does, with either backend", async () => {
    for (let i = 0; i < 8; i++) {
      const key = randomBytes(32);
      const digest = randomBytes(32);
      const account = privateKeyToAccount(`0x${bytesToHex(key)}`);
      const theirs = await account.sign({ hash: `0x${bytesToHex(digest)}` });
      for (const signer of [evmSignerOn(native, key), evmSignerOn(undefined, key)]) {
        expect(signer.address).toBe(account.address.toLowerCase());
        expect(`0x${bytesToHex(await signer.signDigest(digest))}`).toBe(theirs);
      }
    }
  });

  it("keeps its own copy of the key", async () => {
    const key = randomBytes(32);
    const signer = evmSigner(key);
    const before = await signer.signDigest(new Uint8Array(32).fill(7));
    key.fill(1);
    expect(await signer.signDigest(new Uint8Array(32).fill(7))).toEqual(before);
  });

  it("refuses what is no key, and what is no digest", async () => {
    const order = hexToBytes("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    for (const key of [new Uint8Array(32), order, new Uint8Array(31).fill(1), new Uint8Array(33).fill(1)]) {
      expect(() => evmSigner(key)).toThrow(code("evm_key_invalid"));
      expect(() => addressOf(key)).toThrow(code("evm_key_invalid"));
    }
    await expect(evmSigner(randomBytes(32)).signDigest(new Uint8Array(31))).rejects.toThrow(code("evm_digest_invalid"));
  });
});
