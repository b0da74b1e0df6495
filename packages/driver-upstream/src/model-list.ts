import type { ListedEngineModel } from "@assay/protocol";
import { asUpstreamError, cancelled, upstreamError } from "./errors.ts";
import type { UpstreamLimits } from "./limits.ts";

/**
 * An upstream's models, asked for once and believed for `modelsTtlMs`. One question is on its way at a time, whoever
 * asks; when it fails, an older list still stands, and without one the error does.
 */
export function createModelList(options: {
  readonly fetch: (signal: AbortSignal) => Promise<readonly ListedEngineModel[]>;
  readonly limits: UpstreamLimits;
  readonly now: () => number;
}): (signal?: AbortSignal) => Promise<readonly ListedEngineModel[]> {
  const { limits, now } = options;
  let known: { readonly models: readonly ListedEngineModel[]; readonly atMs: number } | undefined;
  let asking: Promise<readonly ListedEngineModel[]> | undefined;

  async function ask(): Promise<readonly ListedEngineModel[]> {
    const stop = new AbortController();
    const late = upstreamError(
      "upstream_timeout",
      `The upstream's models took longer than ${limits.modelsTimeoutMs} ms.`,
    );
    const timer = setTimeout(() => stop.abort(late), limits.modelsTimeoutMs);
    try {
      const models = await options.fetch(stop.signal);
      known = { models, atMs: now() };
      return models;
    } catch (error) {
      if (known === undefined) throw asUpstreamError(error);
      return known.models;
    } finally {
      clearTimeout(timer);
      asking = undefined;
    }
  }

  return async (signal) => {
    if (signal?.aborted === true) throw cancelled();
    if (known !== undefined && now() - known.atMs < limits.modelsTtlMs) return known.models;
    asking ??= ask();
    return signal === undefined ? asking : until(asking, signal);
  };
}

/** `promise`, unless the caller stops waiting first; others may still wait for it. */
function until<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(cancelled());
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
