import { run } from "@stricli/core";
import { buildCli } from "./application.ts";
import type { CliContext } from "./command.ts";
import { EXIT } from "./exit-codes.ts";
import { renderError } from "./render-error.ts";
import { styleFor } from "./style.ts";
import type { World } from "./world.ts";

/** Runs one command line (without the program's name) in `world` and resolves to the exit code. Never rejects. */
export async function runCli(args: readonly string[], world: World): Promise<number> {
  const streams: { stdout: World["stdout"]; stderr: World["stderr"]; exitCode?: number | string | null } = {
    stdout: world.stdout,
    stderr: world.stderr,
  };
  let code: number | undefined;
  const context: CliContext = {
    process: streams,
    world,
    exit: (of) => {
      code = of;
    },
  };
  try {
    await run(
      buildCli(world.version, { answer: styleFor(world.stdout), errors: styleFor(world.stderr) }),
      args,
      context,
    );
  } catch (error) {
    world.stderr.write(`${renderError(error, styleFor(world.stderr), false)}\n`);
    return EXIT.failed;
  }
  if (code !== undefined) return code;
  // Without a command's own code the framework has spoken: nothing to do, or an argument or command it does not know.
  const { exitCode } = streams;
  if (exitCode === undefined || exitCode === null || exitCode === 0) return EXIT.done;
  return exitCode === -4 || exitCode === -5 ? EXIT.usage : EXIT.failed;
}
