import { rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { data, fromHex } from "../rpc/values.ts";
import { readJsonFile, writeWhole } from "./files.ts";

/** State of a chain larger than this is not kept: it is a development chain that nobody ever reset. */
export const MAX_STATE_BYTES = 512 * 1024 * 1024;
/** Below this a state is loaded as it is. */
const PRUNE_FROM_BYTES = 4 * 1024 * 1024;
/** Newest blocks that stay whatever they hold: BLOCKHASH reaches 256 back, and people look at the last few minutes. */
export const KEPT_BLOCKS = 1_024;

const inflate = promisify(gunzip);

/** The files of a chain's state inside of its directory. */
export type StateFiles = {
  /** Written by us while the chain runs: whole at any time, and at most a second behind. */
  readonly saved: string;
  /** Written by the node when it is asked to end: newer than `saved` when it is whole. */
  readonly left: string;
};

export function stateFiles(directory: string): StateFiles {
  return { saved: join(directory, "state.json"), left: join(directory, "state-at-exit.json") };
}

/**
 * The state to start with, or undefined for a new chain. What an ended node left is taken when it is whole; a node that
 * was killed while writing leaves a torn file, which is dropped. A large state loses its old empty blocks.
 */
export async function stateToLoad(files: StateFiles): Promise<string | undefined> {
  const left = await readJsonFile(files.left, MAX_STATE_BYTES);
  if (left !== undefined && isState(left)) await rename(files.left, files.saved);
  else await rm(files.left, { force: true });
  const size = await stat(files.saved).then(
    (facts) => facts.size,
    () => undefined,
  );
  if (size === undefined) return undefined;
  if (size < PRUNE_FROM_BYTES) return files.saved;
  const state = left !== undefined && isState(left) ? left : await readJsonFile(files.saved, MAX_STATE_BYTES);
  const pruned = state === undefined ? undefined : pruneState(state);
  if (pruned !== undefined) await writeWhole(files.saved, JSON.stringify(pruned));
  return files.saved;
}

/** Removes every trace of the chain. */
export async function forgetState(files: StateFiles): Promise<void> {
  for (const path of [files.saved, files.left, `${files.saved}.new`]) await rm(path, { force: true });
}

/** Writes what `anvil_dumpState` answered: `0x` and the hexadecimal of gzipped JSON. Returns its size in bytes. */
export async function saveState(files: StateFiles, answer: JsonValue): Promise<number> {
  const compressed =
    typeof answer === "string" && answer.length > 1_000_000 ? fromHexFast(answer) : data(answer, "the dumped state");
  let text: Uint8Array;
  try {
    text = await inflate(compressed, { maxOutputLength: MAX_STATE_BYTES });
  } catch (cause) {
    throw new AssayError("chain_state_unusable", "The development chain's state could not be taken.", { cause });
  }
  await writeWhole(files.saved, text);
  return text.length;
}

/**
 * A state without the old blocks that nothing happened in; undefined when there are none, or when a number in it would
 * lose digits on the way (the node writes some 64-bit numbers plainly).
 */
export function pruneState(state: JsonValue): JsonValue | undefined {
  const { blocks, best_block_number: best } = state as { blocks?: JsonValue; best_block_number?: JsonValue };
  if (!Array.isArray(blocks) || typeof best !== "number" || !isExact(state)) return undefined;
  const kept = (blocks as readonly JsonValue[]).filter((block) => {
    const { header, transactions } = block as { header?: { number?: JsonValue }; transactions?: JsonValue };
    const number = Number(header?.number ?? 0);
    return number === 0 || number > best - KEPT_BLOCKS || !Array.isArray(transactions) || transactions.length > 0;
  });
  if (kept.length === blocks.length) return undefined;
  return { ...(state as { readonly [key: string]: JsonValue }), blocks: kept };
}

function isState(value: JsonValue): boolean {
  return typeof value === "object" && value !== null && "accounts" in value && "blocks" in value;
}

function isExact(value: JsonValue): boolean {
  if (typeof value === "number") return Number.isSafeInteger(value);
  if (typeof value !== "object" || value === null) return true;
  return Object.values(value).every(isExact);
}

function fromHexFast(text: string): Uint8Array {
  return /^0x[0-9a-f]+$/.test(text) ? Buffer.from(text.slice(2), "hex") : fromHex(text);
}
