import { randomUUID } from "node:crypto";
import type { OpenAPIHono } from "@hono/zod-openapi";
import { z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError, bytesToHex, equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { bodyOf, decodeRecords, encodeRecords, parseValue, REMOTE_LOG_LIMITS, wireBytes } from "@assay/protocol";
import type { LogRecord, LogSink, StoredRecord } from "@assay/protocol";
import { decodeEntry, findKey, parseStatement, verifyStatement } from "@assay/receipts";
import type { KeysetDocument } from "@assay/receipts";
import { decodeRecord } from "../decode-record.ts";
import type { DecodedRecord } from "../decode-record.ts";
import type { LogState } from "../log-state.ts";
import { decodeSidecar } from "../sidecar.ts";
import { assertActive } from "./api.ts";
import { checkKeyset } from "./keysets.ts";
import type { NodeRegistry, Party } from "./registry.ts";
import { signatureCache } from "./statements.ts";

export type LogApiModules = {
  readonly log: LogSink;
  readonly registry: NodeRegistry;
  readonly state: Pick<LogState, "chain" | "keysetIndex">;
  readonly suite: CryptoSuite;
  /** The keyset of digest K (lower-case hex), if it is in the log. */
  readonly keyset: (digest: string) => Promise<KeysetDocument | undefined>;
  /** Told of every record that a peer appended, as the recorder's `onRecorded` is of its own. */
  readonly onRecorded: (decoded: readonly DecodedRecord[], next: number) => void;
  readonly now: () => number;
  /** Aborted when this gateway goes: whoever waits for the log to grow is then answered at once. */
  readonly leaving?: AbortSignal;
};

export type LogApi = {
  /** Adds `/internal/log/…`, for admitted gateways alone. */
  readonly routes: (app: OpenAPIHono) => void;
};

/** Appended records whose place is remembered, so that one that is sent again is found: many seconds of full load. */
const REMEMBERED = 65_536;
/** Records read back at a start: more than a peer can have had under way when this gateway died. */
const READ_BACK = 8192;
/** Nodes of one peer: as many as one gateway may know. */
const MAX_VOUCHED = 4096;
/** Records of one step of a search. */
const SEARCH_STRIDE = 256;
const MAX_WAIT_MS = 30_000;
const SIZE_POLL_MS = 50;

/**
 * The sequencer's side of a log that other gateways write to. Appends are idempotent by the entry's digest: an answer
 * that was lost costs a repetition and nothing else. One session of a peer at a time may append, so that a process
 * that was given up cannot write behind its successor's back.
 */
export async function createLogApi(modules: LogApiModules): Promise<LogApi> {
  const { log, registry, suite } = modules;
  const places = new Map<string, number>();
  const order: string[] = [];
  let at = 0;
  const flights = new Map<string, Promise<number>>();
  const epochs = new Map<string, number>();
  const cache = signatureCache();
  // Names this run of the sequencer: epochs are counted anew in each.
  const run = randomUUID();

  const remember = (digest: string, index: number): void => {
    const oldest = order[at];
    if (oldest !== undefined) places.delete(oldest);
    order[at] = digest;
    at = (at + 1) % REMEMBERED;
    places.set(digest, index);
  };
  const digestOf = (entry: Uint8Array): string => bytesToHex(suite.sha256(entry));
  for (let from = Math.max(0, log.size() - READ_BACK); from < log.size();) {
    const records = await log.readRange(from, READ_BACK);
    if (records.length === 0) break;
    for (const { entry, index } of records) remember(digestOf(entry), index);
    from += records.length;
  }

  /**
   * Whether a record that is not remembered is in the log all the same: after a long silence and a restart it may be.
   * Its place is then looked for from the end, which is slow and next to never needed.
   */
  const findOlder = async (digest: string, { entry }: LogRecord): Promise<void> => {
    const [envelope] = decodeEntry(entry).slice(-1);
    if (!envelope) return;
    const { header } = parseStatement(suite, envelope);
    const logged =
      header.kind === "keyset"
        ? modules.state.keysetIndex(bytesToHex(header.keyset)) !== undefined
        : modules.state.chain(header.issuer).has(header.seq);
    if (!logged) return;
    for (let to = log.size(); to > 0; to -= SEARCH_STRIDE) {
      for (let from = Math.max(0, to - SEARCH_STRIDE); from < to;) {
        const records = await log.readRange(from, to - from);
        const found = records.find((record) => equalBytes(record.entry, entry));
        if (found) return remember(digest, found.index);
        if (records.length === 0) break;
        from += records.length;
      }
    }
    throw new AssayError("log_record_refused", `The log has another statement ${header.seq} of ${header.issuer}.`);
  };

  /** A peer writes what it signed itself, with the executions of its nodes. Throws `log_record_refused`. */
  const check = async (peer: Party, record: LogRecord): Promise<void> => {
    const refused = (why: string, cause?: unknown): AssayError =>
      new AssayError("log_record_refused", `A record of ${peer.subject} ${why}.`, cause ? { cause } : {});
    try {
      const { row } = decodeRecord(suite, { ...record, index: 0, erased: false });
      const { claims } = decodeSidecar(record.claims);
      const statements = decodeEntry(record.entry).map((envelope) => parseStatement(suite, envelope));
      for (const [i, statement] of statements.entries()) {
        if (!equalBytes(statement.payload, suite.sha256(claims[i] ?? new Uint8Array())))
          throw refused("has claims that its statement is not about");
      }
      if (row.kind === "keyset") {
        await checkPeerKeyset(peer, record, claims[0] ?? new Uint8Array());
        return;
      }
      const own = statements.at(-1);
      if (!own || own.header.issuer !== peer.subject) throw refused("is not signed by it");
      if (statements.length > 1 && row.kind !== "execution")
        throw refused("holds statements that do not belong together");
      if (own.header.kind === "execution" || own.header.kind === "keyset")
        throw refused("holds an execution without its own statement");
      const document = await modules.keyset(bytesToHex(own.header.keyset));
      if (!document || !equalBytes(document.identity.publicKey, peer.publicKey))
        throw refused("is under a keyset that is not its own");
      const key = findKey(document, own.header.kid, own.header.kind, own.header.algorithm);
      if (!key || !(await verifyStatement(suite, own, key.publicKey, cache)))
        throw refused("has a signature that does not hold");
    } catch (error) {
      if (!isAssayError(error) || error.code === "log_record_refused") throw error;
      throw refused("cannot be read", error);
    }
  };

  const checkPeerKeyset = async (peer: Party, record: LogRecord, document: Uint8Array): Promise<void> => {
    const [envelope] = decodeEntry(record.entry);
    const keyset = await checkKeyset(suite, { envelope: envelope ?? new Uint8Array(), document }, modules.now());
    const { identity, role } = keyset.document;
    if (role === "gateway") {
      if (equalBytes(identity.publicKey, peer.publicKey)) return;
      throw new AssayError("log_record_refused", "A peer logs keysets of its own gateway and its nodes alone.");
    }
    const key = bytesToHex(identity.publicKey);
    const known = registry.party(key);
    if (known?.state === "ejected")
      throw new AssayError("log_record_refused", "A peer brought the keyset of a node that was ejected here.");
    if (peer.vouched.has(key)) return;
    if (peer.vouched.size >= MAX_VOUCHED)
      throw new AssayError("log_record_refused", `A peer vouches for ${MAX_VOUCHED} nodes at most.`);
    // Its peer answers for it: verifiers that start from this gateway's trust must know the key.
    peer.vouched.add(key);
    await registry.save();
  };

  const appendOnce = async (peer: Party, records: readonly LogRecord[]): Promise<readonly number[]> => {
    const digests = records.map(({ entry }) => digestOf(entry));
    const fresh: { readonly digest: string; readonly record: LogRecord }[] = [];
    const known = new Set<string>();
    for (const [i, digest] of digests.entries()) {
      const record = records[i];
      if (!record || places.has(digest) || flights.has(digest) || known.has(digest)) continue;
      known.add(digest);
      fresh.push({ digest, record });
    }
    for (const { digest, record } of fresh) {
      await check(peer, record);
      await findOlder(digest, record);
    }
    // Looked up again, in the turn that appends: the same records may have come twice while they were being checked.
    const missing = fresh.filter(({ digest }) => !places.has(digest) && !flights.has(digest));
    if (missing.length > 0) {
      const appended = log.append(missing.map(({ record }) => record)).then((indexes) => {
        for (const [i, { digest }] of missing.entries()) remember(digest, indexes[i] ?? 0);
        modules.onRecorded(
          missing.map(({ record }, i) => decodeRecord(suite, { ...record, index: indexes[i] ?? 0, erased: false })),
          (indexes.at(-1) ?? -1) + 1,
        );
        return indexes;
      });
      for (const [i, { digest }] of missing.entries()) {
        const mine = appended.then((indexes) => indexes[i] ?? 0);
        flights.set(digest, mine);
        mine.catch(() => undefined).finally(() => flights.delete(digest));
      }
    }
    return Promise.all(digests.map(async (digest) => flights.get(digest) ?? places.get(digest) ?? lostPlace()));
  };

  const peerOf = (context: Context): Party => {
    const party = registry.session(context.req.header("authorization"));
    if (party.role !== "gateway")
      throw new AssayError("log_peer_required", "The log's own interface is for gateways that joined this one.");
    assertActive(party);
    return party;
  };
  const epochOf = (context: Context, peer: Party): void => {
    const epoch = Number(context.req.header("assay-log-epoch"));
    if (epochs.get(peer.key) !== epoch) {
      throw new AssayError("log_fenced", "Another session of this gateway writes to the log.", {
        hints: ["One process runs a gateway at a time."],
      });
    }
  };
  const numbers = <Name extends string>(context: Context, ...names: readonly Name[]): Record<Name, number> => {
    const query = context.req.query();
    const shape = Object.fromEntries(
      names.map((name) => [name, z.coerce.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)]),
    );
    return parseValue(z.object(shape), query) as Record<Name, number>;
  };
  const binary = (bytes: Uint8Array): Response =>
    new Response(Buffer.from(bytes), { headers: { "content-type": "application/octet-stream" } });

  return {
    routes(app) {
      app.post("/internal/log/session", (context) => {
        const peer = peerOf(context);
        const epoch = (epochs.get(peer.key) ?? 0) + 1;
        epochs.set(peer.key, epoch);
        return context.json({ origin: log.origin, size: log.size(), epoch, run });
      });
      app.post("/internal/log/append", async (context) => {
        const peer = peerOf(context);
        epochOf(context, peer);
        const bytes = await bodyOf(context.req.raw, REMOTE_LOG_LIMITS.maxBytes + MAX_OVERHEAD_BYTES);
        const records = decodeRecords(bytes, REMOTE_LOG_LIMITS.maxRecords);
        return context.json({ indexes: await appendOnce(peer, records), size: log.size() });
      });
      app.get("/internal/log/size", async (context) => {
        peerOf(context);
        const { above, waitMs } = numbers(context, "above", "waitMs");
        const until = performance.now() + Math.min(waitMs, MAX_WAIT_MS);
        const over = (): boolean => (modules.leaving?.aborted ?? false) || context.req.raw.signal.aborted;
        while (log.size() <= above && performance.now() < until && !over()) {
          await new Promise((resolve) => {
            setTimeout(resolve, SIZE_POLL_MS);
          });
        }
        return context.json({ size: log.size() });
      });
      app.get("/internal/log/records", async (context) => {
        peerOf(context);
        const { from, limit } = numbers(context, "from", "limit");
        const records = await log.readRange(from, Math.min(limit, REMOTE_LOG_LIMITS.maxReadRecords));
        return binary(encodeRecords(within(records)));
      });
      app.get("/internal/log/checkpoint", async (context) => {
        peerOf(context);
        const { atLeast, waitMs } = numbers(context, "atLeast", "waitMs");
        const note = await log.checkpoint({ atLeast, timeoutMs: Math.min(waitMs, MAX_WAIT_MS) });
        return context.json({ ...note, root: bytesToHex(note.root) });
      });
      app.get("/internal/log/inclusion", async (context) => {
        peerOf(context);
        const { index, size } = numbers(context, "index", "size");
        return context.json({ path: (await log.inclusionProof(index, size)).map(bytesToHex) });
      });
      app.get("/internal/log/consistency", async (context) => {
        peerOf(context);
        const { oldSize, newSize } = numbers(context, "oldSize", "newSize");
        return context.json({ path: (await log.consistencyProof(oldSize, newSize)).map(bytesToHex) });
      });
      app.get("/internal/log/resource", async (context) => {
        peerOf(context);
        const found = await log.resource(context.req.query("path") ?? "");
        return found ? binary(found) : new Response(null, { status: 404 });
      });
      app.post("/internal/log/erase", async (context) => {
        const peer = peerOf(context);
        epochOf(context, peer);
        const { index } = numbers(context, "index");
        const record = await log.read(index);
        const issuers = record
          ? decodeEntry(record.entry).map((envelope) => parseStatement(suite, envelope).header.issuer)
          : [];
        if (!issuers.includes(peer.subject))
          throw new AssayError("log_record_refused", `Record ${index} is not ${peer.subject}'s to erase.`);
        await log.eraseOpening(index);
        return context.json({ erased: index });
      });
    },
  };
}

/** Room for the lengths around the records. */
const MAX_OVERHEAD_BYTES = 64 * 1024;

function within(records: readonly StoredRecord[]): readonly StoredRecord[] {
  let bytes = 0;
  let count = 0;
  for (const record of records) {
    bytes += wireBytes(record);
    if (count > 0 && bytes > REMOTE_LOG_LIMITS.maxReadBytes) break;
    count++;
  }
  return records.slice(0, count);
}

function lostPlace(): never {
  throw new AssayError("log_failed", "A record that was appended has no place.");
}
