import { mkdtempSync, readdirSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToHex, isAssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createLocalEngine } from "@assay/driver-llm";
import { createOrtRuntime } from "@assay/driver-ort";
import { connectDatabase, startEmbeddedPostgres } from "@assay/driver-postgres";
import { encodeModel, joinChunks } from "@assay/onnx";
import type { RuntimeProfile } from "@assay/protocol";
import { openCheckpoint, parseVkey } from "@assay/tlog";
import { gatewayFile } from "./gateway.ts";
import { describeFiles } from "./model-files.ts";
import { findReceipt, listReceiptIds, viewOf } from "./receipt-store.ts";
import { formatBytes, formatTime } from "./style.ts";
import { loadTrust } from "./trust-file.ts";
import type { World } from "./world.ts";

/** What the engine of language models reads of one. */
const LANGUAGE_FILES = [
  "config.json",
  "generation_config.json",
  "model.onnx",
  "tokenizer.json",
  "tokenizer_config.json",
];

/** What one check found. */
export type Finding = {
  readonly status: "pass" | "warn" | "fail";
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string;
};
export type DoctorCheck = { readonly name: string; readonly run: (world: World) => Promise<Finding> };

/** Below this a log and a database soon stop, bytes. */
const LOW_DISK_BYTES = 1_000_000_000;
const NO_DISK_BYTES = 100_000_000;
/** The oldest Node.js line that everything here runs on. */
const LEAST_NODE = [20, 19] as const;
/** No release of this program is older: a clock before it is wrong. */
const PROGRAM_EXISTS_MS = Date.UTC(2026, 0, 1);
const MAX_SKEW_MS = 5 * 60_000;

export const pass = (message: string): Finding => ({ status: "pass", message });
export const warn = (message: string, hint: string): Finding => ({ status: "warn", message, hint });
export const fail = (message: string, hint: string): Finding => ({ status: "fail", message, hint });

/** The checks of this machine; each stands alone, so that one failing hides no other. */
export const MACHINE_CHECKS: readonly DoctorCheck[] = [
  { name: "node", run: () => Promise.resolve(checkNode(process.versions.node)) },
  { name: "home", run: checkHome },
  { name: "disk", run: checkDisk },
  { name: "keys", run: checkKeys },
  { name: "clock", run: checkClock },
  { name: "port", run: checkPort },
  { name: "log", run: checkLog },
  { name: "portable", run: (world) => checkRuntime(world, "portable") },
  { name: "native", run: (world) => checkRuntime(world, "native") },
  { name: "language", run: checkLanguage },
  { name: "database", run: checkDatabase },
];

/** Whether this Node.js is new enough. */
export function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const enough = major > LEAST_NODE[0] || (major === LEAST_NODE[0] && minor >= LEAST_NODE[1]);
  return enough
    ? pass(`Node.js ${version}.`)
    : fail(`Node.js ${version} is too old.`, `Install ${LEAST_NODE.join(".")} or newer.`);
}

async function checkHome({ home }: World): Promise<Finding> {
  const probe = join(home, `.doctor.${process.pid}.tmp`);
  try {
    await mkdir(home, { recursive: true, mode: 0o700 });
    await writeFile(probe, "");
    await rm(probe);
  } catch (error) {
    return fail(
      `${home} cannot be written: ${messageOf(error)}.`,
      "Give yourself the folder, or name another in ASSAY_HOME.",
    );
  }
  return pass(`${home} can be written.`);
}

function checkDisk({ home }: World): Promise<Finding> {
  const { bavail, bsize } = statfsSync(existing(home));
  const free = bavail * bsize;
  const words = `${formatBytes(free)} free where ${home} lies.`;
  const hint = "Free some: a log that cannot grow stops giving receipts.";
  return Promise.resolve(
    free < NO_DISK_BYTES ? fail(words, hint) : free < LOW_DISK_BYTES ? warn(words, hint) : pass(words),
  );
}

function existing(path: string): string {
  return statSync(path, { throwIfNoEntry: false }) ? path : existing(join(path, ".."));
}

function checkKeys({ home }: World): Promise<Finding> {
  const folder = join(home, "keys");
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found) return Promise.resolve(pass("No keys yet; they are made on first use."));
  const names = readdirSync(folder).filter((name) => name.endsWith(".key"));
  const open = names.filter((name) => (statSync(join(folder, name)).mode & 0o077) !== 0);
  if (process.platform !== "win32" && open.length > 0) {
    return Promise.resolve(
      fail(`Others can read ${open.join(", ")}.`, `chmod 600 ${open.map((name) => join(folder, name)).join(" ")}`),
    );
  }
  return Promise.resolve(pass(`${names.length} key files, readable by you alone.`));
}

