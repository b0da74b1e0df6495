/** Text that goes out piece by piece, held back where it could be the beginning of a stop. */
export type StopFilter = {
  /** The text that can go out now, and whether a stop was met: then nothing more will. */
  readonly push: (text: string) => { readonly text: string; readonly stopped: boolean };
  /** What was held back, once the answer ended by itself. */
  readonly rest: () => string;
};

export function createStopFilter(stops: readonly string[]): StopFilter {
  let held = "";
  return {
    push(text) {
      held += text;
      const found = stops.map((stop) => held.indexOf(stop)).filter((at) => at !== -1);
      if (found.length > 0) {
        const out = held.slice(0, Math.min(...found));
        held = "";
        return { text: out, stopped: true };
      }
      const keep = longestBeginning(held, stops);
      const out = held.slice(0, held.length - keep);
      held = held.slice(held.length - keep);
      return { text: out, stopped: false };
    },
    rest() {
      const out = held;
      held = "";
      return out;
    },
  };
}

/** How many characters at the end of `text` are the beginning of a stop. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let most = 0;
  for (const stop of stops)
    for (let size = Math.min(stop.length - 1, text.length); size > most; size--)
      if (text.endsWith(stop.slice(0, size))) most = size;
  return most;
}
