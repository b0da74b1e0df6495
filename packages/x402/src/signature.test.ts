import fc from "fast-check";
import {
  getAddress,
  hexToBytes,
  keccak256,
  parseErc6492Signature,
  recoverAddress,
  serializeErc6492Signature,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, test } from "vitest";
import { checksumAddress, toHex } from "./hex.ts";
import { nobleEvmSigner, nobleEvmSuite as suite } from "./noble.ts";
import { isErc6492, isSignedBy, judgeSigner, unwrapErc6492, wrapErc6492 } from "./signature.ts";
import type { Address } from "./types.ts";

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const address = bytes(20).map((value) => toHex(value) as Address);
const secret = bytes(32).filter((key) => key.some((byte) => byte !== 0) && key[0] !== 255);

describe("the suite and signer in pure JavaScript", () => {
  test("hash, recover and sign as viem does", async () => {
    await fc.assert(
      fc.asyncProperty(secret, bytes(32), async (key, digest) => {
        const signer = nobleEvmSigner(key);
        const account = privateKeyToAccount(toHex(key));
        expect(signer.address).toBe(account.address.toLowerCase());
        const signature = await signer.signDigest(digest);
        expect(toHex(signature)).toBe(await account.sign({ hash: toHex(digest) }));
        expect(isSignedBy(suite, signer.address, digest, signature)).toBe(true);
        expect(toHex(suite.keccak256(digest))).toBe(keccak256(digest));
      }),
      { numRuns: 10 },
    );
  });

  test("agree with viem on signatures that were damaged", async () => {
    const signer = nobleEvmSigner(new Uint8Array(32).fill(5));
    const digest = new Uint8Array(32).fill(9);
    const good = await signer.signDigest(digest);
    await fc.assert(
      fc.asyncProperty(fc.nat(63), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const damaged = good.slice();
        damaged[at] = damaged[at]! ^ change;
        const theirs = await recoverAddress({ hash: toHex(digest), signature: toHex(damaged) }).catch(() => undefined);
        const recovered = suite.recover(digest, damaged.subarray(0, 64), damaged[64] === 28 ? 1 : 0);
        expect(recovered && toHex(recovered)).toBe(theirs?.toLowerCase());
        expect(isSignedBy(suite, signer.address, digest, damaged)).toBe(false);
      }),
      { numRuns: 40 },
    );
  });

  test("take no key out of range, and no point that is none", () => {
    const order = hexToBytes("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    for (const key of [new Uint8Array(32), order, new Uint8Array(31).fill(1), new Uint8Array(33).fill(1)]) {
      expect(() => nobleEvmSigner(key)).toThrow(expect.objectContaining({ code: "evm_key_invalid" }));
    }
    const zero = new Uint8Array(64);
    expect(suite.recover(zero.subarray(0, 32), zero, 0)).toBeUndefined();
    expect(suite.recover(zero.subarray(0, 32), new Uint8Array(64).fill(255), 1)).toBeUndefined();
  });

  test("a key that is changed after the signer was made does not change it", async () => {
    const key = new Uint8Array(32).fill(5);
    const signer = nobleEvmSigner(key);
    key.fill(6);
    const digest = new Uint8Array(32).fill(1);
    expect(isSignedBy(suite, signer.address, digest, await signer.signDigest(digest))).toBe(true);
  });
});

test("addresses are spelt with their checksum (EIP-55)", () => {
  fc.assert(
    fc.property(address, (value) => {
      expect(checksumAddress(suite, value)).toBe(getAddress(value));
    }),
    { numRuns: 50 },
  );
});

describe("accounts that are not deployed (ERC-6492)", () => {
  const blob = fc.uint8Array({ maxLength: 200 });

  test("are wrapped and unwrapped as viem does", () => {
    fc.assert(
      fc.property(address, blob, blob, (factory, calldata, signature) => {
        const wrapped = serializeErc6492Signature({
          address: factory,
          data: toHex(calldata),
          signature: toHex(signature),
        });
        expect(toHex(wrapErc6492({ factory, calldata }, signature))).toBe(wrapped);
        expect(isErc6492(hexToBytes(wrapped))).toBe(true);
        expect(unwrapErc6492(hexToBytes(wrapped))).toEqual({ factory, calldata, signature });
      }),
    );
  });

  test("whatever stands before the suffix is unwrapped as viem does, or refused", () => {
    const wrapped = wrapErc6492(
      { factory: "0x1111111111111111111111111111111111111111", calldata: new Uint8Array(40) },
      new Uint8Array(65),
    );
    fc.assert(
      fc.property(fc.nat(wrapped.length - 33), fc.nat(255), fc.nat(wrapped.length - 32), (at, value, cut) => {
        for (const changed of [wrapped.slice(), wrapped.slice(cut)]) {
          if (at < changed.length - 32) changed[at] = value;
          let own: ReturnType<typeof unwrapErc6492>;
          try {
            own = unwrapErc6492(changed);
          } catch (error) {
            expect(error).toMatchObject({ code: "payment_malformed" });
            continue;
          }
          const theirs = parseErc6492Signature(toHex(changed));
          expect(theirs.address?.toLowerCase()).toBe(own.factory);
          expect([theirs.data, theirs.signature]).toEqual([toHex(own.calldata), toHex(own.signature)]);
        }
      }),
      { numRuns: 300 },
    );
    expect(() => unwrapErc6492(new Uint8Array(65))).toThrow(/ERC-6492/);
  });

  test("are judged by what is known of them", () => {
    const account: Address = "0x2222222222222222222222222222222222222222";
    const factory: Address = "0x1111111111111111111111111111111111111111";
    const zero: Address = "0x0000000000000000000000000000000000000000";
    const digest = new Uint8Array(32);
    const judge = (
      signature: Uint8Array,
      code: "none" | "some" | "unknown",
      deployable = true,
      factories = [factory],
    ) => judgeSigner(suite, { account, digest, signature }, { code, deployable, factories });
    const wrapped = wrapErc6492({ factory, calldata: new Uint8Array([1]) }, new Uint8Array([2]));
    expect(judge(wrapped, "none")).toMatchObject({ signer: "undeployed", deployment: { factory } });
    expect(judge(wrapped, "unknown")).toMatchObject({ signer: "undeployed" });
    expect(judge(wrapped, "some")).toMatchObject({ signer: "contract", question: { signature: new Uint8Array([2]) } });
    expect(judge(wrapped, "none", true, [])).toEqual({ signer: "refused", why: "factory" });
    expect(judge(wrapped, "none", false)).toEqual({ signer: "refused", why: "signature" });
    expect(judge(wrapped, "unknown", false)).toMatchObject({ signer: "contract" });
    const refused = { signer: "refused", why: "signature" };
    expect(judge(wrapErc6492({ factory, calldata: new Uint8Array() }, new Uint8Array()), "none")).toEqual(refused);
    expect(
      judge(wrapErc6492({ factory: zero, calldata: new Uint8Array() }, new Uint8Array(1)), "none", true, [zero]),
    ).toEqual(refused);
    expect(judge(wrapped.subarray(wrapped.length - 32), "some")).toEqual(refused);
    expect(judge(new Uint8Array(), "unknown")).toEqual(refused);
    expect(judge(new Uint8Array(65), "none")).toEqual(refused);
    expect(judge(new Uint8Array(65), "unknown")).toMatchObject({ signer: "contract" });
  });
});
