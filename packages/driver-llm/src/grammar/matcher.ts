import { createAutomaton, DEAD } from "./automaton.ts";
import type { Expression } from "./expression.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Bytes of token masks kept for one grammar: many states allow the same tokens step after step. */
const MASK_CACHE_BYTES = 8 * 1024 ** 2;

/** Where one answer stands in its grammar. */
export type Matcher = {
  /** One bit for each token id that may come next. */
  readonly allowed: () => Uint32Array;
  /** Takes a token; false, and no change, when the grammar does not allow it. */
  readonly accept: (token: number) => boolean;
  /** Whether the answer may end here. */
  readonly mayEnd: () => boolean;
  /** Whether the answer must end here. */
  readonly mustEnd: () => boolean;
  /** To be called when the answer is done, so that its place is forgotten. */
  readonly release: () => void;
};

export type Grammar = { readonly matcher: () => Matcher };

/** A grammar over a vocabulary's tokens; its automaton is shared by all answers that follow it. */
export function createGrammar(root: Expression, vocabulary: Vocabulary): Grammar {
  const automaton = createAutomaton(root);
  const places = new Set<{ state: number }>();
  const masks = new Map<number, Uint32Array>();
  const maxMasks = Math.max(4, Math.floor(MASK_CACHE_BYTES / (vocabulary.size / 8 + 64)));
  let generation = automaton.generation();
  // The start is made now, so that a grammar which cannot be followed is refused before its request is accepted.
  automaton.start();

  const tidy = (): void => {
    const held = [...places];
    const states = automaton.trim(held.map((place) => place.state));
    if (automaton.generation() === generation) return;
    generation = automaton.generation();
    masks.clear();
    for (const [index, place] of held.entries()) place.state = states[index] ?? DEAD;
  };

  return {
    matcher: () => {
      const place = { state: automaton.start() };
      places.add(place);
      return {
        allowed: () => {
          tidy();
          const known = masks.get(place.state);
          if (known !== undefined) return known;
          const mask =
            place.state === DEAD
              ? new Uint32Array((vocabulary.size + 31) >> 5)
              : vocabulary.mask(automaton, place.state);
          if (masks.size >= maxMasks) {
            const oldest = masks.keys().next();
            if (oldest.done !== true) masks.delete(oldest.value);
          }
          masks.set(place.state, mask);
          return mask;
        },
        accept: (token) => {
          const bytes = vocabulary.bytes(token);
          if (bytes === undefined) return false;
          let state = place.state;
          for (const byte of bytes) {
            if (state === DEAD) return false;
            state = automaton.step(state, byte);
          }
          if (state === DEAD) return false;
          place.state = state;
          return true;
        },
        mayEnd: () => place.state !== DEAD && automaton.accepts(place.state),
        mustEnd: () => place.state !== DEAD && !automaton.open(place.state),
        release: () => void places.delete(place),
      };
    },
  };
}
