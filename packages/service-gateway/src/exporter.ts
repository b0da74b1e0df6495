import { AssayError, bytesToHex, isAssayError } from "@assay/core";
import type { CryptoSuite, Signer } from "@assay/core";
import type { CheckpointNote, IndexStore, LogSink, StoredRecord } from "@assay/protocol";
import { PROFILE, decodeEntry, parseStatement } from "@assay/receipts";
import type { Bundle, BundledProof, BundledStatement, OpenMap } from "@assay/receipts";
import { encodeCoseReceipt, formatTlogProof } from "@assay/tlog";
import type { LogState } from "./log-state.ts";
import { decodeSidecar } from "./sidecar.ts";

export type ExporterModules = {
  readonly log: LogSink;
  readonly index: IndexStore;
  readonly state: LogState;
  readonly suite: Pick<CryptoSuite, "sha256">;
  /** The latest checkpoint that witnesses cosigned; absent where the log has no witness to wait for. */
  readonly cosigned?: () => CheckpointNote | undefined;
  /** Signs RFC 9942 receipts: the log's Ed25519 key. */
  readonly logSigner: Signer;
  /** Where an execution (digest, lower-case hex) is anchored on a chain; undefined where it is not, or not yet. */
  readonly anchor?: (executionDigest: string) => Promise<OpenMap | undefined>;
};

/** Puts together, from log and index, what holders of receipts ask for. */
export type Exporter = {
  /**
   * The bundle of the execution at `logIndex`, waiting up to `waitMs` for a checkpoint that covers it. Supplements are
   * found through the index: without a database the bundle lacks them and `complete` says so.
   */
  readonly bundle: (
    logIndex: number,
    waitMs: number,
  ) => Promise<{ readonly bundle: Bundle; readonly complete: boolean }>;
  /** Inclusion as C2SP `.tlog-proof` text. Throws `not_logged_yet` before a checkpoint covers it. */
  readonly tlogProof: (logIndex: number, waitMs: number) => Promise<string>;
  /** Inclusion as an RFC 9942 COSE receipt. */
  readonly coseReceipt: (logIndex: number, waitMs: number) => Promise<Uint8Array>;
};

const MAX_KEPT_KEYSETS = 256;
/** How often a cosignature is looked for while somebody waits for it, milliseconds. */
const COSIGNED_POLL_MS = 25;
/** Supplements a bundle takes along; the format allows 64 statements in all. */
const MAX_SUPPLEMENTS = 60;

