import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addressOf, decryptKey, encryptKey, writeKeyFile } from "../index.ts";
import {
  MAX_PASSPHRASE_BYTES,
  MAX_PBKDF2_ROUNDS,
  MAX_SCRYPT_MEMORY,
  MAX_SCRYPT_WORK,
  MAX_WALLET_BYTES,
} from "./keystore.ts";

const code = (value: string): object => expect.objectContaining({ code: value }) as object;

// The vector of the Web3 Secret Storage definition for PBKDF2, whose passphrase and key are published with it. Its vector for
// scrypt has an n that RFC 7914 forbids for its r, and OpenSSL with it.
const PASSPHRASE = "testpassword";
const KEY = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
const BY_PBKDF2 = {
  crypto: {
    cipher: "aes-128-ctr",
    cipherparams: { iv: "6087dab2f9fdbbfaddc31a909735c1e6" },
    ciphertext: "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
    kdf: "pbkdf2",
    kdfparams: {
      c: 262144,
      dklen: 32,
      prf: "hmac-sha256",
      salt: "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
    },
    mac: "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
  },
  id: "3198bc9c-6672-5ab3-d995-4942343ae5b6",
  version: 3,
};
const BY_SCRYPT = {
  crypto: {
    cipher: "aes-128-ctr",
    cipherparams: { iv: "83dbcc02d8ccb40e466191a123791e0e" },
    ciphertext: "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
    kdf: "scrypt",
    kdfparams: {
      dklen: 32,
      n: 262144,
      p: 8,
      r: 1,
      salt: "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
    },
    mac: "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
  },
  id: "3198bc9c-6672-5ab3-d995-4942343ae5b6",
  version: 3,
};

type Wallet = { [key: string]: unknown; crypto: { [key: string]: unknown; kdfparams: { [key: string]: unknown } } };

function changed(change: (wallet: Wallet) => unknown, base: object = BY_SCRYPT): string {
  const wallet = structuredClone(base) as Wallet;
  change(wallet);
  return JSON.stringify(wallet);
}

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "assay-wallet-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("a wallet", () => {
  it("opens with its passphrase alone, and hides its key", async () => {
    const key = randomBytes(32);
    const text = await encryptKey(key, "correct horse");
    expect(JSON.parse(text)).toMatchObject({ version: 3, address: addressOf(key).slice(2) });
    expect(text).not.toContain(bytesToHex(key));
    expect(await decryptKey(text, "correct horse")).toEqual(new Uint8Array(key));
    await expect(decryptKey(text, "correct horsf")).rejects.toThrow(code("wallet_passphrase_wrong"));
  });

  it("reads the definition's own vector", async () => {
    expect(bytesToHex(await decryptKey(JSON.stringify(BY_PBKDF2), PASSPHRASE))).toBe(KEY);
    const capital = { ...BY_PBKDF2, Crypto: BY_PBKDF2.crypto, crypto: undefined };
    expect(bytesToHex(await decryptKey(JSON.stringify(capital), PASSPHRASE))).toBe(KEY);
  });

  it("is a file for its owner, replaced as a whole", async () => {
    const path = join(directory, "wallet.json");
    await writeKeyFile(path, "old");
    await writeKeyFile(path, "new");
    expect(readFileSync(path, "utf8")).toBe("new");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(["wallet.json"]);
  });
});

describe("what is refused", () => {
  it("a damaged wallet: its key is not given out wrong", async () => {
    const flip = (hex: unknown): string => `${String(hex).slice(0, -1)}${String(hex).endsWith("0") ? "1" : "0"}`;
    for (const text of [
      changed((wallet) => (wallet.crypto["ciphertext"] = flip(wallet.crypto["ciphertext"])), BY_PBKDF2),
      changed((wallet) => (wallet.crypto["mac"] = flip(wallet.crypto["mac"])), BY_PBKDF2),
      changed((wallet) => (wallet.crypto.kdfparams["salt"] = flip(wallet.crypto.kdfparams["salt"])), BY_PBKDF2),
    ])
      await expect(decryptKey(text, PASSPHRASE)).rejects.toThrow(code("wallet_passphrase_wrong"));
    // The check does not cover the counter, but the address does.
    const moved = changed((wallet) => {
      wallet.crypto["cipherparams"] = { iv: "00".repeat(16) };
      wallet["address"] = "008aeeda4d805471df9b2a5b0f38a0c3bcba786b";
    }, BY_PBKDF2);
    await expect(decryptKey(moved, PASSPHRASE)).rejects.toThrow(code("wallet_invalid"));
  });

  it("documents of another kind, and parameters that would use up the machine", async () => {
    const bad: readonly string[] = [
      "",
      "[]",
      "null",
      "{}",
      `{"version":3,"crypto":${"[".repeat(20)}${"]".repeat(20)}}`,
      " ".repeat(MAX_WALLET_BYTES + 1),
      changed(() => undefined),
      changed((wallet) => (wallet["version"] = 1)),
      changed((wallet) => (wallet.crypto["cipher"] = "aes-128-cbc")),
      changed((wallet) => (wallet.crypto["cipherparams"] = { iv: "00" })),
      changed((wallet) => (wallet.crypto["ciphertext"] = "00".repeat(33))),
      changed((wallet) => (wallet.crypto["ciphertext"] = "zz".repeat(32))),
      changed((wallet) => (wallet.crypto["mac"] = 5)),
      changed((wallet) => (wallet.crypto["kdf"] = "argon2")),
      changed((wallet) => (wallet.crypto.kdfparams["dklen"] = 64)),
      changed((wallet) => (wallet.crypto.kdfparams["n"] = 262_143)),
      changed((wallet) => Object.assign(wallet.crypto.kdfparams, { n: (2 * MAX_SCRYPT_MEMORY) / 1024, r: 8, p: 1 })),
      changed((wallet) => (wallet.crypto.kdfparams["n"] = -2)),
      changed((wallet) => (wallet.crypto.kdfparams["n"] = 1.5)),
      changed((wallet) =>
        Object.assign(wallet.crypto.kdfparams, { n: 2 ** 17, r: 8, p: MAX_SCRYPT_WORK / 2 ** 20 + 1 }),
      ),
      changed((wallet) => (wallet.crypto.kdfparams["r"] = "1")),
      changed((wallet) => (wallet.crypto.kdfparams["salt"] = "")),
      changed((wallet) => (wallet.crypto.kdfparams["c"] = MAX_PBKDF2_ROUNDS + 1), BY_PBKDF2),
      changed((wallet) => (wallet.crypto.kdfparams["c"] = 0), BY_PBKDF2),
      changed((wallet) => (wallet.crypto.kdfparams["prf"] = "hmac-md5"), BY_PBKDF2),
    ];
    for (const text of bad) await expect(decryptKey(text, PASSPHRASE)).rejects.toThrow(code("wallet_invalid"));
  });

  it("passphrases of no length and of too much, and keys that are none", async () => {
    const key = randomBytes(32);
    for (const passphrase of ["", "x".repeat(MAX_PASSPHRASE_BYTES + 1)]) {
      await expect(encryptKey(key, passphrase)).rejects.toThrow(code("wallet_passphrase_unusable"));
      await expect(decryptKey("{}", passphrase)).rejects.toThrow(code("wallet_passphrase_unusable"));
    }
    await expect(encryptKey(new Uint8Array(32), "x")).rejects.toThrow(code("evm_key_invalid"));
  });
});
