import type { ListedEngineModel } from "@assay/protocol";
import type { RoutedUpstream } from "./sources.ts";

/** What upstreams list, remembered: lists are long, slow and rarely change. */
export type UpstreamLists = {
  /** What is known now; asks again behind the answer when that is old. */
  readonly known: (upstream: RoutedUpstream) => readonly ListedEngineModel[];
  /** As `known`, but waits a moment for the first list of an upstream that never gave one. */
  readonly settled: (upstreams: readonly RoutedUpstream[]) => Promise<void>;
  /** Forgets all lists: names may mean other upstreams now. */
  readonly forget: () => void;
};

/** A list is asked for again after this. */
export const LIST_TTL_MS = 5 * 60_000;
/** After a failure, sooner. */
export const LIST_RETRY_MS = 30_000;
/** How long a request waits for a first list; without one only full names work. */
export const LIST_WAIT_MS = 2_000;
/** Models remembered of one upstream. */
export const MAX_LISTED_MODELS = 5_000;

type Entry = {
  models: readonly ListedEngineModel[];
  /** When it is to be asked again. */
  dueMs: number;
  asking: Promise<void> | undefined;
  everGiven: boolean;
};

/** Makes the memory. `now` is milliseconds since 1970. */
export function createUpstreamLists(now: () => number): UpstreamLists {
  const entries = new Map<string, Entry>();
  const entryOf = ({ name }: RoutedUpstream): Entry => {
    const found = entries.get(name);
    if (found) return found;
    const fresh: Entry = { models: [], dueMs: 0, asking: undefined, everGiven: false };
    entries.set(name, fresh);
    return fresh;
  };
  const refresh = (entry: Entry, upstream: RoutedUpstream): void => {
    if (entry.asking || now() < entry.dueMs) return;
    const ask = async (): Promise<void> => {
      try {
        entry.models = (await upstream.models()).slice(0, MAX_LISTED_MODELS);
        entry.everGiven = true;
        entry.dueMs = now() + LIST_TTL_MS;
      } catch {
        // What was listed last is still the best guess; whoever asks for one of these hears of the outage itself.
        entry.dueMs = now() + LIST_RETRY_MS;
      } finally {
        entry.asking = undefined;
      }
    };
    entry.asking = ask();
  };
  return {
    known(upstream) {
      const entry = entryOf(upstream);
      refresh(entry, upstream);
      return entry.models;
    },
    async settled(upstreams) {
      const waiting: Promise<void>[] = [];
      for (const upstream of upstreams) {
        const entry = entryOf(upstream);
        refresh(entry, upstream);
        if (!entry.everGiven && entry.asking) waiting.push(entry.asking);
      }
      if (waiting.length === 0) return;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, LIST_WAIT_MS);
      });
      await Promise.race([Promise.all(waiting), late]);
      clearTimeout(timer);
    },
    forget: () => entries.clear(),
  };
}
