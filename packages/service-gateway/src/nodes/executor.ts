import { AssayError, bytesToHex, equalBytes, isAssayError, merkleRoot, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import {
  decodeFinishedTensor,
  decodeFinishedText,
  decodeFrame,
  encodeRemoteTensor,
  encodeRemoteText,
  MESSAGE,
} from "@assay/protocol";
import type {
  ExecutedText,
  FinishedText,
  Frame,
  ParsedText,
  TextDialect,
  TextExecution,
  TextExecutor,
  TextRequest,
  TextTarget,
} from "@assay/protocol";
import {
  commitFields,
  decodeClaims,
  receiptSubject,
  tensorFields,
  transcriptLeaf,
  transcriptSalt,
} from "@assay/receipts";
import type { ExecutionClaims, FieldValue } from "@assay/receipts";
import type { ExecuteModel } from "../infer.ts";
import { faultOf, lost, nextMessage } from "./client.ts";
import type { NodeCall, NodeClient } from "./client.ts";
import type { WorkUnderWay } from "./statements.ts";

/** How requests and answers become the fields that receipts commit to; the same functions that nodes use. */
export type TextFields = {
  readonly request: (body: Uint8Array) => readonly FieldValue[];
  readonly response: (dialect: TextDialect, stream: boolean, frames: readonly Frame[]) => readonly FieldValue[];
};

export type ExecutorModules = {
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly client: NodeClient;
  readonly subject: string;
  readonly work: WorkUnderWay;
  readonly fields: TextFields;
  /** What this gateway's own node states when the node was lost after its first frame. */
  readonly stateRelay: (relay: Relayed) => Promise<ExecutedText>;
  /** Whether the node takes work and offers this; throws when not. */
  readonly assertOffered: (parsed: ParsedText, target: TextTarget) => void;
  /** Told when the connection broke, and when what came was not what was asked for. */
  readonly onLost: () => void;
};

/** What this gateway saw of an execution whose node went away. */
export type Relayed = {
  readonly request: TextRequest;
  /** `urn:assay:node:…` of the node that was lost. */
  readonly node: string;
  /** Frames that were handed on, in order; none of them final. */
  readonly frames: readonly Frame[];
  readonly cause: unknown;
};

/** Bytes of frames kept for one answer, so that what the node states of it can be recomputed. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;

/**
 * A remote node as the gateway calls it. Frames are passed on as they come; those that say how the answer ended, only
 * once the node's signed record is here and is about exactly this request and these frames.
 *
 * `check` looks at what the node offers: its engine's own refusals come before the first frame. A node that is lost
 * before its first frame is `node_lost`, and another one may be tried.
 */
export function createRemoteExecutor(modules: ExecutorModules): TextExecutor {
  const { client, subject, work } = modules;
  return {
    subject,
    // Not an async function, yet refusals must be rejections.
    check: (parsed, target) =>
      new Promise((resolve) => {
        modules.assertOffered(parsed, target);
        resolve();
      }),
    execute(request): TextExecution {
      const note = work.begin(subject, request.receiptId);
      const received: Frame[] = [];
      let keptBytes = 0;
      let relayed = 0;
      let call: NodeCall | undefined;
      let finished: FinishedText | undefined;
      let failure: unknown;
      let over = false;
      let draining: Promise<void> | undefined;
      let fields: ReturnType<typeof verifyText> | undefined;
      const verified = (done: FinishedText): ReturnType<typeof verifyText> => {
        try {
          fields ??= verifyText(modules.suite, modules.fields, request, done, received);
        } catch (error) {
          modules.onLost();
          throw error;
        }
        return fields;
      };

      /** Reads on to the next frame; undefined at the end, with `finished` or `failure` set. */
      const next = async (open: NodeCall): Promise<Frame | undefined> => {
        try {
          for (;;) {
            const message = await nextMessage(open);
            if (!message) {
              if (!finished) failure ??= lost();
              break;
            }
            if (message.kind === MESSAGE.frame) {
              const frame = decodeFrame(message.payload);
              keptBytes += message.payload.length;
              if (keptBytes > MAX_KEPT_BYTES)
                throw new AssayError("node_answer_invalid", `The answer is longer than ${MAX_KEPT_BYTES} bytes.`);
              received.push(frame);
              return frame;
            }
            if (message.kind === MESSAGE.fault) failure ??= faultOf(message.payload);
            if (message.kind === MESSAGE.finished) finished = decodeFinishedText(message.payload);
          }
        } catch (error) {
          if (!finished) failure ??= unreadable(error);
          open.destroy();
        }
        over = true;
        if (!finished && isLoss(failure)) modules.onLost();
        return undefined;
      };

      const frames = async function* (): AsyncGenerator<Frame> {
        if (request.signal.aborted) throw cancelled();
        const open = client.call("text", encodeRemoteText(request), request.receiptId);
        call = open;
        const cancel = (): void => open.cancel();
        request.signal.addEventListener("abort", cancel, { once: true });
        /** Frames that say how the answer ended wait for the record that says the same. */
        const held: Frame[] = [];
        try {
          for (let frame = await next(open); frame; frame = await next(open)) {
            if (frame.final || !request.parsed.stream || held.length > 0) {
              held.push(frame);
              continue;
            }
            relayed++;
            yield frame;
          }
          if (failure !== undefined || !finished) throw failure ?? lost();
          verified(finished);
          for (const frame of held) {
            relayed++;
            yield frame;
          }
        } finally {
          request.signal.removeEventListener("abort", cancel);
          // Nothing was handed out and nothing will be stated: another node may be tried, and nobody asks this one again.
          if (over && !finished && relayed === 0) note.end();
          if (!over) {
            open.cancel();
            // The node's own word about the part that it did is on its way.
            draining = (async () => {
              for (let rest = await next(open); rest; rest = await next(open));
            })();
          }
        }
      };

      const finish = async (): Promise<ExecutedText> => {
        await draining;
        try {
          if (!call) throw cancelled();
          if (!finished) {
            if (relayed === 0) throw failure ?? lost();
            const shown = received.slice(0, relayed);
            return await modules.stateRelay({ request, node: subject, frames: shown, cause: failure });
          }
          if (received.length === 0 && failure !== undefined) throw failure;
          return { ...finished, ...verified(finished) };
        } finally {
          call?.destroy();
          note.end();
        }
      };
      return { frames: frames(), finish };
    },
  };
}

/** What makes a node suspect until it speaks again: it went away, or what it said is not what was asked for. */
const LOSSES: ReadonlySet<string> = new Set([
  "node_lost",
  "node_answer_invalid",
  "node_message_invalid",
  "node_statement_invalid",
]);

function isLoss(error: unknown): boolean {
  return isAssayError(error) && LOSSES.has(error.code);
}

/** A message that cannot be read is the node's fault, not the caller's. */
function unreadable(error: unknown): unknown {
  return isAssayError(error) && error.code === "node_message_invalid"
    ? new AssayError("node_answer_invalid", error.message, { cause: error })
    : error;
}

function cancelled(): AssayError<"request_cancelled"> {
  return new AssayError("request_cancelled", "The request was cancelled before it was sent to a node.");
}

/**
 * What a node states is compared with what it was asked and what it sent: receipt, model, caller, nonce, both field
 * trees and the transcript. Returns the fields. Throws `node_statement_invalid`.
 */
function verifyText(
  suite: Pick<CryptoSuite, "sha256">,
  fields: TextFields,
  request: TextRequest,
  finished: FinishedText,
  frames: readonly Frame[],
): Pick<ExecutedText, "requestFields" | "responseFields"> {
  const { parsed, target, masterSalt } = request;
  const claims = claimsOf(finished.claims);
  const digest = target.model.files?.manifestDigest;
  demand(equalBytes(claims.receiptId, request.receiptId), "is about another receipt");
  assertAgrees(claims, finished, {
    kind: parsed.kind,
    modelName: target.modelName,
    manifestDigest: digest,
    clientNonce: request.clientNonce,
    caller: request.principal?.caller,
  });
  demand(finished.modelName === target.modelName, "names another model than was asked for");
  demand(digest === undefined || finished.manifestDigest === digest, "names another version than was asked for");
  demand(claims.modelVersion === target.modelVersion, "names another version than was asked for");
  demand(claims.finishReason === finished.finish, "says otherwise how the answer ended than the node does");
  demand(claims.mode === (finished.mode ?? "vanilla"), "states another mode than the node says");
  const requestFields = fields.request(request.body);
  const responseFields = answerFields(fields, parsed, frames);
  assertRoots(suite, claims, masterSalt, requestFields, responseFields);
  if (parsed.stream) {
    const salt = transcriptSalt(suite, masterSalt);
    const root = merkleRoot(
      suite.sha256,
      frames.map(({ data }) => transcriptLeaf(suite, salt, utf8ToBytes(data))),
    );
    demand(
      claims.transcript !== undefined &&
        claims.transcript.frames === frames.length &&
        equalBytes(claims.transcript.root, root),
      "is about other frames than the node sent",
    );
  }
  return { requestFields, responseFields };
}

function answerFields(
  fields: TextFields,
  { dialect, stream }: ParsedText,
  frames: readonly Frame[],
): readonly FieldValue[] {
  try {
    return fields.response(dialect, stream, frames);
  } catch (cause) {
    if (!isAssayError(cause)) throw cause;
    throw refused("is about frames that make no answer", cause);
  }
}

/** The tensor form: what {@link ExecuteModel} does, on a node. */
export function createRemoteTensor(
  modules: Pick<ExecutorModules, "suite" | "client" | "subject" | "work" | "onLost">,
): ExecuteModel {
  const { client, subject, work, suite } = modules;
  return async (request) => {
    const note = work.begin(subject);
    const { model, inputs } = request;
    const call = client.call(
      "tensor",
      encodeRemoteTensor({
        requestedName: request.requestedName,
        model: { name: model.name, version: model.version, manifestDigest: model.manifestDigest },
        profile: request.profile,
        inputs,
        ...(request.outputs ? { outputs: [...request.outputs] } : {}),
        ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
        ...(request.preprocessingDigest ? { preprocessingDigest: request.preprocessingDigest } : {}),
        ...(request.principal ? { principal: request.principal } : {}),
      }),
    );
    const cancel = (): void => call.cancel();
    request.signal.addEventListener("abort", cancel, { once: true });
    let receiptId: Uint8Array | undefined;
    try {
      if (request.signal.aborted) throw cancelled();
      const message = await nextMessage(call);
      if (!message) throw lost();
      if (message.kind === MESSAGE.fault) throw faultOf(message.payload);
      if (message.kind !== MESSAGE.finished)
        throw new AssayError("node_answer_invalid", "The node's answer has frames where tensors belong.");
      const done = decodeFinishedTensor(message.payload);
      ({ receiptId } = done);
      const claims = claimsOf(done.claims);
      demand(equalBytes(claims.receiptId, done.receiptId), "is about another receipt");
      assertAgrees(claims, done, {
        kind: "onnx",
        modelName: model.name,
        manifestDigest: model.manifestDigest,
        clientNonce: request.clientNonce,
        caller: request.principal?.caller,
      });
      demand(claims.modelVersion === String(model.version), "names another version than was asked for");
      demand(claims.mode === "vanilla", "states another mode than was asked for");
      const requestFields = [
        { name: "model", value: utf8ToBytes(request.requestedName) },
        ...inputs.flatMap((tensor) => tensorFields("input", tensor)),
      ];
      const responseFields = done.outputs.flatMap((tensor) => tensorFields("output", tensor));
      assertRoots(suite, claims, done.masterSalt, requestFields, responseFields);
      return { ...done, outputs: [...done.outputs], requestFields, responseFields, node: subject };
    } catch (error) {
      if (request.signal.aborted) throw cancelled();
      if (isLoss(error)) modules.onLost();
      throw unreadable(error);
    } finally {
      request.signal.removeEventListener("abort", cancel);
      call.destroy();
      note.end(receiptId);
    }
  };
}

function claimsOf(bytes: Uint8Array): ExecutionClaims {
  try {
    return decodeClaims("execution", bytes);
  } catch (cause) {
    throw refused("has claims that cannot be read", cause);
  }
}

function assertAgrees(
  claims: ExecutionClaims,
  stated: { readonly subject: string; readonly issuedAtMs: number },
  asked: {
    readonly kind: string;
    readonly modelName: string;
    readonly manifestDigest: string | undefined;
    readonly clientNonce: Uint8Array | undefined;
    readonly caller: string | undefined;
  },
): void {
  demand(stated.subject === receiptSubject(claims.receiptId), "has another subject than its receipt's");
  demand(stated.issuedAtMs === claims.issuedAtMs, "is dated otherwise than its claims");
  demand(claims.kind === asked.kind, "is of another kind than was asked for");
  demand(claims.modelName === asked.modelName, "names another model than was asked for");
  demand(
    asked.manifestDigest === undefined ||
      (claims.modelDigest !== undefined && bytesToHex(claims.modelDigest) === asked.manifestDigest),
    "names another version than was asked for",
  );
  demand(
    asked.clientNonce
      ? claims.clientNonce !== undefined && equalBytes(claims.clientNonce, asked.clientNonce)
      : claims.clientNonce === undefined,
    "has another nonce than the client's",
  );
  demand(claims.principal?.caller === asked.caller, "names another caller than was given");
}

function assertRoots(
  suite: Pick<CryptoSuite, "sha256">,
  claims: ExecutionClaims,
  masterSalt: Uint8Array,
  requestFields: readonly FieldValue[],
  responseFields: readonly FieldValue[],
): void {
  const asked = commitFields(suite, masterSalt, "request", requestFields);
  demand(
    claims.requestFields === asked.count && equalBytes(claims.requestRoot, asked.root),
    "commits to another request than was sent",
  );
  const answered = commitFields(suite, masterSalt, "response", responseFields);
  demand(
    claims.responseFields === answered.count && equalBytes(claims.responseRoot, answered.root),
    "commits to another answer than was given",
  );
}

function demand(holds: boolean, why: string): void {
  if (!holds) throw refused(why);
}

function refused(why: string, cause?: unknown): AssayError<"node_statement_invalid"> {
  return new AssayError("node_statement_invalid", `A node's statement ${why}.`, cause === undefined ? {} : { cause });
}