/** Makes an exporter. */
export function createExporter(modules: ExporterModules): Exporter {
  const { log, index, state, suite, logSigner, cosigned } = modules;
  const keysets = new Map<string, { envelope: Uint8Array; document: Uint8Array }>();

  const read = async (logIndex: number): Promise<StoredRecord> => {
    const record = await log.read(logIndex);
    if (!record) throw new AssayError("receipt_not_found", `The log has no entry ${logIndex}.`);
    return record;
  };

  const keysetOf = async (digest: Uint8Array): Promise<{ envelope: Uint8Array; document: Uint8Array }> => {
    const key = bytesToHex(digest);
    const known = keysets.get(key);
    if (known) return known;
    const at = state.keysetIndex(key);
    if (at === undefined) throw new AssayError("keyset_not_found", `The log has no keyset ${key}.`);
    const record = await read(at);
    const [envelope] = decodeEntry(record.entry);
    const [document] = decodeSidecar(record.claims).claims;
    if (!envelope || !document) throw new AssayError("record_invalid", `The keyset at log index ${at} cannot be read.`);
    if (keysets.size >= MAX_KEPT_KEYSETS) keysets.clear();
    const found = { envelope, document };
    keysets.set(key, found);
    return found;
  };

  const covering = async (logIndex: number, waitMs: number): Promise<CheckpointNote | undefined> => {
    const deadlineMs = performance.now() + waitMs;
    let note: CheckpointNote | undefined;
    try {
      note = await log.checkpoint({ atLeast: logIndex + 1, timeoutMs: waitMs });
    } catch (error) {
      if (!isAssayError(error) || error.code !== "log_checkpoint_late") throw error;
    }
    if (!cosigned) return note && note.size > logIndex ? note : undefined;
    for (;;) {
      const witnessed = cosigned();
      if (witnessed && witnessed.size > logIndex) return witnessed;
      if (performance.now() >= deadlineMs) return note && note.size > logIndex ? note : undefined;
      await new Promise((resolve) => {
        setTimeout(resolve, COSIGNED_POLL_MS);
      });
    }
  };

  const inclusion = async (
    logIndex: number,
    waitMs: number,
  ): Promise<{ note: CheckpointNote; path: readonly Uint8Array[]; entry: Uint8Array }> => {
    const note = await covering(logIndex, waitMs);
    if (!note) {
      throw new AssayError("not_logged_yet", `No checkpoint covers log index ${logIndex} yet.`, {
        hints: ["Ask again in a second."],
      });
    }
    const { entry } = await read(logIndex);
    return { note, entry, path: await log.inclusionProof(logIndex, note.size) };
  };

  // What a payment came to is said of the service statement, everything else of the execution.
  const supplementsOf = async (record: StoredRecord): Promise<readonly number[] | undefined> => {
    const digests = decodeEntry(record.entry).map((envelope) => bytesToHex(parseStatement(suite, envelope).digest));
    try {
      const rows = (await Promise.all(digests.map((digest) => index.supplements(digest)))).flat();
      const places = [...new Set(rows.map(({ logIndex }) => logIndex))].toSorted((a, b) => a - b);
      return places.slice(0, MAX_SUPPLEMENTS);
    } catch (error) {
      if (isAssayError(error) && error.code === "database_unavailable") return undefined;
      throw error;
    }
  };

  /** Without the ledger's database a bundle lacks its anchor, as it lacks its supplements. */
  const anchorOf = async (record: StoredRecord): Promise<OpenMap | undefined> => {
    const [envelope] = decodeEntry(record.entry);
    if (!modules.anchor || !envelope) return undefined;
    try {
      return await modules.anchor(bytesToHex(parseStatement(suite, envelope).digest));
    } catch (error) {
      if (isAssayError(error) && error.code.startsWith("database_")) return undefined;
      throw error;
    }
  };

  const bundle = async (logIndex: number, waitMs: number): Promise<{ bundle: Bundle; complete: boolean }> => {
    const main = await read(logIndex);
    const records = [main];
    const supplements = await supplementsOf(main);
    for (const at of supplements ?? []) records.push(await read(at));
    const statements: BundledStatement[] = [];
    const needed = new Map<string, Uint8Array>();
    for (const record of records) {
      const { claims } = decodeSidecar(record.claims);
      for (const [i, envelope] of decodeEntry(record.entry).entries()) {
        const { header } = parseStatement(suite, envelope);
        if (header.kind === "keyset" || header.kind === "release") {
          throw new AssayError("receipt_not_found", `Log index ${logIndex} holds no receipt.`);
        }
        needed.set(bytesToHex(header.keyset), header.keyset);
        statements.push({ envelope, claims: claims[i] ?? new Uint8Array() });
      }
    }
    const anchor = await anchorOf(main);
    const last = Math.max(...records.map((record) => record.index));
    const note = await covering(last, waitMs);
    const log_: BundledProof[] = [];
    if (note) {
      for (const record of records) {
        log_.push({
          entry: record.entry,
          index: record.index,
          path: await log.inclusionProof(record.index, note.size),
          checkpoint: 0,
        });
      }
    }
    return {
      complete: supplements !== undefined,
      bundle: {
        profile: PROFILE.bundle,
        statements,
        keysets: await Promise.all([...needed.values()].map(keysetOf)),
        ...(note ? { log: log_, checkpoints: [note.note] } : {}),
        ...(anchor ? { anchors: [anchor] } : {}),
      },
    };
  };

  return {
    bundle,
    async tlogProof(logIndex, waitMs) {
      const { note, path } = await inclusion(logIndex, waitMs);
      return formatTlogProof({ index: logIndex, path, checkpoint: note.note });
    },
    async coseReceipt(logIndex, waitMs) {
      const { note, path } = await inclusion(logIndex, waitMs);
      return encodeCoseReceipt({ size: note.size, index: logIndex, path, root: note.root }, logSigner);
    },
  };
}
