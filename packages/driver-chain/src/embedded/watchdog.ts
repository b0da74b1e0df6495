import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { writeWhole } from "./files.ts";

/** How long a node outlives a process that was killed: within this a new process finds it and takes it over. */
export const ORPHAN_GRACE_S = 30;

/**
 * Waits for the end of its input, which is the end of the process that started it, however that came. Then it leaves time
 * for a successor, which writes a lease of its own, and otherwise ends the node, which writes its state before it goes.
 * The name of the process is looked at, because numbers are used again.
 */
const SCRIPT = `
IFS= read -r word
[ "$word" = done ] && exit 0
sleep "$3"
[ "$(cat lease 2>/dev/null)" = "$1" ] || exit 0
name=$(cat "/proc/$2/comm" 2>/dev/null || ps -o comm= -p "$2" 2>/dev/null)
case "$name" in *anvil*) kill -TERM "$2" ;; esac
`;

export type Watchdog = { readonly dismiss: () => Promise<void> };

/**
 * Ends process `pid` when this process is gone for {@link ORPHAN_GRACE_S} seconds. On Windows, which has no shell for it,
 * a node that lost its process stays until the next start takes it over.
 */
export async function startWatchdog(directory: string, pid: number, graceS = ORPHAN_GRACE_S): Promise<Watchdog> {
  const lease = randomBytes(16).toString("hex");
  await writeWhole(join(directory, "lease"), lease);
  if (process.platform === "win32") return { dismiss: () => Promise.resolve() };
  const child = spawn("/bin/sh", ["-c", SCRIPT, "assay-chain-watchdog", lease, String(pid), String(graceS)], {
    cwd: directory,
    env: { PATH: "/usr/bin:/bin" },
    stdio: ["pipe", "ignore", "ignore"],
    // A session of its own: an interrupt typed at the terminal must not end it before it is needed.
    detached: true,
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    // Without a shell the node is adopted at the next start, as on Windows.
    child.once("error", () => resolve());
  });
  child.stdin.on("error", () => undefined);
  child.unref();
  return {
    async dismiss() {
      child.ref();
      child.stdin.end("done\n");
      await ended;
    },
  };
}
