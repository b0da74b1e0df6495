import { base64ToBytes, bytesToHex, equalBytes } from "@assay/core";
import { receiptAnchor } from "@assay/contracts";
import type { CheckOutcome, ReceiptView } from "@assay/receipts";
import { encodeFunctionData } from "viem";
import { readAnchorMap } from "../anchor/bundle-anchor.ts";
import type { BundleAnchor } from "../anchor/bundle-anchor.ts";
import { entryHash } from "../anchor/entry.ts";
import { hashLeaf, provesLeaf } from "../anchor/tree.ts";
import { outcome } from "./tools.ts";
import type { CheckTools } from "./tools.ts";

/** Whether every anchor of a bundle holds: leaf and receipt are one, the proof leads to the root, the contract has the entry. */
export async function checkAnchors(tools: CheckTools, view: ReceiptView): Promise<CheckOutcome> {
  const anchors = view.bundle.anchors ?? [];
  if (anchors.length === 0)
    return outcome("inconclusive", "anchor_unknown", "The bundle names an anchor and does not carry it.");
  let last: CheckOutcome | undefined;
  for (const map of anchors) {
    const anchor = readAnchorMap(map);
    if (!anchor) return outcome("inconclusive", "anchor_unknown", "An anchor is of a kind that is not known here.");
    last = await checkOne(tools, view, anchor);
    if (last.status !== "pass") return last;
  }
  return last ?? outcome("inconclusive", "anchor_unknown", "There is no anchor.");
}

async function checkOne(tools: CheckTools, view: ReceiptView, anchor: BundleAnchor): Promise<CheckOutcome> {
  const { deployments, reads, suite } = tools;
  const fault = leafFault(view, anchor);
  if (fault) return outcome("fail", "anchor_leaf_mismatch", fault);
  const { entry, leaf, proof } = anchor;
  if (entry.leafCount === 0 || !provesLeaf(suite.keccak256, hashLeaf(suite.keccak256, leaf), proof, entry.root))
    return outcome(
      "fail",
      "anchor_proof_invalid",
      "The proof does not lead from the receipt's leaf to the batch's root.",
    );
  if (conflictsWithCheckpoint(view, anchor))
    return outcome(
      "fail",
      "anchor_log_conflict",
      "The entry gives the log another root than the bundle's checkpoint.",
      {
        logSize: String(entry.logSize),
      },
    );
  if (anchor.network !== deployments.network)
    return outcome("inconclusive", "anchor_other_network", "The anchor is on another chain than the one asked.", {
      anchor: anchor.network,
      asked: deployments.network,
    });
  // A contract that the bundle chose itself says nothing.
  if (anchor.contract !== deployments.receiptAnchor)
    return outcome("inconclusive", "anchor_contract_unknown", "The anchor is in a contract that is not trusted here.", {
      anchor: anchor.contract,
      trusted: deployments.receiptAnchor,
    });
  const hash = entryHash(suite, { chainId: deployments.chainId, contract: anchor.contract }, entry);
  const answer = await reads.call({
    to: anchor.contract,
    data: encodeFunctionData({ abi: receiptAnchor.abi, functionName: "postedAt", args: [`0x${bytesToHex(hash)}`] }),
  });
  const posted = answer.ok && answer.data !== "0x" ? BigInt(answer.data) : 0n;
  const facts = { entry: bytesToHex(hash), root: bytesToHex(entry.root), submitter: entry.submitter };
  if (posted > 0n)
    return outcome("pass", "anchored", "The receipt is in a batch whose root is on the chain.", {
      ...facts,
      postedAt: new Date(Number(posted) * 1000).toISOString(),
    });
  return anchor.transaction === undefined
    ? outcome("inconclusive", "anchor_pending", "The batch was made and is not on the chain yet.", facts)
    : outcome("fail", "anchor_not_on_chain", "The chain does not have the entry.", facts);
}

/** What of a leaf is not the receipt's, in a sentence. */
function leafFault(view: ReceiptView, { leaf }: BundleAnchor): string | undefined {
  const { execution, service, bundle } = view;
  if (!equalBytes(leaf.executionDigest, execution.statement.digest)) return "The leaf is of another execution.";
  if (!service || !equalBytes(leaf.serviceDigest, service.statement.digest))
    return "The leaf is of another service statement than the bundle's.";
  const payment = service.claims.payment;
  const claimed = payment?.paymentId.replace(/^0x/, "").toLowerCase() ?? "0".repeat(64);
  if (bytesToHex(leaf.paymentId) !== claimed) return "The leaf names another payment.";
  if (leaf.amountAtomic.toString() !== (payment?.amountAtomic ?? "0")) return "The leaf names another amount.";
  const [first] = bundle.log ?? [];
  if (first && first.index !== leaf.logIndex) return "The leaf names another place in the log.";
  return undefined;
}

/** Whether a checkpoint of the bundle gives the anchored log size another root (C2SP tlog-checkpoint: origin, size, root). */
function conflictsWithCheckpoint(view: ReceiptView, { entry }: BundleAnchor): boolean {
  return (view.bundle.checkpoints ?? []).some((note) => {
    const [, size, root] = note.split("\n", 3);
    if (size !== String(entry.logSize) || root === undefined) return false;
    try {
      return !equalBytes(base64ToBytes(root), entry.logRoot);
    } catch {
      // The log check says what is wrong with a note that cannot be read.
      return false;
    }
  });
}
