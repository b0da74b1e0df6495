import { buildCommand } from "@stricli/core";
import type {
  Aliases,
  BaseArgs,
  Command,
  CommandContext,
  FlagParametersForType,
  TypedPositionalParameters,
} from "@stricli/core";
import { exitOfError } from "./exit-codes.ts";
import { createOutput } from "./output.ts";
import type { Output } from "./output.ts";
import { errorDocument, renderError } from "./render-error.ts";
import { styleFor } from "./style.ts";
import type { World } from "./world.ts";

/** What Stricli hands to every command. */
export type CliContext = CommandContext & {
  readonly world: World;
  /** Keeps the exit code of the command. */
  readonly exit: (code: number) => void;
};

/** What a command works with. */
export type Cli = { readonly world: World; readonly output: Output };

/** A command's work: resolves to the exit code. */
type Run<Flags, Args extends BaseArgs> = (cli: Cli, flags: Flags, ...args: Args) => Promise<number>;

type CommonFlags = { readonly json: boolean; readonly quiet: boolean; readonly debug: boolean };

const COMMON: FlagParametersForType<CommonFlags, CliContext> = {
  json: { kind: "boolean", brief: "Print one JSON object instead of text", default: false, withNegated: false },
  quiet: { kind: "boolean", brief: "Print the answer and nothing else", default: false, withNegated: false },
  debug: { kind: "boolean", brief: "Show where an error came from", default: false, withNegated: false },
};

/** What help prints beyond flags and arguments. */
export type CommandPage = {
  /** Commands as typed, without the program's name. */
  readonly examples: readonly [string, string, ...string[]];
  /** What `--json` prints. */
  readonly json: string;
};

const pages = new WeakMap<object, CommandPage>();

/** The help page of a command that {@link defineCommand} made. */
export function pageOf(command: object): CommandPage | undefined {
  return pages.get(command);
}

export type CommandSpec<Flags extends Readonly<Record<string, unknown>>, Args extends BaseArgs> = CommandPage & {
  readonly brief: string;
  readonly flags: FlagParametersForType<Flags, CliContext>;
  readonly aliases?: Aliases<keyof Flags & string>;
  readonly positional?: TypedPositionalParameters<Args, CliContext>;
  /** Imports the command's module; nothing of it is loaded before. */
  readonly load: () => Promise<Run<Flags, Args>>;
};

/** A command with the flags that all share, and one place where everything thrown becomes words and an exit code. */
export function defineCommand<Flags extends Readonly<Record<string, unknown>>, Args extends BaseArgs = []>(
  spec: CommandSpec<Flags, Args>,
): Command<CliContext> {
  const loader = async () => {
    const run = await spec.load();
    return async function command(this: CliContext, flags: Flags & CommonFlags, ...args: Args): Promise<void> {
      const { world } = this;
      const output = createOutput(world, flags);
      try {
        this.exit(await run({ world, output }, flags, ...args));
      } catch (error) {
        output.endProgress();
        const interrupted = world.interrupt.aborted;
        this.exit(exitOfError(error, interrupted));
        if (interrupted) return;
        if (flags.json) world.stdout.write(`${JSON.stringify(errorDocument(error), null, 2)}\n`);
        else world.stderr.write(`${renderError(error, styleFor(world.stderr), flags.debug)}\n`);
      }
    };
  };
  const parameters = {
    flags: { ...spec.flags, ...COMMON },
    ...(spec.aliases ? { aliases: spec.aliases } : {}),
    positional: spec.positional ?? { kind: "tuple", parameters: [] },
  };
  // The pieces are typed above; Stricli's own types do not follow a spread of generic flags.
  const made = buildCommand({ loader, parameters, docs: { brief: spec.brief } } as unknown as Parameters<
    typeof buildCommand<Flags & CommonFlags, Args, CliContext>
  >[0]);
  pages.set(made, spec);
  return made;
}
