// A gateway and nodes of real parts, without the rest of the server: its log, recorder and nodes' interface over HTTP,
// and nodes with an engine whose answers follow from the request.
import { randomBytes } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { OpenAPIHono } from "@hono/zod-openapi";
import { bytesToHex, hexToBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import type { FileLog } from "@assay/driver-log";
import { parseText } from "@assay/protocol";
import type { Advertisement, LogSink, RemoteTensor, TextExecution, TextRequest, TextTarget } from "@assay/protocol";
import {
  PROFILE,
  commitFields,
  createIssuer,
  encodeClaims,
  keyId,
  receiptSubject,
  tensorFields,
} from "@assay/receipts";
import type { ChainHead, Issuer, KeyUse } from "@assay/receipts";
import {
  addNodeRoutes,
  createAdmission,
  createAuth,
  createLogApi,
  createNodeNetwork,
  createOffers,
  createRecorder,
  createRelayStatement,
  createStatementVerifier,
  createWorkUnderWay,
  openLogState,
  openNodeRegistry,
  problemOf,
  textFields,
} from "@assay/service-gateway";
import type { Issuers } from "@assay/service-gateway";
import { createTextNode, startRemoteNode, timeOrderedId } from "@assay/service-node";
import type { TensorExecution } from "@assay/service-node";
import { createScriptedEngine } from "../text-engine.ts";

export const suite = nodeSuite;
const DAY = 86_400_000;
const USES = {
  node: ["execution", "supplement"],
  gateway: ["service", "supplement", "release"],
} as const satisfies Record<string, readonly KeyUse[]>;

const readIfThere = (path: string): Promise<string | undefined> =>
  readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** An issuer of fresh keys. */
export function makeIssuer(
  role: "node" | "gateway",
  identity: Signer,
  previous: { readonly bootSeq: number; readonly keyset: Uint8Array; readonly statement: Uint8Array } | undefined,
  head: ChainHead | undefined,
): Promise<Issuer> {
  const nowMs = Date.now();
  return createIssuer({
    suite,
    subject: `urn:assay:${role}:${bytesToHex(keyId(suite, identity.publicKey))}`,
    role,
    identity,
    keys: Object.fromEntries(USES[role].map((use) => [use, ed25519Signer(randomSeed())])),
    instanceId: new Uint8Array(randomBytes(16)),
    bootSeq: previous ? previous.bootSeq + 1 : 0,
    ...(previous ? { previous: { keyset: previous.keyset, statement: previous.statement } } : {}),
    notBeforeMs: nowMs - 300_000,
    notAfterMs: nowMs + DAY,
    ...(head ? { head } : {}),
  });
}

export type TestGateway = Awaited<ReturnType<typeof startTestGateway>>;

/** Starts a gateway over `directory`; over `sink` it is a second one, without files of a log. */
export async function startTestGateway(options: {
  readonly directory: string;
  readonly operator: Signer;
  readonly port?: number;
  readonly seeds?: { readonly node: Uint8Array; readonly gateway: Uint8Array };
  readonly sink?: LogSink;
  readonly heartbeatMs?: number;
  readonly silenceMs?: number;
  readonly maxDisagreements?: number;
  readonly graceMs?: number;
}) {
  const { directory, operator } = options;
  const identity = {
    node: ed25519Signer(options.seeds?.node ?? randomSeed()),
    gateway: ed25519Signer(options.seeds?.gateway ?? randomSeed()),
  };
  let own: FileLog | undefined;
  const log =
    options.sink ??
    (own = await openLog({
      directory,
      origin: "log.test/remote",
      signers: { ed25519: ed25519Signer(new Uint8Array(32).fill(3)) },
      suite,
      checkpointIntervalMs: 50,
    }));
  const state = await openLogState({
    log,
    suite,
    load: () => readIfThere(join(directory, "log-state.json")),
    store: (text) => replaceFile(join(directory, "log-state.json"), text),
  });
  const latest = new Map<string, { bootSeq: number; keyset: Uint8Array; statement: Uint8Array }>();
  const issue = async (heads: { readonly node?: ChainHead; readonly gateway?: ChainHead }): Promise<Issuers> => {
    const one = async (role: "node" | "gateway"): Promise<Issuer> => {
      const subject = `urn:assay:${role}:${bytesToHex(keyId(suite, identity[role].publicKey))}`;
      const made = await makeIssuer(
        role,
        identity[role],
        latest.get(subject) ?? state.lastKeyset(subject),
        heads[role] ?? state.head(subject),
      );
      latest.set(subject, {
        bootSeq: made.document.bootSeq,
        keyset: made.keysetDigest,
        statement: made.keysetStatement.digest,
      });
      return made;
    };
    return { node: await one("node"), gateway: await one("gateway") };
  };
  const registry = await openNodeRegistry(
    {
      load: () => readIfThere(join(directory, "nodes.json")),
      store: (text) => replaceFile(join(directory, "nodes.json"), text),
      now: Date.now,
    },
    {
      heartbeatMs: options.heartbeatMs ?? 100,
      ...(options.maxDisagreements === undefined ? {} : { maxDisagreements: options.maxDisagreements }),
    },
  );
  const verifier = createStatementVerifier({ registry, state, log, suite });
  const onRecorded: Parameters<typeof createRecorder>[0]["onRecorded"] = (decoded, next) => state.apply(decoded, next);
  const issuers = await issue({});
  const recorder = createRecorder(
    {
      log,
      suite,
      issuers,
      rotate: issue,
      now: Date.now,
      onRecorded,
      verifySigned: verifier.verify,
      isLogged: (issuer, seq) => state.chain(issuer).has(seq),
    },
    { retryUnknownMs: 50 },
  );
  await recorder.begin();
  const work = createWorkUnderWay(Date.now, options.graceMs);
  const tokens = new Map<string, { owner: string; scopes: readonly string[]; expiresAtMs: number }>();
  const auth = createAuth({
    secrets: {
      putToken: ({ sha256, ...token }) => Promise.resolve(void tokens.set(sha256, token)),
      token: (sha256) => Promise.resolve(tokens.get(sha256)),
      revokeToken: (sha256) => Promise.resolve(void tokens.delete(sha256)),
    },
    suite,
    challengeSecret: new Uint8Array(randomBytes(32)),
    operatorKey: operator.publicKey,
    now: Date.now,
  });
  const admission = createAdmission(
    { registry, recorder, state, auth, suite, operatorKey: operator.publicKey, now: Date.now },
    { heartbeatMs: options.heartbeatMs ?? 100 },
  );
  const blobs = await openBlobStore({ directory: join(directory, "blobs") });
  const network = createNodeNetwork(
    {
      registry,
      work,
      suite,
      fields: textFields,
      stateRelay: createRelayStatement({ suite, fields: textFields, now: Date.now }),
    },
    { silenceMs: options.silenceMs ?? 2000, cancelMs: 2000 },
  );
  const app = new OpenAPIHono();
  app.onError((error, context) => {
    const { status, body } = problemOf(error);
    return context.json(body, status as 400);
  });
  addNodeRoutes(app, {
    registry,
    admission,
    offers: createOffers({ recorder, work, suite, now: Date.now }),
    state,
    auth,
    blobs,
    suite,
  });
  (await createLogApi({ log, registry, state, suite, keyset: verifier.keyset, onRecorded, now: Date.now })).routes(app);
  const gatewaySubject = issuers.gateway.document.subject;

  /** What the HTTP surface for text does around an executor, without the HTTP. */
  const chat = async (subject: string, request: TextRequest, onFrame?: (data: string) => Promise<void> | void) => {
    const execution: TextExecution = network.executor(subject).execute(request);
    let failure: unknown;
    const frames: string[] = [];
    try {
      for await (const { data, final } of execution.frames) {
        if (!final) await onFrame?.(data);
        frames.push(data);
      }
    } catch (error) {
      failure = error;
    }
    const executed = await execution.finish();
    const recorded = await recorder.record({
      receiptId: request.receiptId,
      subject: executed.subject,
      issuedAtMs: executed.issuedAtMs,
      claims: executed.claims,
      ...(executed.envelope ? { envelope: executed.envelope } : {}),
      service: (executionDigest) => ({
        profile: PROFILE.service,
        receiptId: request.receiptId,
        executionDigest,
        issuedAtMs: Date.now(),
        route: { chosen: subject },
        assurance: { asked: "vanilla", given: "vanilla" },
        retention: "none",
      }),
      model: executed.modelName,
      manifestDigest: executed.manifestDigest,
      mode: "vanilla",
      grantSha256: suite.sha256(request.masterSalt),
      opening: new Uint8Array(),
    });
    return { executed, recorded, frames, failure };
  };
  app.post("/test/chat", async (context) => {
    const { node, text } = (await context.req.json()) as { node: string; text: string };
    const { recorded, failure } = await chat(node, chatRequest(text));
    if (failure !== undefined) throw failure as Error;
    return context.json({ digest: bytesToHex(recorded.execution.digest), index: recorded.logIndex });
  });
  const server = serve({ fetch: app.fetch, port: options.port ?? 0, hostname: "127.0.0.1" });
  await new Promise<void>((resolve) => {
    if (server.listening) resolve();
    else server.once("listening", () => resolve());
  });
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    log,
    state,
    registry,
    admission,
    recorder,
    network,
    auth,
    blobs,
    work,
    verifier,
    app,
    identity,
    gatewaySubject,
    gatewayIssuer: issuers.gateway,
    chat,
    async operatorToken() {
      const publicKey = Buffer.from(operator.publicKey).toString("base64");
      const { challenge } = auth.challenge(publicKey);
      const signature = await operator.sign(new TextEncoder().encode(`assay/auth/1\n${challenge}`));
      return (await auth.token({ publicKey, challenge, signature: Buffer.from(signature).toString("base64") })).token;
    },
    async close() {
      await network.close();
      if ("closeAllConnections" in server) server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await recorder.drain();
      await state.save();
      if (own) await own.close();
    },
  };
}

