import { AssayError } from "@assay/core";
import type { CryptoSuite, Signer } from "@assay/core";
import type { CheckpointNote, LogSink } from "@assay/protocol";
import {
  consistencyProof,
  decodeBundle,
  encodeBundle,
  HASH_BYTES,
  inclusionProof,
  isOrigin,
  logSigners,
  mergeCosignatures,
  openCheckpoint,
  parseTilePath,
  signCheckpoint,
  tilePath,
  tileWidth,
  TILE_WIDTH,
} from "@assay/tlog";
import type { HashReader, NoteKey, VerifiedSignature } from "@assay/tlog";
import { corrupt, fileError } from "./errors.ts";
import { nodeFileOps, replaceDurable, withFinalSyncs } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";
import { createGroupCommit } from "./group-commit.ts";
import { openJournal, recordOffsets } from "./journal.ts";
import type { IndexedBatch } from "./journal.ts";
import { acquireFence } from "./lock.ts";
import { cachedHashReader } from "./tile-cache.ts";
import { tileFiles } from "./tile-files.ts";
import { emptyTileState, loadTileState } from "./tile-state.ts";

/** Longest wait between an append and the checkpoint over it, when nobody asks for one sooner. */
export const DEFAULT_CHECKPOINT_INTERVAL_MS = 200;
/** How long {@link LogSink.checkpoint} waits by default. */
const DEFAULT_CHECKPOINT_TIMEOUT_MS = 10_000;
/** Entries between two writes of tiles within one checkpoint: bounds what a long backlog holds in memory. */
const ENTRIES_PER_WRITE = 8192;
/** Entries hashed before other work gets its turn: about two milliseconds. */
const ENTRIES_PER_TURN = 512;
/** Entries under one checkpoint when a backlog is caught up with. */
const ENTRIES_PER_CHECKPOINT = 262_144;

const FORMAT = "assay-log/1";

/** Options of {@link openLog}: data, and the things from outside that it uses. */
export type FileLogOptions = {
  /** An existing directory on a local file system, used by this log alone. */
  readonly directory: string;
  /** The log's identity in checkpoints, for example `log.example/receipts`; fixed when the directory is first used. */
  readonly origin: string;
  readonly signers: { readonly ed25519: Signer; readonly mlDsa44?: Signer };
  readonly suite: CryptoSuite;
  readonly checkpointIntervalMs?: number;
  /** Keys whose cosignatures {@link FileLog.cosign} takes. */
  readonly witnesses?: readonly NoteKey[];
  readonly segmentBytes?: number;
  readonly files?: FileOps;
  /** Milliseconds since 1970; used in cosignature timestamps only. */
  readonly now?: () => number;
};

/** The log over files, with what an operator needs besides {@link LogSink}. */
export type FileLog = LogSink & {
  /** Keys that verify this log's checkpoints: one `note` key, and an ML-DSA-44 one when the log has it. */
  readonly keys: readonly NoteKey[];
  /**
   * Adds witnesses' signature lines to the checkpoint they were given for and serves it, if it is still the latest.
   * Resolves with the cosignatures taken; throws `cosignature_invalid` when a known witness's line does not verify.
   */
  cosign(note: string, lines: string): Promise<readonly VerifiedSignature[]>;
  /** The latest checkpoint that carries a cosignature, if there is one: its size may trail the latest checkpoint's. */
  cosigned(): CheckpointNote | undefined;
  /** Facts for health checks and metrics. */
  status(): {
    readonly epoch: number;
    readonly size: number;
    readonly checkpointSize: number;
    /** Why checkpoints are not being made at present, or why the log takes nothing more. */
    readonly error?: AssayError;
  };
};

type Waiter = {
  readonly size: number;
  readonly resolve: (note: CheckpointNote) => void;
  readonly reject: (error: unknown) => void;
};

/**
 * Opens the log in `directory`, or begins one, and becomes its only sequencer.
 *
 * Throws `log_locked` (another process has it), `log_corrupt` (what is on disk contradicts what was acknowledged or
 * signed), `log_format_unknown`, `log_origin_invalid`, `log_origin_mismatch`, `log_full`, `log_read_only`.
 *
 * A full disk or lost rights refuse appends and delay checkpoints until they are over. A failed sync ends this opening
 * for good (`log_failed`), because nothing could be acknowledged truthfully after it.
 *
 * Appends are acknowledged by the journal alone; tiles and checkpoints follow in the background, so a crash between
 * them costs nothing but the integration that is then done again.
 */
