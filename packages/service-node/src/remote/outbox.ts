import { randomBytes } from "node:crypto";
import { fstatSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { AssayError, isAssayError } from "@assay/core";
import type { ChainHead } from "@assay/receipts";
import { corrupt, encodeBatch, encodeFileHeader, FILE_HEADER_BYTES, NONCE_BYTES, readItems } from "./outbox-file.ts";
import type { KeysetPlace, OutboxEntry, OutboxItem } from "./outbox-file.ts";

/**
 * What a node signed and does not yet know logged, on disk. A statement is durable here before anybody else sees it,
 * so that a crash of node or gateway at any moment loses none and reuses no number.
 */
export type Outbox = {
  /** Where this node's chain goes on, and its latest keyset; as far as this disk knows. */
  readonly head: () => ChainHead;
  readonly keyset: () => KeysetPlace | undefined;
  /**
   * Makes statements durable, in the chain's order. Throws `outbox_full` (nothing was kept; too much waits),
   * `outbox_fenced` (another process opened this directory) or `outbox_failed` (this opening takes no more).
   */
  readonly append: (entries: readonly OutboxEntry[]) => Promise<void>;
  /** Makes a keyset, or a head learnt from the log, durable before anything relies on it. */
  readonly mark: (mark: { readonly keyset?: KeysetPlace; readonly head?: ChainHead }) => Promise<void>;
  /** Forgets what is in the log: positions `from` up to but not including `to`. */
  readonly acknowledge: (from: number, to: number) => void;
  readonly entry: (seq: number) => OutboxEntry | undefined;
  /** From the oldest statement that waits to the head; undefined when none waits. */
  readonly waiting: () => { readonly from: number; readonly to: number; readonly count: number } | undefined;
  /** Whether new work must be refused because too much waits for the log. */
  readonly full: () => boolean;
  readonly close: () => Promise<void>;
};

export type OutboxOptions = {
  /** A directory of this node alone; made when it is not there. */
  readonly directory: string;
  /** Statements that may wait; a gateway that is away for an hour at ten a second leaves 36,000. */
  readonly maxEntries?: number;
  /** Bytes of envelopes and claims that may wait: they are held in memory too. */
  readonly maxBytes?: number;
  /** The file is written anew once it is this large and half of it is of no use any more, bytes. */
  readonly compactBytes?: number;
};

const DEFAULTS = { maxEntries: 65_536, maxBytes: 128 * 1024 * 1024, compactBytes: 8 * 1024 * 1024 } as const;
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** Statements of a batch; they are flushed together. */
const MAX_BATCH_BYTES = 64 * 1024 * 1024;

type Writer = { readonly file: FileHandle; readonly path: string; readonly nonce: Uint8Array; end: number };

/**
 * Opens the outbox in `directory`, or begins one. What is there is written into a new file first, so that nothing is
 * ever appended behind what a crash left half written. Throws `outbox_corrupt` or `outbox_format_unknown`.
 */
export async function openOutbox(options: OutboxOptions): Promise<Outbox> {
  const { directory } = options;
  const { maxEntries, maxBytes, compactBytes } = { ...DEFAULTS, ...options };
  const entries = new Map<number, OutboxEntry>();
  let head: ChainHead = { seq: 0 };
  let keyset: KeysetPlace | undefined;
  let liveBytes = 0;
  let failure: AssayError | undefined;
  /** Acknowledgements that are not in the file: they cost a question when lost, so no flush is made for them. */
  let unwritten: OutboxItem[] = [];

  await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE });
  const names = (await readdir(directory)).filter((name) => /^[0-9]{16}\.out$/.test(name)).sort();
  // A file gets its name once it is whole and flushed: an older one beside it was about to be removed.
  const latest = names.at(-1);
  if (latest !== undefined) {
    const { items } = readItems(await readFile(join(directory, latest)), latest);
    for (const item of items) take(item);
  }
  let number = latest === undefined ? 0 : Number(latest.slice(0, 16)) + 1;
  let writer = await rewrite();
  for (const name of names) await unlink(join(directory, name));
  await syncDirectory();

  function take(item: OutboxItem): void {
    switch (item.kind) {
      case "statement": {
        const { entry } = item;
        if (entry.seq < head.seq) break;
        if (entry.seq > head.seq)
          throw corrupt(`The outbox goes on with statement ${entry.seq} where ${head.seq} is next.`);
        keep(entry);
        break;
      }
      case "acknowledged":
        drop(item.from, item.to);
        break;
      case "head":
        head = item.head;
        break;
      case "keyset":
        ({ keyset } = item);
        break;
    }
  }

  function keep(entry: OutboxEntry): void {
    entries.set(entry.seq, entry);
    liveBytes += sizeOf(entry);
    head = { seq: entry.seq + 1, prev: entry.digest };
  }

  function drop(from: number, to: number): number {
    let dropped = 0;
    const forget = (seq: number): void => {
      const entry = entries.get(seq);
      if (!entry) return;
      entries.delete(seq);
      liveBytes -= sizeOf(entry);
      dropped++;
    };
    if (to - from > entries.size) {
      for (const seq of entries.keys()) if (seq >= from && seq < to) forget(seq);
    } else for (let seq = from; seq < to; seq++) forget(seq);
    return dropped;
  }

  async function syncDirectory(): Promise<void> {
    const handle = await open(directory, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  // Everything that matters now, as one new file: the oldest statement's place first, then all that wait.
  async function rewrite(): Promise<Writer> {
    const nonce = new Uint8Array(randomBytes(NONCE_BYTES));
    const path = join(directory, `${String(number++).padStart(16, "0")}.out`);
    const waiting = [...entries.values()];
    const [oldest] = waiting;
    const items: OutboxItem[] = keyset ? [{ kind: "keyset", keyset }] : [];
    // Gaps between waiting statements are passed over by heads, which a reader simply believes.
    let next = -1;
    for (const entry of waiting) {
      if (entry.seq !== next) items.push({ kind: "head", head: placeBefore(entry.seq) });
      items.push({ kind: "statement", entry });
      next = entry.seq + 1;
    }
    if (!oldest || next !== head.seq) items.push({ kind: "head", head });
    const bytes = Buffer.concat([encodeFileHeader(nonce), encodeBatch(nonce, items)]);
    const temporary = `${path}.new`;
    const file = await open(temporary, "w+", FILE_MODE);
    try {
      await file.writeFile(bytes);
      await file.datasync();
      await rename(temporary, path);
      await syncDirectory();
    } catch (error) {
      await file.close();
      throw error;
    }
    unwritten = [];
    return { file, path, nonce, end: bytes.length };
  }

  function placeBefore(seq: number): ChainHead {
    const before = entries.get(seq - 1);
    // Only the position counts in front of a statement: its own digest is the next head's.
    return seq === 0 ? { seq } : { seq, prev: before?.digest ?? new Uint8Array(32) };
  }

  async function write(items: readonly OutboxItem[]): Promise<void> {
    if (failure) throw failure;
    const bytes = encodeBatch(writer.nonce, [...unwritten, ...items]);
    try {
      let at = 0;
      while (at < bytes.length) {
        const { bytesWritten } = await writer.file.write(bytes, at, bytes.length - at, writer.end + at);
        at += bytesWritten;
      }
      await writer.file.datasync();
      // Whoever opened this directory after us wrote a file of their own and removed ours.
      if (fstatSync(writer.file.fd).nlink === 0) {
        throw new AssayError("outbox_fenced", "Another process has opened this node's outbox.", {
          hints: ["One node runs on a directory at a time."],
        });
      }
    } catch (error) {
      // After a failed sync nothing can be said of the file; a later opening reads what is really there.
      failure = isAssayError(error)
        ? error
        : new AssayError("outbox_failed", "The node's outbox could not be put on stable storage.", {
            cause: error,
            hints: ["Start the node again once its disk works; what it answered is kept."],
          });
      throw failure;
    }
    writer.end += bytes.length;
    unwritten = [];
  }

  async function compact(): Promise<void> {
    if (failure || writer.end < compactBytes || writer.end - FILE_HEADER_BYTES < 2 * liveBytes) return;
    const old = writer;
    try {
      writer = await rewrite();
    } catch (error) {
      failure = new AssayError("outbox_failed", "The node's outbox could not be written anew.", { cause: error });
      return;
    }
    await old.file.close();
    await unlink(old.path);
  }

  // One write at a time: callers come from several loops.
  let turn: Promise<unknown> = Promise.resolve();
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work);
    turn = result.catch(() => undefined);
    return result;
  };
  const isFull = (): boolean => entries.size >= maxEntries || liveBytes >= maxBytes;

  return {
    head: () => head,
    keyset: () => keyset,
    append: (fresh) =>
      exclusive(async () => {
        if (isFull()) {
          throw new AssayError("outbox_full", `${entries.size} statements wait for the log already.`, {
            hints: ["The gateway must be reachable again before this node takes new work."],
          });
        }
        let next = head.seq;
        let bytes = 0;
        for (const entry of fresh) {
          if (entry.seq !== next++) throw new TypeError("Statements were appended out of order.");
          bytes += sizeOf(entry);
        }
        if (bytes > MAX_BATCH_BYTES) throw new TypeError("A batch of statements is too large.");
        await write(fresh.map((entry) => ({ kind: "statement", entry })));
        for (const entry of fresh) keep(entry);
        await compact();
      }),
    mark: (mark) =>
      exclusive(async () => {
        await write([
          ...(mark.keyset ? [{ kind: "keyset" as const, keyset: mark.keyset }] : []),
          ...(mark.head ? [{ kind: "head" as const, head: mark.head }] : []),
        ]);
        if (mark.keyset) ({ keyset } = mark);
        if (mark.head) ({ head } = mark);
      }),
    acknowledge(from, to) {
      if (drop(from, to) > 0) unwritten.push({ kind: "acknowledged", from, to });
      if (unwritten.length >= MAX_UNWRITTEN) unwritten = [{ kind: "acknowledged", from: 0, to: oldestOf() }];
    },
    entry: (seq) => entries.get(seq),
    waiting() {
      if (entries.size === 0) return undefined;
      return { from: oldestOf(), to: head.seq, count: entries.size };
    },
    full: isFull,
    async close() {
      await turn;
      if (!failure && unwritten.length > 0) await exclusive(() => write([]));
      failure ??= new AssayError("outbox_failed", "The outbox is closed.");
      await writer.file.close();
    },
  };

  function oldestOf(): number {
    // Statements are kept in the chain's order, so the first is the oldest.
    const [first] = entries.keys();
    return first ?? head.seq;
  }
}

/** Acknowledgements remembered one by one; more are put together, at the price of being asked about some again. */
const MAX_UNWRITTEN = 1024;

function sizeOf({ envelope, claims }: OutboxEntry): number {
  return envelope.length + claims.length + 64;
}
