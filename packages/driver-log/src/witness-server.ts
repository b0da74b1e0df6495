import { createHash } from "node:crypto";
import { AssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import {
  decideAddCheckpoint,
  MAX_ADD_CHECKPOINT_CHARS,
  openCheckpoint,
  parseAddCheckpoint,
  parseNote,
} from "@assay/tlog";
import type { CheckpointSigner, NoteKey } from "@assay/tlog";
import { corrupt } from "./errors.ts";
import { nodeFileOps, replaceDurable, withFinalSyncs } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";
import { acquireFence } from "./lock.ts";

/** An HTTP answer as data; the caller's server writes it out. */
export type WitnessAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

/** A witness (C2SP tlog-witness) over a directory with one file per log. */
export type Witness = {
  /** `POST /add-checkpoint` and `GET /<origin hash>/checkpoint`, with paths relative to the witness's prefix. */
  handle(method: string, path: string, body: Uint8Array): Promise<WitnessAnswer>;
  close(): Promise<void>;
};

/** Requests that may wait for one log's turn; each may cost several signature verifications. */
const MAX_WAITING = 64;
const TEXT = { "content-type": "text/plain; charset=utf-8" } as const;

/**
 * Opens a witness for the logs whose keys are given. It answers with a cosignature only after the new checkpoint is on
 * stable storage, and handles one request per log at a time. Throws `log_locked` when another process witnesses with
 * this directory: two of them would sign two histories with one key. A storage failure answers 500 and signs nothing.
 */
export async function openWitness(options: {
  readonly directory: string;
  readonly signers: readonly CheckpointSigner[];
  readonly logs: readonly NoteKey[];
  readonly suite: CryptoSuite;
  readonly files?: FileOps;
  readonly now?: () => number;
}): Promise<Witness> {
  const { directory, signers, logs, suite, now = Date.now } = options;
  const files = withFinalSyncs(options.files ?? nodeFileOps);
  if (signers.length === 0 || signers.some((signer) => signer.key.kind === "note")) {
    throw new AssayError("witness_invalid", "A witness needs keys, and only cosignature keys.");
  }
  const fence = await acquireFence(directory, files);
  const turns = new Map<string, { tail: Promise<unknown>; waiting: number }>();
  let lastTimestamp = 0;
  let closing: Promise<void> | undefined;

  const fileOf = (origin: string): string => createHash("sha256").update(origin).digest("hex");

  async function load(origin: string): Promise<{ size: number; root: Uint8Array } | undefined> {
    const bytes = await files.readFile(`${directory}/${fileOf(origin)}`);
    if (!bytes) return undefined;
    const trust = { logs, witnesses: signers.map((signer) => signer.key) };
    const opened = await openCheckpoint(bytes, trust, suite);
    if (!opened.ok || opened.checkpoint.origin !== origin) {
      throw corrupt(
        `The witness's record of ${origin} is refused: ${opened.ok ? "it is of another log" : opened.reason}`,
      );
    }
    return opened.checkpoint;
  }

  async function add(body: string, origin: string): Promise<WitnessAnswer> {
    const known = await load(origin);
    // Cosignature times never run backwards, whatever the clock does.
    lastTimestamp = Math.max(lastTimestamp, Math.floor(now() / 1000), 1);
    const state = (): typeof known => known;
    const decision = await decideAddCheckpoint(body, { logs, signers, timestamp: lastTimestamp, state }, suite);
    if (decision.accepted) {
      fence.assertHeld();
      await replaceDurable(files, directory, fileOf(origin), Buffer.from(decision.accepted.note));
      fence.assertHeld();
    }
    return { status: decision.status, headers: { "content-type": decision.contentType }, body: decision.body };
  }

  async function inTurn(origin: string, run: () => Promise<WitnessAnswer>): Promise<WitnessAnswer> {
    const turn = turns.get(origin) ?? { tail: Promise.resolve(), waiting: 0 };
    if (turn.waiting >= MAX_WAITING) return answer(503, "Too many requests for this log are waiting.");
    turns.set(origin, turn);
    turn.waiting++;
    const result = turn.tail.then(run);
    turn.tail = result.catch(() => undefined);
    try {
      return await result;
    } finally {
      turn.waiting--;
      if (turn.waiting === 0) turns.delete(origin);
    }
  }

  async function post(bytes: Uint8Array): Promise<WitnessAnswer> {
    if (bytes.length > MAX_ADD_CHECKPOINT_CHARS) return answer(400, "The request is too long.");
    let body: string;
    let origin: string;
    try {
      body = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
      origin = parseNote(parseAddCheckpoint(body).note).text.split("\n", 1)[0] ?? "";
    } catch {
      return answer(400, "The request is malformed.");
    }
    // Only known logs get a turn, so that strangers cannot fill the table of turns.
    if (!logs.some((key) => key.name === origin)) return answer(404, "The log is not known to this witness.");
    return inTurn(origin, () => add(body, origin));
  }

  async function get(hash: string): Promise<WitnessAnswer> {
    const origin = logs.find((key) => fileOf(key.name) === hash)?.name;
    const bytes = origin === undefined ? undefined : await files.readFile(`${directory}/${hash}`);
    return bytes
      ? { status: 200, headers: TEXT, body: Buffer.from(bytes).toString("utf8") }
      : answer(404, "No checkpoint.");
  }

  return {
    async handle(method, path, body) {
      const hash = /^\/([0-9a-f]{64})\/checkpoint$/.exec(path)?.[1];
      try {
        if (path === "/add-checkpoint") {
          return method === "POST" ? await post(body) : answer(405, "Use POST.", { allow: "POST" });
        }
        if (hash === undefined) return answer(404, "There is nothing here.");
        return method === "GET" ? await get(hash) : answer(405, "Use GET.", { allow: "GET" });
      } catch {
        return answer(500, "The witness could not read or write its record.");
      }
    },
    close() {
      const tails = [...turns.values()].map((turn) => turn.tail);
      return (closing ??= Promise.all(tails).then(() => fence.release()));
    },
  };
}

function answer(status: number, reason: string, headers: Readonly<Record<string, string>> = {}): WitnessAnswer {
  return { status, headers: { ...TEXT, ...headers }, body: `${reason}\n` };
}
