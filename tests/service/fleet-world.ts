// One home with its gateway, and nodes that join it: the composed server and the program's own commands, over loopback.
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bytesToHex, canonicalJson, hexToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import { parseText } from "@assay/protocol";
import type { LanguageEngine, LanguageModelFiles, RemoteTensor, Tensor } from "@assay/protocol";
import {
  commitFields,
  decodeEntry,
  encodeClaims,
  keyId,
  parseStatement,
  parseTrust,
  PROFILE,
  receiptSubject,
  tensorFields,
  viewReceipt,
} from "@assay/receipts";
import type { ReceiptView, Statement, Trust, Verdict } from "@assay/receipts";
import { createClient } from "@assay/sdk";
import type { Client } from "@assay/sdk";
import { languageOf } from "@assay/service-hub";
import { createTextNode, startRemoteNode, timeOrderedId } from "@assay/service-node";
import type { TensorExecution } from "@assay/service-node";
import { createVerifier } from "@assay/verifier";
import { makeFakeHome } from "../../apps/assay/src/cli/testing/fake-world.ts";
import type { Ran } from "../../apps/assay/src/cli/testing/fake-world.ts";
import type { World } from "../../apps/assay/src/cli/world.ts";
import { readManifest } from "../../apps/assay/src/cli/model-files.ts";
import { startNode } from "../../apps/assay/src/server/start-node.ts";
import type { OfferedModel, RunningNode } from "../../apps/assay/src/server/start-node.ts";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { languageChild as sourceLanguageChild, modelFiles } from "./chat-world.ts";
import { makeIssuer } from "./remote/world.ts";
import { ask, mintToken, openHome, release } from "./running-server.ts";
import type { Json, ServerHome } from "./running-server.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

