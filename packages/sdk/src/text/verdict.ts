import { bytesToHex, equalBytes, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { TextDialect } from "@assay/protocol";
import { transcriptRoot, transcriptSalt, viewReceipt } from "@assay/receipts";
import type { CheckName, ExecutionClaims, ServiceClaims, Verdict, WorkKind } from "@assay/receipts";
import { paymentFault } from "../pay/check-receipt.ts";
import type { TextExchange } from "./exchange.ts";

/** A verdict on one's own exchange. */
export type TextVerdict = Verdict & {
  /** Whether the trust was given by the caller; false when it was taken from the gateway itself on first use. */
  readonly pinned: boolean;
};

const KIND: Record<TextDialect, WorkKind> = {
  chat: "chat",
  responses: "chat",
  completions: "completion",
  embeddings: "embedding",
};

type Finding = {
  readonly check: CheckName;
  readonly code: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, string>>;
};

/**
 * The verdict on a receipt in the light of the exchange that it is to be the receipt of. That it holds in itself is not
 * enough: it has to be the one that the answer named, carry the nonce that was sent, and commit to the frames that were
 * received. What the request and the response must be, the openings of the bundle have shown already.
 */
export function judge(
  suite: Pick<CryptoSuite, "sha256">,
  verdict: TextVerdict,
  bundle: Uint8Array,
  exchange: TextExchange,
): TextVerdict {
  if (verdict.status === "failed") return verdict;
  const taken = viewReceipt(suite, bundle);
  if ("fault" in taken) return verdict;
  const { service } = taken.view;
  const { claims, statement } = taken.view.execution;
  const finding =
    otherExecution(claims, bytesToHex(statement.digest), exchange) ??
    otherNonce(claims, exchange) ??
    otherFrames(suite, claims, exchange) ??
    otherPayment(service?.claims, exchange);
  if (finding) return failedFor(verdict, finding);
  const transcript = transcriptFact(claims, exchange);
  return transcript === undefined
    ? verdict
    : {
        ...verdict,
        checks: verdict.checks.map((row) =>
          row.check === "commitments" ? { ...row, facts: { ...row.facts, transcript } } : row,
        ),
      };
}

function otherExecution(claims: ExecutionClaims, digest: string, exchange: TextExchange): Finding | undefined {
  const mismatch = (what: string, named: string, found: string): Finding => ({
    check: "commitments",
    code: "exchange_mismatch",
    message: `The receipt is not that of this answer: ${what}.`,
    facts: { named, found },
  });
  const id = bytesToHex(claims.receiptId);
  if (id !== exchange.receiptId) return mismatch("it has another id", exchange.receiptId, id);
  if (exchange.executionDigest !== undefined && digest !== exchange.executionDigest)
    return mismatch("its execution has another digest", exchange.executionDigest, digest);
  const kind = KIND[exchange.dialect];
  if (claims.kind !== kind) return mismatch("it is of another kind of work", kind, claims.kind);
  const left = claims.finishReason === "incomplete" || claims.finishReason === "error";
  if (left && isWhole(exchange))
    return mismatch("it says that the answer was left incomplete", "complete", claims.finishReason);
  return undefined;
}

function otherNonce(claims: ExecutionClaims, exchange: TextExchange): Finding | undefined {
  const found = claims.clientNonce ? bytesToHex(claims.clientNonce) : "none";
  if (exchange.clientNonce === undefined || found === exchange.clientNonce) return undefined;
  return {
    check: "policy",
    code: "nonce_mismatch",
    message: "The receipt does not carry the nonce that was sent.",
    facts: { sent: exchange.clientNonce, found },
  };
}

function otherFrames(
  suite: Pick<CryptoSuite, "sha256">,
  claims: ExecutionClaims,
  exchange: TextExchange,
): Finding | undefined {
  if (!("frames" in exchange.answer)) return undefined;
  const { frames } = exchange.answer;
  const mismatch = (message: string, facts: Record<string, string> = {}): Finding => ({
    check: "commitments",
    code: "transcript_mismatch",
    message,
    facts,
  });
  const { transcript } = claims;
  if (!transcript) return mismatch("The receipt commits to no stream, and the answer was one.");
  if (frames.length < transcript.frames && !isWhole(exchange)) return undefined;
  if (frames.length !== transcript.frames) {
    return mismatch("The stream had another number of frames than the one that was signed.", {
      signed: String(transcript.frames),
      received: String(frames.length),
    });
  }
  const salt = transcriptSalt(suite, exchange.masterSalt);
  const root = transcriptRoot(
    suite,
    salt,
    frames.map(({ data }) => utf8ToBytes(data)),
  );
  if (equalBytes(root, transcript.root)) return undefined;
  return mismatch("The frames of the stream are not the ones that were signed.", {
    signed: bytesToHex(transcript.root),
    found: bytesToHex(root),
  });
}

function otherPayment(claims: ServiceClaims | undefined, { payment }: TextExchange): Finding | undefined {
  const fault = payment && paymentFault(claims, payment);
  return fault && { check: "payment", code: "payment_mismatch", ...fault };
}

function transcriptFact(claims: ExecutionClaims, { answer }: TextExchange): string | undefined {
  if (!("frames" in answer) || !claims.transcript) return undefined;
  const [received, signed] = [answer.frames.length, claims.transcript.frames];
  // Frames alone cannot show that they begin a longer stream: that takes the roots of what came after.
  return received === signed ? `all ${signed} frames` : `${received} of ${signed} frames received, not compared`;
}

/** Whether the client saw the answer's announced end. */
function isWhole({ answer }: TextExchange): boolean {
  return !("frames" in answer) || answer.complete;
}

function failedFor(verdict: TextVerdict, { check, code, message, facts }: Finding): TextVerdict {
  const unverified = (sentence: string): string =>
    sentence.startsWith("It says, unverified: ") ? sentence : `It says, unverified: ${sentence}`;
  return {
    ...verdict,
    status: "failed",
    code,
    checks: verdict.checks.map((row) => (row.check === check ? { check, status: "fail", code, message, facts } : row)),
    answers: {
      ...verdict.answers,
      whoActed: unverified(verdict.answers.whoActed),
      whichModel: unverified(verdict.answers.whichModel),
      couldBeAltered: `It may be a genuine receipt, and not one of this answer: ${message}`,
    },
  };
}
