import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import { addressOf } from "@assay/driver-chain";
import { accountsIn, KEY_FILES } from "../../server/money/keys.ts";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute, writeWhole } from "../files.ts";
import { cliError } from "../render-error.ts";
import { facts } from "../style.ts";

/** `assay chain keys FOLDER`: one random key each, readable by its owner alone. Throws `file_exists` for a folder with anything in it. */
export async function makeKeys({ world, output }: Cli, _flags: object, folder: string): Promise<number> {
  const path = absolute(world, folder);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (readdirSync(path).length > 0)
    throw cliError("file_exists", `There is something in ${path}, and keys are never written over.`, {
      hints: ["Name a folder that is empty or not there."],
    });
  for (const name of KEY_FILES) {
    const key = world.randomBytes(32);
    // Nearly every number is a key; one that is none is not written.
    addressOf(key);
    writeWhole(join(path, `${name}.hex`), `${bytesToHex(key)}\n`);
  }
  const found = await accountsIn(path);
  const accounts = Object.fromEntries(KEY_FILES.map((name) => [name, found[name].address]));
  output.answer(
    () =>
      [
        facts(Object.entries(accounts), output.style),
        "",
        `Their keys are in ${path}, in the clear: nobody but the gateway's user may read it. Back it up.`,
      ].join("\n"),
    () => ({ folder: path, accounts }),
  );
  return EXIT.done;
}
