import { AssayError } from "@assay/core";
import { withRetryAfter } from "@assay/protocol";
import type { TextCaller } from "../openai/types.ts";

/** How many requests of one caller run at the same time. */
export type CallerLimits = {
  /** Of one owner's tokens. One application with this many answers open has more than most gateways' nodes give. */
  readonly maxPerOwner?: number;
  /**
   * Of one address without a token; absent for no limit, because behind a proxy or on one machine everybody has the same
   * address.
   */
  readonly maxPerAddress?: number;
};

export const MAX_PER_OWNER = 256;
const AGAIN_MS = 1_000;

/** Counts of callers' requests under way. */
export type Callers = {
  /** Throws `caller_overloaded` for a caller with too many under way. */
  readonly admit: (caller: TextCaller) => void;
  /** Counts one more; returns what takes it off again, once. */
  readonly begin: (caller: TextCaller) => () => void;
};

export function createCallers({ maxPerOwner = MAX_PER_OWNER, maxPerAddress }: CallerLimits): Callers {
  const running = new Map<string, number>();
  const keyOf = ({ owner, remoteAddress }: TextCaller): { readonly key: string; readonly max: number } | undefined => {
    if (owner !== undefined) return { key: `owner ${owner}`, max: maxPerOwner };
    if (remoteAddress === undefined || maxPerAddress === undefined) return undefined;
    return { key: `address ${remoteAddress}`, max: maxPerAddress };
  };
  return {
    admit(caller) {
      const of = keyOf(caller);
      const count = of ? (running.get(of.key) ?? 0) : 0;
      if (!of || count < of.max) return;
      throw withRetryAfter(
        new AssayError("caller_overloaded", `${count} of your requests are under way already.`, {
          hints: [`At most ${of.max} run at the same time; send this one when another has ended.`],
        }),
        AGAIN_MS,
      );
    },
    begin(caller) {
      const of = keyOf(caller);
      if (!of) return () => undefined;
      running.set(of.key, (running.get(of.key) ?? 0) + 1);
      let over = false;
      return () => {
        if (over) return;
        over = true;
        const left = (running.get(of.key) ?? 1) - 1;
        if (left > 0) running.set(of.key, left);
        else running.delete(of.key);
      };
    },
  };
}