async function checkClock(world: World): Promise<Finding> {
  const now = world.now();
  const hint = "Set the clock: receipts from the future are refused, and tokens expire by it.";
  if (now < PROGRAM_EXISTS_MS) return fail(`It is ${formatTime(now)}, before this program existed.`, hint);
  const [latest] = listReceiptIds(world);
  const stored = latest === undefined ? undefined : await findReceipt(world, latest);
  const issuedAtMs = stored ? viewOf(stored.bytes, stored.path).execution.claims.issuedAtMs : 0;
  if (issuedAtMs > now + MAX_SKEW_MS) {
    return fail(`It is ${formatTime(now)}, and a receipt here was issued at ${formatTime(issuedAtMs)}.`, hint);
  }
  return pass(`${formatTime(now)}, not behind anything kept here.`);
}

async function checkPort(world: World): Promise<Finding> {
  const { host, port } = await world.serverSettings();
  const address = `${host}:${port}`;
  const running = await runningGateway(world);
  if (running !== undefined) return pass(`A gateway serves this home at ${running}.`);
  const taken = await new Promise<unknown>((resolve) => {
    const server = createServer();
    server.once("error", resolve);
    server.listen(port, host, () => server.close(() => resolve(undefined)));
  });
  if (taken === undefined) return pass(`${address} is free.`);
  return (taken as { code?: unknown }).code === "EADDRINUSE"
    ? warn(`Something else listens at ${address}.`, `assay start --port ${port + 1}`)
    : fail(`${address} cannot be used: ${messageOf(taken)}.`, "Choose another with --host and --port.");
}

/** Address of the gateway that serves this home, when it answers. */
export async function runningGateway(world: World): Promise<string | undefined> {
  const text = await readFile(gatewayFile(world.home), "utf8").catch(() => "");
  const url = /"url":"([^"]{1,200})"/.exec(text)?.[1];
  return url !== undefined && (await answers(world, url)) ? url : undefined;
}

async function answers(world: World, url: string): Promise<boolean> {
  const response = await world
    .fetch(`${url}/livez`, { method: "GET", redirect: "error", signal: AbortSignal.timeout(1000) })
    .catch(() => undefined);
  await response?.body?.cancel();
  return response?.ok === true;
}

async function checkLog(world: World): Promise<Finding> {
  const folder = join(world.home, "log");
  const note = await readFile(join(folder, "checkpoint"), "utf8").catch((error: unknown) => {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined;
    throw error;
  });
  if (note === undefined) return pass("No log yet; it begins with the first start.");
  const { trust } = await loadTrust(world);
  const keys = {
    logs: trust.logs.flatMap((log) => log.keys.map((key) => parseVkey(key, nodeSuite))),
    witnesses: trust.logs.flatMap((log) => log.witnesses.map((key) => parseVkey(key, nodeSuite))),
  };
  const opened = await openCheckpoint(note, keys, nodeSuite);
  const holder = holderOf(await readFile(join(folder, "epoch"), "utf8").catch(() => ""));
  if (!opened.ok) {
    return fail(
      `The log's checkpoint does not hold: ${opened.reason}`,
      "Do not delete the log; keep a copy and find out what changed it.",
    );
  }
  return pass(`${opened.checkpoint.size} entries signed by ${opened.checkpoint.origin}; ${holder}.`);
}

function holderOf(epoch: string): string {
  const pid = Number(/^pid (\d+)$/m.exec(epoch)?.[1] ?? "0");
  if (pid === 0) return "held by nobody";
  try {
    // Signal 0 asks whether the process is there and disturbs nothing.
    process.kill(pid, 0);
    return `last opened by process ${pid}, which runs`;
  } catch {
    return `last opened by process ${pid}, which has ended`;
  }
}

