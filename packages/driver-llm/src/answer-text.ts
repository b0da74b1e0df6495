/** A piece of an answer: its text, and whether a stop sequence ended it. */
type TextPiece = { readonly text: string; readonly stopped: boolean };

/**
 * Makes text of tokens' bytes as they come. Never gives half a character, and holds back text that may turn out to be
 * the beginning of a stop sequence. Bytes that are no UTF-8 become U+FFFD.
 */
export type AnswerText = {
  readonly push: (bytes: Uint8Array) => TextPiece;
  /** The rest, when no more tokens come. */
  readonly end: () => TextPiece;
  /** Characters (UTF-16 units) decoded so far, given out or held back; after a stop, those before it. */
  readonly decoded: () => number;
};

export function createAnswerText(stops: readonly string[]): AnswerText {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let held = "";
  let given = 0;
  let done = false;

  const release = (text: string, final: boolean): TextPiece => {
    held += text;
    let first = -1;
    for (const stop of stops) {
      const found = held.indexOf(stop);
      if (found >= 0 && (first < 0 || found < first)) first = found;
    }
    let ready = held.length;
    if (first >= 0) {
      done = true;
      ready = first;
    } else if (!final) {
      for (const stop of stops) ready = Math.min(ready, held.length - overlap(held, stop));
    }
    const out = held.slice(0, ready);
    held = done ? "" : held.slice(ready);
    given += out.length;
    return { text: out, stopped: done };
  };

  return {
    push: (bytes) => (done ? { text: "", stopped: true } : release(decoder.decode(bytes, { stream: true }), false)),
    end: () => (done ? { text: "", stopped: true } : release(decoder.decode(), true)),
    decoded: () => given + held.length,
  };
}

/** Length of the longest end of `text` that begins `mark` without being all of it. */
export function overlap(text: string, mark: string): number {
  for (let length = Math.min(text.length, mark.length - 1); length > 0; length--) {
    if (text.endsWith(mark.slice(0, length))) return length;
  }
  return 0;
}
