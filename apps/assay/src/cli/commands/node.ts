import { join } from "node:path";
import { canonicalJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createClient } from "@assay/sdk";
import type { Client, ModelDetail } from "@assay/sdk";
import { languageOf } from "@assay/service-hub";
import type { OfferedModel } from "../../server/start-node.ts";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { gatewayUrlOf, ownerKey, withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { hashFile, readManifest } from "../model-files.ts";
import { cliError } from "../render-error.ts";
import { facts, formatTime, printable, table } from "../style.ts";

export type JoinFlags = {
  readonly join: string;
  readonly models: string;
  readonly jurisdiction?: string;
  readonly invite?: string;
  readonly name: string;
  readonly host?: string;
  readonly port?: number;
  readonly publicUrl?: string;
  readonly accelerator?: string;
  readonly asset?: string;
  readonly perCall?: string;
  readonly perMillionIn?: string;
  readonly perMillionOut?: string;
  readonly allowPlain: boolean;
  readonly leave: boolean;
};
export type AdmitFlags = GatewayFlags & { readonly country?: string };
export type EjectFlags = GatewayFlags & { readonly reason?: string };

/** A configuration is a few kilobytes. */
const MAX_CONFIG_BYTES = 256 * 1024;

/** `assay node --join`: executes for a gateway until it is interrupted, and signs what it did with a key of its own. */
export async function joinGateway(cli: Cli, flags: JoinFlags): Promise<number> {
  const { world, output } = cli;
  const country = flags.jurisdiction?.toUpperCase();
  if (country !== undefined && !/^[A-Z]{2}$/.test(country)) {
    throw cliError("usage_invalid", "A node's jurisdiction is one country, for example DE.");
  }
  if (!/^[a-z0-9][a-z0-9-]{0,31}$/.test(flags.name)) {
    throw cliError("usage_invalid", "A node's name has 1 to 32 lower-case letters, digits and dashes.");
  }
  const own = (await gatewayUrlOf(world)) === flags.join.replace(/\/+$/, "");
  const client = createClient({
    url: flags.join,
    fetch: world.fetch,
    now: world.now,
    sleep: world.sleep,
    suite: nodeSuite,
    ...(own ? { signer: ownerKey(world) } : {}),
  });
  output.progress(`asking ${flags.join} for its models`);
  const names = flags.models.split(",").map((name) => name.trim());
  const models: OfferedModel[] = [];
  for (const name of names) models.push(await offered(client, name, world.interrupt));
  const probePath = join(world.modelsFolder, "digits", "model.onnx");
  const probe = await hashFile(probePath);
  if (probe === undefined) throw cliError("file_unreadable", `There is no model at ${probePath}.`);
  const { asset, perCall, perMillionIn, perMillionOut } = flags;
  const priced = [perCall, perMillionIn, perMillionOut].some((part) => part !== undefined);
  output.progress("joining");
  const node = await world.startNode({
    home: join(world.home, "nodes", flags.name),
    gatewayUrl: flags.join,
    host: flags.host ?? "127.0.0.1",
    port: flags.port ?? 0,
    models,
    probe: { path: probePath, sha256: probe },
    ...(flags.publicUrl === undefined ? {} : { publicUrl: flags.publicUrl }),
    ...(flags.invite === undefined ? {} : { invite: flags.invite }),
    ...(flags.allowPlain ? { allowPlainHttp: true } : {}),
    ...(country === undefined ? {} : { country }),
    ...(flags.accelerator === undefined ? {} : { accelerator: flags.accelerator }),
    ...(priced
      ? {
          price: {
            asset: asset ?? "USD",
            ...(perCall === undefined ? {} : { perCall }),
            ...(perMillionIn === undefined ? {} : { perMillionInputTokens: perMillionIn }),
            ...(perMillionOut === undefined ? {} : { perMillionOutputTokens: perMillionOut }),
          },
        }
      : {}),
    // On the operator's own machine the operator's key says that this node may come in.
    ...(own ? { operator: ownerKey(world) } : {}),
    onState: (state) => output.note(output.noteStyle.faint(`The gateway says: ${state}.`)),
  });
  try {
    const { style } = output;
    output.answer(
      () =>
        [
          style.strong("Assay node"),
          "",
          facts(
            [
              ["Signs as", node.subject],
              ["Key", node.key],
              ["Gateway", `${flags.join} (${node.state()})`],
              ["Listening", node.url],
              ["Offers", models.map(({ name, version }) => `${printable(name)}@${version}`).join(", ")],
              ["Processor", `${node.cpuClass.slice(0, 16)}…`],
              ["Where", country === undefined ? "not declared" : `${country}, declared`],
            ],
            style,
          ),
          ...(node.state() === "pending"
            ? [
                "",
                style.faint("  It waits for the gateway's operator, who says on the gateway's machine:"),
                `  npx assay node admit ${node.key}`,
              ]
            : []),
        ].join("\n"),
      () => ({
        subject: node.subject,
        key: node.key,
        url: node.url,
        gateway: flags.join,
        state: node.state(),
        models: models.map(({ name, version, manifestDigest }) => ({ name, version, manifestDigest })),
        cpuClass: node.cpuClass,
        country: country ?? null,
      }),
    );
    await new Promise<void>((resolve) => {
      if (world.interrupt.aborted) resolve();
      else world.interrupt.addEventListener("abort", () => resolve(), { once: true });
    });
    output.note(output.noteStyle.faint("Finishing what is under way."));
    return EXIT.done;
  } finally {
    await node.close({ leave: flags.leave });
  }
}

/** What the gateway's hub says of a model, as a node offers it; what its graph is like the gateway knows itself. */
async function offered(client: Client, name: string, signal: AbortSignal): Promise<OfferedModel> {
  const detail = await client.model(name, { signal });
  const manifest = manifestOf(detail);
  const language = await languageOf(manifest.files, detail.signature, [], async (sha256) => {
    const file = manifest.files.find((one) => one.sha256 === sha256);
    return file ? fileBytes(client, `${detail.name}@${detail.version}`, file.path, signal) : new Uint8Array();
  });
  return {
    name: detail.name,
    version: detail.version,
    manifestDigest: detail.manifestDigest,
    kinds: !language ? ["tensor"] : language.task === "text-generation" ? ["chat", "completion"] : ["embedding"],
    ...(language?.family ? { family: language.family } : {}),
    ...(language?.contextTokens ? { contextTokens: language.contextTokens } : {}),
  };
}

function manifestOf(detail: ModelDetail) {
  const text = detail.manifest;
  const built = readManifest(typeof text === "string" ? utf8ToBytes(text) : canonicalJson(text as JsonValue));
  if (built?.digest === detail.manifestDigest) return built.manifest;
  throw cliError("model_mismatch", "The gateway's manifest is not the one that its digest names.");
}

async function fileBytes(client: Client, name: string, path: string, signal: AbortSignal): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of (await client.modelFile(name, path, { signal })) as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > MAX_CONFIG_BYTES) break;
    parts.push(chunk);
  }
  return Buffer.concat(parts);
}

