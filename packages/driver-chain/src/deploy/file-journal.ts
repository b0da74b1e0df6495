import { open, readFile, truncate } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { AssayError, bytesToHex, hexToBytes, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { memoryJournal } from "../sender/memory-journal.ts";
import type { TxChange, TxJournal, TxKey, TxRecord, TxState } from "../sender/types.ts";

/** A deployment writes some dozens of lines of a few kilobytes; its largest is a contract's init code. */
export const MAX_JOURNAL_BYTES = 16 * 1024 * 1024;
const MAX_LINE_BYTES = 512 * 1024;
const STATES: ReadonlySet<string> = new Set([
  "signed",
  "sent",
  "mined",
  "final",
  "replaced",
  "reverted",
  "dropped",
] satisfies readonly TxState[]);

export type FileJournal = TxJournal & {
  /** How many transactions were ever written down. */
  readonly size: () => number;
  readonly close: () => Promise<void>;
};

/**
 * A journal in one file, a line for each thing that was written down; durable when a call resolves. For commands that send a
 * few transactions, one process at a time: the caller holds a lock. A last line that a crash cut off was never acknowledged and
 * is cut away. Throws `transaction_record_invalid` for a file that is something else.
 */
export async function openFileJournal(path: string): Promise<FileJournal> {
  const kept = memoryJournal();
  const end = await replay(path, kept);
  const file = await open(path, "a", 0o600);
  if ((await file.stat()).size > end) await truncate(path, end);
  let writing: Promise<void> = Promise.resolve();

  /** One line after the other; what could not be written is not remembered either. */
  const write = async (line: JsonValue, remember: () => Promise<void>): Promise<void> => {
    const mine = writing.then(async () => {
      await writeLine(file, line);
      await remember();
    });
    writing = mine.catch(() => undefined);
    return mine;
  };

  return {
    ...kept,
    async append(record) {
      const { network, sender, nonce, attempt } = record;
      // The keeper in memory would refuse it too, but after the line was written.
      const same = await kept.from(network, sender, nonce, Number.MAX_SAFE_INTEGER);
      if (same.some((one) => one.nonce === nonce && one.attempt === attempt))
        throw new AssayError("transaction_journal_conflict", `The journal has nonce ${record.nonce} already.`);
      await write({ append: recordLine(record) }, () => kept.append(record));
    },
    change: (key, change) => write({ change: changeLine(key, change) }, () => kept.change(key, change)),
    size: () => kept.records().length,
    async close() {
      await writing;
      await file.close();
    },
  };
}

async function writeLine(file: FileHandle, line: JsonValue): Promise<void> {
  await file.appendFile(`${JSON.stringify(line)}\n`);
  await file.sync();
}

/** Takes up what is in the file; resolves to the end of its last whole line. */
async function replay(path: string, into: TxJournal): Promise<number> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return Buffer.alloc(0);
    throw error;
  });
  if (bytes.length > MAX_JOURNAL_BYTES) throw invalid(path, "it is too large");
  let at = 0;
  for (;;) {
    const end = bytes.indexOf(0x0a, at);
    if (end === -1) return at;
    let line: JsonValue;
    try {
      line = parseJson(new Uint8Array(bytes.subarray(at, end)), { maxBytes: MAX_LINE_BYTES, maxDepth: 4 });
    } catch (cause) {
      throw invalid(path, "a line is no JSON", cause);
    }
    await take(path, fieldsOf(path, line), into);
    at = end + 1;
  }
}

async function take(path: string, line: Fields, into: TxJournal): Promise<void> {
  if (line["append"] !== undefined) return into.append(recordFrom(path, fieldsOf(path, line["append"])));
  const fields = fieldsOf(path, line["change"]);
  await into.change(keyFrom(path, fields), changeFrom(path, fields));
}

type Fields = { readonly [name: string]: JsonValue };

function recordLine(record: TxRecord): JsonValue {
  return {
    ...changeLine(record, record),
    jobId: record.jobId,
    hash: record.hash,
    raw: bytesToHex(record.raw),
    maxFee: record.maxFee.toString(),
    createdAtMs: record.createdAtMs,
  };
}

function changeLine(key: TxKey, change: TxChange): Fields {
  return {
    network: key.network,
    sender: key.sender,
    nonce: key.nonce,
    attempt: key.attempt,
    state: change.state,
    updatedAtMs: change.updatedAtMs,
    ...(change.blockNumber === undefined ? {} : { blockNumber: change.blockNumber }),
    ...(change.blockHash === undefined ? {} : { blockHash: change.blockHash }),
    ...(change.gasUsed === undefined ? {} : { gasUsed: change.gasUsed.toString() }),
  };
}

function recordFrom(path: string, fields: Fields): TxRecord {
  return {
    ...keyFrom(path, fields),
    ...changeFrom(path, fields),
    jobId: text(path, fields, "jobId", /^.{1,200}$/),
    hash: text(path, fields, "hash", /^0x[0-9a-f]{64}$/) as TxRecord["hash"],
    raw: hexToBytes(text(path, fields, "raw", /^(?:[0-9a-f]{2})+$/)),
    maxFee: BigInt(text(path, fields, "maxFee", /^\d{1,78}$/)),
    createdAtMs: count(path, fields, "createdAtMs"),
  };
}

function keyFrom(path: string, fields: Fields): TxKey {
  return {
    network: text(path, fields, "network", /^eip155:\d{1,16}$/) as TxKey["network"],
    sender: text(path, fields, "sender", /^0x[0-9a-f]{40}$/) as TxKey["sender"],
    nonce: count(path, fields, "nonce"),
    attempt: count(path, fields, "attempt"),
  };
}

function changeFrom(path: string, fields: Fields): TxChange {
  const state = text(path, fields, "state", /^[a-z]+$/);
  if (!STATES.has(state)) throw invalid(path, "a state is unknown");
  const has = (name: string): boolean => fields[name] !== undefined;
  return {
    state: state as TxState,
    updatedAtMs: count(path, fields, "updatedAtMs"),
    blockNumber: has("blockNumber") ? count(path, fields, "blockNumber") : undefined,
    blockHash: has("blockHash")
      ? (text(path, fields, "blockHash", /^0x[0-9a-f]{64}$/) as TxChange["blockHash"])
      : undefined,
    gasUsed: has("gasUsed") ? BigInt(text(path, fields, "gasUsed", /^\d{1,78}$/)) : undefined,
  };
}

function fieldsOf(path: string, value: JsonValue | undefined): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw invalid(path, "a line is no object");
}

function text(path: string, fields: Fields, name: string, form: RegExp): string {
  const value = fields[name];
  if (typeof value === "string" && form.test(value)) return value;
  throw invalid(path, `its ${name} is not what was written`);
}

function count(path: string, fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw invalid(path, `its ${name} is not what was written`);
}

function invalid(path: string, why: string, cause?: unknown): AssayError<"transaction_record_invalid"> {
  return new AssayError("transaction_record_invalid", `The journal of transactions at ${path} is damaged: ${why}.`, {
    hints: ["Restore it from a backup: what it had under way may still be mined."],
    ...(cause === undefined ? {} : { cause }),
  });
}
