import { setMaxListeners } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { AssayError, bytesToBase64Url, bytesToHex, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import {
  encodeInferResponse,
  joinBody,
  parseHeaderLength,
  parseInferRequest,
  parseRouting,
  ROUTING_HEADERS,
} from "@assay/protocol";
import type { RoutingOptions, RuntimeProfile } from "@assay/protocol";
import { PROFILE } from "@assay/receipts";
import type { RetentionClass, ServiceClaims } from "@assay/receipts";
import type { Auth, Caller } from "./auth.ts";
import type { Metrics } from "./metrics.ts";
import type { Auditor } from "./nodes/audit.ts";
import { MAX_ANSWER_BYTES, keptOpening } from "./openings.ts";
import type { OpeningVault } from "./openings.ts";
import { recordHeaders } from "./payments/answer.ts";
import type { RecordFacts } from "./payments/answer.ts";
import { payable } from "./payments/payable.ts";
import type { Paying, Payments } from "./payments/payments.ts";
import { chargeWhole } from "./payments/whole.ts";
import { readBody } from "./read-body.ts";
import { grantOf } from "./recorder.ts";
import type { Recorder } from "./recorder.ts";
import { hexHeader, retentionOf, single } from "./request-headers.ts";

/** A model as the gateway runs it; the hub's version on disk. */
export type ServableModel = {
  readonly name: string;
  readonly version: number;
  readonly manifestDigest: string;
  readonly visibility: "public" | "private";
  readonly owner: string;
  readonly path: string;
  readonly sha256: string;
  /** Files that the model takes weights from, relative to its folder. */
  readonly files?: readonly { readonly path: string; readonly sha256: string }[];
};

/** One execution as the node drafts it. */
export type ExecuteModel = (request: {
  readonly requestedName: string;
  readonly model: ServableModel;
  readonly profile: RuntimeProfile;
  readonly inputs: ReturnType<typeof parseInferRequest>["inputs"];
  readonly outputs?: readonly string[];
  readonly signal: AbortSignal;
  readonly clientNonce?: Uint8Array;
  readonly preprocessingDigest?: Uint8Array;
  readonly principal?: { readonly caller: string; readonly authentication: "token" | "payment" };
  /** What the caller asks of the route; absent when nothing. */
  readonly routing?: RoutingOptions;
}) => Promise<{
  readonly receiptId: Uint8Array;
  readonly subject: string;
  readonly issuedAtMs: number;
  readonly masterSalt: Uint8Array;
  readonly claims: Uint8Array;
  readonly outputs: ReturnType<typeof parseInferRequest>["inputs"];
  readonly requestFields: readonly { readonly name: string; readonly value: Uint8Array }[];
  readonly responseFields: readonly { readonly name: string; readonly value: Uint8Array }[];
  readonly engineMs: number;
  /** The execution's statement and the node that signed it, when a remote node ran it. */
  readonly envelope?: Uint8Array;
  readonly node?: string;
  /** What a router contributes to the service statement. */
  readonly service?: Pick<ServiceClaims, "route" | "policy" | "price" | "assurance">;
}>;

export type InferModules = {
  readonly execute: ExecuteModel;
  /** The version asked for, on disk; private ones of others are as if they were not there for `viewer`. */
  readonly model: (name: string, version: number | undefined, viewer: string | undefined) => Promise<ServableModel>;
  /** The only input of a model that has one, for raw requests. */
  readonly rawInput: (model: ServableModel) => Promise<Parameters<typeof parseInferRequest>[2]>;
  readonly recorder: Recorder;
  readonly vault: OpeningVault;
  readonly auth: Auth;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly metrics: Metrics;
  readonly nodeSubject: string;
  readonly now: () => number;
  readonly maxBodyBytes: number;
  /** Takes payments; without it everything is free. */
  readonly payments?: Payments | undefined;
  /** Takes executions that are to be run again; what it does is behind everybody's answers. */
  readonly auditor?: Pick<Auditor, "wants" | "offer"> | undefined;
  /** Told of each receipt, so that it can be found before the index has it. */
  readonly onReceipt: (receiptId: string, logIndex: number) => void;
};

/** Facts of one answered inference, for the request's log line. */
export type InferOutcome = {
  readonly status: number;
  readonly receiptId: string;
  readonly model: string;
  readonly engineMs: number;
  readonly receiptMs: number;
  readonly paymentId?: string;
  /** Whether the answer was paid for before, and was given again. */
  readonly replayed?: true;
};

/**
 * Answers `POST /v2/models/{model}/infer`: parse, run, sign, make durable, answer. Stands directly on node:http
 * because it is the hot path; every other route goes through the framework.
 */
export async function handleInfer(
  modules: InferModules,
  request: IncomingMessage,
  response: ServerResponse,
  target: { readonly name: string; readonly version: number | undefined },
  requestId: string,
): Promise<InferOutcome> {
  const { headers } = request;
  const signal = connectionSignal(request.socket);
  const body = await readBody(request, {
    maxBytes: modules.maxBodyBytes,
    hint: "Send tensors in binary form, or fewer rows at a time.",
  });
  const startedMs = performance.now();
  const caller = await modules.auth.caller(headers.authorization);
  const model = await modules.model(target.name, target.version, caller?.owner);
  assertReadable(model, caller);
  const headerLength = parseHeaderLength(single(headers["inference-header-content-length"]));
  const infer = parseInferRequest(body, headerLength, headerLength === 0 ? await modules.rawInput(model) : undefined);
  const retention = retentionOf(single(headers["assay-retention"]));
  const nonce = hexHeader(headers, "assay-client-nonce", 8, 64);
  const preprocessing = hexHeader(headers, "assay-preprocessing-digest", 32, 32);
  // All that is wrong with a request is found before its payment is taken: what is thrown in between would keep it.
  const profile = profileOf(single(headers["assay-profile"]));
  const routing = asksOfRoute(headers) ? parseRouting(undefined, routingHeaders(headers)) : undefined;
  const { payments } = modules;
  const paying =
    payments &&
    (await payments.take(
      {
        subjects: [`model:${model.name}`],
        most: { milliseconds: payments.limits.inferMs },
        besides: keptOpening(retention),
      },
      payable(request, body, signal),
      "application/octet-stream",
    ));
  if (paying?.kind === "replay") {
    const { status, headers: sent, body: bytes } = paying.answer;
    response.writeHead(status, { ...sent, "content-length": bytes.length });
    response.end(bytes);
    return { status, receiptId: paying.receiptId, model: model.name, engineMs: 0, receiptMs: 0, replayed: true };
  }
  const asked: Asked = {
    requestedName: target.version === undefined ? target.name : `${target.name}@${target.version}`,
    model,
    infer,
    profile,
    retention,
    keeps: headers["assay-retention"] === undefined || retention !== "none",
    nonce,
    preprocessing,
    caller,
    paying,
    routing,
    signal,
    requestId,
    startedMs,
  };
  if (!paying) return answer(modules, response, asked);
  try {
    return await answer(modules, response, asked);
  } catch (error) {
    // A log that does not answer may have the record all the same: then the recorder tells the payment what became of it.
    if (!isAssayError(error) || error.code !== "log_unreachable") await paying.release();
    throw error;
  }
}

/** Answers a GET on an inference route: what could pay for it, and the rest of a channel that did. */
export async function handleRefund(
  payments: Payments,
  request: IncomingMessage,
  response: ServerResponse,
  target: { readonly name: string },
): Promise<void> {
  const signal = connectionSignal(request.socket);
  const answer = await payments.refund(`model:${target.name}`, payable(request, NOTHING, signal));
  response.writeHead(answer.status, { ...answer.headers, "content-length": answer.body.length });
  response.end(answer.body);
}

type Asked = {
  readonly requestedName: string;
  readonly model: ServableModel;
  readonly infer: ReturnType<typeof parseInferRequest>;
  readonly profile: RuntimeProfile;
  readonly retention: RetentionClass;
  /** Whether the answer may be kept for whoever paid: not when its caller said that nothing is to be. */
  readonly keeps: boolean;
  readonly nonce: Uint8Array | undefined;
  readonly preprocessing: Uint8Array | undefined;
  readonly caller: Caller | undefined;
  readonly paying: Paying | undefined;
  readonly routing: RoutingOptions | undefined;
  readonly signal: AbortSignal;
  readonly requestId: string;
  readonly startedMs: number;
};

/** Runs, records and sends. Throws while nothing was sent. */
async function answer(modules: InferModules, response: ServerResponse, asked: Asked): Promise<InferOutcome> {
  const { recorder, suite, metrics, payments } = modules;
  const { requestedName, model, infer, retention, nonce, preprocessing, caller, paying, routing } = asked;
  const principal = caller
    ? { caller: caller.owner, authentication: "token" as const }
    : paying && { caller: paying.account, authentication: "payment" as const };
  const owner = caller?.owner ?? paying?.account;
  const execution = await modules.execute({
    requestedName,
    model,
    profile: asked.profile,
    inputs: infer.inputs,
    ...(infer.outputs ? { outputs: infer.outputs.map(({ name }) => name) } : {}),
    signal: asked.signal,
    ...(nonce ? { clientNonce: nonce } : {}),
    ...(preprocessing ? { preprocessingDigest: preprocessing } : {}),
    ...(principal ? { principal } : {}),
    ...(routing ? { routing } : {}),
  });
  const ranMs = performance.now();
  // The answer is encoded before anything is signed: an output that cannot be sent must not leave a receipt.
  const wanted = infer.outputs;
  const encoded = encodeInferResponse({
    modelName: model.name,
    modelVersion: String(model.version),
    ...(infer.id === undefined ? {} : { id: infer.id }),
    outputs: execution.outputs.map((tensor, i) => ({ tensor, binary: wanted?.[i]?.binary ?? infer.binaryOutput })),
  });
  const grant = grantOf(suite, execution.masterSalt);
  const receiptId = bytesToHex(execution.receiptId);
  const head = {
    "content-type": encoded.contentType,
    ...(encoded.headerLength === undefined ? {} : { "inference-header-content-length": String(encoded.headerLength) }),
    "x-request-id": asked.requestId,
    "assay-receipt-id": receiptId,
    "assay-opening": bytesToBase64Url(execution.masterSalt),
    "assay-grant": bytesToHex(grant),
  };
  const opening =
    retention === "server-encrypted"
      ? modules.vault.seal(execution.receiptId, execution.masterSalt, execution.requestFields, execution.responseFields)
      : NOTHING;
  const charged =
    paying && payments
      ? chargeWhole(payments, paying, {
          receiptId: execution.receiptId,
          subject: `model:${model.name}`,
          used: { milliseconds: Math.ceil(execution.engineMs) },
          besides: keptOpening(retention),
          opening,
          form: { status: 200, headers: head, body: () => joinBody(encoded) },
          keeps: asked.keeps && encoded.byteLength <= MAX_ANSWER_BYTES,
        })
      : undefined;
  const recorded = await recorder.record({
    receiptId: execution.receiptId,
    subject: execution.subject,
    issuedAtMs: execution.issuedAtMs,
    claims: execution.claims,
    service: (executionDigest) => ({
      profile: PROFILE.service,
      receiptId: execution.receiptId,
      executionDigest,
      issuedAtMs: modules.now(),
      route: { chosen: execution.node ?? modules.nodeSubject },
      assurance: { asked: "vanilla", given: "vanilla" },
      ...execution.service,
      ...charged?.claims,
      retention,
    }),
    model: model.name,
    manifestDigest: model.manifestDigest,
    mode: "vanilla",
    ...(owner === undefined ? {} : { owner }),
    grantSha256: suite.sha256(grant),
    ...(execution.envelope ? { envelope: execution.envelope } : {}),
    opening: charged?.opening ?? opening,
    ...(charged ? { payment: charged.payment } : {}),
  });
  const durableMs = performance.now();
  modules.onReceipt(receiptId, recorded.logIndex);
  const { auditor } = modules;
  const assurance = execution.service?.assurance?.given ?? "vanilla";
  const { digest } = recorded.execution;
  if (auditor?.wants({ executionDigest: digest, mode: "vanilla", assurance })) {
    auditor.offer({
      executionDigest: digest,
      node: execution.node ?? modules.nodeSubject,
      claims: execution.claims,
      subject: execution.subject,
      masterSalt: execution.masterSalt,
      ...(caller ? { owner: caller.owner } : {}),
      assurance,
      work: {
        kind: "tensor",
        requestedName,
        model,
        inputs: infer.inputs,
        ...(infer.outputs ? { outputs: infer.outputs.map(({ name }) => name) } : {}),
        answer: execution.outputs,
      },
    });
  }
  const facts: RecordFacts = { receiptId, logIndex: recorded.logIndex, executionDigest: bytesToHex(digest) };
  const individual =
    payments && paying
      ? await payments.individual(paying.open.settlement, {
          ...facts,
          serviceDigest: bytesToHex(recorded.service.digest),
        })
      : undefined;
  response.writeHead(200, {
    ...(charged?.headers ?? head),
    "content-length": encoded.byteLength,
    ...recordHeaders(individual ? { ...facts, individual } : facts),
  });
  if (encoded.byteLength <= COPIED_BYTES) response.end(joinBody(encoded));
  else {
    for (const chunk of encoded.chunks) response.write(chunk);
    response.end();
  }
  metrics.inferSeconds.observe((durableMs - asked.startedMs) / 1000);
  metrics.engineSeconds.observe(execution.engineMs / 1000);
  metrics.receiptSeconds.observe((durableMs - ranMs) / 1000);
  metrics.receipts.inc();
  return {
    status: 200,
    receiptId,
    model: model.name,
    engineMs: execution.engineMs,
    receiptMs: durableMs - ranMs,
    ...(paying ? { paymentId: paying.paymentId } : {}),
  };
}

const ROUTED = new Set(ROUTING_HEADERS);

/** Whether any header says something about the route: most requests have none, and are not looked at further. */
function asksOfRoute(headers: IncomingMessage["headers"]): boolean {
  for (const name in headers) if (ROUTED.has(name)) return true;
  return false;
}

function routingHeaders(headers: IncomingMessage["headers"]): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(ROUTING_HEADERS.map((name) => [name, single(headers[name])]));
}

