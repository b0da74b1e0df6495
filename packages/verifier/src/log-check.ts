import { bytesToHex, equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { CheckContext, CheckOutcome, LogCheck, LogCheckInput, TrustedLog } from "@assay/receipts";
import { expectedRoot, leafHash, openCheckpoint, parseCheckpoint, parseNote, parseVkey } from "@assay/tlog";
import type { Checkpoint, NoteKey, OpenedCheckpoint } from "@assay/tlog";

/** Checkpoints whose opened form is kept: one covers a second of receipts, so a run over a log meets each often. */
const MAX_OPENED = 256;

type OpenedLog = { readonly log: TrustedLog; readonly keys: readonly NoteKey[]; readonly opened: OpenedCheckpoint };
type UntrustedLog = { readonly untrusted: Checkpoint };
type Found = CheckOutcome & { readonly logTimeMs?: number };

/** Whether an entry is under a checkpoint of a log that the verifier trusts, cosigned as it asks. Keeps nothing. */
export const checkInclusion: LogCheck = (input, context) => createLogCheck()(input, context);

/**
 * The same check with a memory for opened checkpoints. One check belongs to one trust: give each its own.
 *
 * Codes: `log_not_trusted` (inconclusive), `checkpoint_invalid`, `log_signature_missing`, `signature_unknown`
 * (inconclusive), `quorum_missing`, `not_included`, `included`.
 */
export function createLogCheck(): LogCheck {
  const openedNotes = new Map<string, OpenedLog | UntrustedLog | Found>();
  return async (input, context) => {
    let opened = openedNotes.get(input.note);
    if (!opened) {
      opened = await open(input.note, context);
      if (openedNotes.size >= MAX_OPENED) openedNotes.clear();
      openedNotes.set(input.note, opened);
    }
    if ("status" in opened) return opened;
    return "untrusted" in opened
      ? judgeUntrusted(input, opened.untrusted, context.suite)
      : judge(input, opened, context.suite);
  };
}

function result(
  status: CheckOutcome["status"],
  code: string,
  message: string,
  facts: Readonly<Record<string, string>> = {},
): CheckOutcome {
  return { status, code, message, facts };
}

async function open(note: string, { suite, trust }: CheckContext): Promise<OpenedLog | UntrustedLog | Found> {
  let origin: string;
  try {
    origin = parseCheckpoint(parseNote(note).text).origin;
  } catch (error) {
    return result(
      "fail",
      "checkpoint_invalid",
      isAssayError(error) ? error.message : "The checkpoint could not be read.",
    );
  }
  const log = trust.logs.find((known) => known.origin === origin);
  if (!log) return { untrusted: parseCheckpoint(parseNote(note).text) };
  let keys: NoteKey[];
  let witnesses: NoteKey[];
  try {
    keys = log.keys.map((vkey) => parseVkey(vkey, suite));
    witnesses = log.witnesses.map((vkey) => parseVkey(vkey, suite));
  } catch (error) {
    return result(
      "inconclusive",
      "trust_key_invalid",
      isAssayError(error) ? error.message : "A trusted key could not be read.",
    );
  }
  const opened = await openCheckpoint(note, { logs: keys, witnesses }, suite);
  return { log, keys, opened };
}

function judge({ entry, index, path }: LogCheckInput, { log, keys, opened }: OpenedLog, suite: CryptoSuite): Found {
  if (!opened.ok) {
    const code = opened.code === "log_unsigned" ? "log_signature_missing" : "checkpoint_invalid";
    return result("fail", code, opened.reason, { origin: log.origin, reason: opened.code });
  }
  const { checkpoint, signatures } = opened;
  const facts: Record<string, string> = {
    origin: log.origin,
    index: String(index),
    size: String(checkpoint.size),
    root: bytesToHex(checkpoint.root),
  };
  const missing = keys.find(
    (key) => !signatures.some((signature) => signature.key.id === key.id && signature.role === "log"),
  );
  if (missing) {
    return result("fail", "log_signature_missing", `The checkpoint lacks the log's ${missing.kind} signature.`, facts);
  }
  const cosigned = new Set(signatures.filter(({ role }) => role === "witness").map(({ key }) => key.name));
  facts["witnesses"] = String(cosigned.size);
  const root = expectedRoot(index, checkpoint.size, leafHash(entry, suite), path, suite);
  if (!root || !equalBytes(root, checkpoint.root)) {
    return result("fail", "not_included", "The audit path does not lead from the entry to the checkpoint's root.", {
      ...facts,
      found: root ? bytesToHex(root) : "no root",
    });
  }
  if (cosigned.size < log.quorum) {
    return result(
      "fail",
      "quorum_missing",
      `The checkpoint has ${cosigned.size} of the ${log.quorum} cosignatures you ask for.`,
      facts,
    );
  }
  if (opened.unknown > 0 && log.ignoreUnknownSignatures !== true) {
    return result(
      "inconclusive",
      "signature_unknown",
      "The checkpoint carries a signature by a key that you do not name.",
      {
        ...facts,
        unknown: String(opened.unknown),
      },
    );
  }
  // The log's own word on time is the operator's clock once more; only witnesses make a time of it.
  const times = signatures.flatMap(({ role, timestamp }) => (role === "log" || !timestamp ? [] : [timestamp * 1000]));
  return {
    ...result("pass", "included", `The log ${log.origin} holds it at index ${index}.`, facts),
    ...(times.length === 0 ? {} : { logTimeMs: Math.min(...times) }),
  };
}

// A path that leads nowhere is wrong whoever runs the log; a right one says nothing until the log is trusted.
function judgeUntrusted({ entry, index, path }: LogCheckInput, checkpoint: Checkpoint, suite: CryptoSuite): Found {
  const { origin } = checkpoint;
  const root = expectedRoot(index, checkpoint.size, leafHash(entry, suite), path, suite);
  return root && equalBytes(root, checkpoint.root)
    ? result("inconclusive", "log_not_trusted", `You trust no key of the log ${origin}.`, { origin })
    : result("fail", "not_included", "The audit path does not lead from the entry to the checkpoint's root.", {
        origin,
      });
}
