import { AssayError } from "@assay/core";
import type { ModelRow, ReceiptRow } from "@assay/protocol";
import { toSafeInteger } from "./values.ts";

/** Names, owners, kinds and digests are short; a longer text is a fault of the indexer, not data. */
export const MAX_TEXT_LENGTH = 1_024;

type Row = Readonly<Record<string, unknown>>;

/** Columns of a receipt, in the order in which they are hashed by `fingerprint`. */
export const RECEIPT_COLUMNS = `log_index, encode(receipt_id, 'hex') AS receipt_id,
  encode(execution_digest, 'hex') AS execution_digest, encode(service_digest, 'hex') AS service_digest,
  kind, owner, visibility, encode(grant_sha256, 'hex') AS grant_sha256, model, manifest_digest, mode,
  issued_at_ms, encode(refers_to, 'hex') AS refers_to`;

/** Columns of a model version; needs `m` for `assay.models` and `c` for `assay.model_current`. */
export const MODEL_COLUMNS = `m.name, m.version, m.manifest_digest, m.owner, m.visibility, m.status,
  (c.version IS NOT NULL AND c.version = m.version) AS current, m.size_bytes, m.released_at_ms, m.log_index`;

export function receiptFromRow(row: Row): ReceiptRow {
  return {
    logIndex: toSafeInteger(row["log_index"]),
    receiptId: text(row["receipt_id"]),
    executionDigest: text(row["execution_digest"]),
    serviceDigest: nullableText(row["service_digest"]),
    kind: text(row["kind"]),
    owner: nullableText(row["owner"]),
    visibility: row["visibility"] === "public" ? "public" : "private",
    grantSha256: nullableText(row["grant_sha256"]),
    model: nullableText(row["model"]),
    manifestDigest: nullableText(row["manifest_digest"]),
    mode: nullableText(row["mode"]),
    issuedAtMs: toSafeInteger(row["issued_at_ms"]),
    refersTo: nullableText(row["refers_to"]),
  };
}

export function modelFromRow(row: Row): ModelRow {
  return {
    name: text(row["name"]),
    version: toSafeInteger(row["version"]),
    manifestDigest: text(row["manifest_digest"]),
    owner: text(row["owner"]),
    visibility: row["visibility"] === "public" ? "public" : "private",
    status: row["status"] === "deprecated" ? "deprecated" : "released",
    current: row["current"] === true,
    sizeBytes: toSafeInteger(row["size_bytes"]),
    releasedAtMs: toSafeInteger(row["released_at_ms"]),
    logIndex: toSafeInteger(row["log_index"]),
  };
}

/** Refuses with `index_row_invalid` what PostgreSQL would refuse in the middle of a batch, or store wrongly. */
export function checkReceiptRow(row: ReceiptRow, watermark: number): void {
  checkPlace(row.logIndex, watermark);
  checkHex("receiptId", row.receiptId, 32);
  checkHex("executionDigest", row.executionDigest, 64);
  if (row.serviceDigest !== null) checkHex("serviceDigest", row.serviceDigest, 64);
  if (row.grantSha256 !== null) checkHex("grantSha256", row.grantSha256, 64);
  if (row.refersTo !== null) checkHex("refersTo", row.refersTo, 64);
  checkText("kind", row.kind);
  for (const field of ["owner", "model", "manifestDigest", "mode"] as const) {
    const value = row[field];
    if (value !== null) checkText(field, value);
  }
  checkVisibility(row.visibility);
  checkInteger("issuedAtMs", row.issuedAtMs);
}

/** As {@link checkReceiptRow}, for a model version. */
export function checkModelRow(row: ModelRow, watermark: number): void {
  checkPlace(row.logIndex, watermark);
  checkText("name", row.name);
  checkText("manifestDigest", row.manifestDigest);
  checkText("owner", row.owner);
  checkVisibility(row.visibility);
  if (row.status !== "released" && row.status !== "deprecated") throw invalid("status", "released or deprecated");
  checkInteger("version", row.version);
  checkInteger("sizeBytes", row.sizeBytes);
  checkInteger("releasedAtMs", row.releasedAtMs);
}

/** Refuses a digest that is not `digits` lower-case hex digits, with `index_row_invalid`. */
export function checkHex(field: string, value: string, digits: number): void {
  if (value.length !== digits || !/^[0-9a-f]*$/.test(value)) throw invalid(field, `${digits} lower-case hex digits`);
}

/** Refuses an empty or very long text, and one with a NUL or a lone surrogate, which PostgreSQL cannot store. */
export function checkText(field: string, value: string): void {
  if (value.length === 0 || value.length > MAX_TEXT_LENGTH) throw invalid(field, `1 to ${MAX_TEXT_LENGTH} characters`);
  if (/[\0\p{Surrogate}]/u.test(value)) throw invalid(field, "well-formed text without NUL");
}

/** Refuses what is not a safe integer from 0 up. */
export function checkInteger(field: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(field, "an integer from 0 to 2^53 - 1");
}

function checkPlace(logIndex: number, watermark: number): void {
  checkInteger("logIndex", logIndex);
  // A row beyond the watermark would be read again, but one that claims to be behind it and is not would be lost.
  if (logIndex >= watermark) throw invalid("logIndex", "below the watermark of its batch");
}

function checkVisibility(value: string): void {
  if (value !== "public" && value !== "private") throw invalid("visibility", "public or private");
}

function invalid(field: string, wanted: string): AssayError<"index_row_invalid"> {
  return new AssayError("index_row_invalid", `The field ${field} of an index row is not ${wanted}.`);
}

function text(value: unknown): string {
  if (typeof value === "string") return value;
  throw new AssayError("database_error", "The database holds a null where a text belongs.");
}

function nullableText(value: unknown): string | null {
  return value === null || value === undefined ? null : text(value);
}
