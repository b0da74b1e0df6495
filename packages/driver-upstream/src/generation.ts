import type { AssayError, JsonValue } from "@assay/core";
import type { ChoiceDelta, EngineOutcome, Generation } from "@assay/protocol";
import { asUpstreamError, cancelled, interrupted, tooLong, upstreamError } from "./errors.ts";
import { createLedger } from "./ledger.ts";
import { factsOf } from "./report.ts";
import type { Report } from "./report.ts";
import type { Slots } from "./slots.ts";
import { createStop } from "./stop.ts";
import type { StopSignal } from "./stop.ts";
import { believe, estimate } from "./usage.ts";

/** One exchange with an upstream: what it asks, as steps of its choices, in groups that arrived together. */
export type Exchange = (signal: StopSignal) => AsyncIterable<readonly ChoiceDelta[]>;

export type GenerationOptions = {
  readonly n: number;
  /** Most completion tokens that the request allows, all choices together. */
  readonly maxCompletion: number;
  readonly promptCharacters: () => number;
  readonly parameters: () => Readonly<Record<string, JsonValue>>;
  readonly report: Report;
  readonly slots: Slots;
  readonly totalTimeoutMs: number;
  readonly now: () => number;
  readonly signal: AbortSignal;
  /** Called as the generation begins; refuses by throwing. */
  readonly begin: () => Exchange;
};

/**
 * Runs an exchange as `LanguageEngine` prescribes: begins when the events are first asked for, holds a place meanwhile,
 * lets no incomplete answer look complete, and frees the place and the connection however it ends.
 */
export function createGeneration(options: GenerationOptions): Generation {
  const { report, now } = options;
  const ledger = createLedger(options.n);
  let startedMs: number | undefined;
  let endedMs: number | undefined;

  async function* events(): AsyncGenerator<ChoiceDelta> {
    if (startedMs !== undefined) throw upstreamError("request_cancelled", "An answer is read once.");
    startedMs = now();
    const stop = createStop();
    let free: (() => void) | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let any = false;
    let whole = false;
    const onAbort = (): void => {
      stop.abort(cancelled());
      // The connection is closed by now; a reader that never comes back must not hold the place.
      free?.();
    };
    try {
      if (options.signal.aborted) throw cancelled();
      const exchange = options.begin();
      free = options.slots.take();
      options.signal.addEventListener("abort", onAbort, { once: true });
      timer = setTimeout(() => {
        stop.abort(tooLong(options.totalTimeoutMs));
        free?.();
      }, options.totalTimeoutMs);
      for await (const group of exchange(stop)) {
        for (const delta of group) {
          if (!ledger.accept(delta)) continue;
          any = true;
          yield delta;
          if (stop.aborted) throw stop.reason;
        }
      }
      ledger.complete();
      whole = true;
    } catch (error) {
      const ours = stop.aborted ? (stop.reason as AssayError) : asUpstreamError(error);
      throw any ? interrupted(ours) : ours;
    } finally {
      clearTimeout(timer);
      options.signal.removeEventListener("abort", onAbort);
      // For a reader who left early: what still runs, runs for nobody.
      if (!whole && !stop.aborted) stop.abort(cancelled());
      free?.();
      endedMs = now();
    }
  }

  return {
    events: { [Symbol.asyncIterator]: events },
    outcome(): EngineOutcome {
      const usage = report.usage === undefined ? undefined : believe(report.usage, options.maxCompletion);
      return {
        facts: factsOf(report),
        usage: usage ?? estimate(options.promptCharacters(), ledger.characters()),
        parameters: options.parameters(),
        engineMs: startedMs === undefined ? 0 : (endedMs ?? now()) - startedMs,
      };
    },
  };
}
