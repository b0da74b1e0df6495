import { createHash } from "node:crypto";
import { hexToBytes } from "@assay/core";
import type { Database } from "@assay/driver-postgres";
import { MAX_SUPPLEMENT_ROWS } from "./limits.ts";
import { hexArray, unsupplementedRows } from "./rows.ts";
import type { PaymentRow } from "./rows.ts";
import { text } from "./values.ts";

/** What a supplement of kind `settlement` states about a receipt. Amounts and numbers are decimal texts. */
export type SettlementBody = {
  readonly paymentId: string;
  readonly payer: string;
  readonly network: string;
  readonly asset: string;
  readonly amountAtomic: string;
  readonly payTo: string;
  readonly scheme: string;
  readonly transaction: string;
  readonly blockNumber: string;
  /** The contract that moved the money. */
  readonly contract: string;
};

/** A supplement to be logged. */
export type SettlementDraft = {
  /** 16 bytes, the same whenever this settlement is stated: a crash in between is found by it. */
  readonly supplementId: Uint8Array;
  readonly receiptId: string;
  /** Digest of the service statement, which names the payment; 32 bytes. */
  readonly refersTo: Uint8Array;
  readonly body: SettlementBody;
};

/** Logs supplements, and answers where each now is in the log. */
export type WriteSupplements = (drafts: readonly SettlementDraft[]) => Promise<readonly number[]>;

const ID_TAG = "assay/settlement-supplement/1\0";

/** The supplement of a settled payment; `contractOf` names the contract that settles rows of its kind. */
export function settlementDraft(row: PaymentRow, contractOf: (row: PaymentRow) => string): SettlementDraft | undefined {
  if (row.transaction === undefined || row.blockNumber === undefined) return undefined;
  const id = createHash("sha256")
    .update(`${ID_TAG}${row.network} ${row.paymentId} ${row.transaction} ${row.blockNumber}`)
    .digest();
  return {
    supplementId: new Uint8Array(id.subarray(0, 16)),
    receiptId: row.receiptId,
    refersTo: hexToBytes(row.serviceDigest),
    body: {
      paymentId: row.paymentId,
      payer: row.payer,
      network: row.network,
      asset: row.asset,
      amountAtomic: row.amountAtomic.toString(),
      payTo: row.payTo,
      scheme: row.scheme,
      transaction: row.transaction,
      blockNumber: String(row.blockNumber),
      contract: contractOf(row),
    },
  };
}

/**
 * Has every settled payment's settlement stated in the log, once: what the index of the log knows already is not written
 * again, and neither is what this process wrote and could not put down. The index must have caught up with the log when
 * the first turn begins. Returns a function that does one turn and answers how many it put down.
 */
export function createSupplementer(modules: {
  readonly database: Database;
  readonly contractOf: (row: PaymentRow) => string;
  readonly write: WriteSupplements;
  readonly now: () => number;
}): () => Promise<number> {
  const { database, contractOf, write, now } = modules;
  const written = new Map<string, number>();

  return async () => {
    const rows = await unsupplementedRows(database, MAX_SUPPLEMENT_ROWS, now());
    const drafts = rows.flatMap((row) => {
      const draft = settlementDraft(row, contractOf);
      return draft ? [{ row, draft, id: Buffer.from(draft.supplementId).toString("hex") }] : [];
    });
    if (drafts.length === 0) return 0;
    for (const [id, index] of await indexed(
      database,
      drafts.map(({ id }) => id),
    ))
      written.set(id, index);
    const fresh = drafts.filter(({ id }) => !written.has(id));
    if (fresh.length > 0) {
      const indexes = await write(fresh.map(({ draft }) => draft));
      for (const [i, { id }] of fresh.entries()) {
        const index = indexes[i];
        if (index !== undefined) written.set(id, index);
      }
    }
    const known = drafts.filter(({ id }) => written.has(id));
    const { rowCount } = await database.query(
      `UPDATE assay.payments AS p SET supplement_index = s.place
       FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) AS s(id, place, tx, block)
       WHERE p.payment_id = decode(s.id, 'hex') AND p.state = 'settled' AND p.tx_hash = decode(s.tx, 'hex') AND p.block_number = s.block`,
      [
        hexArray(known.map(({ row }) => row.paymentId)),
        `{${known.map(({ id }) => written.get(id)).join(",")}}`,
        hexArray(known.map(({ row }) => row.transaction ?? "0x")),
        `{${known.map(({ row }) => row.blockNumber ?? 0).join(",")}}`,
      ],
    );
    for (const { id } of drafts) written.delete(id);
    return rowCount;
  };
}

/** Places of supplements in the log, of those that its index knows. */
async function indexed(database: Database, ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const { rows } = await database.query(
    `SELECT encode(receipt_id, 'hex') AS id, log_index FROM assay.receipts
     WHERE kind = 'supplement' AND receipt_id IN (SELECT decode(id, 'hex') FROM unnest($1::text[]) AS id)`,
    [`{${ids.join(",")}}`],
  );
  return new Map(rows.map((row) => [text(row["id"]), Number(row["log_index"])]));
}
