import { bytesToHex } from "@assay/core";
import { receiptAnchor } from "@assay/contracts";
import { UNKNOWN_ANCHOR, anchorFault, readAnchor } from "@assay/receipts";
import type { CheckOutcome, ReceiptView, StatedAnchor } from "@assay/receipts";
import { chainIdOf, isSignedBy } from "@assay/x402";
import type { EvmSuite } from "@assay/x402";
import { encodeFunctionData } from "viem";
import { entryHash } from "../anchor/entry.ts";
import { hashLeaf, provesLeaf } from "../anchor/tree.ts";
import { outcome } from "./tools.ts";
import type { CheckTools } from "./tools.ts";

/**
 * Whether every anchor of a bundle holds (docs/spec/receipt.md section 8.1): leaf and receipt are one, the proof leads to the
 * root, the submitter signed the entry, the contract has it. Without a chain the last is left open.
 */
export async function checkAnchors(
  suite: EvmSuite,
  view: ReceiptView,
  tools: CheckTools | undefined,
): Promise<CheckOutcome> {
  const anchors = view.bundle.anchors ?? [];
  if (anchors.length === 0)
    return outcome(
      "inconclusive",
      tools ? "anchor_unknown" : "anchor_unchecked",
      "The bundle names an anchor and does not carry it.",
    );
  const found: CheckOutcome[] = [];
  for (const map of anchors) {
    const anchor = readAnchor(map);
    const fault = anchor ? (anchorFault(view, anchor) ?? entryFault(suite, anchor)) : UNKNOWN_ANCHOR;
    if (fault) found.push(fault);
    else if (anchor) found.push(tools ? await checkPosted(tools, anchor) : unasked(suite, anchor));
  }
  const at = (status: CheckOutcome["status"]): CheckOutcome | undefined => found.find((one) => one.status === status);
  return at("fail") ?? at("inconclusive") ?? at("pass") ?? UNKNOWN_ANCHOR;
}

function unasked(suite: EvmSuite, anchor: StatedAnchor): CheckOutcome {
  const message = anchor.signature
    ? "The receipt is under a root that its submitter signed. No chain was asked whether it was posted."
    : "The receipt is under the entry's root. No chain was asked whether it was posted.";
  return outcome("inconclusive", "anchor_unchecked", message, factsOf(suite, anchor));
}

/** What of an entry does not follow from the leaf, or is not its submitter's. */
function entryFault(suite: EvmSuite, { network, contract, entry, leaf, proof, signature }: StatedAnchor) {
  if (entry.leafCount === 0 || !provesLeaf(suite.keccak256, hashLeaf(suite.keccak256, leaf), proof, entry.root))
    return outcome(
      "fail",
      "anchor_proof_invalid",
      "The proof does not lead from the receipt's leaf to the batch's root.",
    );
  if (signature === undefined) return undefined;
  const hash = entryHash(suite, { chainId: chainIdOf(network), contract }, entry);
  return isSignedBy(suite, entry.submitter, hash, signature)
    ? undefined
    : outcome("fail", "anchor_signature_invalid", "The anchored entry is not signed by its submitter.");
}

function factsOf(suite: EvmSuite, { network, contract, entry }: StatedAnchor): Readonly<Record<string, string>> {
  const hash = entryHash(suite, { chainId: chainIdOf(network), contract }, entry);
  return { entry: bytesToHex(hash), root: bytesToHex(entry.root), submitter: entry.submitter };
}

async function checkPosted(tools: CheckTools, anchor: StatedAnchor): Promise<CheckOutcome> {
  const { deployments, reads, suite } = tools;
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
  const facts = factsOf(suite, anchor);
  const answer = await reads.call({
    to: anchor.contract,
    data: encodeFunctionData({ abi: receiptAnchor.abi, functionName: "postedAt", args: [`0x${facts["entry"]}`] }),
  });
  if (answer.ok && answer.data !== "0x" && !/^0x[0-9a-f]{64}$/.test(answer.data))
    return outcome("inconclusive", "chain_unavailable", "The node answered something else than a time.", facts);
  const posted = answer.ok && answer.data !== "0x" ? BigInt(answer.data) : 0n;
  if (posted > 0n)
    return outcome("pass", "anchored", "The node that was asked has the receipt's batch on its chain.", {
      ...facts,
      postedAt: posted < LATEST_S ? new Date(Number(posted) * 1000).toISOString() : posted.toString(),
    });
  return anchor.transaction === undefined
    ? outcome("inconclusive", "anchor_pending", "The batch was made and is not on the chain yet.", facts)
    : outcome("fail", "anchor_not_on_chain", "The chain does not have the entry.", facts);
}

/** The year 10000: a node may answer any number, and later ones are no dates. */
const LATEST_S = 253_402_300_800n;
