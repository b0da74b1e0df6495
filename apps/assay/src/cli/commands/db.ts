import { isAssayError } from "@assay/core";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { cliError } from "../render-error.ts";

/** `assay db rebuild`: makes every derived table again from log and blobs and shows that the result is equal. */
export async function rebuild(cli: Cli): Promise<number> {
  const { output, world } = cli;
  const { databaseUrl } = await world.serverSettings();
  const options = { host: "127.0.0.1", port: 0, quiet: true, ...(databaseUrl === undefined ? {} : { databaseUrl }) };
  output.progress("starting the database");
  const server = await world.startServer(options).catch((cause: unknown) => {
    if (!isAssayError(cause) || cause.code !== "log_locked") throw cause;
    throw cliError("home_in_use", `A running process works with ${world.home}.`, {
      cause,
      hints: [cause.message, "Stop it first: two writers of one database would undo each other's work."],
    });
  });
  try {
    await server.databaseReady;
    output.progress("reading the log");
    const { before, after } = await server.rebuildIndex();
    const { style } = output;
    output.answer(
      () =>
        before === after
          ? `${style.mark("other", "pass")} Rebuilt from the log, and equal to what was there (${style.id(after)}).`
          : `${style.mark("other", "inconclusive")} Rebuilt from the log. What was there differed: ${style.id(before)}, now ${style.id(after)}.`,
      () => ({ before, after, equal: before === after }),
    );
    return EXIT.done;
  } finally {
    await server.close();
  }
}