export async function openLog(options: FileLogOptions): Promise<FileLog> {
  const { directory, origin, suite, now = Date.now } = options;
  const files = withFinalSyncs(options.files ?? nodeFileOps);
  if (!isOrigin(origin)) throw new AssayError("log_origin_invalid", "A log's origin is one line of 1 to 255 bytes.");
  const fence = await acquireFence(directory, files);
  try {
    return await openFenced();
  } catch (error) {
    await fence.release();
    throw fileError(error, "open the log");
  }

  async function openFenced(): Promise<FileLog> {
    await checkFormat(directory, origin, files);
    const signers = logSigners(origin, options.signers, suite);
    const keys = signers.map((signer) => signer.key);
    const witnesses = options.witnesses ?? [];
    const tiles = tileFiles(directory, files);

    const openNote = async (name: string): Promise<{ note: CheckpointNote; timestamp: number } | undefined> => {
      const bytes = await files.readFile(`${directory}/${name}`);
      if (!bytes) return undefined;
      const note = Buffer.from(bytes).toString("utf8");
      const opened = await openCheckpoint(note, { logs: keys, witnesses }, suite);
      if (!opened.ok)
        throw corrupt(`The log's own ${name} is refused: ${opened.reason}`, ["Were the log's keys changed?"]);
      const timestamp = Math.max(0, ...opened.signatures.map((signature) => signature.timestamp ?? 0));
      const { size, root } = opened.checkpoint;
      return { note: { origin, size, root, note }, timestamp };
    };
    const stored = await openNote("checkpoint");
    let cosigned = (await openNote("checkpoint.cosigned"))?.note;
    let timestamp = stored?.timestamp ?? 0;
    let latest = stored?.note;
    let state = latest ? await loadTileState(latest.size, tiles.read, suite) : emptyTileState(suite);
    if (latest && !Buffer.from(state.root()).equals(latest.root)) {
      throw corrupt(`The tiles do not have the root that the checkpoint of ${latest.size} entries signs.`);
    }
    if (await files.mkdir(`${directory}/journal`)) await files.syncDirectory(directory);
    const journal = await openJournal({
      directory: `${directory}/journal`,
      files,
      fence,
      checkpointed: latest?.size ?? 0,
      ...(options.segmentBytes === undefined ? {} : { segmentBytes: options.segmentBytes }),
    });

    let waiters: Waiter[] = [];
    let timer: NodeJS.Timeout | undefined;
    let integrating: Promise<void> | undefined;
    let again = false;
    let trouble: AssayError | undefined;
    let fatal: AssayError | undefined;
    const intervalMs = options.checkpointIntervalMs ?? DEFAULT_CHECKPOINT_INTERVAL_MS;
    const commits = createGroupCommit(journal, () => {
      if (!integrating && !fatal) timer ??= setTimeout(integrateNow, intervalMs).unref();
    });

    // At most one integration runs; whoever asks meanwhile gets another one after it.
    function integrateNow(): void {
      clearTimeout(timer);
      timer = undefined;
      if (integrating) {
        again = true;
        return;
      }
      integrating = integrateAll().finally(() => {
        integrating = undefined;
        if (again) {
          again = false;
          integrateNow();
        } else if (!fatal && journal.size() > state.size()) {
          timer ??= setTimeout(integrateNow, intervalMs).unref();
        }
      });
    }

    async function integrateAll(): Promise<void> {
      try {
        do await exclusive(integrate);
        while (state.size() < journal.size() && waiters.length > 0);
        trouble = undefined;
      } catch (error) {
        trouble = fileError(error, "write tiles and checkpoint");
        // Tiles can be written again from the journal; anything but a lack of space or of rights ends this opening.
        if (trouble.code !== "log_full" && trouble.code !== "log_read_only") fail(trouble);
        const rejected = waiters;
        waiters = [];
        for (const waiter of rejected) waiter.reject(trouble);
      }
    }

    function fail(error: AssayError): void {
      fatal ??= error;
      void commits.stop(fatal);
    }

    // Checkpoint files are replaced by one writer at a time.
    let turn: Promise<unknown> = Promise.resolve();
    function exclusive<T>(run: () => Promise<T>): Promise<T> {
      const result = turn.then(run);
      turn = result.catch(() => undefined);
      return result;
    }

    async function integrate(): Promise<void> {
      const from = state.size();
      const target = journal.size();
      if (latest && target === from) return;
      // All work is done on a copy: a failure leaves the state where the signed checkpoint is.
      const next = state.copy();
      const indexed: IndexedBatch[] = [];
      const full: string[] = [];
      let sinceWrite = 0;
      let sinceTurn = 0;
      for await (const batch of journal.batches(from, target)) {
        for (const place of batch.places) next.append(new Uint8Array(batch.bytes.subarray(place.entry, place.claims)));
        indexed.push({ segment: batch.segment, first: batch.first, offsets: recordOffsets(batch) });
        sinceWrite += batch.count;
        sinceTurn += batch.count;
        if (sinceWrite >= ENTRIES_PER_WRITE) {
          sinceWrite = 0;
          await writeFull(next.drain(), full);
        }
        if (sinceTurn >= ENTRIES_PER_TURN) {
          sinceTurn = 0;
          await new Promise((resolve) => setImmediate(resolve));
        }
        if (next.size() - from >= ENTRIES_PER_CHECKPOINT) break;
      }
      await writeFull(next.drain(), full);
      // What the last checkpoint already refers to is never written again: a crash could tear it.
      const published = new Set(state.partials().map(([path]) => path));
      await tiles.write(next.partials().filter(([path]) => !published.has(path)));
      await journal.writeIndex(indexed);
      const note = await sign(next.size(), next.root());
      await publish("checkpoint", note);
      latest = note;
      state = next;
      journal.indexed(next.size());
      settleWaiters(note);
      for (const path of full) await tiles.removePartials(path);
    }

    async function writeFull(list: readonly (readonly [string, Uint8Array])[], full: string[]): Promise<void> {
      if (list.length === 0) return;
      await tiles.write(list);
      full.push(...list.map(([path]) => path));
    }

    async function sign(size: number, root: Uint8Array): Promise<CheckpointNote> {
      await assertUnchanged();
      if (latest && size < latest.size) throw corrupt(`A checkpoint of ${size} would shrink one of ${latest.size}.`);
      timestamp = Math.max(timestamp, Math.floor(now() / 1000));
      return { origin, size, root, note: await signCheckpoint({ origin, size, root }, signers, timestamp) };
    }

    // The checkpoint on disk must still be the one this sequencer wrote: the last line against a second one.
    async function assertUnchanged(): Promise<void> {
      fence.assertHeld();
      const bytes = await files.readFile(`${directory}/checkpoint`);
      const text = bytes ? Buffer.from(bytes).toString("utf8") : undefined;
      if (text === latest?.note) return;
      throw new AssayError("log_fenced", "The checkpoint on disk was replaced by somebody else.", {
        hints: ["Only one sequencer may write to a directory."],
      });
    }

    async function publish(name: string, note: CheckpointNote): Promise<void> {
      fence.assertHeld();
      await replaceDurable(files, directory, name, Buffer.from(note.note));
    }

    function settleWaiters(note: CheckpointNote): void {
      const ready = waiters.filter((waiter) => waiter.size <= note.size);
      waiters = waiters.filter((waiter) => waiter.size > note.size);
      for (const waiter of ready) waiter.resolve(note);
    }

    const readerOf = cachedHashReader(suite, tiles.read);
    // Proofs come from tiles, which exist up to the latest checkpoint.
    async function hashReader(size: number): Promise<HashReader> {
      if (size > journal.size())
        throw new AssayError("log_range", `The log has ${journal.size()} records, not ${size}.`);
      if (size > state.size()) await checkpoint({ atLeast: size });
      const at = state;
      return readerOf(at.size(), at.tail);
    }

    async function checkpoint({
      atLeast = 0,
      timeoutMs = DEFAULT_CHECKPOINT_TIMEOUT_MS,
    } = {}): Promise<CheckpointNote> {
      if (latest && latest.size >= atLeast) return latest;
      if (fatal) throw fatal;
      return new Promise((resolve, reject) => {
        const late = setTimeout(() => {
          waiters = waiters.filter((one) => one !== waiter);
          reject(
            new AssayError("log_checkpoint_late", `No checkpoint over ${atLeast} records came in ${timeoutMs} ms.`),
          );
        }, timeoutMs);
        const waiter: Waiter = {
          size: atLeast,
          resolve: (note) => {
            clearTimeout(late);
            resolve(note);
          },
          reject: (error) => {
            clearTimeout(late);
            reject(error instanceof Error ? error : new Error(String(error)));
          },
        };
        waiters.push(waiter);
        integrateNow();
      });
    }

    async function resource(path: string): Promise<Uint8Array | undefined> {
      if (path === "checkpoint") return latest ? Buffer.from(latest.note) : undefined;
      const tile = parseTilePath(path);
      if (!tile) return undefined;
      const available = tileWidth(tile.level === "entries" ? 0 : tile.level, tile.index, state.size());
      if (tile.width > available) return undefined;
      const exact = await tiles.read(path);
      if (exact || tile.width === TILE_WIDTH) return exact;
      // A partial tile is removed when its full one exists; the full one begins with the same content.
      const whole = await tiles.read(tilePath({ ...tile, width: TILE_WIDTH }));
      if (!whole) return undefined;
      if (tile.level !== "entries") return whole.subarray(0, tile.width * HASH_BYTES);
      return encodeBundle(decodeBundle(whole, TILE_WIDTH).slice(0, tile.width));
    }

    // An empty log has a checkpoint too: the empty tree's. A crash before the first one is caught up with here.
    try {
      do await exclusive(integrate);
      while (journal.size() > state.size());
    } catch (error) {
      await journal.close();
      throw error;
    }

    let closing: Promise<void> | undefined;
    async function close(): Promise<void> {
      const closed = new AssayError("log_closed", "The log is closed.");
      await commits.stop(fatal ?? closed);
      clearTimeout(timer);
      again = false;
      await integrating;
      // What was acknowledged is in the journal; a checkpoint over it is a courtesy that may fail.
      if (!fatal) while (state.size() < journal.size() && !trouble) await integrateAll();
      fatal ??= closed;
      for (const waiter of waiters.splice(0)) waiter.reject(closed);
      await turn;
      await journal.close();
      await fence.release();
    }

    return {
      origin,
      keys,
      append: commits.append,
      size: journal.size,
      checkpoint,
      async inclusionProof(index, size) {
        return inclusionProof(index, size, await hashReader(size), suite);
      },
      async consistencyProof(oldSize, newSize) {
        return consistencyProof(oldSize, newSize, await hashReader(newSize), suite);
      },
      read: journal.read,
      readRange: journal.readRange,
      eraseOpening: journal.eraseOpening,
      resource,
      cosign: (note, lines) =>
        exclusive(async () => {
          // Cosignatures of several witnesses arrive one after the other: they are gathered on the same text.
          const same = [latest, cosigned].find((one) => one && textOf(one.note) === textOf(note));
          const merged = await mergeCosignatures(same?.note ?? note, lines, witnesses, suite);
          if (merged.added.length === 0) return [];
          const opened = await openCheckpoint(merged.note, { logs: keys, witnesses }, suite);
          if (!opened.ok) throw new AssayError("cosignature_invalid", opened.reason);
          const { size, root } = opened.checkpoint;
          const result: CheckpointNote = { origin, size, root, note: merged.note };
          if (same && same === latest) {
            await assertUnchanged();
            await publish("checkpoint", result);
            latest = result;
          }
          if (size >= (cosigned?.size ?? 0)) {
            await publish("checkpoint.cosigned", result);
            cosigned = result;
          }
          return merged.added;
        }),
      cosigned: () => cosigned,
      status() {
        const error = fatal ?? journal.failure() ?? trouble;
        return {
          epoch: fence.epoch,
          size: journal.size(),
          checkpointSize: latest?.size ?? 0,
          ...(error ? { error } : {}),
        };
      },
      close: () => (closing ??= close()),
    };
  }
}

function textOf(note: string): string {
  return note.slice(0, note.lastIndexOf("\n\n"));
}

async function checkFormat(directory: string, origin: string, files: FileOps): Promise<void> {
  const bytes = await files.readFile(`${directory}/format`);
  if (!bytes) {
    await replaceDurable(files, directory, "format", Buffer.from(`${FORMAT}\n${origin}\n`));
    return;
  }
  const [format = "", written = ""] = Buffer.from(bytes).toString("utf8").split("\n");
  if (format !== FORMAT) throw new AssayError("log_format_unknown", `The directory holds ${format}, not ${FORMAT}.`);
  if (written === origin) return;
  throw new AssayError("log_origin_mismatch", `The directory holds the log ${written}, not ${origin}.`);
}
