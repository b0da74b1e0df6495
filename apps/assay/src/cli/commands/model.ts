import { createHash } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { canonicalJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { BuiltManifest, ManifestFile } from "@assay/onnx";
import { parseModelName } from "@assay/sdk";
import type { Client, ModelDetail } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute, writeWhole } from "../files.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { describeModel, MANIFEST_FILE, modelPlace, onDisk, readManifest } from "../model-files.ts";
import { cliError } from "../render-error.ts";
import { facts, formatBytes, formatTime, printable, table } from "../style.ts";

export type PushFlags = GatewayFlags & { readonly name: string; readonly private: boolean; readonly task?: string };

/** `assay model push`: uploads the files, then releases their manifest as the next version. */
export async function push(cli: Cli, flags: PushFlags, path: string): Promise<number> {
  const { world, output } = cli;
  releaseName(flags.name);
  const place = modelPlace(absolute(world, path));
  output.progress("hashing");
  return release(cli, flags, place.folder, await describeModel(place, flags.task));
}

/** The name to release under. Throws `usage_invalid` for one with a version, and `model_name_invalid`. */
export function releaseName(name: string): string {
  const { bare, version } = parseModelName(name);
  if (version === undefined) return bare;
  throw cliError("usage_invalid", "A release gets the next version number.", { hints: ["Leave @version out."] });
}

/** Uploads what a manifest lists from `folder`, releases it under the name of `flags`, and says so. */
export async function release(
  cli: Cli,
  flags: Pick<PushFlags, "name" | "private" | "url">,
  folder: string,
  built: BuiltManifest,
): Promise<number> {
  const { world, output } = cli;
  const bare = releaseName(flags.name);
  const { files } = built.manifest;
  const released = await withGateway(cli, flags, ({ client }) =>
    client.push(bare, {
      manifest: built.bytes,
      files: files.map((file) => ({ ...file, read: () => readFile(onDisk(folder, file.path)) })),
      visibility: flags.private ? "private" : "public",
      onFile: (file, done, total) => output.progress(`sent ${done} of ${total}: ${file}`),
      signal: world.interrupt,
    }),
  );
  const { style } = output;
  output.answer(
    () =>
      [
        style.strong(`${released.name} version ${released.version}`),
        "",
        facts(
          [
            ["Manifest", released.manifestDigest],
            ["Files", `${files.length}, ${formatBytes(total(files))}`],
            ...(typeof released.logIndex === "number" ? ([["Log index", String(released.logIndex)]] as const) : []),
          ],
          style,
        ),
      ].join("\n"),
    () => ({ ...released, logIndex: released.logIndex ?? null, files: files.length, sizeBytes: total(files) }),
  );
  return EXIT.done;
}

/** `assay model ls`. */
export async function list(cli: Cli, flags: GatewayFlags, prefix?: string): Promise<number> {
  const { output, world } = cli;
  const models = await withGateway(cli, flags, ({ client }) =>
    client.models({ ...(prefix === undefined ? {} : { prefix }), signal: world.interrupt }),
  );
  const { style } = output;
  output.answer(
    () =>
      models.length === 0
        ? `No model${prefix === undefined ? "" : ` begins with ${prefix}`}. Release one: assay model push model.onnx --name me/model`
        : table(
            ["Name", "Version", "Status", "Size", "Released", "Manifest"],
            models.map((model) => [
              printable(model.name),
              String(model.version),
              model.visibility === "private" ? `${model.status}, private` : model.status,
              formatBytes(model.sizeBytes),
              formatTime(timeOf(model.releasedAt)),
              style.id(model.manifestDigest),
            ]),
            style,
            { right: [1, 3] },
          ),
    () => ({ models: models.map((model) => ({ ...model })) }),
  );
  return EXIT.done;
}

/** `assay model show`. */
export async function show(cli: Cli, flags: GatewayFlags, name: string): Promise<number> {
  const { output, world } = cli;
  const model = await withGateway(cli, flags, ({ client }) => client.model(name, { signal: world.interrupt }));
  const { style } = output;
  const ports = (list: ModelDetail["signature"]["inputs"]): string =>
    list
      .map(
        ({ name: of, datatype, shape }) =>
          `${printable(of)} ${datatype} [${shape.map((n) => (n < 0 ? "any" : n)).join(", ")}]`,
      )
      .join("; ");
  const first = model.signature.inputs[0]?.name ?? "input";
  output.answer(
    () =>
      [
        `${style.strong(printable(model.name))} version ${model.version}, ${model.status}`,
        "",
        facts(
          [
            ["Takes", ports(model.signature.inputs)],
            ["Gives", ports(model.signature.outputs)],
            ["Reads", model.preprocessing ? "pictures or recordings, by its preprocessing document" : "tensors"],
            ["Size", formatBytes(model.sizeBytes)],
            ["Released", formatTime(timeOf(model.releasedAt))],
            ["Owner", printable(model.owner)],
            ["Manifest", model.manifestDigest],
            ["Versions", model.versions.map((of) => `${of.version} (${of.status})`).join(", ")],
          ],
          style,
        ),
        ...(typeof model.card === "string" ? ["", printableLines(model.card)] : []),
        "",
        `  assay run ${model.name} --input ${first}=…`,
      ].join("\n"),
    () => ({ ...model }) as unknown as JsonValue,
  );
  return EXIT.done;
}

