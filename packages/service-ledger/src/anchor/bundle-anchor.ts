import { ANCHOR_TYPE } from "@assay/receipts";
import type { OpenMap, StatedAnchor } from "@assay/receipts";

/** The open map of a bundle's `anchors` (docs/spec/receipt.md section 8.1). */
export function anchorMap(anchor: StatedAnchor): OpenMap {
  const { entry, leaf, signature, transaction, blockNumber } = anchor;
  return {
    type: ANCHOR_TYPE,
    network: anchor.network,
    contract: anchor.contract,
    entry: { ...entry },
    leaf: {
      executionDigest: leaf.executionDigest,
      serviceDigest: leaf.serviceDigest,
      paymentId: leaf.paymentId,
      amountAtomic: leaf.amountAtomic.toString(),
      logIndex: leaf.logIndex,
    },
    proof: [...anchor.proof],
    ...(signature === undefined ? {} : { signature }),
    ...(transaction === undefined ? {} : { transaction }),
    ...(blockNumber === undefined ? {} : { blockNumber }),
  };
}
