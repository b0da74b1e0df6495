import { AssayError, concatBytes, hexToBytes, utf8ToBytes } from "@assay/core";
import type { Chain } from "@assay/driver-chain";
import type { ChannelFacts } from "@assay/service-ledger";
import type { Address, EvmSuite, Hex } from "@assay/x402";

/**
 * What the channel contract says of a channel, in one call: its money, what is being withdrawn, and how often it was
 * refunded. A channel that was never opened is one without money. Throws `chain_unavailable` and `chain_rpc_error`.
 */
export function channelReader(
  suite: Pick<EvmSuite, "keccak256">,
  chain: Pick<Chain, "read">,
  contract: Address,
): (channelId: Hex) => Promise<ChannelFacts> {
  const selector = (signature: string): Uint8Array => suite.keccak256(utf8ToBytes(signature)).subarray(0, 4);
  const views = [
    { data: selector("channels(bytes32)"), words: 2 },
    { data: selector("pendingWithdrawals(bytes32)"), words: 2 },
    { data: selector("refundNonce(bytes32)"), words: 1 },
  ];
  return async (channelId) => {
    const id = hexToBytes(channelId.slice(2));
    const { results } = await chain.read(
      views.map(({ data, words }) => ({ kind: "call", to: contract, data: concatBytes(data, id), words })),
    );
    const [channel, withdrawal, refunds] = results;
    if (!channel?.ok || !withdrawal?.ok || !refunds?.ok)
      throw new AssayError("chain_rpc_error", "The channel contract is not where it is expected on this chain.");
    const [balance = 0n, totalClaimed = 0n] = channel.words;
    const [withdrawAmount = 0n, requestedAt = 0n] = withdrawal.words;
    return {
      balance,
      totalClaimed,
      withdrawAmount,
      withdrawRequestedAt: Number(requestedAt),
      refundNonce: refunds.words[0] ?? 0n,
    };
  };
}
