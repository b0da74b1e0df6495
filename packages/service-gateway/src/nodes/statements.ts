import { AssayError, bytesToHex, equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { LogSink, OfferOutcome } from "@assay/protocol";
import { PROFILE, decodeClaims, findKey, parseStatement, receiptSubject, verifyStatement } from "@assay/receipts";
import type { ExecutionClaims, KeysetDocument, SignatureCache, Statement } from "@assay/receipts";
import type { LogState } from "../log-state.ts";
import type { Recorder, SignedDraft } from "../recorder.ts";
import { decodeSidecar } from "../sidecar.ts";
import type { NodeRegistry, Party } from "./registry.ts";

/** Receipts whose executions this gateway asked for and has not yet recorded: their statements are not taken twice. */
export type WorkUnderWay = {
  /** Notes a request to a node; `receiptId` where the gateway chose it. */
  readonly begin: (subject: string, receiptId?: Uint8Array) => WorkNote;
  /** Whether a statement's request may still be about to be recorded. */
  readonly has: (subject: string, claims: ExecutionClaims) => boolean;
};
type WorkNote = {
  /** The request is over; its receipt, if there is one, will be recorded in a moment. */
  readonly end: (receiptId?: Uint8Array) => void;
};

/** How long after its request has ended a receipt may still be on its way to the recorder, milliseconds. */
const GRACE_MS = 30_000;
/** A request whose caller never says that it is over is forgotten after this, milliseconds. */
const LONGEST_MS = 60 * 60 * 1000;
/** Clocks of node and gateway differ by at most this much before tensors' statements could be taken too early. */
const SKEW_MS = 60_000;

/** Makes the list of work under way. */
export function createWorkUnderWay(now: () => number, graceMs: number = GRACE_MS): WorkUnderWay {
  const receipts = new Map<string, number>();
  /** Starts of requests by node whose receipt id the node chooses. */
  const unnamed = new Map<string, Set<{ readonly startMs: number }>>();
  return {
    begin(subject, receiptId) {
      for (const [id, until] of receipts) if (until < now()) receipts.delete(id);
      const of = receiptId && bytesToHex(receiptId);
      if (of !== undefined) receipts.set(of, now() + LONGEST_MS);
      const mine = { startMs: now() };
      const set = unnamed.get(subject) ?? new Set();
      if (of === undefined) unnamed.set(subject, set.add(mine));
      return {
        end(known) {
          const id = of ?? (known && bytesToHex(known));
          if (id !== undefined) receipts.set(id, now() + graceMs);
          set.delete(mine);
          if (set.size === 0) unnamed.delete(subject);
        },
      };
    },
    has(subject, claims) {
      const until = receipts.get(bytesToHex(claims.receiptId));
      if (until !== undefined && until >= now()) return true;
      if (claims.kind !== "onnx") return false;
      for (const { startMs } of unnamed.get(subject) ?? []) if (claims.issuedAtMs >= startMs - SKEW_MS) return true;
      return false;
    },
  };
}

export type StatementModules = {
  readonly registry: Pick<NodeRegistry, "party">;
  readonly state: Pick<LogState, "keysetIndex">;
  readonly log: Pick<LogSink, "read">;
  readonly suite: CryptoSuite;
};

/** Checks what remote nodes signed; `verify` is the recorder's `verifySigned`. */
export type StatementVerifier = {
  readonly verify: (draft: SignedDraft) => Promise<Statement>;
  /** The keyset of digest K (lower-case hex), if it is in the log. */
  readonly keyset: (digest: string) => Promise<KeysetDocument | undefined>;
};

const MAX_KEYSETS = 1024;
const MAX_SIGNATURES = 10_000;

/** Makes a verifier: only keysets that stand in the log count, and only of parties that were admitted. */
export function createStatementVerifier({ registry, state, log, suite }: StatementModules): StatementVerifier {
  const keysets = new Map<string, KeysetDocument>();
  const cache = signatureCache();

  const keyset = async (digest: string): Promise<KeysetDocument | undefined> => {
    const known = keysets.get(digest);
    if (known) return known;
    const at = state.keysetIndex(digest);
    const record = at === undefined ? undefined : await log.read(at);
    const [bytes] = record ? decodeSidecar(record.claims).claims : [];
    if (!bytes) return undefined;
    const document = decodeClaims("keyset", bytes);
    if (keysets.size >= MAX_KEYSETS) keysets.clear();
    keysets.set(digest, document);
    return document;
  };

  return {
    keyset,
    async verify(draft) {
      const { statement, claims } = readSigned(suite, draft);
      const { header } = statement;
      const demand = (holds: boolean, why: string): void => {
        if (!holds) throw refused(why);
      };
      demand(equalBytes(claims.receiptId, draft.receiptId), "is about another receipt");
      demand(
        header.subject === draft.subject && draft.subject === receiptSubject(claims.receiptId),
        "has another subject than its receipt's",
      );
      demand(
        claims.issuedAtMs === draft.issuedAtMs && header.issuedAtS === Math.floor(claims.issuedAtMs / 1000),
        "is dated otherwise than its claims",
      );
      demand(draft.model === null || claims.modelName === draft.model, "names another model than was asked for");
      demand(
        draft.manifestDigest === null ||
          (claims.modelDigest !== undefined && bytesToHex(claims.modelDigest) === draft.manifestDigest),
        "names another version than was asked for",
      );
      demand(draft.mode === null || claims.mode === draft.mode, "states another mode than was asked for");
      const document = await keyset(bytesToHex(header.keyset));
      if (!document) throw refused("is under a keyset that is not in the log");
      const party = registry.party(bytesToHex(document.identity.publicKey));
      demand(party?.admittedBy !== undefined && party.role === "node", "is by a node that was not admitted");
      demand(document.role === "node" && header.issuer === document.subject, "is issued in another name");
      demand(
        claims.issuedAtMs >= document.notBeforeMs && claims.issuedAtMs <= document.notAfterMs,
        "is dated outside its keyset's time",
      );
      const key = findKey(document, header.kid, "execution", header.algorithm);
      if (!key) throw refused("is signed with a key that its keyset does not have");
      demand(await verifyStatement(suite, statement, key.publicKey, cache), "has a signature that does not hold");
      return statement;
    },
  };
}

/** A statement and its claims. Throws `node_statement_invalid` when they cannot be read or are not of each other. */
function readSigned(
  suite: Pick<CryptoSuite, "sha256">,
  { envelope, claims: bytes }: { readonly envelope: Uint8Array; readonly claims: Uint8Array },
): { readonly statement: Statement; readonly claims: ExecutionClaims } {
  let statement: Statement;
  let claims: ExecutionClaims;
  try {
    statement = parseStatement(suite, envelope);
    claims = decodeClaims("execution", bytes);
  } catch (cause) {
    if (!isAssayError(cause)) throw cause;
    throw refused("cannot be read", cause);
  }
  if (statement.header.kind !== "execution") throw refused("is of another kind than an execution's");
  if (!equalBytes(statement.payload, suite.sha256(bytes))) throw refused("is not about the claims that came with it");
  return { statement, claims };
}

export type OfferModules = {
  readonly recorder: Pick<Recorder, "recordSigned">;
  readonly work: WorkUnderWay;
  readonly suite: CryptoSuite;
  readonly now: () => number;
};

/**
 * Takes statements that a node offers again because it does not know them logged: after a crash, a lost connection, a
 * cancelled request. Each gets a service statement that says so. Idempotent by the statement's place in its chain.
 */
export function createOffers({ recorder, work, suite, now }: OfferModules) {
  const offer = async (
    party: Party,
    signed: { readonly envelope: Uint8Array; readonly claims: Uint8Array },
  ): Promise<{ readonly outcome: OfferOutcome; readonly code?: string }> => {
    try {
      const { statement, claims } = readSigned(suite, signed);
      if (statement.header.issuer !== party.subject) throw refused("is another node's");
      if (work.has(party.subject, claims)) return { outcome: "pending" };
      const { principal } = claims;
      await recorder.recordSigned({
        ...signed,
        receiptId: claims.receiptId,
        subject: statement.header.subject,
        issuedAtMs: claims.issuedAtMs,
        service: (executionDigest) => ({
          profile: PROFILE.service,
          receiptId: claims.receiptId,
          executionDigest,
          issuedAtMs: now(),
          route: { chosen: party.subject },
          assurance: { asked: claims.mode, given: claims.mode, reason: "recovered from the node" },
          retention: "none",
          extensions: { recovered: true },
        }),
        model: claims.modelName ?? null,
        manifestDigest: claims.modelDigest ? bytesToHex(claims.modelDigest) : null,
        mode: claims.mode,
        ...(principal?.authentication === "token" ? { owner: principal.caller } : {}),
        // Nobody was given a grant for it. A grant has 32 bytes, and what is hashed here is longer.
        grantSha256: suite.sha256(statement.digest, signed.claims),
        opening: new Uint8Array(),
      });
      return { outcome: "logged" };
    } catch (error) {
      if (!isAssayError(error)) throw error;
      if (error.code === "node_statement_logged") return { outcome: "logged" };
      const final = error.code === "node_statement_invalid";
      return { outcome: final ? "refused" : "pending", code: error.code };
    }
  };
  return { offer };
}

function refused(why: string, cause?: unknown): AssayError<"node_statement_invalid"> {
  return new AssayError("node_statement_invalid", `A node's statement ${why}.`, {
    hints: ["The gateway records nothing that it cannot stand behind; the node's operator must look into it."],
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Remembers batch roots and signatures that verified, so that one of many statements is checked once. */
export function signatureCache(): SignatureCache {
  let known = new Set<string>();
  return {
    has: (key) => known.has(key),
    add(key) {
      if (known.size >= MAX_SIGNATURES) known = new Set();
      known.add(key);
    },
  };
}
