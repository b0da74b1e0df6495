import { z } from "zod";
import { datatypeSchema } from "../oip/index.ts";
import type { Tensor } from "../tensor.ts";
import { AssayError } from "@assay/core";
import { SECURITY_MODES, TEXT_DIALECTS } from "../text/execution.ts";
import type { ExecutedText, TextRequest } from "../text/execution.ts";
import { TEXT_FINISH_REASONS } from "../text/engine.ts";
import { base64, hexText, parseMessage, toBase64, uint } from "./schemas.ts";
import { packHead, splitHead } from "./stream.ts";

/** Limits of one piece of work that a gateway sends to a node. */
export const WORK_LIMITS = {
  /** Heads are a few hundred bytes; a tensor's head grows with its number of inputs. */
  maxHeadBytes: 1024 * 1024,
  /** What `finished` carries besides tensors: claims of at most 256 KiB and an envelope of 16 KiB, in base64. */
  maxFinishedHeadBytes: 1024 * 1024,
  /** One frame; a whole answer without a stream is one. */
  maxFrameBytes: 64 * 1024 * 1024,
  maxTensors: 1024,
  maxRank: 32,
} as const;

const NAME = z.string().min(1).max(512);
const DEPTH = { maxBytes: WORK_LIMITS.maxHeadBytes, maxDepth: 8 };
const principal = z.strictObject({
  caller: NAME,
  authentication: z.enum(["token", "payment", "signature"]),
});

const textHead = z.strictObject({
  receiptId: base64(16, 16),
  masterSalt: base64(32, 32),
  createdS: uint,
  dialect: z.enum(TEXT_DIALECTS),
  engine: z.string().min(1).max(128),
  model: NAME,
  /** Of a model of the hub, whose files the node has or fetches. */
  manifestDigest: hexText(32).optional(),
  modelName: NAME,
  modelVersion: NAME.optional(),
  clientNonce: base64(8, 64).optional(),
  principal: principal.optional(),
});

/** What a node is asked to run: the caller's body as it came, which the node parses for itself, and what was routed. */
export type RemoteText = z.output<typeof textHead> & { readonly body: Uint8Array };

/** A text request for a node. Paths of the gateway's disk stay here; the model goes by its manifest's digest. */
export function encodeRemoteText(request: TextRequest): Uint8Array[] {
  const { target } = request;
  const digest = target.model.files?.manifestDigest;
  const head: z.input<typeof textHead> = {
    receiptId: toBase64(request.receiptId),
    masterSalt: toBase64(request.masterSalt),
    createdS: request.createdS,
    dialect: request.parsed.dialect,
    engine: target.engine,
    model: target.model.name,
    ...(digest === undefined ? {} : { manifestDigest: digest }),
    modelName: target.modelName,
    ...(target.modelVersion === undefined ? {} : { modelVersion: target.modelVersion }),
    ...(request.clientNonce ? { clientNonce: toBase64(request.clientNonce) } : {}),
    ...(request.principal ? { principal: request.principal } : {}),
  };
  return [packHead(head), request.body];
}

/** Throws `node_message_invalid`. */
export function decodeRemoteText(bytes: Uint8Array): RemoteText {
  const { head, rest } = splitHead(bytes, WORK_LIMITS.maxHeadBytes);
  return { ...parseMessage(textHead, head, DEPTH), body: rest };
}

const count = uint;
const textUsage = z.strictObject({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.strictObject({ cached_tokens: count.optional(), audio_tokens: count.optional() }).optional(),
  completion_tokens_details: z
    .strictObject({
      reasoning_tokens: count.optional(),
      audio_tokens: count.optional(),
      accepted_prediction_tokens: count.optional(),
      rejected_prediction_tokens: count.optional(),
    })
    .optional(),
  estimated: z.boolean().optional(),
});

const statement = {
  subject: NAME,
  issuedAtMs: uint,
  claims: base64(1, 256 * 1024),
  envelope: base64(1, 16 * 1024),
  engineMs: z.number().nonnegative(),
};

const textFinished = z.strictObject({
  ...statement,
  finish: z.enum([...TEXT_FINISH_REASONS, "incomplete", "error"]),
  usage: textUsage,
  modelName: NAME,
  manifestDigest: hexText(32).nullable(),
  mode: z.enum(SECURITY_MODES).optional(),
});

/** The end of a text execution as the node signed it; fields are recomputed by whoever sent the request. */
export type FinishedText = Omit<ExecutedText, "requestFields" | "responseFields" | "envelope"> & {
  readonly envelope: Uint8Array;
};

export function encodeFinishedText(done: FinishedText): Uint8Array {
  const head: z.input<typeof textFinished> = {
    subject: done.subject,
    issuedAtMs: done.issuedAtMs,
    claims: toBase64(done.claims),
    envelope: toBase64(done.envelope),
    engineMs: done.engineMs,
    finish: done.finish,
    usage: done.usage,
    modelName: done.modelName,
    manifestDigest: done.manifestDigest,
    ...(done.mode === undefined ? {} : { mode: done.mode }),
  };
  return packHead(head);
}

