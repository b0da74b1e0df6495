import { join } from "node:path";
import { EMPTY_TRUST, parseTrust, trustView } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import { absolute, readIfThere, readWhole } from "./files.ts";
import type { World } from "./world.ts";

/** A trust file lists keys; ten thousand of each kind fit. */
const MAX_TRUST_BYTES = 4 * 1024 * 1024;

/** What a verification starts from, and where that was written down. */
export type LoadedTrust = { readonly trust: Trust; readonly source: string | undefined };

/** Path of the home's own trust file. */
function homeTrustPath(world: World): string {
  return join(world.home, "trust.json");
}

/** The named trust file, else the home's, else nothing to trust at all. Throws `file_unreadable`, `trust_invalid`. */
export async function loadTrust(world: World, path?: string): Promise<LoadedTrust> {
  if (path !== undefined) {
    const source = absolute(world, path);
    return { trust: parseTrust(await readWhole(source, MAX_TRUST_BYTES, "trust file")), source };
  }
  const source = homeTrustPath(world);
  const bytes = await readIfThere(source, MAX_TRUST_BYTES, "trust file");
  return bytes ? { trust: parseTrust(bytes), source } : { trust: EMPTY_TRUST, source: undefined };
}

/** The text of a trust file. */
export function trustText(trust: Trust): string {
  return `${JSON.stringify(trustView(trust), null, 2)}\n`;
}