export type PullFlags = GatewayFlags & { readonly to?: string };

/** `assay model pull`: every file hashed as it arrives, and the manifest beside them. */
export async function pull(cli: Cli, flags: PullFlags, name: string): Promise<number> {
  const { world, output } = cli;
  const { bare } = parseModelName(name);
  const folder = absolute(world, flags.to ?? basename(bare));
  if (existsSync(folder) && readdirSync(folder).length > 0) {
    throw cliError("file_exists", `${folder} is not empty.`, { hints: ["Name another folder with --to."] });
  }
  const built = await withGateway(cli, flags, async ({ client }) => {
    const detail = await client.model(name, { signal: world.interrupt });
    const manifest = manifestOf(detail);
    // Filled beside and renamed, so that a folder of that name always holds the whole model.
    const partial = `${folder}.${process.pid}.partial`;
    try {
      await fetchFiles(cli, client, `${bare}@${detail.version}`, manifest, partial);
      writeWhole(join(partial, MANIFEST_FILE), manifest.bytes, 0o644);
      if (existsSync(folder)) rmSync(folder, { recursive: true });
      renameSync(partial, folder);
    } finally {
      rmSync(partial, { recursive: true, force: true });
    }
    return manifest;
  });
  const { files } = built.manifest;
  output.answer(
    () =>
      `${folder}\n${output.style.faint(`${files.length} files, ${formatBytes(total(files))}, manifest ${built.digest}`)}`,
    () => ({
      name: bare,
      manifestDigest: built.digest,
      path: folder,
      files: files.map(({ path, sha256, sizeBytes }) => ({ path, sha256, sizeBytes })),
    }),
  );
  return EXIT.done;
}

function manifestOf(detail: ModelDetail): BuiltManifest {
  const text = detail.manifest;
  const manifest = readManifest(typeof text === "string" ? utf8ToBytes(text) : canonicalJson(text as JsonValue));
  if (manifest?.digest === detail.manifestDigest) return manifest;
  throw cliError("model_mismatch", "The gateway's manifest is not the one that its digest names.");
}

async function fetchFiles(
  { world, output }: Cli,
  client: Client,
  name: string,
  { manifest }: BuiltManifest,
  folder: string,
): Promise<void> {
  const all = total(manifest.files);
  let done = 0;
  for (const file of manifest.files) {
    const at = onDisk(folder, file.path);
    mkdirSync(dirname(at), { recursive: true });
    const hash = createHash("sha256");
    let size = 0;
    const stream = await client.modelFile(name, file.path, { signal: world.interrupt });
    const measured = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of stream) {
        size += chunk.length;
        if (size > file.sizeBytes) return;
        hash.update(chunk);
        done += chunk.length;
        output.progress(`${formatBytes(done)} of ${formatBytes(all)}  ${file.path}`);
        yield chunk;
      }
    };
    await pipeline(measured(), createWriteStream(at, { flags: "wx" }));
    if (size !== file.sizeBytes || hash.digest("hex") !== file.sha256) {
      throw cliError("model_mismatch", `What came for ${file.path} is not what the manifest names.`);
    }
  }
}

/** `assay model rollback` and `assay model deprecate`. */
export async function change(
  cli: Cli,
  flags: GatewayFlags,
  name: string,
  action: "rollback" | "deprecate",
): Promise<number> {
  const { output, world } = cli;
  const { bare, version } = parseModelName(name);
  if (version === undefined) {
    throw cliError("usage_invalid", `Say which version to ${action}.`, { hints: [`For example ${bare}@1.`] });
  }
  const result = await withGateway(cli, flags, ({ client }) =>
    client[action](bare, version, { signal: world.interrupt }),
  );
  output.answer(
    () =>
      action === "rollback"
        ? `${bare} is version ${version} again. What ran before keeps its receipts.`
        : `${bare} version ${version} is deprecated. What ran before keeps its receipts.`,
    () => result,
  );
  return EXIT.done;
}

function total(files: readonly ManifestFile[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function timeOf(time: string | number): number {
  return typeof time === "number" ? time : Date.parse(time);
}

function printableLines(text: string): string {
  return text.trimEnd().split(/\r?\n/).map(printable).join("\n");
}