const MODEL = "echo";
const ADVERTISEMENT: Advertisement = {
  offers: [{ engine: "scripted", model: MODEL, kinds: ["chat", "completion"], warm: true, auditable: true }],
  securityModes: ["vanilla"],
  jurisdiction: { country: "DE", evidence: "declared" },
  slots: 2,
  capacity: 16,
};

/** A chat of one message; streamed unless it is asked otherwise. */
export function chatRequest(
  text: string,
  changes: { readonly stream?: boolean; readonly signal?: AbortSignal } = {},
): TextRequest {
  const stream = changes.stream ?? true;
  const body = new TextEncoder().encode(
    JSON.stringify({ model: MODEL, stream, messages: [{ role: "user", content: text }] }),
  );
  return {
    receiptId: timeOrderedId(Date.now(), new Uint8Array(randomBytes(10))),
    masterSalt: new Uint8Array(randomBytes(32)),
    createdS: Math.floor(Date.now() / 1000),
    body,
    parsed: parseText("chat", body, {}),
    target: { engine: "scripted", model: { name: MODEL }, modelName: MODEL },
    signal: changes.signal ?? new AbortController().signal,
  };
}

/** Doubles numbers: the model of nodes in these tests. */
export function doubled(request: RemoteTensor, now: () => number = Date.now): TensorExecution {
  const outputs = request.inputs.map(({ data, shape, datatype }) => ({
    name: "y",
    datatype,
    shape,
    data: new Uint8Array(Float32Array.from(new Float32Array(data.buffer, 0, data.length / 4), (x) => x * 2).buffer),
  }));
  const receiptId = timeOrderedId(now(), new Uint8Array(randomBytes(10)));
  const masterSalt = new Uint8Array(randomBytes(32));
  const asked = commitFields(suite, masterSalt, "request", [
    { name: "model", value: new TextEncoder().encode(request.requestedName) },
    ...request.inputs.flatMap((tensor) => tensorFields("input", tensor)),
  ]);
  const answered = commitFields(
    suite,
    masterSalt,
    "response",
    outputs.flatMap((tensor) => tensorFields("output", tensor)),
  );
  const issuedAtMs = now();
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
  return { receiptId, subject: receiptSubject(receiptId), issuedAtMs, masterSalt, claims, outputs, engineMs: 0.01 };
}

