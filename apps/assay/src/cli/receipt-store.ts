import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseJson } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { LIMIT, viewReceipt } from "@assay/receipts";
import type { ReceiptView } from "@assay/receipts";
import { absolute, readIfThere, readWhole, writeWhole } from "./files.ts";
import { cliError } from "./render-error.ts";
import type { World } from "./world.ts";

/** Beside a receipt: what lets its holder ask the gateway for it again. */
export type ReceiptNote = { readonly url: string; readonly grant: string };

/** A receipt on disk. */
export type StoredReceipt = { readonly id: string; readonly path: string; readonly bytes: Uint8Array };

/** Fewest characters of an id that may stand for the whole. */
const MIN_PREFIX = 4;
const MAX_NOTE_BYTES = 4096;

function folder(world: World): string {
  return join(world.home, "receipts");
}

/** Keeps a receipt as `receipts/<id>.receipt` and returns its path. */
export function saveReceipt(world: World, id: string, bytes: Uint8Array, note: ReceiptNote): string {
  const path = join(folder(world), `${id}.receipt`);
  writeWhole(path, bytes);
  writeWhole(join(folder(world), `${id}.grant`), JSON.stringify(note));
  return path;
}

/** Ids of the receipts kept here, the latest first: an id begins with its time. */
export function listReceiptIds(world: World): string[] {
  let names: string[];
  try {
    names = readdirSync(folder(world));
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return [];
    throw error;
  }
  return names
    .flatMap((name) => /^([0-9a-f]{32})\.receipt$/.exec(name)?.[1] ?? [])
    .sort()
    .reverse();
}

/**
 * The receipt that `given` names: a file's path, an id, or the beginning of one kept here. `undefined` when none of
 * these fits. Throws `receipt_ambiguous` or `file_unreadable`.
 */
export async function findReceipt(world: World, given: string): Promise<StoredReceipt | undefined> {
  if (given.includes("/") || given.endsWith(".receipt")) {
    const path = absolute(world, given);
    const bytes = await readWhole(path, LIMIT.bundleBytes, "receipt");
    return { id: idOf(bytes) ?? given, path, bytes };
  }
  if (!/^[0-9a-f]+$/.test(given) || given.length < MIN_PREFIX || given.length > 32) return undefined;
  const fitting = listReceiptIds(world).filter((id) => id.startsWith(given));
  const [id, other] = fitting;
  if (id === undefined) return undefined;
  if (other !== undefined) {
    throw cliError("receipt_ambiguous", `${fitting.length} receipts begin with ${given}.`, {
      hints: [`Give more of it: ${fitting.slice(0, 4).join(", ")}.`],
    });
  }
  const path = join(folder(world), `${id}.receipt`);
  return { id, path, bytes: await readWhole(path, LIMIT.bundleBytes, "receipt") };
}

/** What was kept beside a receipt, if anything was. */
export async function noteOf(world: World, id: string): Promise<ReceiptNote | undefined> {
  const bytes = await readIfThere(join(folder(world), `${id}.grant`), MAX_NOTE_BYTES, "grant");
  if (!bytes) return undefined;
  const value = parseJson(bytes, { maxBytes: MAX_NOTE_BYTES, maxDepth: 2 });
  if (typeof value !== "object" || value === null || !("url" in value) || !("grant" in value)) return undefined;
  const { url, grant } = value;
  return typeof url === "string" && typeof grant === "string" ? { url, grant } : undefined;
}

/** The decoded receipt. Throws `receipt_unreadable` saying why it is not one. */
export function viewOf(bytes: Uint8Array, where: string): ReceiptView {
  const taken = viewReceipt(nodeSuite, bytes);
  if ("view" in taken) return taken.view;
  throw cliError("receipt_unreadable", `${where} is not a receipt: ${taken.fault.message}`, {
    hints: [`The fault is ${taken.fault.code}.`],
  });
}

function idOf(bytes: Uint8Array): string | undefined {
  const taken = viewReceipt(nodeSuite, bytes);
  return "view" in taken ? Buffer.from(taken.view.execution.claims.receiptId).toString("hex") : undefined;
}
