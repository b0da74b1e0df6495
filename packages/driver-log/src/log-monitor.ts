import { equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import {
  consistencyProof,
  createCompactTree,
  decodeBundle,
  HASH_BYTES,
  judgeCheckpoint,
  leafHash,
  MAX_ENTRY_BYTES,
  MAX_NOTE_CHARS,
  newTiles,
  rootAt,
  tileHashReader,
  tilePath,
  TILE_HEIGHT,
  TILE_WIDTH,
  verifyConsistency,
} from "@assay/tlog";
import type { Checkpoint, CheckpointJudgement, CheckpointTrust, TileId, TileReader } from "@assay/tlog";
import { loadMonitorState, saveMonitorState } from "./monitor-state.ts";
import type { MonitorState } from "./monitor-state.ts";

/** Gets a resource of the log: its bytes, or `undefined` when the log answers that there is none. Rejects when unreachable. */
export type ResourceGet = (path: string, maxBytes: number) => Promise<Uint8Array | undefined>;

/**
 * What a round of monitoring found.
 *
 * - `consistent`: every new entry was fetched, hashes to the tiles and to the signed root, and extends what was seen.
 * - `unchanged`: the checkpoint is the one already seen.
 * - `bad-checkpoint`, `rewind`, `fork`, `origin-changed`: as {@link judgeCheckpoint} says. `fork` is also found when a
 *   larger tree, complete in its own tiles, does not begin with the tree seen before.
 * - `missing`: a resource that the checkpoint promises is not served.
 * - `tampered-entries`: bundles do not hash to the signed tree, while the tiles do.
 * - `tampered-tiles`: tiles do not lead to the signed root.
 * - `unreachable`: nothing could be judged.
 */
export type MonitorReport = {
  readonly verdict:
    | Exclude<CheckpointJudgement["verdict"], "first" | "consistent" | "proof-invalid">
    | "consistent"
    | "missing"
    | "tampered-entries"
    | "tampered-tiles"
    | "unreachable";
  /** One sentence with the facts. */
  readonly reason: string;
  readonly previousSize: number;
  /** The new checkpoint's facts, when it was properly signed. */
  readonly checkpoint?: Checkpoint;
  /** The signed note that the verdict is about: with the one seen before, evidence of a fork. */
  readonly note?: string;
  /** Resource at fault. */
  readonly path?: string;
  /** Index of the first entry at fault. */
  readonly index?: number;
  readonly entriesChecked: number;
};

/** Longest bundle: 256 entries of the largest size behind their lengths. */
const MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_ENTRY_BYTES + 2);

// Ends a round with a verdict, from however deep.
type Finding = Pick<MonitorReport, "verdict" | "reason"> & Partial<Pick<MonitorReport, "path" | "index">>;
type Difference = { readonly reason: string; readonly path: string; readonly index: number };
class RoundOver extends Error {
  readonly finding: Finding;
  constructor(finding: Finding) {
    super(finding.reason);
    this.finding = finding;
  }
}

/**
 * Follows a log. Each {@link poll} fetches the checkpoint and every entry since the last one accepted, re-derives the
 * root from the entries themselves, compares all new tiles, and only then remembers the checkpoint durably. What is
 * found is a value; it rejects only when its own state file cannot be read or written, and with what `onEntry` throws.
 *
 * `onEntry` sees each new entry in order, before the root is confirmed: act on what it collected only if the report
 * says `consistent`.
 */
