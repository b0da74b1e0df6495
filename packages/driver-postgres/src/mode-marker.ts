import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { AssayError } from "@assay/core";

/** Where rows live: a managed child, a server of the operator's, or PGlite in this process. */
export type DatabaseMode = "embedded" | "url" | "pglite";

const MARKER = "assay-database";
const FORMAT = /^assay-database-v1\nmode (embedded|url|pglite)\nmajor (\d{1,4}|-)\n$/;
/** A marker is three short lines. */
const MAX_MARKER_CHARACTERS = 256;

/**
 * Writes down in `directory` which database this installation uses, or checks what was written before. `major` is
 * PostgreSQL's major version when its files lie in `directory`.
 *
 * Refuses with `database_mode_changed` to continue with another mode, which would silently start from an empty
 * database, with `database_version_changed` when the files belong to another major version, and with
 * `database_marker_invalid` when the marker is not one.
 */
export async function claimDatabaseMode(directory: string, mode: DatabaseMode, major?: number): Promise<void> {
  const path = join(directory, MARKER);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return write(directory, path, `assay-database-v1\nmode ${mode}\nmajor ${major ?? "-"}\n`);
  }
  const match = text.length <= MAX_MARKER_CHARACTERS ? FORMAT.exec(text) : null;
  if (match === null)
    throw new AssayError("database_marker_invalid", "The database marker file cannot be read.", {
      hints: [`Restore ${path} from a backup, or remove it after checking which database was in use.`],
    });
  if (match[1] !== mode)
    throw new AssayError(
      "database_mode_changed",
      `This installation uses the database mode ${match[1]}, not ${mode}.`,
      {
        hints: [
          `Start with the mode ${match[1]}, or rebuild the index in the new database and remove ${path}.`,
          "Tokens are not in the log: they must be minted again after such a change.",
        ],
      },
    );
  if (major !== undefined && match[2] !== String(major))
    throw new AssayError(
      "database_version_changed",
      `The database files belong to PostgreSQL ${match[2]}, and this program brings PostgreSQL ${major}.`,
      { hints: ["Dump the database with the old version and load it into a new directory."] },
    );
}

async function write(directory: string, path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", 0o644);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
