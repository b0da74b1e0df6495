// `assay node` in a process of its own, to be killed.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "./fleet-world.ts";

export type NodeProcess = {
  readonly pid: number;
  readonly subject: string;
  readonly key: string;
  /** Ends it as a power cut would; its children end by themselves once it is gone. */
  readonly kill: () => Promise<void>;
  /** Interrupts it, and resolves with its exit code once it has finished what it ran. */
  readonly stop: () => Promise<number | null>;
};

/** Runs the program from its source over `home`; resolves when the node has joined. */
export async function startNodeProcess(home: string, url: string, args: readonly string[] = []): Promise<NodeProcess> {
  const child = spawn(
    process.execPath,
    [
      "--conditions=assay-source",
      "--import",
      import.meta.resolve("tsx"),
      join(ROOT, "apps/assay/src/main.ts"),
      "node",
      "--join",
      url,
      "--json",
      ...args,
    ],
    {
      cwd: ROOT,
      env: { ...process.env, ASSAY_HOME: home, ASSAY_LOG_LEVEL: "error" },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let output = "";
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors = (errors + data.toString()).slice(-20_000)));
  const gone = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const end = (): void => void child.kill("SIGKILL");
  process.once("exit", end);
  void gone.then(() => process.off("exit", end));
  const told = await new Promise<{ subject: string; key: string }>((resolve, reject) => {
    child.stdout.on("data", (data: Buffer) => {
      output += data.toString();
      try {
        resolve(JSON.parse(output) as { subject: string; key: string });
      } catch {
        // Not all of it is here.
      }
    });
    void gone.then((code) => reject(new Error(`assay node ended with ${code}: ${output}${errors}`)));
  });
  return {
    pid: child.pid ?? 0,
    subject: told.subject,
    key: told.key,
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
    stop() {
      child.kill("SIGTERM");
      return gone;
    },
  };
}
