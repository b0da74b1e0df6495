import { existsSync } from "node:fs";
import { join } from "node:path";
import { bytesToHex, isAssayError, parseJson } from "@assay/core";
import { openKeystore } from "@assay/driver-crypto";
import { addressOf, decryptKey, encryptKey, evmSigner } from "@assay/driver-chain";
import type { Address, EvmSigner } from "@assay/x402";
import { readIfThere, writeWhole } from "./files.ts";
import { cliError } from "./render-error.ts";
import type { World } from "./world.ts";

/** What opens a wallet: a passphrase that a person knows, or a random secret beside it that any program of theirs can read. */
export type Protection = "passphrase" | "local secret";

/** A wallet that is open. */
export type OpenWallet = {
  readonly address: Address;
  readonly signer: EvmSigner;
  readonly privateKey: Uint8Array;
  /** One behind a local secret is for development chains: whoever reads the home spends it. */
  readonly protection: Protection;
};

/** A Web3 Secret Storage document is below two kilobytes. */
const MAX_WALLET_BYTES = 64 * 1024;
/** Keeps a passphrase from being given on a command line. */
const PASSPHRASE = "ASSAY_WALLET_PASSPHRASE";
const SECRET = "wallet";

/** Where this home's wallet lies. */
export function walletPath(world: World): string {
  return join(world.home, "wallet.json");
}

/** Whether a passphrase is set for every command. */
export function hasPassphrase(world: World): boolean {
  return (world.variable(PASSPHRASE) ?? "") !== "";
}

/** Makes this home's wallet. Throws `wallet_exists` and `wallet_locked`. */
export async function makeWallet(world: World, protection: Protection): Promise<OpenWallet> {
  const path = walletPath(world);
  if (existsSync(path)) {
    throw cliError("wallet_exists", `There is a wallet at ${path}.`, { hints: ["See it: `assay wallet show`."] });
  }
  const passphrase = protection === "passphrase" ? await newPassphrase(world) : localSecret(world);
  const privateKey = newKey(world);
  writeWhole(path, await encryptKey(privateKey, passphrase));
  return { address: addressOf(privateKey), signer: evmSigner(privateKey), privateKey, protection };
}

/** The text of the wallet's file. Throws `wallet_missing`. */
async function walletText(world: World): Promise<string> {
  const bytes = await readIfThere(walletPath(world), MAX_WALLET_BYTES, "wallet");
  if (bytes) return new TextDecoder().decode(bytes);
  throw cliError("wallet_missing", "This home has no wallet to pay with.", {
    hints: ["Make one: `assay wallet new`."],
  });
}

/**
 * The address of this home's wallet, as its file says it: whoever may change the file may change the wallet, and nothing is
 * signed by it. One that says none is opened. Throws what {@link openWallet} throws.
 */
export async function walletAddress(world: World): Promise<Address> {
  const text = await walletText(world);
  let address: unknown;
  try {
    ({ address } = parseJson(new TextEncoder().encode(text), { maxBytes: MAX_WALLET_BYTES }) as { address?: unknown });
  } catch {
    // What is wrong with the file is said by opening it.
  }
  const known = typeof address === "string" ? /^(?:0x)?([0-9a-f]{40})$/i.exec(address)?.[1] : undefined;
  return known === undefined ? (await openWallet(world)).address : `0x${known.toLowerCase()}`;
}

/**
 * Opens this home's wallet: with the passphrase in ASSAY_WALLET_PASSPHRASE, the local secret, or one that is typed. Throws
 * `wallet_missing`, `wallet_locked`, `wallet_passphrase_wrong` and `wallet_invalid`.
 */
export async function openWallet(world: World): Promise<OpenWallet> {
  const text = await walletText(world);
  const open = async (passphrase: string, protection: Protection): Promise<OpenWallet> => {
    const privateKey = await decryptKey(text, passphrase);
    return { address: addressOf(privateKey), signer: evmSigner(privateKey), privateKey, protection };
  };
  const given = world.variable(PASSPHRASE);
  if (given !== undefined && given !== "") return open(given, "passphrase");
  if (existsSync(join(world.home, "keys", `${SECRET}.key`))) {
    try {
      return await open(localSecret(world), "local secret");
    } catch (error) {
      // The secret may be that of a wallet before this one.
      if (!isAssayError(error) || error.code !== "wallet_passphrase_wrong") throw error;
    }
  }
  return open(await typed(world, "Passphrase of the wallet: "), "passphrase");
}

function localSecret(world: World): string {
  return bytesToHex(openKeystore(join(world.home, "keys")).secret(SECRET));
}

async function newPassphrase(world: World): Promise<string> {
  const given = world.variable(PASSPHRASE);
  if (given !== undefined && given !== "") return given;
  const first = await typed(world, "New passphrase: ");
  if (first !== (await typed(world, "The same again: "))) {
    throw cliError("wallet_locked", "The two passphrases are not the same.");
  }
  return first;
}

async function typed(world: World, prompt: string): Promise<string> {
  const text = await world.readSecret?.(prompt);
  if (text !== undefined && text !== "") return text;
  throw cliError("wallet_locked", "The wallet is behind a passphrase, and none was given.", {
    hints: [`Set ${PASSPHRASE}, or run the command on a terminal.`],
  });
}

/** 32 random bytes that are a key: all but 2^-128 of them are. */
function newKey(world: World): Uint8Array {
  const key = world.randomBytes(32);
  addressOf(key);
  return key;
}