const NOTHING = new Uint8Array();
/** Answers up to this size are copied into one buffer, which costs less than another write. */
const COPIED_BYTES = 64 * 1024;

/** Whether `caller` may see and run a version: public ones everybody, private ones their owner. */
export function isReadable(model: Pick<ServableModel, "visibility" | "owner">, caller: Caller | undefined): boolean {
  return model.visibility === "public" || caller?.owner === model.owner;
}

const signals = new WeakMap<Socket, AbortSignal>();

// One signal a connection, not a request: HTTP/1.1 has one request on it at a time, and most connections serve many.
function connectionSignal(socket: Socket): AbortSignal {
  let signal = signals.get(socket);
  if (!signal) {
    const closed = new AbortController();
    socket.once("close", () => closed.abort());
    ({ signal } = closed);
    setMaxListeners(0, signal);
    signals.set(socket, signal);
  }
  return signal;
}

/** Private models are there for their owner only; to others they do not exist. */
export function assertReadable(
  model: Pick<ServableModel, "name" | "visibility" | "owner">,
  caller: Caller | undefined,
): void {
  if (!isReadable(model, caller)) {
    throw new AssayError("model_not_found", `There is no model named ${model.name}.`);
  }
}

function profileOf(text: string | undefined): RuntimeProfile {
  if (text === undefined || text === "portable") return "portable";
  if (text === "native") return "native";
  throw new AssayError("header_invalid", "The header assay-profile is portable or native.");
}
