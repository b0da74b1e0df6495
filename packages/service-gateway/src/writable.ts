/** A value's type without `readonly`, at every depth. */
export type Writable<T> = T extends readonly (infer Item)[]
  ? Writable<Item>[]
  : T extends object
    ? { -readonly [Name in keyof T]: Writable<T[Name]> }
    : T;

/**
 * A value for an answer whose schema knows no `readonly`: the compiler compares everything else of it. Whoever takes it
 * writes it out and changes nothing.
 */
export function writable<T>(value: T): Writable<T> {
  return value as Writable<T>;
}