type Shown = {
  readonly key: string;
  readonly subject: string;
  readonly role: string;
  readonly state: string;
  readonly lastSeenAt?: string;
  readonly liveness?: string;
  readonly registryCountry?: string | null;
  readonly advertisement?: {
    readonly offers?: readonly { readonly model: string }[];
    readonly jurisdiction?: { readonly country: string; readonly evidence: string };
  };
  readonly audits?: { readonly agreed: number; readonly disagreed: number; readonly impossible: number };
};

/** `assay node ls`. */
export async function list(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({ method: "GET", path: "/v1/nodes", signal: world.interrupt }),
  );
  const { nodes = [] } = answer as unknown as { readonly nodes?: readonly Shown[] };
  output.answer(
    () =>
      nodes.length === 0
        ? "No node has joined. Start one: assay node --join URL --models demo/digits"
        : table(
            ["Node", "State", "Where", "Offers", "Audits", "Seen", "Key"],
            nodes.map((node) => [
              printable(node.subject),
              [
                node.state,
                ...(node.liveness === "alive" ? [] : [node.liveness ?? ""]),
                ...(node.role === "gateway" ? ["gateway"] : []),
              ].join(", "),
              placeOf(node),
              (node.advertisement?.offers ?? []).map(({ model }) => printable(model)).join(", "),
              node.audits ? `${node.audits.agreed} agree, ${node.audits.disagreed} disagree` : "",
              node.lastSeenAt === undefined ? "" : formatTime(Date.parse(node.lastSeenAt)),
              output.style.id(node.key),
            ]),
            output.style,
          ),
    () => answer,
  );
  return EXIT.done;
}

function placeOf({ registryCountry, advertisement }: Shown): string {
  if (registryCountry !== undefined && registryCountry !== null) return `${registryCountry} (registry)`;
  const jurisdiction = advertisement?.jurisdiction;
  return jurisdiction ? `${jurisdiction.country} (${jurisdiction.evidence})` : "not declared";
}

/** `assay node invite`: a word that lets one node in. */
export async function invite(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, async ({ client, url }) => ({
    ...((await client.admin({
      method: "POST",
      path: "/v1/nodes/invites",
      body: {},
      signal: world.interrupt,
    })) as unknown as {
      readonly invite: string;
      readonly expiresAt: string;
    }),
    url,
  }));
  output.answer(
    () =>
      `${answer.invite}\n${output.style.faint("One node may use it, once, on another machine:")}\n  npx assay node --join ${answer.url} --models demo/digits --invite ${answer.invite}`,
    () => ({ ...answer }),
  );
  return EXIT.done;
}

/** `assay node admit`, `drain` and `eject`: the operator's decisions about one node. */
export async function decide(
  cli: Cli,
  flags: AdmitFlags & EjectFlags,
  action: "admit" | "drain" | "eject",
  key: string,
): Promise<number> {
  const { world, output } = cli;
  const body: JsonValue =
    action === "admit" && flags.country !== undefined
      ? { country: flags.country.toUpperCase() }
      : action === "eject"
        ? { reason: flags.reason ?? "the operator's decision" }
        : {};
  const answer = (await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.admin({
      method: "POST",
      path: `/v1/nodes/${encodeURIComponent(key)}/${action}`,
      body,
      signal: world.interrupt,
    }),
  )) as unknown as { readonly subject: string; readonly state: string };
  output.answer(
    () => `${printable(answer.subject)} is ${answer.state}.`,
    () => ({ ...answer }),
  );
  return EXIT.done;
}
