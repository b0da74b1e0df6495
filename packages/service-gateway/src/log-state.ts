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
  /**
   * Takes records that follow one another up to `next`, in any order of calls: several gateways write to one log. The
   * watermark waits for what lies between.
   */
  readonly apply: (decoded: readonly DecodedRecord[], next: number) => void;
  /** Which positions of an issuer's chain the log has: a remote node's statements need not arrive in its order. */
  readonly chain: (issuer: string) => ChainCoverage;
  /** Reads from the log what no {@link LogState.apply} has brought, up to its end. */
  readonly catchUp: () => Promise<void>;
  /** Writes the file if anything changed since. */
  readonly save: () => Promise<void>;
};

/** How much of a chain is logged. */
export type ChainCoverage = {
  /** The position after the last one that is logged. */
  readonly next: number;
  readonly has: (seq: number) => boolean;
  /** Positions in `from` up to `to` that are not logged, at most `limit` ranges, and where the answer stops looking. */
  readonly missing: (
    from: number,
    to: number,
    limit: number,
  ) => { readonly ranges: readonly (readonly [number, number])[]; readonly upTo: number };
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
/**
 * Gaps kept per chain. A node that offers what it owes has none for long; one that never does could otherwise make
 * this grow without end, so its oldest gaps are forgotten, and with them the right to fill them.
 */
const MAX_GAPS = 4096;
/** Records beyond a gap that are remembered as applied; more are read again. */
const MAX_PIECES = 4096;

/** Where a chain stands: the position after its last logged statement, and the gaps before that, in order. */
type Chain = { next: number; gaps: (readonly [number, number])[] };
/** Records that were applied before those in front of them. */
type Piece = { readonly from: number; readonly to: number; readonly tail: string };

type Saved = {
  chains: Map<string, Chain>;
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
  let pieces: Piece[] = [];
  // Each fact may be learnt twice, and later ones before earlier ones.
  const learn = (record: DecodedRecord): void => {
    for (const { issuer, head } of record.heads) {
      if ((saved.heads.get(issuer)?.seq ?? 0) < head.seq) saved.heads.set(issuer, head);
      cover(saved.chains, issuer, head.seq - 1);
    }
    if (record.keyset) {
      const { subject, bootSeq } = record.keyset;
      saved.keysets.set(bytesToHex(record.keyset.keyset), record.logIndex);
      if ((saved.last.get(subject)?.bootSeq ?? -1) <= bootSeq) saved.last.set(subject, record.keyset);
    }
    if (record.release) {
      const at = saved.releases.findLastIndex((index) => index <= record.logIndex);
      if (saved.releases[at] !== record.logIndex) saved.releases.splice(at + 1, 0, record.logIndex);
    }
  };
  const apply = (decoded: readonly DecodedRecord[], next: number): void => {
    const [first] = decoded;
    const tail = decoded.at(-1)?.row.executionDigest;
    if (!first || tail === undefined) return;
    for (const record of decoded) learn(record);
    dirty = true;
    if (first.logIndex > saved.watermark) {
      if (pieces.length < MAX_PIECES) pieces.push({ from: first.logIndex, to: next, tail });
      return;
    }
    if (next > saved.watermark) [saved.watermark, saved.tail] = [next, tail];
    for (let joined = true; joined && pieces.length > 0;) {
      const at = pieces.findIndex(({ from }) => from <= saved.watermark);
      const piece = pieces[at];
      joined = piece !== undefined;
      if (!piece) break;
      pieces = pieces.filter((_, i) => i !== at);
      if (piece.to > saved.watermark) [saved.watermark, saved.tail] = [piece.to, piece.tail];
    }
  };
  const catchUp = async (): Promise<void> => {
    while (saved.watermark < log.size()) {
      const from = saved.watermark;
      const records = await log.readRange(from, STRIDE);
      if (records.length === 0) break;
      apply(
        records.map((record) => decodeRecord(suite, record)),
        from + records.length,
      );
    }
  };
  await catchUp();
  return {
    catchUp,
    chain: (issuer) => coverage(saved.chains.get(issuer)),
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

/** Notes that `seq` of a chain is logged. */
function cover(chains: Map<string, Chain>, issuer: string, seq: number): void {
  const chain = chains.get(issuer);
  if (!chain) {
    chains.set(issuer, { next: seq + 1, gaps: seq === 0 ? [] : [[0, seq]] });
    return;
  }
  if (seq >= chain.next) {
    if (seq > chain.next) chain.gaps.push([chain.next, seq]);
    chain.next = seq + 1;
    if (chain.gaps.length > MAX_GAPS) chain.gaps.shift();
    return;
  }
  const at = chain.gaps.findIndex(([from, to]) => seq >= from && seq < to);
  const gap = chain.gaps[at];
  if (!gap) return;
  const left: (readonly [number, number])[] = [];
  if (gap[0] < seq) left.push([gap[0], seq]);
  if (seq + 1 < gap[1]) left.push([seq + 1, gap[1]]);
  chain.gaps.splice(at, 1, ...left);
}

function coverage(chain: Chain = { next: 0, gaps: [] }): ChainCoverage {
  return {
    next: chain.next,
    has: (seq) => seq < chain.next && !chain.gaps.some(([from, to]) => seq >= from && seq < to),
    missing(from, to, limit) {
      const ranges: (readonly [number, number])[] = [];
      const open: readonly (readonly [number, number])[] =
        to > chain.next ? [...chain.gaps, [chain.next, to] as const] : chain.gaps;
      for (const [start, end] of open) {
        const cut = [Math.max(start, from), Math.min(end, to)] as const;
        if (cut[0] >= cut[1]) continue;
        if (ranges.length === limit) return { ranges, upTo: cut[0] };
        ranges.push(cut);
      }
      return { ranges, upTo: to };
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
    // Only chains with gaps: of the others the head says everything.
    gaps: Object.fromEntries(
      [...saved.chains].flatMap(([issuer, { gaps }]) => (gaps.length > 0 ? [[issuer, gaps]] : [])),
    ),
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
  return {
    chains: new Map(),
    watermark: 0,
    heads: new Map(),
    keysets: new Map(),
    last: new Map(),
    releases: [],
    tail: undefined,
  };
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
      gaps?: Record<string, [number, number][]>;
      keysets: Record<string, number>;
      last: { subject: string; bootSeq: number; keyset: string; statement: string; logIndex: number }[];
      releases: number[];
    };
    // A file ahead of the log belongs to another log, or to one that was restored from a copy: read anew.
    const { watermark } = value;
    if (value.version !== 1 || !Number.isSafeInteger(watermark) || watermark < 0 || watermark > size) return empty;
    return {
      chains: new Map(
        Object.entries(value.heads).map(([issuer, { seq }]) => [
          issuer,
          { next: seq, gaps: [...(value.gaps?.[issuer] ?? [])] },
        ]),
      ),
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
