import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { bytesToHex, utf8ToBytes } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import type { Transport } from "../rpc/transport.ts";
import { data } from "../rpc/values.ts";
import { readJsonFile, writeWhole } from "./files.ts";

/** Where a chain of ours carries its name: an account that nobody has a key of, with code that stops at once. */
export const LINEAGE_ADDRESS: Address = "0x000000000000000000000000000000000a55a001";
/** Code of that account: STOP, these words, 32 random bytes. */
const PREFIX = `00${bytesToHex(utf8ToBytes("assay development chain "))}`;
const LINEAGE_BYTES = 32;

/** What a running node is found by after the process that started it was killed. */
export type RunFile = { readonly pid: number; readonly port: number; readonly chainId: number; readonly lineage: Hex };

/** The chain's lineage (32 bytes), or undefined when it is not one of ours. */
export async function lineageOf(rpc: Pick<Transport, "request">): Promise<Hex | undefined> {
  const code = bytesToHex(data(await rpc.request("eth_getCode", [LINEAGE_ADDRESS, "latest"]), "the code"));
  if (!code.startsWith(PREFIX) || code.length !== PREFIX.length + 2 * LINEAGE_BYTES) return undefined;
  return `0x${code.slice(PREFIX.length)}`;
}

/** The chain's lineage, given to it when it has none: it is new then. */
export async function claimLineage(rpc: Transport): Promise<Hex> {
  const found = await lineageOf(rpc);
  if (found !== undefined) return found;
  const lineage = bytesToHex(randomBytes(LINEAGE_BYTES));
  await rpc.request("anvil_setCode", [LINEAGE_ADDRESS, `0x${PREFIX}${lineage}`]);
  return `0x${lineage}`;
}

export async function writeRunFile(directory: string, file: RunFile): Promise<void> {
  await writeWhole(join(directory, "chain.json"), `${JSON.stringify(file)}\n`);
}

/** What the file says; undefined when there is none, or it says nothing usable. */
export async function readRunFile(directory: string): Promise<RunFile | undefined> {
  const value = await readJsonFile(join(directory, "chain.json"), 4_096);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { pid, port, chainId, lineage } = value as { readonly [key: string]: unknown };
  if (!isCount(pid, 2 ** 31) || !isCount(port, 65_535) || !isCount(chainId, Number.MAX_SAFE_INTEGER)) return undefined;
  if (typeof lineage !== "string" || !/^0x[0-9a-f]{64}$/.test(lineage)) return undefined;
  return { pid, port, chainId, lineage: lineage as Hex };
}

function isCount(value: unknown, most: number): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 && value <= most;
}
