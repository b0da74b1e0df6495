import type { JsonValue } from "@assay/core";
import { styleFor, toAscii } from "./style.ts";
import type { Style } from "./style.ts";
import type { World } from "./world.ts";

/** Where a command's words go: the answer to stdout, everything about the way there to stderr. */
export type Output = {
  /** Style of the answer. */
  readonly style: Style;
  /** Style of notes. */
  readonly noteStyle: Style;
  readonly isJson: boolean;
  /** The answer: `json` as the one documented object with `--json`, else `text`. */
  readonly answer: (text: () => string, json: () => JsonValue) => void;
  /** The answer as bytes, whatever the flags. */
  readonly raw: (bytes: Uint8Array | string) => void;
  /** A line that is worth keeping. Silent with `--quiet`. */
  readonly note: (text: string) => void;
  /** What is going on right now: one line, rewritten, on a terminal; nothing elsewhere. */
  readonly progress: (text: string) => void;
  readonly endProgress: () => void;
};

/** The output of one command. */
export function createOutput(world: World, flags: { readonly json: boolean; readonly quiet: boolean }): Output {
  const style = styleFor(world.stdout);
  const noteStyle = styleFor(world.stderr);
  let inProgress = false;
  const endProgress = (): void => {
    if (inProgress) world.stderr.write("\r\u001b[2K");
    inProgress = false;
  };
  return {
    style,
    noteStyle,
    isJson: flags.json,
    answer(text, json) {
      endProgress();
      if (flags.json) world.stdout.write(`${JSON.stringify(json(), null, 2)}\n`);
      else world.stdout.write(`${world.stdout.unicode ? text() : toAscii(text())}\n`);
    },
    raw(bytes) {
      endProgress();
      world.stdout.write(bytes);
    },
    note(text) {
      endProgress();
      if (!flags.quiet) world.stderr.write(`${world.stderr.unicode ? text : toAscii(text)}\n`);
    },
    progress(text) {
      if (flags.quiet || !world.stderr.isTerminal) return;
      world.stderr.write(
        `\r\u001b[2K${noteStyle.faint(
          Array.from(text)
            .slice(0, world.stderr.columns - 1)
            .join(""),
        )}`,
      );
      inProgress = true;
    },
    endProgress,
  };
}