export type TestNode = Awaited<ReturnType<typeof startTestNode>>;

/** Starts a node over `directory` and joins the gateway at `gatewayUrl`. */
export async function startTestNode(options: {
  readonly directory: string;
  readonly gatewayUrl: string;
  readonly seed?: Uint8Array;
  readonly operator?: Signer;
  readonly invite?: string;
  readonly advertisement?: Advertisement;
  readonly tensor?: (request: RemoteTensor) => Promise<TensorExecution> | TensorExecution;
  readonly engine?: ReturnType<typeof createScriptedEngine>;
  readonly offerAfterMs?: number;
  readonly onError?: (error: unknown) => void;
}) {
  const identity = ed25519Signer(options.seed ?? randomSeed());
  const key = bytesToHex(identity.publicKey);
  const subject = `urn:assay:node:${bytesToHex(keyId(suite, identity.publicKey))}`;
  const engine = options.engine ?? createScriptedEngine();
  let issuer: Issuer | undefined;
  const node = await startRemoteNode(
    {
      gatewayUrl: options.gatewayUrl,
      outbox: { directory: options.directory },
      server: { host: "127.0.0.1", port: 0, pulseMs: 200 },
      retryMs: [30, 100],
      offerAfterMs: options.offerAfterMs ?? 100,
      ...(options.invite === undefined ? {} : { invite: options.invite }),
    },
    {
      identity,
      ...(options.operator ? { operator: options.operator } : {}),
      suite,
      fetch: fetch as never,
      now: Date.now,
      random: (bytes) => new Uint8Array(randomBytes(bytes)),
      issuer: async (previous, head) => (issuer = await makeIssuer("node", identity, previous, head)),
      advertisement: () => options.advertisement ?? ADVERTISEMENT,
      text: createTextNode({
        engines: (name) => (name === "scripted" ? engine : undefined),
        suite,
        now: Date.now,
        subject,
      }),
      parseText: (dialect, body) => parseText(dialect, body, {}),
      target: ({ engine: of, model, modelName, modelVersion }) =>
        Promise.resolve<TextTarget>({
          engine: of,
          model: { name: model },
          modelName,
          ...(modelVersion === undefined ? {} : { modelVersion }),
        }),
      tensor: (request) => Promise.resolve((options.tensor ?? doubled)(request)),
      ...(options.onError ? { onError: options.onError } : {}),
    },
  );
  return { ...node, key, subject, identity, issuer: () => issuer };
}
