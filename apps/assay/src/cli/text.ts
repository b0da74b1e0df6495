import { ArgumentParseError, ArgumentScannerError, formatMessageForArgumentScannerError, text_en } from "@stricli/core";
import type { ApplicationText } from "@stricli/core";
import type { Style } from "./style.ts";

/** Words for what was typed wrong, in the form of every other error. */
export function cliText(style: Style): ApplicationText {
  const sentence = (text: string, hint: string): string =>
    `${style.mark("other", "fail")} ${style.strong(text)}\n\n  ${hint}`;
  return {
    ...text_en,
    noCommandRegisteredForInput: ({ input, corrections }) => {
      const [nearest] = corrections;
      const word = nearest?.replaceAll("`", "");
      return sentence(
        `There is no command ${JSON.stringify(input)}.`,
        word === undefined ? "assay --help" : `Did you mean ${word}?`,
      );
    },
    exceptionWhileParsingArguments: (error) => {
      if (error instanceof ArgumentParseError) {
        const why = error.exception instanceof Error ? error.exception.message : String(error.exception);
        return sentence(
          `${error.externalFlagNameOrPlaceholder} cannot be ${JSON.stringify(error.input)}: ${why}.`,
          HELP,
        );
      }
      const text =
        error instanceof ArgumentScannerError
          ? formatMessageForArgumentScannerError(error, {})
          : `The arguments could not be read: ${error instanceof Error ? error.message : String(error)}`;
      return sentence(`${text.replace(/[.?]$/, "")}${text.endsWith("?") ? "?" : "."}`, HELP);
    },
  };
}

const HELP = "Add --help to see what the command takes.";
