import { DEAD } from "./automaton.ts";
import type { Automaton } from "./automaton.ts";

/** The texts of all tokens as a tree of bytes, laid out so that a walk is one loop over flat arrays. */
export type Vocabulary = {
  /** Number of token ids. */
  readonly size: number;
  /** Bytes that the token stands for; undefined for tokens that stand for no text. */
  readonly bytes: (token: number) => Uint8Array | undefined;
  /** One bit for each token id that the automaton can take from `state`. */
  readonly mask: (automaton: Automaton, state: number) => Uint32Array;
};

/** A vocabulary of tokens, by id. Tokens without bytes (control tokens) never match. */
export function createVocabulary(tokens: readonly (Uint8Array | undefined)[]): Vocabulary {
  const order: { readonly id: number; readonly bytes: Uint8Array }[] = [];
  for (const [id, bytes] of tokens.entries()) {
    if (bytes !== undefined && bytes.length > 0) order.push({ id, bytes });
  }
  order.sort((a, b) => Buffer.compare(a.bytes, b.bytes));

  // Nodes in preorder. `end` is the node after the subtree; tokens of a node are a range of `ids`.
  const byteOf: number[] = [];
  const depthOf: number[] = [];
  const endOf: number[] = [];
  const firstId: number[] = [];
  const ids: number[] = [];
  const path: number[] = [];
  let before: Uint8Array = new Uint8Array();
  let deepest = 0;
  for (const { id, bytes } of order) {
    let shared = 0;
    while (shared < before.length && shared < bytes.length && before[shared] === bytes[shared]) shared++;
    while (path.length > shared) endOf[path.pop() ?? 0] = byteOf.length;
    for (let at = shared; at < bytes.length; at++) {
      path.push(byteOf.length);
      byteOf.push(bytes[at] ?? 0);
      depthOf.push(at);
      endOf.push(0);
      firstId.push(ids.length);
    }
    // Tokens with equal bytes follow one another, so the last node made is still theirs.
    ids.push(id);
    before = bytes;
    deepest = Math.max(deepest, bytes.length);
  }
  while (path.length > 0) endOf[path.pop() ?? 0] = byteOf.length;
  const nodes = byteOf.length;
  const byteAt = Uint8Array.from(byteOf);
  const depthAt = Uint16Array.from(depthOf);
  const endAt = Int32Array.from(endOf);
  const idsFrom = Int32Array.from([...firstId, ids.length]);
  const idList = Int32Array.from(ids);
  const states = new Int32Array(deepest + 1);

  return {
    size: tokens.length,
    bytes: (token) => tokens[token],
    mask: (automaton, state) => {
      const mask = new Uint32Array((tokens.length + 31) >> 5);
      states[0] = state;
      for (let node = 0; node < nodes;) {
        const depth = depthAt[node] ?? 0;
        const after = automaton.step(states[depth] ?? DEAD, byteAt[node] ?? 0);
        if (after === DEAD) {
          node = endAt[node] ?? nodes;
          continue;
        }
        states[depth + 1] = after;
        const last = idsFrom[node + 1] ?? 0;
        for (let at = idsFrom[node] ?? 0; at < last; at++) {
          const id = idList[at] ?? 0;
          mask[id >> 5] = (mask[id >> 5] ?? 0) | (1 << (id & 31));
        }
        node++;
      }
      return mask;
    },
  };
}
