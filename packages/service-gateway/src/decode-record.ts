import { bytesToHex } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ModelRow, ReceiptRow, StoredRecord } from "@assay/protocol";
import { decodeClaims, decodeEntry, parseStatement } from "@assay/receipts";
import type { ChainHead, ReleaseClaims, Statement } from "@assay/receipts";
import { decodeSidecar } from "./sidecar.ts";

/** A keyset's place: K and the digest of its statement, for the next boot and for bundles. */
export type KeysetMark = {
  readonly subject: string;
  readonly bootSeq: number;
  readonly keyset: Uint8Array;
  readonly statement: Uint8Array;
  readonly logIndex: number;
};

/** What one log record says, for whoever follows the log. */
export type DecodedRecord = {
  readonly logIndex: number;
  readonly row: ReceiptRow;
  readonly heads: readonly { readonly issuer: string; readonly head: ChainHead }[];
  readonly keyset?: KeysetMark;
  readonly release?: ReleaseClaims;
  /** The instruction of a paid record, for the ledger. */
  readonly payment?: Uint8Array;
};

/** Decodes a record of the log. Throws `record_invalid`, `entry_invalid` or another code of the format. */
export function decodeRecord(suite: Pick<CryptoSuite, "sha256">, record: StoredRecord): DecodedRecord {
  const sidecar = decodeSidecar(record.claims);
  const statements = decodeEntry(record.entry).map((envelope) => parseStatement(suite, envelope));
  const heads = statements
    .filter(({ header }) => header.kind !== "keyset")
    .map(({ header, digest }) => ({ issuer: header.issuer, head: { seq: header.seq + 1, prev: digest } }));
  const [first, second] = statements;
  const [claims] = sidecar.claims;
  if (!first || !claims) throw new TypeError("A log entry without a statement was decoded.");
  const base = {
    logIndex: record.index,
    serviceDigest: second ? bytesToHex(second.digest) : null,
    owner: sidecar.owner ?? null,
    visibility: sidecar.visibility,
    grantSha256: sidecar.grantSha256 ? bytesToHex(sidecar.grantSha256) : null,
  };
  const paid = sidecar.payment ? { payment: sidecar.payment } : {};
  switch (first.header.kind) {
    case "keyset": {
      const document = decodeClaims("keyset", claims);
      return {
        logIndex: record.index,
        heads,
        row: {
          ...base,
          ...plain(first, first.header.keyset.slice(0, 16), document.notBeforeMs),
          executionDigest: bytesToHex(first.header.keyset),
        },
        keyset: {
          subject: document.subject,
          bootSeq: document.bootSeq,
          keyset: first.header.keyset,
          statement: first.digest,
          logIndex: record.index,
        },
      };
    }
    case "release": {
      const release = decodeClaims("release", claims);
      return {
        logIndex: record.index,
        heads,
        row: {
          ...base,
          ...plain(first, release.releaseId, release.issuedAtMs),
          model: release.modelName,
          manifestDigest: bytesToHex(release.modelDigest),
        },
        release,
      };
    }
    case "supplement": {
      const supplement = decodeClaims("supplement", claims);
      return {
        logIndex: record.index,
        heads,
        ...paid,
        row: {
          ...base,
          ...plain(first, supplement.supplementId, supplement.issuedAtMs),
          refersTo: bytesToHex(supplement.refersTo),
        },
      };
    }
    case "service":
    case "execution": {
      const execution = decodeClaims("execution", claims);
      return {
        logIndex: record.index,
        heads,
        ...paid,
        row: {
          ...base,
          ...plain(first, execution.receiptId, execution.issuedAtMs),
          model: execution.modelName ?? null,
          manifestDigest: execution.modelDigest ? bytesToHex(execution.modelDigest) : null,
          mode: execution.mode,
        },
      };
    }
  }
}

function plain(
  statement: Statement,
  id: Uint8Array,
  issuedAtMs: number,
): Pick<
  ReceiptRow,
  "receiptId" | "executionDigest" | "kind" | "model" | "manifestDigest" | "mode" | "issuedAtMs" | "refersTo"
> {
  return {
    receiptId: bytesToHex(id),
    executionDigest: bytesToHex(statement.digest),
    kind: statement.header.kind,
    model: null,
    manifestDigest: null,
    mode: null,
    issuedAtMs,
    refersTo: null,
  };
}

/** The row of the model index that a release statement stands for. */
export function modelRow(release: ReleaseClaims, logIndex: number): ModelRow {
  return {
    name: release.modelName,
    version: release.version,
    manifestDigest: bytesToHex(release.modelDigest),
    owner: release.owner,
    visibility: release.visibility,
    status: release.action === "deprecate" ? "deprecated" : "released",
    current: release.action !== "deprecate",
    sizeBytes: release.sizeBytes,
    releasedAtMs: release.issuedAtMs,
    logIndex,
  };
}
