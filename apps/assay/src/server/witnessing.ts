import { parseVkey } from "@assay/tlog";
import type { NoteKey } from "@assay/tlog";
import { nodeSuite } from "@assay/driver-crypto";
import { submitToWitnesses } from "@assay/driver-log";
import type { FileLog, HttpPost } from "@assay/driver-log";

/** A witness that is asked to cosign: its verifier key, and where it takes submissions. */
export type ConfiguredWitness = { readonly vkey: string; readonly url: string };

/** Keys of configured witnesses. Throws `note_key_invalid` for a malformed one. */
export function witnessKeys(witnesses: readonly ConfiguredWitness[]): NoteKey[] {
  return witnesses.map(({ vkey }) => parseVkey(vkey, nodeSuite));
}

export type Witnessing = { readonly stop: () => Promise<void> };

/** Pause between two looks for a checkpoint that is not cosigned yet, milliseconds. */
const INTERVAL_MS = 200;
/** Longest pause after failures, milliseconds. */
const MAX_BACKOFF_MS = 10_000;
const MAX_ANSWER_BYTES = 256 * 1024;

const post: HttpPost = async (url, body, signal) => {
  const answer = await fetch(url, { method: "POST", body, signal, redirect: "error" });
  const text = await answer.text();
  return {
    status: answer.status,
    contentType: answer.headers.get("content-type") ?? "",
    body: text.slice(0, MAX_ANSWER_BYTES),
  };
};

/** Has every new checkpoint cosigned, one after the other. `onFailure` is told once when a witness begins to fail. */
export function startWitnessing(
  log: FileLog,
  witnesses: readonly ConfiguredWitness[],
  onFailure: (url: string, error: unknown) => void,
): Witnessing {
  const known = new Map<string, number>();
  const failing = new Set<string>();
  const stopping = new AbortController();
  let wake: (() => void) | undefined;
  let pauseMs = INTERVAL_MS;

  const once = async (): Promise<void> => {
    const checkpoint = await log.checkpoint();
    if (checkpoint.size === 0 || (log.cosigned()?.size ?? -1) >= checkpoint.size) return;
    const targets = witnesses.map(({ url }) => {
      const knownSize = known.get(url);
      return knownSize === undefined ? { url } : { url, knownSize };
    });
    const lines: string[] = [];
    let failed = false;
    for (const outcome of await submitToWitnesses(checkpoint, targets, log, post)) {
      if (outcome.ok) {
        known.set(outcome.url, outcome.size);
        failing.delete(outcome.url);
        lines.push(outcome.lines);
        continue;
      }
      failed = true;
      if (!failing.has(outcome.url)) onFailure(outcome.url, outcome.error);
      failing.add(outcome.url);
    }
    // All at once, so that nobody is handed a checkpoint with some of them.
    if (lines.length > 0) await log.cosign(checkpoint.note, lines.join(""));
    pauseMs = failed ? Math.min(pauseMs * 2, MAX_BACKOFF_MS) : INTERVAL_MS;
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        await once();
      } catch (error) {
        onFailure("log", error);
        pauseMs = MAX_BACKOFF_MS;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  const running = run();
  return {
    async stop() {
      stopping.abort();
      wake?.();
      await running;
    },
  };
}
