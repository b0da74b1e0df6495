import type { OrtErrorCode } from "./errors.ts";

/** Remembers which models misbehaved. Times are milliseconds of a monotonic clock, given by the caller. */
export type Breaker = {
  /** Records that a model aborted, hung or ate memory. */
  strike(model: string, code: OrtErrorCode, nowMs: number): void;
  /** Whether the model must run in a child of its own: it has misbehaved within the window, or is refused. */
  suspect(model: string, nowMs: number): boolean;
  /** The code to refuse the model with, once it has misbehaved too often within the window. */
  refusal(model: string): OrtErrorCode | undefined;
  /** Forgets a model: the explicit retry. */
  forget(model: string): void;
};

type History = { readonly times: number[]; refused: OrtErrorCode | undefined };

/**
 * A breaker that opens after `maxStrikes` within `windowMs` and stays open until {@link Breaker.forget}. It
 * remembers at most `maxModels`, forgetting the one that misbehaved longest ago.
 */
export function createBreaker(limits: {
  readonly maxStrikes: number;
  readonly windowMs: number;
  readonly maxModels: number;
}): Breaker {
  const histories = new Map<string, History>();
  return {
    strike: (model, code, nowMs) => {
      const old = histories.get(model);
      const times = (old?.times ?? []).filter((at) => nowMs - at < limits.windowMs);
      times.push(nowMs);
      const refused = old?.refused ?? (times.length >= limits.maxStrikes ? code : undefined);
      histories.delete(model);
      histories.set(model, { times, refused });
      if (histories.size > limits.maxModels) {
        const oldest = histories.keys().next();
        if (oldest.done !== true) histories.delete(oldest.value);
      }
    },
    suspect: (model, nowMs) => {
      const history = histories.get(model);
      if (history === undefined) return false;
      return history.refused !== undefined || history.times.some((at) => nowMs - at < limits.windowMs);
    },
    refusal: (model) => histories.get(model)?.refused,
    forget: (model) => {
      histories.delete(model);
    },
  };
}
