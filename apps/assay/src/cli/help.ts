import type { Command, RouteMap, StricliIntegration } from "@stricli/core";
import { pageOf } from "./command.ts";
import type { CliContext } from "./command.ts";
import { EXIT } from "./exit-codes.ts";
import { facts } from "./style.ts";
import type { Style } from "./style.ts";

/** What a script can tell apart, in the order of {@link EXIT}. */
const EXIT_CODES: readonly (readonly [string, string])[] = [
  [`${EXIT.done}`, "Done; of a receipt: verified"],
  [`${EXIT.failed}`, "Failed"],
  [`${EXIT.usage}`, "Used wrongly: a flag, an input, the environment"],
  [`${EXIT.evidenceFailed}`, "The evidence does not hold"],
  [`${EXIT.inconclusive}`, "Inconclusive: nothing failed, and something is missing"],
  [`${EXIT.payment}`, "Payment required, or refused by your limits"],
  [`${EXIT.denied}`, "Denied"],
  [`${EXIT.nodeUnavailable}`, "Nobody there who could do it now: gateway, chain, engine"],
  [`${EXIT.interrupted}`, "Interrupted"],
];

type Target = Command<CliContext> | RouteMap<CliContext>;

/** `--help` for every command and group: one line, usage, examples, flags. */
export function helpIntegration(style: Style): StricliIntegration<CliContext> {
  return {
    flag: {
      brief: "Show this help",
      aliases: ["h"],
      global: true,
      defaultForRouteMap: true,
      run(_app, { result }) {
        this.process.stdout.write(`${helpText(result.target, result.prefix, style)}\n`);
      },
    },
  };
}

/** The help of one target. `prefix` is how it was reached, the program's name first. */
function helpText(target: Target, prefix: readonly string[], style: Style): string {
  const name = prefix.join(" ");
  const heading = (text: string): string => `\n${style.strong(text)}`;
  if ("getAllEntries" in target) {
    const commands = target
      .getAllEntries()
      .filter(({ hidden }) => !hidden)
      .map(({ name: route, target: of }) => [route["convert-camel-to-kebab"], of.brief] as const);
    return [
      target.brief,
      heading("Usage"),
      `  ${name} COMMAND`,
      heading("Commands"),
      facts(commands, style),
      // Of the program as a whole, and not again of each group.
      ...(prefix.length === 1 ? [heading("Exit codes"), facts(EXIT_CODES, style)] : []),
      "",
      style.faint(`  ${name} COMMAND --help says more. Every command takes --json, --quiet and --debug.`),
    ].join("\n");
  }
  const flags = Object.entries(target.parameters.flags ?? {}).filter(([, flag]) => flag["hidden"] !== true);
  const given = target.parameters.positional;
  const positional = given === undefined ? [] : given.kind === "array" ? [given.parameter] : [...given.parameters];
  const argument = (of: { placeholder?: string; optional?: boolean }): string => {
    const word = (of.placeholder ?? "argument").toUpperCase();
    return of.optional ? `[${word}]` : word;
  };
  const usage = [name, ...positional.map(argument), ...flags.flatMap(([key, flag]) => usageOf(key, flag))].join(" ");
  const page = pageOf(target);
  const rows = [
    ...flags.map(([key, flag]) => [flagTitle(key, flag), flagText(flag)] as const),
    ["--help", "Show this help"] as const,
  ];
  return [
    target.brief,
    heading("Usage"),
    `  ${usage}`,
    ...(page ? [heading("Examples"), ...page.examples.map((example) => `  assay ${example}`)] : []),
    ...(positional.length > 0
      ? [
          heading("Arguments"),
          facts(
            positional.map((of) => [argument(of), of.brief] as const),
            style,
          ),
        ]
      : []),
    heading("Flags"),
    facts(rows, style),
    ...(page ? [heading("JSON"), `  ${page.json}`] : []),
  ].join("\n");
}

type Flag = NonNullable<Command<CliContext>["parameters"]["flags"]>[string];

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function valueOf(flag: Flag): string {
  if (flag.kind === "boolean" || flag.kind === "counter") return "";
  return flag.kind === "enum" ? ` ${flag.values.join("|")}` : ` ${(flag.placeholder ?? "value").toUpperCase()}`;
}

function usageOf(key: string, flag: Flag): string[] {
  const needed = flag.optional !== true && !("default" in flag && flag.default !== undefined);
  return needed ? [`--${kebab(key)}${valueOf(flag)}`] : [];
}

function flagTitle(key: string, flag: Flag): string {
  return `--${kebab(key)}${valueOf(flag)}`;
}

function flagText(flag: Flag): string {
  const fallback =
    "default" in flag && flag.default !== undefined && flag.default !== false ? String(flag.default) : "";
  const many = "variadic" in flag && flag.variadic === true ? "; may be repeated" : "";
  return `${flag.brief}${many}${fallback === "" ? "" : ` (${fallback})`}`;
}
