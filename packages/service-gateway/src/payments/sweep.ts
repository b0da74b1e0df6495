import { AssayError, isAssayError, parseJson } from "@assay/core";
import type { LogSink } from "@assay/protocol";
import { keptAnswer } from "../openings.ts";
import type { DocumentFile } from "../route/document.ts";

export type SweepModules = {
  readonly log: Pick<LogSink, "size" | "readRange" | "eraseOpening">;
  /** Where the sweep has come to; without it each start begins at the log's first record. */
  readonly cursor?: DocumentFile;
};

/** Records that one sweep reads at most, and in one piece: openings are up to 16 MiB each, most have none. */
const MAX_RECORDS = 4096;
const PIECE = 64;

/**
 * Makes the function that erases answers whose time is over. It goes through the log once, in order, and stops where an
 * answer is still kept: records are in order of time, and all answers are kept equally long. What stands beside an
 * opening that its owner wanted kept stays sealed there, unreadable for the payer, until the opening is erased: a record
 * has one place for both, and the opening holds the same answer. Resolves with how many were erased.
 */
export function createSweep({ log, cursor }: SweepModules): (nowMs: number) => Promise<number> {
  let at: number | undefined;
  let running: Promise<number> | undefined;
  const sweep = async (nowMs: number): Promise<number> => {
    at ??= await load(cursor);
    // A log that was put back is shorter than the place that was noted.
    if (at > log.size()) at = 0;
    const from = at;
    let erased = 0;
    while (at < log.size() && at - from < MAX_RECORDS) {
      const records = await log.readRange(at, PIECE);
      if (records.length === 0) break;
      let kept = false;
      for (const record of records) {
        const answer = record.erased ? undefined : keptAnswer(record.opening);
        if (answer && answer.expiresAtMs > nowMs) {
          kept = true;
          break;
        }
        if (answer && !answer.withOpening) {
          await log.eraseOpening(record.index);
          erased++;
        }
        at = record.index + 1;
      }
      if (kept) break;
    }
    if (at !== from) await cursor?.write(new TextEncoder().encode(`${JSON.stringify({ next: at })}\n`));
    return erased;
  };
  return (nowMs) => {
    running ??= sweep(nowMs).finally(() => {
      running = undefined;
    });
    return running;
  };
}

async function load(cursor: DocumentFile | undefined): Promise<number> {
  const bytes = await cursor?.read();
  if (bytes === undefined) return 0;
  try {
    const { next } = parseJson(bytes, { maxBytes: 1024 }) as { readonly next?: unknown };
    if (typeof next === "number" && Number.isSafeInteger(next) && next >= 0) return next;
    throw new AssayError("record_invalid", "The sweep's place is no number.");
  } catch (error) {
    // The place only saves reading: without it everything is looked at again.
    if (isAssayError(error)) return 0;
    throw error;
  }
}
