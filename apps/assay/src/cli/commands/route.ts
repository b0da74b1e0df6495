import type { JsonValue } from "@assay/core";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { routingOf } from "../route-flags.ts";
import type { RouteFlags } from "../route-flags.ts";
import { facts, printable, table, wrap } from "../style.ts";

export type ExplainFlags = GatewayFlags &
  RouteFlags & { readonly kind: "chat" | "completion" | "embedding"; readonly maxTokens?: number };
export type SetFlags = GatewayFlags & RouteFlags;

type Candidate = {
  readonly candidate: string;
  readonly node: string;
  readonly outcome: string;
  readonly score: number | null;
  readonly predicted: { readonly waitMs: number; readonly firstByteMs: number; readonly depth: number };
  readonly costAtMost: string | null;
  readonly asset: string | null;
  readonly country: string | null;
  readonly countryEvidence: string | null;
  readonly health: string;
};
type Explanation = {
  readonly model: string;
  readonly objective: string;
  readonly assurance: { readonly demanded: string; readonly reason: string };
  readonly candidates: readonly Candidate[];
  readonly choice: { readonly candidate: string; readonly node: string; readonly reason: string } | null;
  readonly refusal: { readonly code: string; readonly error: string; readonly hints: readonly string[] } | null;
};
type Contract = {
  readonly name: string;
  readonly models: readonly string[];
  readonly require?: Readonly<Record<string, string | number | readonly string[]>>;
  readonly objective?: string;
  readonly changedAt: string;
};

/** `assay route explain`: who would answer now, who would not and why. Nothing runs. */
export async function explain(cli: Cli, flags: ExplainFlags, model = "any"): Promise<number> {
  const { world, output } = cli;
  const answer = await withGateway(cli, flags, ({ client }) =>
    client.admin({
      method: "POST",
      path: "/v1/route/explain",
      body: {
        model,
        kind: flags.kind,
        assay: routingOf(flags),
        ...(flags.maxTokens === undefined ? {} : { max_tokens: flags.maxTokens }),
      },
      signal: world.interrupt,
    }),
  );
  const found = answer as unknown as Explanation;
  const { style } = output;
  output.answer(
    () =>
      [
        found.choice
          ? `${style.mark("other", "pass")} ${style.strong(printable(found.choice.candidate))}`
          : `${style.mark("other", "fail")} ${style.strong(printable(found.refusal?.error ?? "Nobody would answer."))}`,
        ...(found.choice ? [`  ${wrap(found.choice.reason, style.width, 2)}`] : []),
        ...(found.refusal?.hints ?? []).map((hint) => `  ${wrap(hint, style.width, 2)}`),
        "",
        facts(
          [
            ["Objective", found.objective],
            ["Assurance", `${found.assurance.demanded}: ${found.assurance.reason}`],
            ...(found.choice ? ([["Node", printable(found.choice.node)]] as const) : []),
          ],
          style,
        ),
        ...(found.candidates.length === 0
          ? []
          : [
              "",
              table(
                ["Candidate", "Outcome", "Score", "First byte", "Cost at most", "Where"],
                found.candidates.map((one) => [
                  printable(one.candidate),
                  one.outcome,
                  one.score === null ? "" : one.score.toFixed(3),
                  `${one.predicted.firstByteMs} ms`,
                  one.costAtMost === null ? "unknown" : `${one.costAtMost} ${one.asset ?? ""}`,
                  one.country === null ? "unknown" : `${one.country} (${one.countryEvidence ?? "declared"})`,
                ]),
                style,
                { right: [2, 3] },
              ),
            ]),
      ].join("\n"),
    () => answer,
  );
  return found.choice ? EXIT.done : EXIT.nodeUnavailable;
}

/** `assay route set`: a name that applications use, and the models that stand behind it today. */
export async function set(cli: Cli, flags: SetFlags, name: string, ...models: readonly string[]): Promise<number> {
  const { world, output } = cli;
  const { objective, ...require } = routingOf(flags);
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({
      method: "PUT",
      path: `/v1/contracts/${encodeURIComponent(name)}`,
      body: {
        models: [...models],
        ...(objective === undefined ? {} : { objective }),
        ...(Object.keys(require).length === 0 ? {} : { require: require as unknown as JsonValue }),
      },
      signal: world.interrupt,
    }),
  );
  output.answer(
    () =>
      `${output.style.strong(printable(name))} is answered by ${models.map(printable).join(", ")}.\n\n  npx assay chat --model ${name} "Hello"`,
    () => answer,
  );
  return EXIT.done;
}

/** `assay route ls`. */
export async function list(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "GET", path: "/v1/contracts", signal: world.interrupt }),
  );
  const { contracts } = answer as unknown as { readonly contracts: readonly Contract[] };
  output.answer(
    () =>
      contracts.length === 0
        ? "No name of your own. Make one: assay route set support demo/chat"
        : table(
            ["Name", "Answered by", "Objective", "Demands"],
            contracts.map((one) => [
              printable(one.name),
              one.models.map(printable).join(", "),
              one.objective ?? "",
              Object.entries(one.require ?? {})
                .map(([key, value]) => `${key}: ${printable([value].flat().join(","))}`)
                .join("; "),
            ]),
            output.style,
          ),
    () => answer,
  );
  return EXIT.done;
}

/** `assay route rm`. */
export async function remove(cli: Cli, flags: GatewayFlags, name: string): Promise<number> {
  const { world, output } = cli;
  await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "DELETE", path: `/v1/contracts/${encodeURIComponent(name)}`, signal: world.interrupt }),
  );
  output.answer(
    () => `${printable(name)} is no name any more.`,
    () => ({ removed: name }),
  );
  return EXIT.done;
}
