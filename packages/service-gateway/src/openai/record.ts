import { AssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ExecutedText } from "@assay/protocol";
import { PROFILE, encodeClaims } from "@assay/receipts";
import type { RetentionClass, ServiceClaims } from "@assay/receipts";
import { MAX_OPENING_BYTES } from "../openings.ts";
import type { OpeningVault } from "../openings.ts";
import { grantOf } from "../recorder.ts";
import type { ExecutionDraft, Recorded } from "../recorder.ts";
import type { Begun, Try } from "./begin.ts";
import type { TextCaller } from "./types.ts";

/** The recorder's part for text: the local node's drafts, and statements that a remote node signed itself. */
export type TextRecorder = {
  readonly record: (draft: ExecutionDraft) => Promise<Recorded>;
  readonly recordSigned: (draft: ExecutionDraft & { readonly envelope: Uint8Array }) => Promise<Recorded>;
};

export type RecordModules = {
  readonly recorder: TextRecorder;
  readonly vault: OpeningVault;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly now: () => number;
  /** Told of each receipt, so that it can be found before the index has it. */
  readonly onReceipt: (receiptId: string, logIndex: number) => void;
};

/**
 * Refuses, before anything runs, a body that could not be kept as its caller asks: an opening holds request and answer.
 * Throws `opening_too_large`.
 */
export function assertKeepable(retention: RetentionClass, bodyBytes: number): void {
  if (retention !== "server-encrypted" || bodyBytes <= MAX_OPENING_BYTES / 2) return;
  throw new AssayError("opening_too_large", `The request has ${bodyBytes} bytes, too many to be kept here.`, {
    hints: [`At most ${MAX_OPENING_BYTES / 2} bytes are; ask without assay-retention and keep the opening.`],
  });
}

/** Makes the receipt of an execution durable. Throws the recorder's codes, and then there is no receipt. */
export async function recordText(
  modules: RecordModules,
  begun: Begun,
  executed: ExecutedText,
  { caller, retention }: { readonly caller: TextCaller; readonly retention: RetentionClass },
): Promise<Recorded> {
  const { receiptId, masterSalt, routed } = begun;
  const parts = routed.service(executed);
  const mode = executed.mode ?? "vanilla";
  const tries = triesOf(begun, executed);
  const route = parts.route ?? { chosen: routed.executor.subject };
  const claims: Omit<ServiceClaims, "executionDigest"> = {
    profile: PROFILE.service,
    receiptId,
    issuedAtMs: modules.now(),
    ...parts,
    route: tries === undefined ? route : { ...route, facts: { ...route.facts, tries } },
    assurance: parts.assurance ?? { asked: "vanilla", given: mode },
    retention,
  };
  // Claims that have no form must fail this request here; in the recorder they would fail everybody's batch.
  encodeClaims("service", { ...claims, executionDigest: NO_DIGEST });
  const draft: ExecutionDraft = {
    receiptId,
    subject: executed.subject,
    issuedAtMs: executed.issuedAtMs,
    claims: executed.claims,
    service: (executionDigest) => ({ ...claims, executionDigest }),
    model: executed.modelName,
    manifestDigest: executed.manifestDigest,
    mode,
    ...(caller.owner === undefined ? {} : { owner: caller.owner }),
    grantSha256: modules.suite.sha256(grantOf(modules.suite, masterSalt)),
    opening:
      retention === "server-encrypted"
        ? modules.vault.seal(receiptId, masterSalt, executed.requestFields, executed.responseFields)
        : NOTHING,
  };
  const { envelope } = executed;
  return envelope ? modules.recorder.recordSigned({ ...draft, envelope }) : modules.recorder.record(draft);
}

const NOTHING = new Uint8Array();
const NO_DIGEST = new Uint8Array(32);

/** All tries and how they ended, when there was more than one. */
function triesOf({ failed, routed }: Begun, { finish }: ExecutedText): readonly Try[] | undefined {
  return failed.length === 0 ? undefined : [...failed, { candidate: routed.candidate, outcome: finish }];
}
