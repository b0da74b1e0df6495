import { createRecorder, openLogState } from "@assay/service-gateway";
import type { DecodedRecord, LogState, Recorder } from "@assay/service-gateway";
import { readFileIfThere, writeFileAtomic } from "./files.ts";
import type { Home } from "./home.ts";
import type { LogPlace } from "./log-place.ts";
import { openNodeBook } from "./nodes.ts";
import type { NodeBook } from "./nodes.ts";
import { openParties } from "./parties.ts";
import type { Parties } from "./parties.ts";

/** Told of records as they become durable, in log order; `next` is the index after the last. */
type RecordListener = (decoded: readonly DecodedRecord[], next: number) => void;

/** Who signs, what is signed, and what the log says of both. */
export type Records = {
  readonly state: LogState;
  readonly parties: Parties;
  /** Parties that were let in, and may sign besides. */
  readonly book: NodeBook;
  readonly recorder: Recorder;
  /** Takes records that became durable: the recorder's own, and those that second gateways append. */
  readonly onRecorded: RecordListener;
  /** Adds one that is told of records from now on. */
  readonly listen: (listener: RecordListener) => void;
};

/** Takes up the chains of this home's signers where the log left them. */
export async function openRecords(home: Home, { log }: LogPlace): Promise<Records> {
  const { at, keystore, suite, now, undo } = home;
  const state = await openLogState({
    log,
    suite,
    load: () => readFileIfThere(at("log-state.json")),
    store: (text) => writeFileAtomic(at("log-state.json"), text),
  });
  const parties = openParties(keystore, state, "local", now);
  const nodeHead = state.head(parties.nodeSubject);
  const gatewayHead = state.head(parties.gatewaySubject);
  const listeners: RecordListener[] = [state.apply];
  const onRecorded: RecordListener = (decoded, next) => {
    for (const listener of listeners) listener(decoded, next);
  };
  const book = await openNodeBook({ path: at("nodes.json"), state, log, suite, now });
  const recorder = createRecorder({
    log,
    suite,
    issuers: await parties.issue({
      ...(nodeHead ? { node: nodeHead } : {}),
      ...(gatewayHead ? { gateway: gatewayHead } : {}),
    }),
    rotate: (heads) => parties.issue(heads),
    now,
    onRecorded,
    verifySigned: book.verifier.verify,
    isLogged: (issuer, seq) => state.chain(issuer).has(seq),
  });
  await recorder.begin();
  undo.push(() => recorder.drain());
  return { state, parties, book, recorder, onRecorded, listen: (listener) => void listeners.push(listener) };
}
