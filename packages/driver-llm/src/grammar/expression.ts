import { AssayError } from "@assay/core";
import { MAX_GRAMMAR_NODES } from "../limits.ts";

/**
 * A grammar over bytes, as a graph: nodes may be shared, and `later` nodes may lead back to themselves. Every node
 * inside `repeat` takes at least one byte.
 */
export type Expression = { readonly id: number } & (
  | { readonly kind: "empty" }
  /** Takes none: the way is barred. */
  | { readonly kind: "never" }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** One byte of a set, 256 bits as eight words. */
  | { readonly kind: "set"; readonly set: Uint32Array }
  | { readonly kind: "sequence"; readonly parts: readonly Expression[] }
  | { readonly kind: "choice"; readonly options: readonly Expression[] }
  | { readonly kind: "repeat"; readonly part: Expression; readonly min: number; readonly max: number }
  | { readonly kind: "later"; readonly get: () => Expression }
  /** Any bytes up to and with the first occurrence of `mark`; the text may also end before one. */
  | { readonly kind: "until"; readonly mark: Uint8Array; readonly failures: Uint16Array }
);

/** Makes the nodes of one grammar and counts them. Throws `schema_unsupported` past the limit. */
export type Builder = {
  readonly empty: Expression;
  readonly never: Expression;
  readonly text: (text: string) => Expression;
  readonly set: (...ranges: readonly (readonly [number, number])[]) => Expression;
  readonly sequence: (...parts: readonly Expression[]) => Expression;
  readonly choice: (...options: readonly Expression[]) => Expression;
  readonly repeat: (part: Expression, min: number, max: number) => Expression;
  readonly optional: (part: Expression) => Expression;
  readonly later: (get: () => Expression) => Expression;
  readonly until: (mark: string) => Expression;
};

export function createBuilder(maxNodes: number = MAX_GRAMMAR_NODES): Builder {
  let next = 0;
  const id = (): number => {
    if (next >= maxNodes) {
      throw new AssayError("schema_unsupported", `The schemas need a grammar of more than ${maxNodes} parts.`);
    }
    return next++;
  };
  const empty: Expression = { id: id(), kind: "empty" };
  const never: Expression = { id: id(), kind: "never" };
  const builder: Builder = {
    empty,
    never,
    text: (text) => (text === "" ? empty : { id: id(), kind: "bytes", bytes: Buffer.from(text, "utf8") }),
    set: (...ranges) => {
      const set = new Uint32Array(8);
      for (const [from, to] of ranges) {
        for (let byte = from; byte <= to; byte++) set[byte >> 5] = (set[byte >> 5] ?? 0) | (1 << (byte & 31));
      }
      return { id: id(), kind: "set", set };
    },
    sequence: (...parts) => {
      if (parts.some((part) => part.kind === "never")) return never;
      const real = parts.filter((part) => part.kind !== "empty");
      const only = real[0];
      if (only === undefined) return empty;
      return real.length === 1 ? only : { id: id(), kind: "sequence", parts: real };
    },
    choice: (...options) => {
      const real = options.filter((option) => option.kind !== "never");
      const only = real[0];
      if (only === undefined) return never;
      return real.length === 1 ? only : { id: id(), kind: "choice", options: real };
    },
    repeat: (part, min, max) => {
      if (part.kind === "never") return min === 0 ? empty : never;
      if (max === 0 || part.kind === "empty") return empty;
      return { id: id(), kind: "repeat", part, min, max };
    },
    optional: (part) => builder.choice(part, empty),
    later: (get) => ({ id: id(), kind: "later", get }),
    until: (mark) => {
      const bytes = Buffer.from(mark, "utf8");
      return { id: id(), kind: "until", mark: bytes, failures: failureTable(bytes) };
    },
  };
  return builder;
}

/** Knuth, Morris and Pratt's table: how much of `mark` is still matched after a mismatch behind each length. */
function failureTable(mark: Uint8Array): Uint16Array {
  const table = new Uint16Array(mark.length + 1);
  let matched = 0;
  for (let at = 1; at < mark.length; at++) {
    while (matched > 0 && mark[at] !== mark[matched]) matched = table[matched] ?? 0;
    if (mark[at] === mark[matched]) matched++;
    table[at + 1] = matched;
  }
  return table;
}
