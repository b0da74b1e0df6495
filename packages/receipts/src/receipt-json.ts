import { bytesToHex, bytesToUtf8 } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import type { Statement } from "./statement.ts";
import { jsonView } from "./table.ts";
import type { TableValue } from "./table.ts";
import { timeText } from "./time.ts";
import { disclosed } from "./verify.ts";
import { viewReceipt } from "./view.ts";
import type { ReceiptView } from "./view.ts";

/** Longest text shown whole, characters: prompts and answers are for another window. */
const JSON_TEXT_CHARS = 200;
/** Opened values that are no text show this many bytes. */
const JSON_HEX_BYTES = 32;

/**
 * A receipt for people and for `--json`: every claim under its name, byte strings in hexadecimal, times in ISO 8601,
 * where each statement stands in its issuer's chain and in the log, and what is opened in short (tensors by datatype,
 * sizes and length; long texts cut). It is a view: nothing signs it, nothing reads it back, and salts stay out of it.
 */
export function receiptJson(view: ReceiptView): JsonValue {
  const { bundle, execution } = view;
  const claims: readonly (readonly [Statement, unknown])[] = [
    execution,
    ...(view.service ? [view.service] : []),
    ...view.supplements,
  ].map((part) => [part.statement, part.claims] as const);
  return {
    note: "A view for reading. Only the .receipt file is signed.",
    receiptId: bytesToHex(execution.claims.receiptId),
    executionDigest: bytesToHex(execution.statement.digest),
    issuedAt: timeText(execution.claims.issuedAtMs),
    statements: view.statements.map((statement) => ({
      ...headerJson(statement),
      claims: jsonView(claims.find(([known]) => known === statement)?.[1] as TableValue | undefined),
    })),
    keysets: view.keysets.map(({ statement, document, digest }) => ({
      keyset: bytesToHex(digest),
      ...headerJson(statement),
      validFrom: timeText(document.notBeforeMs),
      validUntil: timeText(document.notAfterMs),
      document: jsonView(document as unknown as TableValue),
    })),
    log: (bundle.log ?? []).map(({ entry, index, path, checkpoint }) => ({
      index,
      checkpoint,
      entrySizeBytes: entry.length,
      pathLength: path.length,
    })),
    checkpoints: (bundle.checkpoints ?? []).map(checkpointJson),
    evidence: (bundle.evidence ?? []).map(({ type, data }) => ({ type, sizeBytes: data.length })),
    anchors: (bundle.anchors ?? []).map(jsonView),
    openings: openingsJson(view),
    fields: (bundle.fields ?? []).map(({ side, name, index, value }) => ({
      side,
      name: short(name),
      index,
      ...valueJson(value),
    })),
  };
}

/** The same out of bytes from outside; of bytes that are no receipt, `{"fault": {check, code, message, facts}}`. */
export function receiptJsonOf(suite: Pick<CryptoSuite, "sha256">, bytes: Uint8Array): JsonValue {
  const taken = viewReceipt(suite, bytes);
  return "fault" in taken ? { fault: taken.fault } : receiptJson(taken.view);
}

function headerJson({ header, digest }: Statement): { readonly [key: string]: JsonValue } {
  return {
    kind: header.kind,
    digest: bytesToHex(digest),
    algorithm: header.algorithm,
    kid: bytesToHex(header.kid),
    issuer: header.issuer,
    subject: header.subject,
    issuedAt: timeText(header.issuedAtS * 1000),
    signedUnder: bytesToHex(header.keyset),
    seq: header.seq,
    prev: header.prev ? bytesToHex(header.prev) : null,
  };
}

// The facts of a signed note by their places (C2SP tlog-checkpoint); the log check reads it strictly.
function checkpointJson(note: string): JsonValue {
  const [text = "", signatures = ""] = note.split("\n\n", 2);
  const [origin = "", size = "", root = ""] = text.split("\n", 3);
  const signers = signatures.split("\n", 64).flatMap((line) => {
    const [, name] = line.split(" ", 2);
    return name === undefined ? [] : [short(name)];
  });
  return { origin: short(origin), size: short(size), root: short(root), signers };
}

function openingsJson(view: ReceiptView): JsonValue {
  const shown = disclosed(view);
  return (view.bundle.openings ?? []).map(({ side, fields }) => ({
    side,
    fields: fields.length,
    tensors: shown.tensors
      .filter((tensor) => tensor.side === side)
      .map(({ name, datatype, shape, data }) => ({
        name: short(name),
        datatype: short(datatype),
        shape,
        sizeBytes: data.length,
      })),
    texts: shown.texts
      .filter((text) => text.side === side)
      .map(({ name, text }) => ({ name: short(name), text: short(text) })),
  }));
}

function valueJson(value: Uint8Array): { readonly [key: string]: JsonValue } {
  try {
    return { sizeBytes: value.length, text: short(bytesToUtf8(value)) };
  } catch {
    return { sizeBytes: value.length, begins: bytesToHex(value.subarray(0, JSON_HEX_BYTES)) };
  }
}

function short(text: string): string {
  if (text.length <= JSON_TEXT_CHARS) return text;
  // Cut between code points: half a surrogate pair is no text.
  const last = text.charCodeAt(JSON_TEXT_CHARS - 1);
  const cut = text.slice(0, last >= 0xd800 && last <= 0xdbff ? JSON_TEXT_CHARS - 1 : JSON_TEXT_CHARS);
  return `${cut}… (${text.length} characters)`;
}