// Many processes come and go in these tests, and a bundle starts in a fraction of the time that its source takes.
type ChildProgram = { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
const bundle = (name: string): ChildProgram | undefined => {
  const childEntry = join(ROOT, "apps/assay/dist", name);
  return existsSync(childEntry) ? { childEntry } : undefined;
};
/** How processes that hold models of tensors are started: the bundle when the repository was built, else the source. */
export const ortChild = (): ChildProgram => bundle("ort-child.js") ?? sourceChild();
/** The same for language models. */
export const languageChild: ChildProgram = bundle("llm-child.js") ?? sourceLanguageChild;

export type Fleet = {
  readonly home: ServerHome;
  readonly url: string;
  /** The operator's bearer. */
  readonly token: string;
  /** Runs `assay ...args` over this home, or another one. */
  readonly cli: (args: readonly string[], changes?: Partial<World>) => Promise<Ran>;
  readonly close: () => Promise<void>;
};

/** Starts a gateway with the demo models, which runs text and tensors itself too. */
export async function openFleet(config: Partial<Parameters<typeof openHome>[0]> = {}): Promise<Fleet> {
  const home = await openHome({ ...ortChild(), languageChild, auditShare: 0, ...config });
  await home.server.databaseReady;
  const { url } = home.server;
  const token = await mintToken(url, home.operator);
  await releaseDemo(url, token);
  // What `assay start` leaves for the other commands of its home.
  writeFileSync(join(home.directory, "gateway.json"), JSON.stringify({ url, pid: process.pid }));
  const cli = makeFakeHome({ home: home.directory, fetch: (to, init) => fetch(to, init) });
  return {
    home,
    url,
    token,
    cli: (args, changes) => cli.run(args, changes),
    async close() {
      cli.remove();
      await home.close();
    },
  };
}

/** Releases demo/digits and demo/chat through the hub, as somebody who imports them does. */
async function releaseDemo(url: string, token: string): Promise<void> {
  const digits = ["model.onnx", "preprocessing.json"].map((path) => ({
    path,
    bytes: new Uint8Array(readFileSync(join(ROOT, "models/digits", path))),
  }));
  for (const [name, files] of [
    ["demo/digits", digits],
    ["demo/chat", modelFiles("models/chat", ["generation_config.json"])],
  ] as const) {
    const released = await release(url, token, name, files);
    if (released.status !== 200) throw new Error(`${name} was refused: ${JSON.stringify(released.body)}`);
  }
}

/** A node that `assay node --join` started. */
export type JoinedNode = {
  readonly node: RunningNode;
  readonly subject: string;
  readonly key: string;
  /** Interrupts the command, and resolves with what it printed. */
  readonly stop: () => Promise<Ran>;
};

/** Runs `assay node --join` over the fleet's home until it is stopped; resolves when it has joined and has its models. */
export async function joinFleet(
  fleet: Fleet,
  args: readonly string[] = [],
  options: { readonly home?: string; readonly models?: string } = {},
): Promise<JoinedNode> {
  const interrupt = new AbortController();
  let joined: ((node: RunningNode) => void) | undefined;
  const started = new Promise<RunningNode>((resolve) => (joined = resolve));
  const ran = fleet.cli(
    ["node", "--join", fleet.url, "--models", options.models ?? "demo/digits,demo/chat", ...args, "--json", "--debug"],
    {
      interrupt: interrupt.signal,
      ...(options.home === undefined ? {} : { home: options.home }),
      async startNode(config) {
        const node = await startNode({ ...config, child: ortChild(), languageChild, logLevel: "silent" });
        joined?.(node);
        return node;
      },
    },
  );
  const failed = ran.then(({ code, out, err }) => {
    throw new Error(`assay node ended with ${code}: ${out}${err}`);
  });
  const node = await Promise.race([started, failed]);
  failed.catch(() => undefined);
  if (node.state() === "active") await node.pulled;
  return {
    node,
    subject: node.subject,
    key: node.key,
    stop() {
      interrupt.abort();
      return ran;
    },
  };
}

/** The trust file of a home, as it stands now. */
export function trustOf(directory: string): Trust {
  return parseTrust(readFileSync(join(directory, "trust.json"), "utf8"));
}

export { eventually as until } from "@assay/testkit/eventually";

export function verify(trust: Trust, bytes: Uint8Array, nowMs = Date.now()): Promise<Verdict> {
  return createVerifier({ trust, suite: nodeSuite })(bytes, nowMs);
}

export function viewOf(bytes: Uint8Array): ReceiptView {
  const taken = viewReceipt(nodeSuite, bytes);
  if ("fault" in taken) throw new Error(`The receipt cannot be read: ${taken.fault.message}`);
  return taken.view;
}

/** An input of demo/digits that is another one for each `i`: float32 `[1, 1, 8, 8]`. */
export function digit(i = 0): Tensor {
  const values = Float32Array.from({ length: 64 }, (_, at) => (Math.sin(i + at) + 1) / 2);
  return { name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data: new Uint8Array(values.buffer) };
}

/** A client of `url` that sends `headers` with everything. */
export function clientOf(url: string, headers: Readonly<Record<string, string>> = {}): Client {
  return createClient({
    url,
    suite: nodeSuite,
    fetch: (to, init) => {
      const sent = new Headers(init?.headers as Record<string, string> | undefined);
      for (const [name, value] of Object.entries(headers)) sent.set(name, value);
      return fetch(to, { ...init, headers: sent } as RequestInit);
    },
  });
}

/** One inference with its receipt, opened. */
export async function inferred(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  i = 0,
): Promise<{
  readonly label: number;
  readonly receiptId: string;
  readonly bytes: Uint8Array;
  readonly view: ReceiptView;
}> {
  const client = clientOf(url, headers);
  const request = { model: "demo/digits", inputs: [digit(i)] };
  const answer = await client.infer(request);
  const bytes = await client.receiptOf(request, answer, { waitMs: 5000 });
  const label = answer.outputs.find(({ name }) => name === "label");
  return {
    label: Number(new DataView(label?.data.buffer ?? new ArrayBuffer(8), label?.data.byteOffset).getBigInt64(0, true)),
    receiptId: answer.receiptId,
    bytes,
    view: viewOf(bytes),
  };
}

/** What a node is told to offer: a model of the gateway's hub, as `assay node` describes it. */
export async function offerOf(url: string, name: string): Promise<OfferedModel> {
  const client = clientOf(url);
  const detail = await client.model(name);
  const { manifest: of } = detail;
  const manifest = readManifest(
    typeof of === "string" ? new TextEncoder().encode(of) : canonicalJson(of as JsonValue),
  )?.manifest;
  const language = await languageOf(manifest?.files ?? [], detail.signature, [], async (sha256) => {
    const file = manifest?.files.find((one) => one.sha256 === sha256);
    const stream = await client.modelFile(`${detail.name}@${detail.version}`, file?.path ?? "");
    return new Uint8Array(await new Response(stream).arrayBuffer());
  });
  return {
    name: detail.name,
    version: detail.version,
    manifestDigest: detail.manifestDigest,
    kinds: language ? ["chat", "completion"] : ["tensor"],
    ...(language?.family ? { family: language.family } : {}),
    ...(language?.contextTokens ? { contextTokens: language.contextTokens } : {}),
  };
}

/** Every statement of a log, in order. */
export async function statementsOf(log: ServerHome["server"]["log"]): Promise<readonly Statement[]> {
  const found: Statement[] = [];
  for (let at = 0; at < log.size();) {
    const records = await log.readRange(at, 1000);
    for (const { entry } of records)
      found.push(...decodeEntry(entry).map((envelope) => parseStatement(nodeSuite, envelope)));
    if (records.length === 0) break;
    at += records.length;
  }
  return found;
}

/** What is wrong with the chains of a log: gaps, and links to another statement than the one before. */
export function chainFaults(statements: readonly Statement[]): readonly string[] {
  const heads = new Map<string, { seq: number; prev: string | undefined }>();
  const faults: string[] = [];
  const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("hex");
  for (const { header, digest } of statements) {
    const chain = `${header.kind === "keyset" ? "keysets" : "chain"} of ${header.issuer}`;
    const head = heads.get(chain) ?? { seq: 0, prev: undefined };
    if (header.seq !== head.seq) faults.push(`${chain}: ${header.seq} where ${head.seq} was due`);
    else if (hex(header.prev) !== head.prev) faults.push(`${chain}: ${header.seq} does not name the one before it`);
    heads.set(chain, { seq: header.seq + 1, prev: hex(digest) });
  }
  return faults;
}

export async function nodesOf({ url, token }: Pick<Fleet, "url" | "token">): Promise<readonly Json[]> {
  const { body } = await ask(url, "/v1/nodes", { token });
  return body["nodes"] as readonly Json[];
}

/** A folder that is removed by the function beside it. */
export function temporary(name: string): { readonly path: string; readonly remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), `assay-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/** A node that is let in like any other and answers what its modules say, under a signature of its own that holds. */
export async function startDouble(
  fleet: Fleet,
  options: {
    readonly directory: string;
    readonly offers: readonly OfferedModel[];
    readonly country?: string;
    readonly tensor?: (request: RemoteTensor) => Promise<readonly Tensor[]>;
    readonly engine?: LanguageEngine;
    readonly files?: LanguageModelFiles;
  },
): Promise<{ readonly subject: string; readonly key: string; readonly close: () => Promise<void> }> {
  const identity = ed25519Signer(randomSeed());
  const subject = `urn:assay:node:${bytesToHex(keyId(nodeSuite, identity.publicKey))}`;
  const { country, engine, files } = options;
  const node = await startRemoteNode(
    {
      gatewayUrl: fleet.url,
      outbox: { directory: options.directory },
      server: { host: "127.0.0.1", port: 0 },
    },
    {
      identity,
      operator: fleet.home.operator,
      suite: nodeSuite,
      fetch: (url, init) => fetch(url, init),
      now: Date.now,
      random: (bytes) => new Uint8Array(randomBytes(bytes)),
      issuer: (previous, head) => makeIssuer("node", identity, previous, head),
      advertisement: () => ({
        offers: options.offers.map(({ name, version, manifestDigest, kinds }) => ({
          engine: kinds.includes("tensor") ? "onnx" : "local",
          model: name,
          version: String(version),
          manifestDigest,
          kinds: [...kinds],
          auditable: true,
          warm: true,
        })),
        securityModes: ["vanilla"],
        ...(country === undefined ? {} : { jurisdiction: { country, evidence: "declared" as const } }),
      }),
      text: createTextNode({ engines: () => engine, suite: nodeSuite, now: Date.now, subject }),
      parseText: (dialect, body) => parseText(dialect, body, {}),
      target: ({ engine: of, model, modelName, modelVersion }) =>
        Promise.resolve({
          engine: of,
          model: { name: model, ...(files ? { files } : {}) },
          modelName,
          ...(modelVersion === undefined ? {} : { modelVersion }),
        }),
      async tensor(request) {
        if (!options.tensor) throw new Error("this double runs no tensors");
        return stated(request, await options.tensor(request));
      },
    },
  );
  return { subject, key: bytesToHex(identity.publicKey), close: () => node.close() };
}

/** An execution as a node states it, whatever was computed. */
function stated(request: RemoteTensor, outputs: readonly Tensor[]): TensorExecution {
  const receiptId = timeOrderedId(Date.now(), new Uint8Array(randomBytes(10)));
  const masterSalt = new Uint8Array(randomBytes(32));
  const commit = (side: "request" | "response", fields: Parameters<typeof commitFields>[3]) =>
    commitFields(nodeSuite, masterSalt, side, fields);
  const asked = commit("request", [
    { name: "model", value: new TextEncoder().encode(request.requestedName) },
    ...request.inputs.flatMap((tensor) => tensorFields("input", tensor)),
  ]);
  const answered = commit(
    "response",
    outputs.flatMap((tensor) => tensorFields("output", tensor)),
  );
  const issuedAtMs = Date.now();
  const claims = encodeClaims("execution", {
    profile: PROFILE.execution,
    receiptId,
    ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
    modelName: request.model.name,
    modelVersion: String(request.model.version),
    modelDigest: hexToBytes(request.model.manifestDigest),
    modelDigestScheme: "sha256-manifest",
    modelDigestCheck: "hashed-at-load",
    requestRoot: asked.root,
    responseRoot: answered.root,
    requestFields: asked.count,
    responseFields: answered.count,
    mode: "vanilla",
    kind: "onnx",
    issuedAtMs,
    ...(request.principal ? { principal: request.principal } : {}),
    runtime: { profile: request.profile },
    finishReason: "stop",
    engineUs: 10,
  });
  return {
    receiptId,
    subject: receiptSubject(receiptId),
    issuedAtMs,
    masterSalt,
    claims,
    outputs: [...outputs],
    engineMs: 0.01,
  };
}
