import { canonicalAddresses } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import { createChain } from "@assay/driver-chain";
import type { ReceiptCheck, Trust } from "@assay/receipts";
import { createChainReader } from "@assay/sdk";
import { createChainChecks } from "@assay/service-ledger";
import type { Address } from "@assay/x402";
import { cliError } from "./render-error.ts";
import type { World } from "./world.ts";

/** The contracts that a trust has to name before a chain says anything. */
const NEEDED = ["paymentBatcher", "receiptAnchor"] as const;

/**
 * The checks that ask the chain at `url`: which contracts on it are believed is the trust's to say, and no gateway's. Throws
 * `chain_unavailable`, and `usage_invalid` for a trust that names none for this chain.
 */
export async function chainEvidence(
  world: World,
  url: string,
  trust: Trust,
): Promise<{ readonly payment: ReceiptCheck; readonly anchor: ReceiptCheck }> {
  const chainId = await createChainReader({ url, fetch: world.fetch }).chainId();
  const network = `eip155:${chainId}` as const;
  const contracts = trust.chains.find(({ chain }) => chain === network)?.contracts ?? {};
  const at = (name: string): Address | undefined => {
    const text = contracts[name];
    return text !== undefined && /^0x[0-9a-fA-F]{40}$/.test(text) ? (text.toLowerCase() as Address) : undefined;
  };
  const [paymentBatcher, receiptAnchor] = NEEDED.map(at);
  if (!paymentBatcher || !receiptAnchor) {
    throw cliError("usage_invalid", `The trust file names no contracts of ${network}, so its chain proves nothing.`, {
      hints: [`It has to have ${NEEDED.join(" and ")} under chains: \`assay trust export\` writes one.`],
    });
  }
  const deployments: Deployments = {
    ...canonicalAddresses,
    chainId,
    network,
    paymentBatcher,
    receiptAnchor,
    splitFactory: at("splitFactory") ?? paymentBatcher,
    tokens: [],
  };
  return createChainChecks({ chain: createChain({ url, chainId }), deployments });
}