/** Throws `node_message_invalid`. */
export function decodeFinishedText(payload: Uint8Array): FinishedText {
  const { head, rest } = splitHead(payload, WORK_LIMITS.maxFinishedHeadBytes);
  if (rest.length > 0) throw surplus();
  return parseMessage(textFinished, head, DEPTH) as FinishedText;
}

const tensorShape = z.strictObject({
  name: NAME,
  datatype: datatypeSchema,
  shape: z.array(uint).max(WORK_LIMITS.maxRank),
  sizeBytes: uint,
});
const tensorHead = z.strictObject({
  requestedName: NAME,
  model: z.strictObject({ name: NAME, version: uint, manifestDigest: hexText(32) }),
  profile: z.enum(["portable", "native"]),
  inputs: z.array(tensorShape).max(WORK_LIMITS.maxTensors),
  outputs: z.array(NAME).max(WORK_LIMITS.maxTensors).optional(),
  timeoutMs: uint.optional(),
  clientNonce: base64(8, 64).optional(),
  preprocessingDigest: base64(32, 32).optional(),
  principal: principal.optional(),
});

type TensorHead = z.output<typeof tensorHead>;
/** An execution of an ONNX model that a node is asked for. */
export type RemoteTensor = Omit<TensorHead, "inputs"> & { readonly inputs: readonly Tensor[] };

export function encodeRemoteTensor(request: RemoteTensor): Uint8Array[] {
  const { inputs, clientNonce, preprocessingDigest, ...rest } = request;
  const head: z.input<typeof tensorHead> = {
    ...rest,
    inputs: inputs.map(shapeOf),
    ...(clientNonce ? { clientNonce: toBase64(clientNonce) } : {}),
    ...(preprocessingDigest ? { preprocessingDigest: toBase64(preprocessingDigest) } : {}),
  };
  return [packHead(head), ...inputs.map(({ data }) => data)];
}

/** Throws `node_message_invalid`; tensors are copied out, so that they are aligned and hold nothing else in memory. */
export function decodeRemoteTensor(bytes: Uint8Array): RemoteTensor {
  const { head, rest } = splitHead(bytes, WORK_LIMITS.maxHeadBytes);
  const { inputs, ...request } = parseMessage(tensorHead, head, DEPTH);
  return { ...request, inputs: cutTensors(inputs, rest) };
}

const tensorFinished = z.strictObject({
  ...statement,
  receiptId: base64(16, 16),
  masterSalt: base64(32, 32),
  outputs: z.array(tensorShape).max(WORK_LIMITS.maxTensors),
});

export type FinishedTensor = Omit<z.output<typeof tensorFinished>, "outputs"> & { readonly outputs: readonly Tensor[] };

export function encodeFinishedTensor(done: FinishedTensor): Uint8Array[] {
  const head: z.input<typeof tensorFinished> = {
    subject: done.subject,
    issuedAtMs: done.issuedAtMs,
    claims: toBase64(done.claims),
    envelope: toBase64(done.envelope),
    engineMs: done.engineMs,
    receiptId: toBase64(done.receiptId),
    masterSalt: toBase64(done.masterSalt),
    outputs: done.outputs.map(shapeOf),
  };
  return [packHead(head), ...done.outputs.map(({ data }) => data)];
}

/** Throws `node_message_invalid`. */
export function decodeFinishedTensor(payload: Uint8Array): FinishedTensor {
  const { head, rest } = splitHead(payload, WORK_LIMITS.maxFinishedHeadBytes);
  const { outputs, ...done } = parseMessage(tensorFinished, head, DEPTH);
  return { ...done, outputs: cutTensors(outputs, rest) };
}

function shapeOf({ name, datatype, shape, data }: Tensor): z.input<typeof tensorShape> {
  return { name, datatype, shape: [...shape], sizeBytes: data.length };
}

function cutTensors(shapes: readonly z.output<typeof tensorShape>[], bytes: Uint8Array): Tensor[] {
  let at = 0;
  const tensors = shapes.map(({ name, datatype, shape, sizeBytes }) => {
    if (at + sizeBytes > bytes.length) throw surplus();
    // Not `slice`, which on a Buffer is a view of memory that others share and that nothing aligns.
    const data = new Uint8Array(bytes.subarray(at, at + sizeBytes));
    at += sizeBytes;
    return { name, datatype, shape, data };
  });
  if (at !== bytes.length) throw surplus();
  return tensors;
}

function surplus(): AssayError<"node_message_invalid"> {
  return new AssayError("node_message_invalid", "A message between gateway and node has another length than it says.");
}

const fault = z.strictObject({
  code: z.string().regex(/^[a-z][a-z0-9_]{0,63}$/),
  message: z.string().max(4096),
  hints: z.array(z.string().max(4096)).max(16),
  retryAfterMs: z.number().nonnegative().optional(),
});
/** A failure as a node tells it. */
export type Fault = z.output<typeof fault>;

export function encodeFault(error: Fault): Uint8Array {
  const { message, hints } = error;
  return Buffer.from(
    JSON.stringify({
      ...error,
      message: message.slice(0, 4096),
      hints: hints.slice(0, 16).map((hint) => hint.slice(0, 4096)),
    }),
  );
}

/** Throws `node_message_invalid`. */
export function decodeFault(payload: Uint8Array): Fault {
  return parseMessage(fault, payload, { maxBytes: 256 * 1024, maxDepth: 3 });
}
