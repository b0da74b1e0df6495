import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CryptoSuite } from "@assay/core";
import { bytesToHex, utf8ToBytes } from "@assay/core";
import { buildManifest } from "@assay/onnx";
import type { BlobStore } from "@assay/protocol";
import type { Hub } from "@assay/service-hub";
import { readSileroSource, wrapSilero } from "./silero.ts";

type SeedModules = {
  readonly hub: Hub;
  readonly blobs: BlobStore;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly owner: string;
};
type File = { readonly path: string; readonly bytes: Uint8Array };

/** Notice that the licence of Silero's weights asks to keep with every copy. */
const SILERO_NOTICE = `Silero VAD
Copyright (c) 2020-present Silero Team
Licensed under the MIT License. The weights come unchanged from the npm package @ricky0123/vad-web; the graph around
them was added here (see README.md).
`;

/** What engines of language models read beside the graph, in the folders under `models/`. */
const LANGUAGE_FILES = [
  "model.onnx",
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

/** Releases the demo models under `demo/` unless their newest versions are these very files already. */
export async function seedDemoModels(modules: SeedModules): Promise<void> {
  const folder = modelsFolder();
  const read = async (path: string, as = path.slice(path.indexOf("/") + 1)): Promise<File> => ({
    path: as,
    bytes: new Uint8Array(await readFile(join(folder, path))),
  });
  await release(modules, "demo/digits", "image-classification", [
    await read("digits/model.onnx"),
    await read("digits/card.md", "README.md"),
    await read("digits/preprocessing.json"),
  ]);
  await release(modules, "demo/silero-vad", "voice-activity-detection", [
    { path: "model.onnx", bytes: wrapSilero(await readSileroSource()) },
    await read("silero-vad/card.md", "README.md"),
    await read("silero-vad/preprocessing.json"),
    { path: "NOTICE", bytes: utf8ToBytes(SILERO_NOTICE) },
  ]);
  for (const [name, task] of [
    ["chat", "text-generation"],
    ["embed", "feature-extraction"],
  ] as const) {
    const there = new Set(await readdir(join(folder, name)));
    await release(modules, `demo/${name}`, task, [
      ...(await Promise.all(LANGUAGE_FILES.filter((file) => there.has(file)).map((file) => read(`${name}/${file}`)))),
      await read(`${name}/card.md`, "README.md"),
    ]);
  }
}

async function release(
  { hub, blobs, suite, owner }: SeedModules,
  name: string,
  task: string,
  files: readonly File[],
): Promise<void> {
  const listed = files.map(({ path, bytes }) => ({
    path,
    sizeBytes: bytes.length,
    sha256: bytesToHex(suite.sha256(bytes)),
  }));
  const preprocessing = listed.find(({ path }) => path === "preprocessing.json");
  const manifest = buildManifest(suite, {
    files: listed,
    entry: "model.onnx",
    task,
    ...(preprocessing ? { preprocessingSha256: preprocessing.sha256 } : {}),
  });
  if (hub.catalogue.current(name)?.manifestDigest === manifest.digest) return;
  for (const { bytes } of files) await blobs.put(bytes);
  await hub.release({ name, manifest: manifest.bytes, owner, visibility: "public" });
}

// The bundle lies in apps/assay/dist, the source in apps/assay/src/demo: both find models/ at the repository's root.
function modelsFolder(): string {
  const here = fileURLToPath(new URL(".", import.meta.url));
  const root = here.includes("/src/") ? join(here, "../../../..") : join(here, "../../..");
  return join(root, "models");
}