export function createMonitor(options: {
  readonly get: ResourceGet;
  readonly trust: CheckpointTrust;
  readonly directory: string;
  /** File name of the state within `directory`. */
  readonly stateFile: string;
  readonly suite: CryptoSuite;
  readonly onEntry?: (index: number, entry: Uint8Array) => void;
}): { poll(): Promise<MonitorReport> } {
  const { get, trust, directory, stateFile, suite, onEntry } = options;

  const fetch: ResourceGet = async (path, maxBytes) => {
    let bytes: Uint8Array | undefined;
    try {
      bytes = await get(path, maxBytes);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RoundOver({ verdict: "unreachable", reason: `${path} could not be read: ${why}`, path });
    }
    if (!bytes || bytes.length <= maxBytes) return bytes;
    throw new RoundOver({ verdict: "unreachable", reason: `${path} is longer than any such resource.`, path });
  };
  const fetchTile: TileReader = async (tile) => {
    const path = tilePath(tile);
    const limit = tile.level === "entries" ? MAX_BUNDLE_BYTES : TILE_WIDTH * HASH_BYTES;
    const bytes = await fetch(path, limit);
    if (bytes) return bytes;
    throw new RoundOver({ verdict: "missing", reason: `The log does not serve ${path}.`, path });
  };

  async function round(seen: MonitorState | undefined): Promise<MonitorReport & { state?: MonitorState }> {
    const previousSize = seen?.size ?? 0;
    const noteBytes = await fetch("checkpoint", 4 * MAX_NOTE_CHARS);
    if (!noteBytes)
      return {
        verdict: "missing",
        reason: "The log serves no checkpoint.",
        path: "checkpoint",
        previousSize,
        entriesChecked: 0,
      };
    // The proof from tiles is asked for only after the entries were hashed; here it is always empty.
    const { verdict, opened } = await judgeCheckpoint(seen, noteBytes, () => Promise.resolve([]), trust, suite);
    if (!opened.ok) return { verdict: "bad-checkpoint", reason: opened.reason, previousSize, entriesChecked: 0 };
    const { checkpoint } = opened;
    const base = { previousSize, checkpoint, note: Buffer.from(noteBytes).toString("utf8") };
    if (verdict !== "first" && verdict !== "consistent" && verdict !== "proof-invalid") {
      const reason = `The log shows ${checkpoint.size} entries after ${previousSize} were seen: ${verdict}.`;
      return { ...base, verdict, reason, entriesChecked: 0 };
    }
    let checked = 0;
    try {
      const state = await derive(seen, checkpoint, () => checked++);
      const reason = `All ${checked} new entries lead to the signed root over ${checkpoint.size}.`;
      return { ...base, verdict: "consistent", reason, entriesChecked: checked, state };
    } catch (error) {
      if (!(error instanceof RoundOver)) throw error;
      return { ...base, ...error.finding, entriesChecked: checked };
    }
  }

  // Hashes every new entry and compares tiles; throws the finding if anything does not fit.
  async function derive(
    seen: MonitorState | undefined,
    checkpoint: Checkpoint,
    count: () => void,
  ): Promise<MonitorState> {
    const from = seen?.size ?? 0;
    const tree = createCompactTree(suite, from, seen?.edge ?? []);
    // Hashes in tiles above level 0, by level and place; there is one for 256 entries.
    const upper = new Map<string, Uint8Array>();
    let tail = [...(seen?.tail ?? [])];
    let changed: Finding | undefined;
    let differs: Difference | undefined;
    for (let index = Math.floor(from / TILE_WIDTH); index * TILE_WIDTH < checkpoint.size; index++) {
      const width = Math.min(TILE_WIDTH, checkpoint.size - index * TILE_WIDTH);
      const path = tilePath({ level: "entries", index, width });
      const entries = decode(await fetchTile({ level: "entries", index, width }), width, path);
      const known = index * TILE_WIDTH < from ? tail : [];
      const hashes = entries.map((entry) => leafHash(entry, suite));
      const other = known.findIndex((hash, i) => !equalBytes(hash, hashes[i] ?? hash.subarray(1)));
      if (other >= 0) {
        const at = index * TILE_WIDTH + other;
        changed ??= { verdict: "tampered-entries", reason: `Entry ${at} is not the one seen before.`, path, index: at };
      }
      for (let i = known.length; i < width; i++) {
        const [hash, entry] = [hashes[i], entries[i]];
        if (!hash || !entry) continue;
        onEntry?.(index * TILE_WIDTH + i, entry);
        tree.append(hash, (level, at, node) => {
          if (level > 0 && level % TILE_HEIGHT === 0) upper.set(`${level / TILE_HEIGHT}/${at}`, node);
        });
        count();
      }
      differs ??= await compareTile({ level: 0, index, width }, (i) => hashes[i]);
      tail = width === TILE_WIDTH ? [] : hashes;
    }
    if (changed || !equalBytes(tree.root(), checkpoint.root)) {
      throw new RoundOver(await explain(seen, checkpoint, changed, differs));
    }
    for (const tile of newTiles(from, checkpoint.size)) {
      if (tile.level === 0) continue;
      differs ??= await compareTile(tile, (i) => upper.get(`${tile.level}/${tile.index * TILE_WIDTH + i}`));
    }
    if (differs) throw new RoundOver({ verdict: "tampered-tiles", ...differs });
    const { origin, size, root } = checkpoint;
    return { origin, size, root, edge: tree.edge(), tail };
  }

  // The first place of a tile that differs from what the entries hash to; places without an expectation are old.
  async function compareTile(
    tile: TileId & { level: number },
    expected: (place: number) => Uint8Array | undefined,
  ): Promise<Difference | undefined> {
    const bytes = await fetchTile(tile);
    const path = tilePath(tile);
    const at = (place: number): number => (tile.index * TILE_WIDTH + place) * TILE_WIDTH ** tile.level;
    for (let i = 0; i < tile.width; i++) {
      const hash = expected(i);
      if (!hash || equalBytes(hash, bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES))) continue;
      return { reason: `Hash ${i} of ${path} is not that of its entries.`, path, index: at(i) };
    }
    if (bytes.length === tile.width * HASH_BYTES) return undefined;
    return { reason: `${path} has ${bytes.length} bytes.`, path, index: at(0) };
  }

  // The entries do not lead to the signed root. Whose fault it is shows in the tiles: if they lead there, they say
  // what the log signed, and a proof from them either joins the tree seen before (then the entries are at fault) or
  // cannot (then the log signed two histories).
  async function explain(
    seen: MonitorState | undefined,
    checkpoint: Checkpoint,
    changed: Finding | undefined,
    differs: Difference | undefined,
  ): Promise<Finding> {
    const { size, root } = checkpoint;
    try {
      const reader = tileHashReader(size, fetchTile, suite);
      if (!equalBytes(await rootAt(size, reader, suite), root)) {
        return { verdict: "tampered-tiles", reason: `Neither entries nor tiles lead to the signed root over ${size}.` };
      }
      const proof = seen ? await consistencyProof(seen.size, size, reader, suite) : [];
      if (seen && !verifyConsistency(seen, checkpoint, proof, suite)) {
        const reason = `The tree of ${size} entries does not begin with the tree of ${seen.size} that was signed before.`;
        return { verdict: "fork", reason };
      }
    } catch (error) {
      if (error instanceof RoundOver) return error.finding;
      if (!isAssayError(error)) throw error;
      return { verdict: "tampered-tiles", reason: error.message };
    }
    if (changed) return changed;
    if (!differs) return { verdict: "tampered-entries", reason: "Entries do not hash to the signed tree." };
    const { path, index } = differs;
    return { verdict: "tampered-entries", reason: `Entry ${index} does not hash to its tile.`, path, index };
  }

  function decode(bytes: Uint8Array, width: number, path: string): Uint8Array[] {
    try {
      return decodeBundle(bytes, width);
    } catch {
      throw new RoundOver({
        verdict: "tampered-entries",
        reason: `${path} is not a bundle of ${width} entries.`,
        path,
      });
    }
  }

  return {
    async poll() {
      const seen = await loadMonitorState(directory, stateFile, suite);
      const report = await round(seen).catch((error: unknown): MonitorReport & { state?: MonitorState } => {
        if (!(error instanceof RoundOver)) throw error;
        return { ...error.finding, previousSize: seen?.size ?? 0, entriesChecked: 0 };
      });
      const { state, ...found } = report;
      if (state) await saveMonitorState(directory, stateFile, state);
      return found;
    },
  };
}
