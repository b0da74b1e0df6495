import { AssayError } from "@assay/core";
import { MAX_GRAMMAR_STATES, MAX_GRAMMAR_THREADS } from "../limits.ts";
import type { Expression } from "./expression.ts";
import { productiveNodes } from "./productive.ts";

/** Where a byte leads when it leads nowhere. */
export const DEAD = -1;
const UNKNOWN = -2;

/**
 * A deterministic automaton over bytes that comes into being as it is walked. Numbers of states are valid until the
 * automaton is emptied, which {@link Automaton.trim} alone does.
 */
export type Automaton = {
  readonly start: () => number;
  /** The state after `byte`, or {@link DEAD}. */
  readonly step: (state: number, byte: number) => number;
  /** Whether the text may end here. */
  readonly accepts: (state: number) => boolean;
  /** Whether any byte may follow. */
  readonly open: (state: number) => boolean;
  /** Empties an automaton that has grown past its limit; gives the number that `state` has from now on. */
  readonly trim: (states: readonly number[]) => readonly number[];
  /** Changes whenever the automaton was emptied. */
  readonly generation: () => number;
  readonly size: () => number;
};

/** What is still to be matched: an expression, how far it is, and what comes after it. Interned: equal means identical. */
type Frame = {
  readonly id: number;
  readonly expression: Expression;
  readonly at: number;
  readonly next: Frame | undefined;
};
type State = { readonly heads: readonly Frame[]; readonly accepts: boolean; readonly steps: Int32Array };

/**
 * An automaton for `root`. Throws `schema_unsupported` when more ways to read the text must be followed at once than
 * {@link MAX_GRAMMAR_THREADS}, which also ends a rule that leads to itself without taking a byte.
 */
export function createAutomaton(root: Expression, maxStates: number = MAX_GRAMMAR_STATES): Automaton {
  const productive = productiveNodes(root);
  let frames = new Map<string, Frame>();
  let numbers = new Map<string, number>();
  let states: State[] = [];
  let nextFrame = 0;
  let generation = 0;

  const frame = (expression: Expression, at: number, next: Frame | undefined): Frame => {
    const key = `${expression.id}.${at}.${next?.id ?? ""}`;
    const known = frames.get(key);
    if (known !== undefined) return known;
    const fresh: Frame = { id: nextFrame++, expression, at, next };
    frames.set(key, fresh);
    return fresh;
  };

  /** Adds to `heads` the frames that take a byte next when `from` is to be matched. */
  const close = (from: readonly (Frame | undefined)[]): { heads: Frame[]; accepts: boolean } => {
    const heads: Frame[] = [];
    const seen = new Set<number>();
    let accepts = false;
    const todo = [...from];
    while (todo.length > 0) {
      const top = todo.pop();
      if (top === undefined) {
        accepts = true;
        continue;
      }
      if (seen.has(top.id)) continue;
      seen.add(top.id);
      if (seen.size > MAX_GRAMMAR_THREADS * 8 || heads.length > MAX_GRAMMAR_THREADS) throw tooAmbiguous();
      const { expression, at, next } = top;
      if (!productive.has(expression.id)) continue;
      switch (expression.kind) {
        case "bytes":
        case "set":
          heads.push(top);
          break;
        case "until":
          accepts = true;
          heads.push(top);
          break;
        case "empty":
          todo.push(next);
          break;
        case "never":
          break;
        case "sequence": {
          const part = expression.parts[at];
          if (part === undefined) todo.push(next);
          else todo.push(frame(part, 0, at + 1 < expression.parts.length ? frame(expression, at + 1, next) : next));
          break;
        }
        case "choice":
          for (const option of expression.options) todo.push(frame(option, 0, next));
          break;
        case "repeat": {
          if (at >= expression.min) todo.push(next);
          if (at < expression.max) {
            // Past `min`, an unlimited repetition need not count: the states are then few.
            const counted = expression.max === Infinity && at >= expression.min ? at : at + 1;
            todo.push(frame(expression.part, 0, frame(expression, counted, next)));
          }
          break;
        }
        case "later":
          todo.push(frame(expression.get(), 0, next));
          break;
      }
    }
    return { heads, accepts };
  };

  const number = (from: readonly (Frame | undefined)[]): number => {
    const { heads, accepts } = close(from);
    if (heads.length === 0 && !accepts) return DEAD;
    heads.sort((a, b) => a.id - b.id);
    const key = `${accepts ? "+" : "-"}${heads.map((head) => head.id).join(",")}`;
    const known = numbers.get(key);
    if (known !== undefined) return known;
    const fresh = states.length;
    states.push({ heads, accepts, steps: new Int32Array(256).fill(UNKNOWN) });
    numbers.set(key, fresh);
    return fresh;
  };

  const take = (head: Frame, byte: number): Frame | undefined | null => {
    const { expression, at, next } = head;
    if (expression.kind === "bytes") {
      if (expression.bytes[at] !== byte) return null;
      return at + 1 < expression.bytes.length ? frame(expression, at + 1, next) : next;
    }
    if (expression.kind === "set") {
      return ((expression.set[byte >> 5] ?? 0) >>> (byte & 31)) & 1 ? next : null;
    }
    if (expression.kind !== "until") return null;
    let matched = at;
    while (matched > 0 && expression.mark[matched] !== byte) matched = expression.failures[matched] ?? 0;
    if (expression.mark[matched] === byte) matched++;
    return matched === expression.mark.length ? next : frame(expression, matched, next);
  };

  const start = (): number => number([frame(root, 0, undefined)]);
  const stateOf = (index: number): State => {
    const state = states[index];
    if (state === undefined) throw new RangeError("the automaton has no such state");
    return state;
  };

  return {
    start,
    step: (index, byte) => {
      const state = stateOf(index);
      const known = state.steps[byte] ?? UNKNOWN;
      if (known !== UNKNOWN) return known;
      const after: (Frame | undefined)[] = [];
      for (const head of state.heads) {
        const taken = take(head, byte);
        if (taken !== null) after.push(taken);
      }
      const found = after.length === 0 ? DEAD : number(after);
      state.steps[byte] = found;
      return found;
    },
    accepts: (index) => stateOf(index).accepts,
    open: (index) => stateOf(index).heads.length > 0,
    trim: (kept) => {
      if (states.length <= maxStates) return kept;
      const heads = kept.map((index) => (index === DEAD ? undefined : stateOf(index)));
      frames = new Map();
      numbers = new Map();
      states = [];
      generation++;
      // Frames are interned anew, next ones first, so that equal ones are again identical.
      const renew = (old: Frame): Frame => {
        const chain: Frame[] = [];
        for (let at: Frame | undefined = old; at !== undefined; at = at.next) chain.push(at);
        let next: Frame | undefined;
        for (const link of chain.reverse()) next = frame(link.expression, link.at, next);
        return next ?? old;
      };
      return heads.map((state) =>
        state === undefined
          ? DEAD
          : number([...state.heads.map(renew), ...(state.accepts ? [undefined as Frame | undefined] : [])]),
      );
    },
    generation: () => generation,
    size: () => states.length,
  };
}

function tooAmbiguous(): AssayError<"schema_unsupported"> {
  return new AssayError(
    "schema_unsupported",
    "The schemas leave too many ways to read one answer, or refer to themselves without end.",
  );
}
