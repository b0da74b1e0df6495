import { AssayError, bytesToHex, concatBytes, hexToBytes, isAssayError, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { createRenderer, engineRequestOf, renderEmbeddings } from "@assay/protocol";
import type {
  EmbedRequest,
  EngineOutcome,
  ExecutedText,
  Frame,
  GenerateRequest,
  Generation,
  LanguageEngine,
  TextExecution,
  TextExecutor,
  TextFinishReason,
  TextRenderer,
  TextRequest,
  TextTarget,
} from "@assay/protocol";
import { LIMIT, PROFILE, commitFields, encodeClaims, jsonFields, receiptSubject } from "@assay/receipts";
import type { FieldValue } from "@assay/receipts";
import { runtimeClaims, statedClaims, usageClaims } from "./open-values.ts";
import { createRunningTranscript } from "./transcript-root.ts";
import type { RunningTranscript } from "./transcript-root.ts";

export type TextNodeModules = {
  /** The engine of a target by its name; undefined when this node has none of that name. */
  readonly engines: (name: string) => LanguageEngine | undefined;
  readonly suite: Pick<CryptoSuite, "sha256">;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** `urn:assay:node:…` of the party that will sign. */
  readonly subject: string;
};

/**
 * Runs language models and drafts what the node will state of them; signing is the recorder's or the remote node's. A
 * stream's frames are hashed as they go and not kept, so a stream holds no more than its logical answer.
 */
export function createTextNode(modules: TextNodeModules): TextExecutor {
  const engineOf = (name: string): LanguageEngine => {
    const engine = modules.engines(name);
    if (engine) return engine;
    throw new AssayError("engine_unavailable", `This node has no engine named ${name}.`, {
      hints: ["An upstream that was removed is no longer asked; the list of models shows what there is."],
    });
  };
  return {
    subject: modules.subject,
    async check(parsed, target) {
      await engineOf(target.engine).check(engineRequestOf(parsed, target.model));
    },
    execute: (request) => createExecution(modules, () => engineOf(request.target.engine), request),
  };
}

/** What an execution knows when it states what happened. */
type Progress = {
  handedOut: number;
  ended: boolean;
  failure: { readonly error: unknown } | undefined;
  requestFields: readonly FieldValue[];
  /** How the answer ended, once its last frame was handed out: whether anyone asks for more does not matter. */
  finish: TextFinishReason | undefined;
  outcome: (() => EngineOutcome) | undefined;
  /** The JSON text of the logical response as far as frames were handed out. */
  body: (() => string) | undefined;
  readonly transcript: RunningTranscript | undefined;
};

function createExecution(modules: TextNodeModules, engine: () => LanguageEngine, request: TextRequest): TextExecution {
  const { parsed, target } = request;
  const progress: Progress = {
    handedOut: 0,
    ended: false,
    failure: undefined,
    requestFields: [],
    finish: undefined,
    outcome: undefined,
    body: undefined,
    transcript: parsed.stream ? createRunningTranscript(modules.suite, request.masterSalt) : undefined,
  };
  // Ours beside the caller's: finishing early must stop an engine that is in the middle of a step.
  const stop = new AbortController();
  const forward = (): void => stop.abort(request.signal.reason);

  const handed = (frame: Frame): Frame => {
    progress.transcript?.take(frame.data);
    progress.handedOut++;
    return frame;
  };

  const run = async function* (): AsyncGenerator<Frame, void, undefined> {
    if (request.signal.aborted) forward();
    request.signal.addEventListener("abort", forward, { once: true });
    try {
      progress.requestFields = jsonFields(request.body);
      const options = { signal: stop.signal };
      const asked = engineRequestOf(parsed, target.model);
      if ("inputs" in asked) yield handed(await embedded(engine(), asked, options, request, progress));
      else {
        const { generation, renderer } = begun(modules, engine(), asked, options, request, progress);
        for await (const step of generation.events) for (const frame of renderer.delta(step)) yield handed(frame);
        const { usage, tokens } = generation.outcome();
        for (const frame of renderer.end({ usage, ...(tokens ? { tokens } : {}) })) {
          progress.finish = renderer.finish();
          yield handed(frame);
        }
      }
      progress.ended = true;
    } catch (error) {
      progress.failure = { error: asEngineError(error) };
      throw progress.failure.error;
    } finally {
      request.signal.removeEventListener("abort", forward);
    }
  };
  const frames = run();
  let finished: Promise<ExecutedText> | undefined;
  return {
    frames,
    finish() {
      finished ??= (async () => {
        if (!progress.ended && !progress.failure) {
          stop.abort(new AssayError("request_cancelled", "The answer was left before its end."));
          // A step under way ends with the abort; how it ends no longer matters.
          await frames.return().catch(() => undefined);
        }
        return stated(modules, request, progress);
      })();
      return finished;
    },
  };
}

function begun(
  { suite }: Pick<TextNodeModules, "suite">,
  engine: LanguageEngine,
  asked: GenerateRequest,
  options: { readonly signal: AbortSignal },
  request: TextRequest,
  progress: Progress,
): { readonly generation: Generation; readonly renderer: TextRenderer } {
  const { parsed, target, createdS } = request;
  if (parsed.dialect === "embeddings") throw new TypeError("Embeddings have no steps.");
  const renderer = createRenderer(parsed.dialect, {
    receiptId: bytesToHex(request.receiptId),
    ...(parsed.dialect === "responses" ? { itemSecret: itemSecretOf(suite, request.masterSalt) } : {}),
    createdS,
    model: shownName(target),
    parsed,
  });
  const generation = engine.generate(asked, options);
  progress.outcome = generation.outcome;
  progress.body = renderer.body;
  return { generation, renderer };
}

async function embedded(
  engine: LanguageEngine,
  asked: EmbedRequest,
  options: { readonly signal: AbortSignal },
  request: TextRequest,
  progress: Progress,
): Promise<Frame> {
  const outcome = await engine.embed(asked, options);
  const data = renderEmbeddings({
    receiptId: bytesToHex(request.receiptId),
    model: shownName(request.target),
    parsed: request.parsed,
    outcome,
  });
  if (data.length > LIMIT.bundleBytes) {
    throw new AssayError("response_too_large", "The vectors are larger than a receipt can hold open.", {
      hints: ["Send fewer inputs, ask for fewer dimensions, or for encoding_format base64."],
    });
  }
  progress.outcome = () => outcome;
  progress.body = () => data;
  progress.finish = "stop";
  return { data, final: true };
}

/** The model as answers name it. */
function shownName({ modelName, modelVersion }: TextTarget): string {
  return modelVersion === undefined ? modelName : `${modelName}@${modelVersion}`;
}

function asEngineError(error: unknown): unknown {
  if (isAssayError(error)) return error;
  return new AssayError("engine_interrupted", "The engine failed in a way that it has no code for.", { cause: error });
}

function stated(
  { suite, now }: Omit<TextNodeModules, "subject">,
  request: TextRequest,
  progress: Progress,
): ExecutedText {
  const { outcome: outcomeOf, body } = progress;
  if (progress.handedOut === 0 || !outcomeOf || !body) {
    throw (
      progress.failure?.error ?? new AssayError("request_cancelled", "The request was cancelled before its first byte.")
    );
  }
  const { parsed, target, masterSalt, receiptId, principal, clientNonce } = request;
  const outcome = outcomeOf();
  const { usage, engineMs, modelDigest } = outcome;
  const issuedAtMs = now();
  const finish = progress.finish ?? "incomplete";
  const responseFields = jsonFields(body());
  const { requestFields } = progress;
  const asked = commitFields(suite, masterSalt, "request", requestFields);
  const answered = commitFields(suite, masterSalt, "response", responseFields);
  const transcript = progress.transcript?.state();
  const claims = encodeClaims("execution", {
    profile: PROFILE.execution,
    receiptId,
    ...(clientNonce ? { clientNonce } : {}),
    modelName: target.modelName,
    ...(target.modelVersion === undefined ? {} : { modelVersion: target.modelVersion }),
    ...(modelDigest
      ? {
          modelDigest: hexToBytes(modelDigest.sha256),
          modelDigestScheme: modelDigest.scheme,
          modelDigestCheck: outcome.facts.profile === "llm" ? "hashed-at-load" : "declared",
        }
      : {}),
    requestRoot: asked.root,
    responseRoot: answered.root,
    requestFields: asked.count,
    responseFields: answered.count,
    mode: "vanilla",
    kind: parsed.kind,
    issuedAtMs,
    ...(principal ? { principal } : {}),
    ...runtimeClaims(outcome.facts),
    parameters: statedClaims(suite, outcome, parsed),
    ...(transcript ? { transcript } : {}),
    usage: usageClaims(usage),
    finishReason: finish,
    engineUs: Math.max(0, Math.round(engineMs * 1000)),
  });
  return {
    finish,
    usage,
    engineMs,
    subject: receiptSubject(receiptId),
    issuedAtMs,
    claims,
    requestFields,
    responseFields,
    modelName: target.modelName,
    manifestDigest: modelDigest?.scheme === "sha256-manifest" ? modelDigest.sha256 : null,
    mode: "vanilla",
  };
}

const ITEMS_TAG = utf8ToBytes("assay/items/1\0");

/** What ids of items end with: 128 bits that follow from the master salt, which only the caller is given. */
function itemSecretOf(suite: Pick<CryptoSuite, "sha256">, masterSalt: Uint8Array): string {
  return bytesToHex(suite.sha256(concatBytes(ITEMS_TAG, masterSalt)).subarray(0, 16));
}
