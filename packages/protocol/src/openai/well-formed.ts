import type { JsonValue } from "@assay/core";

const REPLACEMENT = "\ufffd";
/** How JSON text shows half of a surrogate pair. A backslash of the text itself may look alike, which costs a look. */
const SUSPECT = /\\ud[89a-f]/;
const HALF = /\p{Surrogate}/gu;

/**
 * The JSON text of `value`, and the value it stands for. Half of a surrogate pair has no UTF-8 form, so nobody could
 * commit to it: engines that give one get U+FFFD in its place.
 */
export function soundJson<Value extends JsonValue>(value: Value): { readonly value: Value; readonly text: string } {
  const text = JSON.stringify(value);
  if (!SUSPECT.test(text)) return { value, text };
  const sound = repaired(value) as Value;
  return { value: sound, text: JSON.stringify(sound) };
}

function repaired(value: JsonValue): JsonValue {
  if (typeof value === "string") return value.replaceAll(HALF, REPLACEMENT);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(repaired);
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key.replaceAll(HALF, REPLACEMENT), repaired(item)]),
  );
}

/**
 * Joins texts that come in pieces: a piece may end between the halves of a surrogate pair, whose first half is then kept
 * for the next one. One for each text; `rest` gives what is left at the end.
 */
export type Joiner = { readonly next: (piece: string) => string; readonly rest: () => string };

export function createJoiner(): Joiner {
  let half = "";
  return {
    next(piece) {
      const last = piece.charCodeAt(piece.length - 1);
      const opens = last >= 0xd800 && last <= 0xdbff;
      if (half === "" && !opens) return piece;
      const whole = half + piece;
      half = opens ? piece.slice(-1) : piece === "" ? half : "";
      return half === "" ? whole : whole.slice(0, -1);
    },
    rest() {
      const left = half === "" ? "" : REPLACEMENT;
      half = "";
      return left;
    },
  };
}
