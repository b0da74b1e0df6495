import { bytesToHex, hexToBytes, isAssayError, parseJson } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import type { LogSink } from "@assay/protocol";
import type { ChainHead } from "@assay/receipts";
import { decodeRecord } from "./decode-record.ts";
import type { DecodedRecord, KeysetMark } from "./decode-record.ts";

/** Small facts derived from the log, kept in memory and in a file so that a start need not read the whole log. */
export type LogState = {
  readonly watermark: () => number;
  readonly head: (issuer: string) => ChainHead | undefined;
  /** Latest keyset of a subject. */
  readonly lastKeyset: (subject: string) => KeysetMark | undefined;
  /** Log index of the keyset with digest K (lower-case hex). */
  readonly keysetIndex: (keyset: string) => number | undefined;
  /** Log indexes of all release statements, ascending. */
  readonly releases: () => readonly number[];
  readonly apply: (decoded: readonly DecodedRecord[], next: number) => void;
  /** Writes the file if anything changed since. */
  readonly save: () => Promise<void>;
};

export type LogStateModules = {
  readonly log: LogSink;
  readonly suite: Pick<CryptoSuite, "sha256">;
  /** The saved file, or undefined when there is none. */
  readonly load: () => Promise<string | undefined>;
  /** Replaces the file atomically. */
  readonly store: (text: string) => Promise<void>;
};

/** Records read at a time while catching up. */
const STRIDE = 1000;
const MAX_FILE_BYTES = 64 * 1024 * 1024;

type Saved = {
  watermark: number;
  heads: Map<string, ChainHead>;
  keysets: Map<string, number>;
  last: Map<string, KeysetMark>;
  releases: number[];
  /** Digest of the statement before the watermark: a file of another log is told by it. */
  tail: string | undefined;
};

/** Opens the state: what the file says, brought up to the end of the log. A damaged file only costs a full read. */
export async function openLogState({ log, suite, load, store }: LogStateModules): Promise<LogState> {
  let saved = restore(await load(), log.size());
  if (saved.watermark > 0) {
    const [last] = await log.readRange(saved.watermark - 1, 1);
    if (!last || decodeRecord(suite, last).row.executionDigest !== saved.tail) saved = nothingSaved();
  }
  let dirty = false;
  const apply = (decoded: readonly DecodedRecord[], next: number): void => {
    for (const record of decoded) {
      for (const { issuer, head } of record.heads) saved.heads.set(issuer, head);
      if (record.keyset) {
        saved.keysets.set(bytesToHex(record.keyset.keyset), record.logIndex);
        saved.last.set(record.keyset.subject, record.keyset);
      }
      if (record.release) saved.releases.push(record.logIndex);
    }
    saved.watermark = next;
    saved.tail = decoded.at(-1)?.row.executionDigest ?? saved.tail;
    dirty = true;
  };
  while (saved.watermark < log.size()) {
    const records = await log.readRange(saved.watermark, STRIDE);
    if (records.length === 0) break;
    apply(
      records.map((record) => decodeRecord(suite, record)),
      saved.watermark + records.length,
    );
  }
  return {
    watermark: () => saved.watermark,
    head: (issuer) => saved.heads.get(issuer),
    lastKeyset: (subject) => saved.last.get(subject),
    keysetIndex: (keyset) => saved.keysets.get(keyset),
    releases: () => saved.releases,
    apply,
    async save() {
      if (!dirty) return;
      dirty = false;
      await store(JSON.stringify(view(saved)));
    },
  };
}

function view(saved: Saved): JsonValue {
  const head = ({ seq, prev }: ChainHead): JsonValue => (prev ? { seq, prev: bytesToHex(prev) } : { seq });
  return {
    version: 1,
    watermark: saved.watermark,
    ...(saved.tail === undefined ? {} : { tail: saved.tail }),
    heads: Object.fromEntries([...saved.heads].map(([issuer, at]) => [issuer, head(at)])),
    keysets: Object.fromEntries(saved.keysets),
    last: [...saved.last.values()].map(({ keyset, statement, ...rest }) => ({
      ...rest,
      keyset: bytesToHex(keyset),
      statement: bytesToHex(statement),
    })),
    releases: saved.releases,
  };
}

function nothingSaved(): Saved {
  return { watermark: 0, heads: new Map(), keysets: new Map(), last: new Map(), releases: [], tail: undefined };
}

function restore(text: string | undefined, size: number): Saved {
  const empty = nothingSaved();
  if (text === undefined) return empty;
  try {
    const value = parseJson(text, { maxBytes: MAX_FILE_BYTES, maxDepth: 4 }) as ReturnType<typeof view> & {
      version: number;
      watermark: number;
      tail?: string;
      heads: Record<string, { seq: number; prev?: string }>;
      keysets: Record<string, number>;
      last: { subject: string; bootSeq: number; keyset: string; statement: string; logIndex: number }[];
      releases: number[];
    };
    // A file ahead of the log belongs to another log, or to one that was restored from a copy: read anew.
    const { watermark } = value;
    if (value.version !== 1 || !Number.isSafeInteger(watermark) || watermark < 0 || watermark > size) return empty;
    return {
      watermark: value.watermark,
      tail: value.tail,
      heads: new Map(
        Object.entries(value.heads).map(([issuer, { seq, prev }]) => [
          issuer,
          prev === undefined ? { seq } : { seq, prev: hexToBytes(prev) },
        ]),
      ),
      keysets: new Map(Object.entries(value.keysets)),
      last: new Map(
        value.last.map((mark) => [
          mark.subject,
          { ...mark, keyset: hexToBytes(mark.keyset), statement: hexToBytes(mark.statement) },
        ]),
      ),
      releases: [...value.releases],
    };
  } catch (error) {
    if (isAssayError(error) || error instanceof TypeError) return empty;
    throw error;
  }
}
