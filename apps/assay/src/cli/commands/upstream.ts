import { basename } from "node:path";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute, readWhole } from "../files.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { cliError } from "../render-error.ts";
import { facts, printable, table } from "../style.ts";

export type AddFlags = GatewayFlags & {
  readonly name?: string;
  readonly keyEnv?: string;
  readonly keyFile?: string;
  readonly country?: string;
  readonly replace: boolean;
  readonly allowPlain: boolean;
  readonly asset?: string;
  readonly perCall?: string;
  readonly perMillionIn?: string;
  readonly perMillionOut?: string;
};

type Shown = {
  readonly name: string;
  readonly kind: string;
  readonly baseUrl?: string;
  readonly path?: string;
  readonly country?: string;
  readonly keyFingerprint: string | null;
  readonly addedAt: string;
};

const PROVIDERS: Readonly<Record<string, string>> = {
  openai: "https://api.openai.com/v1",
  anthropic: "https://api.anthropic.com",
  gemini: "https://generativelanguage.googleapis.com",
};
const MAX_KEY_BYTES = 8192;

/** `assay upstream add`: a provider by its name, or any OpenAI-compatible server by its address. */
export async function add(cli: Cli, flags: AddFlags, provider: string): Promise<number> {
  const { world, output } = cli;
  const known = PROVIDERS[provider];
  const file = /^gguf:(.+)$/.exec(provider)?.[1];
  if (known === undefined && file === undefined && !/^https?:\/\//.test(provider)) {
    throw cliError("usage_invalid", `${provider} is neither a provider nor the address of a server.`, {
      hints: [
        `Providers are ${Object.keys(PROVIDERS).join(", ")}; a server is named like http://localhost:11434/v1.`,
        "A GGUF file is named like gguf:models/chat/chat.gguf.",
      ],
    });
  }
  const path = file === undefined ? undefined : absolute(world, file);
  const name = flags.name ?? (path === undefined ? (known === undefined ? nameOf(provider) : provider) : "gguf");
  const apiKey = await keyOf(cli, flags);
  const { asset, perCall, perMillionIn, perMillionOut } = flags;
  const priced = [perCall, perMillionIn, perMillionOut].some((part) => part !== undefined);
  const price = {
    asset: asset ?? "USD",
    ...(perCall === undefined ? {} : { perCall }),
    ...(perMillionIn === undefined ? {} : { perMillionInputTokens: perMillionIn }),
    ...(perMillionOut === undefined ? {} : { perMillionOutputTokens: perMillionOut }),
  };
  const added = (await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({
      method: "POST",
      path: "/v1/upstreams",
      body: {
        name,
        ...(path === undefined
          ? { kind: known === undefined ? "openai-compatible" : provider, baseUrl: known ?? provider }
          : { kind: "gguf", path }),
        ...(apiKey === undefined ? {} : { apiKey }),
        ...(flags.country === undefined ? {} : { country: flags.country.toUpperCase() }),
        ...(flags.replace ? { replace: true } : {}),
        ...(flags.allowPlain ? { allowPlain: true } : {}),
        ...(priced ? { prices: { "*": price } } : {}),
      },
      signal: world.interrupt,
    }),
  )) as unknown as Shown;
  output.answer(
    () =>
      [
        output.style.strong(printable(added.name)),
        "",
        facts(
          [
            ["Speaks", added.kind],
            ["Address", printable(added.baseUrl ?? added.path ?? "the provider's own")],
            ["Key", added.keyFingerprint === null ? "none" : `kept encrypted, fingerprint ${added.keyFingerprint}`],
          ],
          output.style,
        ),
        "",
        `  npx assay chat --model ${added.name}/${path === undefined ? "MODEL" : basename(path, ".gguf")} "Hello"`,
      ].join("\n"),
    () => added,
  );
  return EXIT.done;
}

/** `assay upstream ls`. */
export async function list(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "GET", path: "/v1/upstreams", signal: world.interrupt }),
  );
  const { upstreams } = answer as unknown as { readonly upstreams: readonly Shown[] };
  output.answer(
    () =>
      upstreams.length === 0
        ? "No upstream. Add one: assay upstream add openai --key-env OPENAI_API_KEY"
        : table(
            ["Name", "Speaks", "Address", "Country", "Key"],
            upstreams.map((one) => [
              printable(one.name),
              one.kind,
              printable(one.baseUrl ?? one.path ?? ""),
              one.country ?? "",
              one.keyFingerprint ?? "none",
            ]),
            output.style,
          ),
    () => answer,
  );
  return EXIT.done;
}

/** `assay upstream rm`. */
export async function remove(cli: Cli, flags: GatewayFlags, name: string): Promise<number> {
  const { world, output } = cli;
  await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "DELETE", path: `/v1/upstreams/${encodeURIComponent(name)}`, signal: world.interrupt }),
  );
  output.answer(
    () => `${printable(name)} is removed, and its key with it. What ran before keeps its receipts.`,
    () => ({ removed: name }),
  );
  return EXIT.done;
}

async function keyOf({ world }: Cli, flags: AddFlags): Promise<string | undefined> {
  if (flags.keyEnv !== undefined) {
    const key = world.variable(flags.keyEnv);
    if (key === undefined || key === "") throw cliError("usage_invalid", `The variable ${flags.keyEnv} is not set.`);
    return key;
  }
  if (flags.keyFile === undefined) return undefined;
  const bytes =
    flags.keyFile === "-"
      ? await world.stdin(MAX_KEY_BYTES)
      : await readWhole(absolute(world, flags.keyFile), MAX_KEY_BYTES, "key");
  return new TextDecoder().decode(bytes).trim();
}

function nameOf(address: string): string {
  let host = "";
  try {
    host = new URL(address).hostname;
  } catch {
    // The gateway says what is wrong with the address.
  }
  const name = host
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
  return name === "" ? "upstream" : name.slice(0, 32);
}
