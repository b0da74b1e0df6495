import { isAssayError } from "@assay/core";
import type { Frame, ListingSubject, ParsedText, TextExecution } from "@assay/protocol";
import type { Routed, TextCaller, TextRouter } from "./types.ts";

/** What every try is made with; ids and salts are new for each, because a node that failed has seen its own. */
export type TryRequest = {
  readonly body: Uint8Array;
  readonly parsed: ParsedText;
  readonly caller: TextCaller;
  readonly clientNonce?: Uint8Array;
  /** Listings that were quoted, when somebody pays. */
  readonly subjects?: ReadonlySet<ListingSubject>;
  readonly signal: AbortSignal;
};

export type TryModules = {
  readonly router: TextRouter;
  /** Cryptographic randomness, that many bytes. */
  readonly random: (bytes: number) => Uint8Array;
  /** A new receipt id, 16 bytes, time-ordered. */
  readonly receiptId: () => Uint8Array;
  readonly now: () => number;
};

/** One try that is over, for the service statement: who, and the code it failed with (`ok` for the last). */
export type Try = { readonly candidate: string; readonly outcome: string };

/** An execution whose first frame is here. */
export type Begun = {
  readonly receiptId: Uint8Array;
  readonly masterSalt: Uint8Array;
  readonly routed: Routed;
  readonly execution: TextExecution;
  readonly frames: AsyncIterator<Frame>;
  readonly first: Frame;
  /** Tries that failed before it. */
  readonly failed: readonly Try[];
};

/**
 * Failures of a candidate that another may not have. Refusals of one engine's abilities are among them, because a name
 * can stand for several models; when no candidate is left the caller hears of the last failure.
 */
const ANOTHER_MAY = new Set([
  "engine_overloaded",
  "engine_unavailable",
  "engine_interrupted",
  "upstream_rate_limited",
  "upstream_unauthorized",
  "upstream_failed",
  "upstream_unreachable",
  "upstream_timeout",
  "upstream_malformed",
  "model_digest_mismatch",
  "model_aborted",
  "model_failed",
  "model_not_found",
  "kind_unsupported",
  "parameter_unsupported",
  "content_unsupported",
  "schema_unsupported",
  "context_exceeded",
]);

/** Whether another candidate may do what one failed at with `error`; an error that is not ours is that one's alone. */
function isRetryable(error: unknown): boolean {
  return !isAssayError(error) || ANOTHER_MAY.has(error.code) || error.code.startsWith("node_");
}

/**
 * Routes, starts, and waits for the first frame; asks the router for another candidate while one fails before it, at
 * most `maxTries` times. Nothing was sent to the client until this resolves. Throws the last failure.
 */
export async function beginText(modules: TryModules, request: TryRequest, maxTries: number): Promise<Begun> {
  const { parsed, caller, signal, subjects } = request;
  const exclude = new Set<string>();
  const failed: Try[] = [];
  let failure: unknown;
  for (;;) {
    let routed: Routed;
    try {
      routed = await modules.router.route(parsed, caller, { exclude, signal, ...(subjects ? { subjects } : {}) });
    } catch (error) {
      throw failed.length > 0 ? failure : error;
    }
    routed.started();
    let execution: TextExecution | undefined;
    try {
      await routed.executor.check(parsed, routed.target);
      signal.throwIfAborted();
      const receiptId = modules.receiptId();
      const masterSalt = modules.random(32);
      execution = routed.executor.execute({
        receiptId,
        masterSalt,
        createdS: Math.floor(modules.now() / 1000),
        body: request.body,
        parsed,
        target: routed.target,
        ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
        ...(caller.principal ? { principal: caller.principal } : {}),
        signal,
      });
      const frames = execution.frames[Symbol.asyncIterator]();
      const step = await frames.next();
      if (step.done) throw new TypeError("An execution ended without a frame.");
      routed.firstByte();
      return { receiptId, masterSalt, routed, execution, frames, first: step.value, failed };
    } catch (error) {
      failure = error;
      // The execution is asked to end in any case; what it would state of an answer nobody got is not stated.
      execution?.finish().catch(() => undefined);
    }
    const code = isAssayError(failure) ? failure.code : "internal_error";
    routed.ended(signal.aborted ? "cancelled" : "failed", { code });
    failed.push({ candidate: routed.candidate, outcome: code });
    if (signal.aborted || !isRetryable(failure) || failed.length >= maxTries) throw failure;
    exclude.add(routed.candidate);
  }
}
