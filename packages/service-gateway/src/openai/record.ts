import { randomBytes } from "node:crypto";
import { AssayError, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { Charge, ExecutedText, ParsedText } from "@assay/protocol";
import { PROFILE, encodeClaims } from "@assay/receipts";
import type { RetentionClass, ServiceClaims } from "@assay/receipts";
import type { Auditor } from "../nodes/audit.ts";
import { MAX_OPENING_BYTES } from "../openings.ts";
import type { OpeningVault } from "../openings.ts";
import { grantOf } from "../recorder.ts";
import type { KeptForm } from "../payments/answer.ts";
import type { Paying, Payments } from "../payments/payments.ts";
import type { ExecutionDraft, Recorded } from "../recorder.ts";
import type { Begun, Try } from "./begin.ts";
import type { TextCaller } from "./types.ts";

/** A request as it came, and who asks. */
type AskedText = { readonly caller: TextCaller; readonly body: Uint8Array; readonly parsed: ParsedText };

/** What is kept of request and answer: sealed, or nothing. */
type TextOpening = { readonly retention: RetentionClass; readonly opening: Uint8Array };

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
  /** Takes payments; without it everything is free. */
  readonly payments?: Payments | undefined;
  /** Takes executions that are to be checked again; what it does is behind everybody's answers. */
  readonly auditor?: Pick<Auditor, "wants" | "offer"> | undefined;
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

/** What is charged with a receipt, and the answer that is kept for whoever paid. */
export type ChargedText = {
  readonly paying: Paying;
  readonly charge: Charge;
  /** False when its caller wants nothing kept, or it is too large. */
  readonly keepable: boolean;
  /** The answer as it is sent, by what holds of its retention and whether it is kept. */
  readonly form: (retention: RetentionClass, kept: boolean) => KeptForm;
};

/** A durable receipt. `retention` is what holds: `none` when an answer grew too large to be kept as was asked. */
export type RecordedText = Recorded & { readonly retention: RetentionClass; readonly form?: KeptForm };

/**
 * Makes the receipt of an execution durable, with what {@link openingOf} kept of it. Throws the recorder's codes, and then
 * there is no receipt.
 */
export async function recordText(
  modules: RecordModules,
  begun: Begun,
  executed: ExecutedText,
  asked: AskedText & TextOpening,
  charged?: ChargedText,
): Promise<RecordedText> {
  const { caller, retention, opening } = asked;
  const { receiptId, masterSalt, routed } = begun;
  const parts = routed.service(executed);
  const mode = executed.mode ?? "vanilla";
  const kept = charged && keepAnswer(modules, charged, receiptId, opening, retention);
  const tries = triesOf(begun, executed);
  const route = parts.route ?? { chosen: routed.executor.subject };
  const claims: Omit<ServiceClaims, "executionDigest"> = {
    profile: PROFILE.service,
    receiptId,
    issuedAtMs: modules.now(),
    ...parts,
    ...(charged ? { price: charged.charge.price, payment: charged.charge.payment } : {}),
    ...(kept?.keptUntilMs === undefined
      ? {}
      : { promises: { ...parts.promises, answerKeptUntilMs: kept.keptUntilMs } }),
    route: tries === undefined ? route : { ...route, facts: { ...route.facts, tries } },
    assurance: parts.assurance ?? { asked: "vanilla", given: mode },
    retention,
  };
  // Claims that have no form must fail this request here; in the recorder they would fail everybody's batch.
  const encoded = encodeClaims("service", { ...claims, executionDigest: NO_DIGEST });
  const digestAt = placeOf(encoded, NO_DIGEST);
  const draft: ExecutionDraft = {
    receiptId,
    subject: executed.subject,
    issuedAtMs: executed.issuedAtMs,
    claims: executed.claims,
    service: (executionDigest) => ({ ...claims, executionDigest }),
    // Encoding them a second time took 2 % of a request.
    ...(digestAt === undefined
      ? {}
      : {
          serviceBytes: (executionDigest) => {
            encoded.set(executionDigest, digestAt);
            return { claims: encoded, issuedAtMs: claims.issuedAtMs };
          },
        }),
    model: executed.modelName,
    manifestDigest: executed.manifestDigest,
    mode,
    ...ownerOf(caller, charged),
    grantSha256: modules.suite.sha256(grantOf(modules.suite, masterSalt)),
    opening: kept?.opening ?? opening,
    ...(charged ? { payment: charged.paying.recorded(charged.charge) } : {}),
  };
  const { envelope } = executed;
  const recorded = envelope
    ? await modules.recorder.recordSigned({ ...draft, envelope })
    : await modules.recorder.record(draft);
  audit(modules, begun, executed, asked, recorded, claims.assurance?.given ?? mode);
  return { ...recorded, retention, ...(kept ? { form: kept.form } : {}) };
}

/** Whose the receipt is: a token's owner, else who paid. */
function ownerOf({ owner }: TextCaller, charged: ChargedText | undefined): { readonly owner?: string } {
  const whose = owner ?? charged?.paying.account;
  return whose === undefined ? {} : { owner: whose };
}

/** The answer sealed beside the opening, while it may be and fits; else only how it will be sent. */
function keepAnswer(
  { payments }: RecordModules,
  charged: ChargedText,
  receiptId: Uint8Array,
  opening: Uint8Array,
  retention: RetentionClass,
): { readonly form: KeptForm; readonly opening?: Uint8Array; readonly keptUntilMs?: number } {
  if (charged.keepable && payments) {
    const form = charged.form(retention, true);
    const sealed = payments.keep(receiptId, opening, form);
    if (sealed) return { form, opening: sealed.bytes, keptUntilMs: sealed.untilMs };
  }
  return { form: charged.form(retention, false) };
}

/** Offers a complete answer to the auditor, which takes a sample that no node can foresee. */
function audit(
  { auditor }: RecordModules,
  { masterSalt, routed }: Begun,
  executed: ExecutedText,
  { caller, body, parsed }: AskedText,
  { execution }: Recorded,
  assurance: string,
): void {
  const { digest } = execution;
  if (executed.finish === "incomplete" || parsed.kind === "embedding") return;
  if (!auditor?.wants({ executionDigest: digest, mode: executed.mode ?? "vanilla", assurance })) return;
  auditor.offer({
    executionDigest: digest,
    node: routed.executor.subject,
    claims: executed.claims,
    subject: executed.subject,
    masterSalt,
    ...(caller.owner === undefined ? {} : { owner: caller.owner }),
    assurance,
    work: { kind: "text", body, parsed, target: routed.target, responseFields: executed.responseFields },
  });
}

const NOTHING = new Uint8Array();
/** Stands for the execution's digest until there is one; random, so that nothing else in the claims is the same. */
const NO_DIGEST = randomBytes(32);

/** Where `part` begins in `bytes`; undefined unless it stands there exactly once. */
function placeOf(bytes: Uint8Array, part: Uint8Array): number | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const at = text.indexOf(part);
  return at >= 0 && text.lastIndexOf(part) === at ? at : undefined;
}

/**
 * What is kept of request and answer. An answer may grow beyond what can be kept when most of it was sent already, with
 * images for one: then nothing is kept and the service statement says so, because the answer is good all the same.
 */
export function openingOf(
  vault: OpeningVault,
  { receiptId, masterSalt }: Begun,
  { requestFields, responseFields }: ExecutedText,
  retention: RetentionClass,
): TextOpening {
  if (retention !== "server-encrypted") return { retention, opening: NOTHING };
  try {
    return { retention, opening: vault.seal(receiptId, masterSalt, requestFields, responseFields) };
  } catch (error) {
    if (isAssayError(error) && error.code === "opening_too_large") return { retention: "none", opening: NOTHING };
    throw error;
  }
}

/** All tries and how they ended, when there was more than one. */
function triesOf({ failed, routed }: Begun, { finish }: ExecutedText): readonly Try[] | undefined {
  return failed.length === 0 ? undefined : [...failed, { candidate: routed.candidate, outcome: finish }];
}
