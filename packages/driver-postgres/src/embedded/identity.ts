import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { AssayError } from "@assay/core";

export type Identity = { readonly uid: number; readonly gid: number };

/**
 * The user that PostgreSQL runs as when this process is root. It has no entry in the user database and shares its
 * number with no service, so that nobody else can reach the socket; it lies in a range that Linux distributions
 * leave free (after systemd-homed, before systemd's dynamic users) and inside the 65,536 ids of a container.
 */
export const SERVICE_IDENTITY: Identity = { uid: 60_650, gid: 60_650 };

/** Whether this process may (and must) start PostgreSQL as somebody else: it refuses to run as root. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/**
 * A user with an entry in the user database: `initdb` looks its own user up and fails without one, while the server
 * does not care. The files are handed to the service identity afterwards.
 */
export async function initIdentity(service: Identity, passwdPath = "/etc/passwd"): Promise<Identity> {
  const entries: Array<Identity & { readonly name: string }> = [];
  for (const line of (await readFile(passwdPath, "utf8").catch(() => "")).split("\n")) {
    const [name, , uid, gid] = line.split(":");
    if (name !== undefined && /^\d+$/.test(uid ?? "") && /^\d+$/.test(gid ?? ""))
      entries.push({ name, uid: Number(uid), gid: Number(gid) });
  }
  const usable = entries.filter((entry) => entry.uid !== 0);
  const chosen =
    usable.find((entry) => entry.uid === service.uid) ?? usable.find((entry) => entry.name === "nobody") ?? usable[0];
  if (chosen !== undefined) return { uid: chosen.uid, gid: chosen.gid };
  throw new AssayError("embedded_user_missing", "The machine has no user besides root to create a database as.", {
    hints: ["Add a user named nobody, run as an ordinary user, or use a PostgreSQL server of your own."],
  });
}

/** Whether `identity` may look up files in `directory`: it needs search permission on it and everything above. */
export async function canReach(directory: string, identity: Identity): Promise<boolean> {
  for (let path = directory; ; path = dirname(path)) {
    const { mode, uid, gid } = await stat(path);
    const bit = uid === identity.uid ? 0o100 : gid === identity.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (dirname(path) === path) return true;
  }
}