async function checkRuntime(world: World, profile: RuntimeProfile): Promise<Finding> {
  const folder = mkdtempSync(join(tmpdir(), "assay-doctor-"));
  const runtime = createOrtRuntime(world.ortChild);
  try {
    const bytes = joinChunks(tinyModel());
    const path = join(folder, "tiny.onnx");
    writeFileSync(path, bytes);
    const sha256 = bytesToHex(nodeSuite.sha256(bytes));
    const data = new Uint8Array(new Float32Array([3.5]).buffer);
    const { outputs, facts } = await runtime.run({
      model: { manifestDigest: sha256, path, sha256, profile },
      inputs: [{ name: "x", datatype: "FP32", shape: [1], data }],
      signal: world.interrupt,
    });
    const [output] = outputs;
    const value = output ? new DataView(output.data.buffer, output.data.byteOffset).getFloat32(0, true) : Number.NaN;
    if (value !== 7)
      return fail(`${facts.engine} computed 3.5 + 3.5 = ${value}.`, "This processor or build cannot be relied on.");
    return pass(`${facts.engine} ${facts.engineVersion} ran a model, class ${facts.cpuClass.slice(0, 12)}.`);
  } catch (error) {
    const hint =
      profile === "native"
        ? "The portable profile needs no native library; use it meanwhile."
        : "Run `npm ci` again: the WebAssembly file of onnxruntime-web has to be there.";
    return fail(`No model runs in the ${profile} profile: ${messageOf(error)}`, hint);
  } finally {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function checkLanguage(world: World): Promise<Finding> {
  const folder = join(world.modelsFolder, "chat");
  const there = statSync(join(folder, "model.onnx"), { throwIfNoEntry: false });
  if (!there) return warn("There is no language model beside this program.", "Import one with `assay model import`.");
  const engine = createLocalEngine({ ...world.languageChild, children: 1 });
  try {
    const { manifest, digest } = await describeFiles(folder, LANGUAGE_FILES, "model.onnx");
    const generation = engine.generate(
      {
        kind: "chat",
        model: {
          name: "doctor",
          files: { manifestDigest: digest, directory: folder, entry: manifest.entry, files: manifest.files },
        },
        messages: [{ role: "user", content: "Hello" }],
        parameters: { temperature: 0, max_tokens: 8 },
        stream: true,
      },
      { signal: world.interrupt },
    );
    for await (const _ of generation.events);
    const { facts, usage } = generation.outcome();
    const engineName = facts.profile === "llm" ? `${facts.engine} ${facts.engineVersion}` : facts.provider;
    return pass(`${engineName} wrote ${usage.completion_tokens} tokens.`);
  } catch (error) {
    return fail(
      `No language model runs: ${messageOf(error)}`,
      "Models of tensors work without it, and so do language models that others serve.",
    );
  } finally {
    await engine.close();
  }
}

/** x + x over one float32: under a hundred bytes, and its answer is known. */
function tinyModel() {
  const value = (name: string) => ({ name, elementType: 1 as const, shape: [1] });
  return encodeModel({
    irVersion: 8,
    opsets: [["", 13]],
    graph: {
      name: "tiny",
      nodes: [{ opType: "Add", inputs: ["x", "x"], outputs: ["y"] }],
      inputs: [value("x")],
      outputs: [value("y")],
    },
  });
}

async function checkDatabase(world: World): Promise<Finding> {
  const { databaseUrl } = await world.serverSettings();
  const folder = databaseUrl === undefined ? mkdtempSync(join(tmpdir(), "assay-doctor-db-")) : undefined;
  let embedded: Awaited<ReturnType<typeof startEmbeddedPostgres>> | undefined;
  try {
    if (folder !== undefined) embedded = await startEmbeddedPostgres({ directory: folder });
    const database = connectDatabase({ url: databaseUrl ?? embedded?.url ?? "" });
    try {
      const { rows } = await database.query("SELECT current_setting('server_version') AS version");
      const stated = rows[0]?.["version"];
      const version = typeof stated === "string" ? stated : "of unknown version";
      return pass(
        embedded ? `The embedded PostgreSQL ${version} starts and answers.` : `PostgreSQL ${version} answers.`,
      );
    } finally {
      await database.close();
    }
  } catch (error) {
    const hint =
      databaseUrl === undefined
        ? "Inference and receipts work without it; lists and tokens come back with it. Or set DATABASE_URL."
        : "Check DATABASE_URL; its password is not shown here.";
    return fail(`The database does not answer: ${messageOf(error)}`, hint);
  } finally {
    await embedded?.close();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}

function messageOf(error: unknown): string {
  return isAssayError(error) || error instanceof Error ? error.message : String(error);
}
