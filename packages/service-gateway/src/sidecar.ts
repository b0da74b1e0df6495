import { AssayError, decodeCbor, encodeCbor } from "@assay/core";
import type { CborMap, CborValue } from "@assay/core";

/**
 * What the log keeps beside an entry, out of the Merkle tree: the claims its envelopes commit to, in their order, and
 * whose the record is. `grantSha256` is the hash of the secret that lets a caller without an account read it again.
 */
export type Sidecar = {
  readonly claims: readonly Uint8Array[];
  readonly owner?: string;
  readonly visibility: "public" | "private";
  readonly grantSha256?: Uint8Array;
  /** The instruction by which the record's payment is settled: written and read by the ledger, opaque here. */
  readonly payment?: Uint8Array;
};

const KEY = { claims: 1, owner: 2, visibility: 3, grantSha256: 4, payment: 5 } as const;
const MAX_SIDECAR_BYTES = 1024 * 1024;

/** Deterministic CBOR of a sidecar. */
export function encodeSidecar(sidecar: Sidecar): Uint8Array {
  const map = new Map<number, CborValue>([
    [KEY.claims, sidecar.claims],
    [KEY.visibility, sidecar.visibility === "public" ? 1 : 0],
  ]);
  if (sidecar.owner !== undefined) map.set(KEY.owner, sidecar.owner);
  if (sidecar.grantSha256) map.set(KEY.grantSha256, sidecar.grantSha256);
  if (sidecar.payment) map.set(KEY.payment, sidecar.payment);
  return encodeCbor(map);
}

/** Reads a sidecar. Throws `record_invalid`: these bytes are our own, so anything unexpected is damage. */
export function decodeSidecar(bytes: Uint8Array): Sidecar {
  let map: CborValue;
  try {
    map = decodeCbor(bytes, { maxBytes: MAX_SIDECAR_BYTES, maxDepth: 2, maxItems: 32 });
  } catch (cause) {
    throw damaged(cause);
  }
  if (!(map instanceof Map)) throw damaged();
  const fields: CborMap = map;
  const claims = fields.get(KEY.claims);
  const owner = fields.get(KEY.owner);
  const grant = fields.get(KEY.grantSha256);
  const payment = fields.get(KEY.payment);
  if (!Array.isArray(claims)) throw damaged();
  return {
    claims: (claims as readonly CborValue[]).map((item) => {
      if (!(item instanceof Uint8Array)) throw damaged();
      return item;
    }),
    visibility: fields.get(KEY.visibility) === 1 ? "public" : "private",
    ...(typeof owner === "string" ? { owner } : {}),
    ...(grant instanceof Uint8Array ? { grantSha256: grant } : {}),
    ...(payment instanceof Uint8Array ? { payment } : {}),
  };
}

function damaged(cause?: unknown): AssayError<"record_invalid"> {
  return new AssayError("record_invalid", "A record beside the log is not what this program writes.", {
    hints: ["Run `assay doctor`; if the disk is sound, restore the log's directory from a copy."],
    ...(cause === undefined ? {} : { cause }),
  });
}
