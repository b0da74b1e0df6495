import { readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { AssayError, bytesToHex } from "@assay/core";
import type { FileKeystore } from "@assay/driver-crypto";
import { addressOf } from "@assay/driver-chain";
import type { Address, Hex } from "@assay/x402";

/** An account that this installation acts with on the chain. */
export type ChainAccount = { readonly key: Hex; readonly address: Address };

/** Who settles, who posts batches, who signs claims and refunds of channels, and who settles for others. */
export type ChainAccounts = {
  readonly settler: ChainAccount;
  readonly submitter: ChainAccount;
  readonly authorizer: ChainAccount;
  /** Sends what others have settled; its nonces are its own. */
  readonly facilitator: ChainAccount;
};

/**
 * Keys for the embedded chain: random, kept with the other keys, good for nothing but development. `deployer` owns what is
 * deployed there, `treasury` is paid.
 */
export function developmentAccounts(
  keystore: Pick<FileKeystore, "secret">,
): ChainAccounts & { readonly deployer: ChainAccount; readonly treasury: ChainAccount } {
  const account = (name: string): ChainAccount => accountOf(keystore.secret(`chain-development-${name}`));
  return {
    settler: account("settler"),
    submitter: account("submitter"),
    authorizer: account("authorizer"),
    facilitator: account("facilitator"),
    deployer: account("deployer"),
    treasury: account("treasury"),
  };
}

/** The accounts of a gateway on another chain: each key is in a file of this name and `.hex`. */
export const KEY_FILES = ["settler", "submitter", "authorizer", "facilitator"] as const;
const KEY = /^(?:0x)?([0-9a-fA-F]{64})\s*$/;

/**
 * Keys for another chain, from `settler.hex`, `submitter.hex`, `authorizer.hex` and `facilitator.hex` of a folder. Throws `chain_keys_invalid`
 * for one that is missing, is no key, or can be read by others.
 */
export async function accountsIn(folder: string): Promise<ChainAccounts> {
  const [settler, submitter, authorizer, facilitator] = await Promise.all(
    KEY_FILES.map((name) => readKey(join(folder, `${name}.hex`))),
  );
  if (!settler || !submitter || !authorizer || !facilitator) throw new TypeError("A key was not read.");
  return { settler, submitter, authorizer, facilitator };
}

/** The account whose private key a file holds. Throws `chain_keys_invalid`. */
export async function readKey(path: string): Promise<ChainAccount> {
  const name = basename(path);
  try {
    if (process.platform !== "win32" && ((await stat(path)).mode & 0o077) !== 0)
      throw invalid(name, "can be read by other users", `Give it mode 0600: chmod 600 ${path}`);
    const match = KEY.exec(await readFile(path, "utf8"));
    if (!match?.[1])
      throw invalid(name, "does not hold a private key", "It holds 64 hexadecimal digits and nothing else.");
    return accountOf(Buffer.from(match[1], "hex"));
  } catch (cause) {
    if (cause instanceof AssayError) throw cause;
    throw invalid(
      name,
      "cannot be read",
      "The folder of keys has one of each: `assay chain keys FOLDER` makes them.",
      cause,
    );
  }
}

function accountOf(key: Uint8Array): ChainAccount {
  try {
    return { key: `0x${bytesToHex(key)}`, address: addressOf(key) };
  } catch (cause) {
    throw new AssayError("chain_keys_invalid", "A chain key is outside of its curve's order.", { cause });
  }
}

function invalid(name: string, why: string, hint: string, cause?: unknown): AssayError<"chain_keys_invalid"> {
  return new AssayError("chain_keys_invalid", `The chain key file ${name} ${why}.`, {
    hints: [hint],
    ...(cause === undefined ? {} : { cause }),
  });
}
