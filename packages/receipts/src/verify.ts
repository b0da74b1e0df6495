import { bytesToHex, bytesToUtf8, compareBytes, decodeCbor, equalBytes, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { anchorsFault, statesAnchor } from "./anchor.ts";
import { answersOf, doesNotProve, proves, residualTrust } from "./answers.ts";
import type { Mode } from "./claims.ts";
import { decodeEntry } from "./entry.ts";
import { checkField, commitFields } from "./fields.ts";
import { findKey, keysetFault } from "./keyset.ts";
import { settlementFault, statesPayment } from "./settlement.ts";
import { algorithmById, keyId, verifyStatement } from "./statement.ts";
import type { SignatureCache, Statement } from "./statement.ts";
import { timeText } from "./time.ts";
import type { Trust } from "./trust.ts";
import { CHECKS } from "./verdict.ts";
import type { CheckName, CheckOutcome, CheckRow, Verdict } from "./verdict.ts";
import { receiptSubject, viewReceipt } from "./view.ts";
import type { ReceiptView } from "./view.ts";

/** What an inclusion check is given: one entry, where it says it is, and the checkpoint it relies on. */
export type LogCheckInput = {
  readonly entry: Uint8Array;
  readonly index: number;
  readonly path: readonly Uint8Array[];
  readonly note: string;
};

/** What all injected checks see of the caller's choices. */
export type CheckContext = {
  readonly suite: CryptoSuite;
  readonly trust: Trust;
  readonly nowMs: number;
  readonly cache?: SignatureCache;
};

/** Inclusion under a checkpoint; `logTimeMs` is the earliest time that a trusted witness or the log vouches for. */
export type LogCheck = (
  input: LogCheckInput,
  context: CheckContext,
) => Promise<CheckOutcome & { readonly logTimeMs?: number }>;

/** A check of another room (attestation, proof, anchor, payment), told of the whole receipt. */
export type ReceiptCheck = (view: ReceiptView, context: CheckContext) => Promise<CheckOutcome>;

/** The checks that other rooms provide; one that is missing leaves its row `inconclusive`, never `pass`. */
export type CheckModules = {
  readonly log?: LogCheck;
  readonly attestation?: ReceiptCheck;
  readonly proof?: ReceiptCheck;
  readonly anchor?: ReceiptCheck;
  readonly payment?: ReceiptCheck;
};

/** What the verifier demands beyond validity. */
export type Policy = {
  /** Modes to accept; default all. */
  readonly modes?: readonly Mode[];
  /** Manifest digest that must have run, lower-case hex. */
  readonly modelDigest?: string;
  /** The client nonce that must stand in the execution, lower-case hex. */
  readonly clientNonce?: string;
  /** Oldest acceptable issue time, milliseconds before `now`. */
  readonly maxAgeMs?: number;
  /** Identity labels to accept, for example only `production`; default all. */
  readonly labels?: readonly string[];
  /** Checks that must pass besides those the receipt's mode requires. */
  readonly require?: readonly CheckName[];
};

export type VerifyOptions = {
  readonly trust: Trust;
  readonly suite: CryptoSuite;
  /** The verifier's clock, milliseconds since 1970. */
  readonly now: number;
  readonly policy?: Policy;
  readonly checks?: CheckModules;
  /** Remembers signatures already verified (keysets, batch roots, checkpoints) across calls with the same trust. */
  readonly cache?: SignatureCache;
};

/** A receipt may be this far ahead of the verifier's clock: two machines' clocks are never equal. */
export const CLOCK_SKEW_MS = 5 * 60 * 1000;

/**
 * Checks one bundle (`.receipt` bytes) against what the caller trusts. Never throws on hostile input: a bundle that
 * cannot be read is `failed` with the reason. See docs/spec/receipt.md section 8 for the procedure.
 *
 * @example
 * const verdict = await verifyReceipt(bytes, { trust, suite: nodeSuite, now: Date.now(), checks: { log: checkInclusion } });
 * if (verdict.status !== "verified") console.error(verdict.code, verdict.checks);
 */
export async function verifyReceipt(bytes: Uint8Array, options: VerifyOptions): Promise<Verdict> {
  const { suite, trust } = options;
  const taken = viewReceipt(suite, bytes);
  if ("fault" in taken) {
    const { check, ...rest } = taken.fault;
    return conclude(undefined, [{ check, status: "fail", ...rest }], options, undefined);
  }
  const { view } = taken;
  const context: CheckContext = {
    suite,
    trust,
    nowMs: options.now,
    ...(options.cache ? { cache: options.cache } : {}),
  };
  const log = await checkLog(view, context, options.checks?.log);
  const keysets = await checkKeysets(view, context, log.logTimeMs);
  const mode = view.execution.claims.mode;
  const injected = (
    stated: boolean,
    absent: string,
    missing: string,
    check: ReceiptCheck | undefined,
    /** What contradicts itself needs no check of another room. */
    fault?: CheckOutcome,
  ): Promise<CheckOutcome> =>
    fault?.status === "fail" || (fault && !check)
      ? Promise.resolve(fault)
      : stated
        ? check
          ? guarded(() => check(view, context))
          : Promise.resolve(outcome("inconclusive", missing, "No check for it was given to the verifier."))
        : Promise.resolve(outcome("absent", absent, "The receipt states nothing of the kind."));
  const rows: CheckRow[] = [
    { check: "format", ...outcome("pass", "canonical", "The bytes are the one encoding of a bundle.") },
    { check: "signature", ...(await checkSignatures(view, context)) },
    { check: "keyset", ...keysets.outcome },
    {
      check: "attestation",
      ...(await injected(mode === "tee", "not_tee", "attestation_unchecked", options.checks?.attestation)),
    },
    { check: "proof", ...(await proofRow(view, mode, injected, options.checks?.proof)) },
    { check: "commitments", ...checkCommitments(view, suite) },
    { check: "log", ...log.outcome },
    {
      check: "anchor",
      ...(await injected(
        statesAnchor(view),
        "no_anchor",
        "anchor_unchecked",
        options.checks?.anchor,
        anchorsFault(view),
      )),
    },
    {
      check: "payment",
      ...(await injected(
        statesPayment(view),
        "no_payment",
        "payment_unchecked",
        options.checks?.payment,
        settlementFault(view),
      )),
    },
    { check: "policy", ...checkPolicy(view, options, keysets.labels) },
  ];
  return conclude(view, rows, options, log);
}

async function proofRow(
  view: ReceiptView,
  mode: Mode,
  injected: (
    stated: boolean,
    absent: string,
    missing: string,
    check: ReceiptCheck | undefined,
  ) => Promise<CheckOutcome>,
  check: ReceiptCheck | undefined,
): Promise<CheckOutcome> {
  const arrived = view.supplements.some(({ claims }) => claims.kind === "proof");
  if (mode === "zkml" && !arrived) {
    return outcome("inconclusive", "proof_pending", "The proof of this inference has not arrived yet.");
  }
  return injected(arrived, "not_zkml", "proof_unchecked", check);
}

function outcome(
  status: CheckOutcome["status"],
  code: string,
  message: string,
  facts: Readonly<Record<string, string>> = {},
): CheckOutcome {
  return { status, code, message, facts };
}

const fail = (code: string, message: string, facts: Readonly<Record<string, string>> = {}): CheckOutcome =>
  outcome("fail", code, message, facts);

const ROLE: Record<"execution" | "service", "node" | "gateway"> = { execution: "node", service: "gateway" };

async function checkSignatures(view: ReceiptView, context: CheckContext): Promise<CheckOutcome> {
  const structure = statementsAgree(view);
  if (structure) return structure;
  const facts: Record<string, string> = {};
  for (const statement of view.statements) {
    const { header } = statement;
    const kind = header.kind as "execution" | "service" | "supplement";
    const keyset = view.keysets.find(({ digest }) => equalBytes(digest, header.keyset));
    if (!keyset) {
      return outcome(
        "inconclusive",
        "keyset_missing",
        `The keyset that the ${kind} statement names is not in the bundle.`,
        {
          keyset: bytesToHex(header.keyset),
        },
      );
    }
    const { document } = keyset;
    if (document.subject !== header.issuer) {
      return fail("issuer_mismatch", `The ${kind} statement is issued in another name than its keyset's.`, {
        statement: header.issuer,
        keyset: document.subject,
      });
    }
    if (kind !== "supplement" && document.role !== ROLE[kind]) {
      return fail(
        "role_mismatch",
        `A ${document.role} signed the ${kind} statement, which is the ${ROLE[kind]}'s to sign.`,
      );
    }
    const key = findKey(document, header.kid, kind, header.algorithm);
    if (!key) {
      return fail("key_not_in_keyset", `The keyset has no ${kind} key with the id that the statement names.`, {
        kid: bytesToHex(header.kid),
      });
    }
    if (!(await verifyStatement(context.suite, statement, key.publicKey, context.cache))) {
      return fail("signature_invalid", `The signature of the ${kind} statement does not verify.`, {
        issuer: header.issuer,
      });
    }
    facts[kind] = `${header.issuer} seq ${header.seq}`;
  }
  return outcome("pass", "signatures_valid", "Every statement is signed by a key of the keyset it names.", facts);
}

/** The rules that bind statements of one receipt to each other. */
function statementsAgree(view: ReceiptView): CheckOutcome | undefined {
  const { execution, service, supplements } = view;
  const id = execution.claims.receiptId;
  const known: Uint8Array[] = [execution.statement.digest];
  if (service) {
    if (!equalBytes(service.claims.receiptId, id))
      return fail("receipt_id_mismatch", "The service statement is about another receipt.");
    if (!equalBytes(service.claims.executionDigest, execution.statement.digest)) {
      return fail("execution_digest_mismatch", "The service statement names another execution.", {
        named: bytesToHex(service.claims.executionDigest),
        found: bytesToHex(execution.statement.digest),
      });
    }
    known.push(service.statement.digest);
  }
  for (const { statement, claims } of supplements) {
    if (!known.some((digest) => equalBytes(digest, claims.refersTo))) {
      return fail("supplement_unrelated", "A supplement refers to no statement of this receipt before it.", {
        refersTo: bytesToHex(claims.refersTo),
      });
    }
    known.push(statement.digest);
  }
  const issued: [Statement, number][] = [
    [execution.statement, execution.claims.issuedAtMs],
    ...(service ? [[service.statement, service.claims.issuedAtMs] as [Statement, number]] : []),
    ...supplements.map(({ statement, claims }) => [statement, claims.issuedAtMs] as [Statement, number]),
  ];
  for (const [{ header }, issuedAtMs] of issued) {
    if (header.subject !== receiptSubject(id)) {
      return fail("subject_mismatch", `The ${header.kind} statement has another subject than the receipt's.`, {
        subject: header.subject,
      });
    }
    if (header.issuedAtS !== Math.floor(issuedAtMs / 1000)) {
      return fail("time_mismatch", `The ${header.kind} statement's header and claims disagree on its time.`);
    }
  }
  return undefined;
}

async function checkKeysets(
  view: ReceiptView,
  context: CheckContext,
  logTimeMs: number | undefined,
): Promise<{ outcome: CheckOutcome; labels: readonly string[] }> {
  const { suite, trust } = context;
  const labels: string[] = [];
  const facts: Record<string, string> = {};
  let unpinned: string | undefined;
  for (const keyset of view.keysets) {
    const { document, statement, digest } = keyset;
    const hex = bytesToHex(digest);
    const refused = (code: string, message: string): { outcome: CheckOutcome; labels: readonly string[] } => ({
      outcome: fail(code, message, { keyset: hex, subject: document.subject }),
      labels,
    });
    // A day of receipts shares a keyset. The statement's digest covers the document, so one that was found sound and
    // signed before is so again.
    const name = context.cache && `keyset:${bytesToHex(statement.digest)}:${bytesToHex(statement.signature)}`;
    const known = name !== undefined && context.cache?.has(name) === true;
    const fault = known ? undefined : keysetFault(suite, document);
    if (fault) return refused("keyset_invalid", fault);
    const { header } = statement;
    if (!equalBytes(header.keyset, digest) || header.issuer !== document.subject || header.seq !== document.bootSeq) {
      return refused("keyset_statement_mismatch", "A keyset's statement is about another keyset.");
    }
    const previous = document.bootSeq === 0 ? undefined : document.previousKeyset;
    if ((previous === undefined) !== (document.bootSeq === 0)) {
      return refused("keyset_chain_broken", "A keyset after the first does not name the one before it.");
    }
    const { identity } = document;
    const algorithm = algorithmById(identity.algorithm);
    if (
      header.algorithm !== algorithm ||
      !equalBytes(header.kid, keyId(suite, identity.publicKey)) ||
      !(known || (await verifyStatement(suite, statement, identity.publicKey)))
    ) {
      return refused("keyset_signature_invalid", "A keyset is not signed by the identity key it names.");
    }
    if (name !== undefined) context.cache?.add(name);
    const revocation = trust.revoked.find(
      ({ key, sinceMs }) =>
        (key === hex || key === bytesToHex(identity.publicKey)) && (logTimeMs === undefined || logTimeMs >= sinceMs),
    );
    if (revocation) return refused("keyset_revoked", `A keyset was revoked: ${revocation.reason}.`);
    const trusted = trust.identities.find(
      (known) =>
        known.algorithm === algorithm &&
        equalBytes(known.publicKey, identity.publicKey) &&
        (known.subject === undefined || known.subject === document.subject),
    );
    if (trusted) labels.push(trusted.label);
    else if (trust.keysets.includes(hex)) labels.push("pinned");
    else unpinned ??= document.subject;
    facts[document.subject] = hex;
  }
  for (const { header } of view.statements) {
    const keyset = view.keysets.find(({ digest }) => equalBytes(digest, header.keyset));
    const atMs = header.issuedAtS * 1000;
    // The header carries whole seconds, so the window is compared in seconds too.
    if (keyset && (atMs + 999 < keyset.document.notBeforeMs || atMs > keyset.document.notAfterMs)) {
      return {
        outcome: fail("keyset_expired", `The ${header.kind} statement was issued outside its keyset's validity.`, {
          issued: timeText(atMs),
          from: timeText(keyset.document.notBeforeMs),
          until: timeText(keyset.document.notAfterMs),
        }),
        labels,
      };
    }
  }
  if (unpinned !== undefined) {
    return {
      outcome: outcome(
        "inconclusive",
        "keyset_not_trusted",
        "Nothing that you trust vouches for the signer's keys.",
        facts,
      ),
      labels,
    };
  }
  if (view.keysets.length === 0) {
    return { outcome: outcome("inconclusive", "keyset_missing", "The bundle holds no keyset.", {}), labels };
  }
  return {
    outcome: outcome("pass", "keysets_trusted", "Every keyset is vouched for by a key that you trust.", facts),
    labels,
  };
}

function checkCommitments(view: ReceiptView, suite: CryptoSuite): CheckOutcome {
  const { bundle, execution } = view;
  const { claims } = execution;
  const root = { request: claims.requestRoot, response: claims.responseRoot };
  const count = { request: claims.requestFields, response: claims.responseFields };
  const facts: Record<string, string> = {};
  for (const opening of bundle.openings ?? []) {
    if (facts[opening.side]) return fail("opening_duplicate", `The ${opening.side} is opened twice.`);
    let tree;
    try {
      tree = commitFields(suite, opening.salt, opening.side, opening.fields);
    } catch {
      return fail("opening_invalid", `The opening of the ${opening.side} has field names that cannot be.`);
    }
    if (!sorted(opening.fields.map(({ name }) => name))) {
      return fail("opening_invalid", `The opening of the ${opening.side} does not list its fields in order.`);
    }
    if (tree.count !== count[opening.side] || !equalBytes(tree.root, root[opening.side])) {
      return fail("commitment_mismatch", `The opened ${opening.side} is not the one that was signed.`, {
        signed: `${bytesToHex(root[opening.side])} (${count[opening.side]} fields)`,
        found: `${bytesToHex(tree.root)} (${tree.count} fields)`,
      });
    }
    facts[opening.side] = `all ${tree.count} fields`;
  }
  for (const field of bundle.fields ?? []) {
    if (!checkField(suite, field, root[field.side], count[field.side])) {
      return fail(
        "commitment_mismatch",
        `The opened field ${field.name} of the ${field.side} is not the one that was signed.`,
      );
    }
    facts[`${field.side} ${field.name}`] = "opened";
  }
  const named = namedDigests(view);
  const seen = new Set<string>();
  for (const blob of bundle.evidence ?? []) {
    const digest = bytesToHex(suite.sha256(blob.data));
    const name = named.get(digest);
    // The type is outside the digest, so it has to be the one word that the claim implies.
    if (name === undefined || name !== blob.type) {
      return fail("evidence_unreferenced", "The bundle carries a blob that no statement names under this type.", {
        type: blob.type,
        sha256: digest,
      });
    }
    if (seen.has(digest)) return fail("evidence_duplicate", "The bundle carries one blob twice.", { sha256: digest });
    seen.add(digest);
    facts[blob.type] = digest;
  }
  return Object.keys(facts).length === 0
    ? outcome("absent", "nothing_opened", "Request and response are committed to and not disclosed.")
    : outcome("pass", "commitments_hold", "What is disclosed is what was signed.", facts);
}

/** Digests that statements name, each with the type its blob must have in the bundle. */
function namedDigests(view: ReceiptView): Map<string, string> {
  const { claims } = view.execution;
  const named = new Map<string, string>();
  const add = (digest: Uint8Array | undefined, type: string): void => {
    if (digest) named.set(bytesToHex(digest), type);
  };
  add(claims.evidenceDigest, "attestation");
  add(claims.proofStatementDigest, "proof-statement");
  add(claims.preprocessingDigest, "preprocessing");
  add(claims.modelDigest, "model-manifest");
  add(claims.step?.workflowDigest, "workflow");
  add(claims.principal?.delegationDigest, "delegation");
  add(view.service?.claims.policy?.policyDigest, "policy");
  add(view.service?.claims.policy?.decisionDigest, "decision");
  for (const { claims: supplement } of view.supplements) {
    for (const digest of supplement.evidence ?? []) add(digest, supplement.kind);
  }
  return named;
}

function sorted(names: readonly string[]): boolean {
  const keys = names.map((name) => utf8ToBytes(name));
  return keys.every((key, i) => {
    const before = keys[i - 1];
    return before === undefined || compareBytes(before, key) < 0;
  });
}

type LogResult = { outcome: CheckOutcome; logTimeMs?: number };

async function checkLog(view: ReceiptView, context: CheckContext, check: LogCheck | undefined): Promise<LogResult> {
  const proofs = view.bundle.log ?? [];
  const notes = view.bundle.checkpoints ?? [];
  const envelopes = [...view.statements, ...view.keysets.map(({ statement }) => statement)];
  const covered = new Set<Statement>();
  const usedNotes = new Set<number>();
  let earliest: number | undefined;
  let held: CheckOutcome | undefined;
  for (const proof of proofs) {
    let inside: Uint8Array[];
    try {
      inside = decodeEntry(proof.entry);
    } catch {
      return { outcome: fail("entry_invalid", "A log entry of the bundle is not one.") };
    }
    for (const envelope of inside) {
      const statement = envelopes.find((candidate) => equalBytes(candidate.envelope, envelope));
      if (!statement)
        return {
          outcome: fail("entry_unrelated", "A log entry of the bundle holds a statement that the bundle does not."),
        };
      covered.add(statement);
    }
    const note = notes[proof.checkpoint];
    if (note === undefined)
      return { outcome: fail("checkpoint_missing", "A log proof names a checkpoint that is not in the bundle.") };
    usedNotes.add(proof.checkpoint);
    if (!check) continue;
    const { entry, index, path } = proof;
    const result = await guarded(() => check({ entry, index, path, note }, context));
    if (result.status === "fail") return { outcome: strip(result) };
    if (result.logTimeMs !== undefined) earliest = Math.min(earliest ?? result.logTimeMs, result.logTimeMs);
    if (!held || result.status !== "pass") held = strip(result);
  }
  if (usedNotes.size !== notes.length)
    return { outcome: fail("checkpoint_unreferenced", "The bundle carries a checkpoint that no proof uses.") };
  const places = new Set(proofs.map(({ index, checkpoint }) => `${index} ${checkpoint}`));
  if (places.size !== proofs.length || new Set(notes).size !== notes.length)
    return { outcome: fail("log_duplicate", "The bundle carries one log proof or one checkpoint twice.") };
  const time = earliest === undefined ? {} : { logTimeMs: earliest };
  const missing = view.statements.find((statement) => !covered.has(statement));
  if (missing) {
    return {
      outcome: outcome(
        "inconclusive",
        "not_logged",
        `The bundle does not show that the ${missing.header.kind} statement is in a log.`,
      ),
      ...time,
    };
  }
  if (!check || !held)
    return {
      outcome: outcome("inconclusive", "log_unchecked", "No check for the log was given to the verifier."),
      ...time,
    };
  return { outcome: held, ...time };
}

// A check of another room may break on what a stranger sent; a check that broke was not made.
async function guarded<Outcome extends CheckOutcome & { readonly logTimeMs?: number }>(
  check: () => Promise<Outcome>,
): Promise<Outcome | (CheckOutcome & { readonly logTimeMs?: never })> {
  try {
    return await check();
  } catch (error) {
    return outcome(
      "inconclusive",
      "check_broke",
      "A check that was given to the verifier broke before it had a result.",
      {
        reason: error instanceof Error ? error.message : "unknown",
      },
    );
  }
}

function strip({ status, code, message, facts }: CheckOutcome): CheckOutcome {
  return { status, code, message, facts };
}

function checkPolicy(view: ReceiptView, options: VerifyOptions, labels: readonly string[]): CheckOutcome {
  const policy = options.policy ?? {};
  const { claims } = view.execution;
  // Written so that a clock that is not a number refuses instead of accepting.
  if (!(claims.issuedAtMs <= options.now + CLOCK_SKEW_MS)) {
    return fail("issued_in_future", "The receipt was issued after the verifier's clock.", {
      issued: timeText(claims.issuedAtMs),
      now: timeText(options.now),
    });
  }
  if (policy.modes && !policy.modes.includes(claims.mode)) {
    return fail("mode_refused", `The policy does not accept ${claims.mode} receipts.`, {
      accepted: policy.modes.join(", "),
    });
  }
  if (
    policy.modelDigest !== undefined &&
    (!claims.modelDigest || bytesToHex(claims.modelDigest) !== policy.modelDigest)
  ) {
    return fail("model_refused", "Another model ran than the policy asks for.", {
      wanted: policy.modelDigest,
      found: claims.modelDigest ? bytesToHex(claims.modelDigest) : "none",
    });
  }
  if (
    policy.clientNonce !== undefined &&
    (!claims.clientNonce || bytesToHex(claims.clientNonce) !== policy.clientNonce)
  ) {
    return fail("nonce_mismatch", "The receipt does not carry the nonce that was sent.");
  }
  if (policy.maxAgeMs !== undefined && options.now - claims.issuedAtMs > policy.maxAgeMs) {
    return fail("too_old", "The receipt is older than the policy accepts.", {
      issued: timeText(claims.issuedAtMs),
    });
  }
  const refusedLabel = policy.labels && labels.find((label) => !policy.labels?.includes(label));
  if (refusedLabel !== undefined) {
    return fail("label_refused", `The policy does not accept keys labelled ${refusedLabel}.`, {
      accepted: policy.labels?.join(", ") ?? "",
    });
  }
  return outcome("pass", "policy_met", "The receipt meets the verifier's policy.");
}

/** Checks that a receipt of each mode needs before it can be called verified. */
const REQUIRED: Record<Mode, readonly CheckName[]> = {
  vanilla: ["format", "signature", "keyset", "log", "policy"],
  tee: ["format", "signature", "keyset", "attestation", "log", "policy"],
  zkml: ["format", "signature", "keyset", "proof", "log", "policy"],
};

function conclude(
  view: ReceiptView | undefined,
  rows: readonly CheckRow[],
  options: VerifyOptions,
  log: LogResult | undefined,
): Verdict {
  const made = new Map(rows.map((row) => [row.check, row]));
  const checks = CHECKS.map(
    (check): CheckRow =>
      made.get(check) ?? {
        check,
        ...outcome("inconclusive", "not_reached", "An earlier fault left nothing to check."),
      },
  );
  const required = new Set<CheckName>([
    ...(view ? REQUIRED[view.execution.claims.mode] : CHECKS),
    ...(options.policy?.require ?? []),
  ]);
  const failed = checks.find(({ status }) => status === "fail");
  const open = checks.find(({ check, status }) => required.has(check) && status !== "pass");
  const deciding = failed ?? open;
  const status = failed ? "failed" : open ? "inconclusive" : "verified";
  return {
    status,
    code: deciding?.code ?? "verified",
    checks,
    receiptId: view ? bytesToHex(view.execution.claims.receiptId) : null,
    executionDigest: view ? bytesToHex(view.execution.statement.digest) : null,
    answers: answersOf(view, checks, status, log?.logTimeMs),
    proves: proves(view?.execution.claims.mode),
    doesNotProve: doesNotProve(view?.execution.claims.mode),
    residualTrust: residualTrust(view, checks),
  };
}

/** The tensors and texts that a bundle's full openings disclose, for showing and for re-execution. */
export function disclosed(view: ReceiptView): {
  readonly tensors: readonly {
    side: "request" | "response";
    name: string;
    datatype: string;
    shape: readonly number[];
    data: Uint8Array;
  }[];
  readonly texts: readonly { side: "request" | "response"; name: string; text: string }[];
} {
  const tensors: {
    side: "request" | "response";
    name: string;
    datatype: string;
    shape: readonly number[];
    data: Uint8Array;
  }[] = [];
  const texts: { side: "request" | "response"; name: string; text: string }[] = [];
  for (const { side, fields } of view.bundle.openings ?? []) {
    const values = new Map(fields.map(({ name, value }) => [name, value]));
    for (const [name, value] of values) {
      const tensor = /^(?:input|output)\/([^]*)\/(meta|data)$/.exec(name);
      if (!tensor) {
        try {
          texts.push({ side, name, text: bytesToUtf8(value) });
        } catch {
          texts.push({ side, name, text: bytesToHex(value) });
        }
        continue;
      }
      const data = values.get(name.replace(/meta$/, "data"));
      if (tensor[2] !== "meta" || !data) continue;
      const meta = tensorMeta(value);
      if (meta) tensors.push({ side, name: tensor[1] ?? "", ...meta, data });
    }
  }
  return { tensors, texts };
}

function tensorMeta(value: Uint8Array): { datatype: string; shape: readonly number[] } | undefined {
  try {
    const decoded = decodeCbor(value, { maxBytes: 4096, maxDepth: 2, maxItems: 64 });
    if (!Array.isArray(decoded)) return undefined;
    const [datatype, shape] = decoded as readonly unknown[];
    if (typeof datatype !== "string" || !Array.isArray(shape)) return undefined;
    if (!shape.every((size): size is number => typeof size === "number")) return undefined;
    return { datatype, shape };
  } catch {
    return undefined;
  }
}
