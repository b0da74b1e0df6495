export { assayToken } from "./generated/assay-token.ts";
export { batchSettlement } from "./generated/batch-settlement.ts";
export { erc3009DepositCollector } from "./generated/erc3009-deposit-collector.ts";
export { exactPermit2Proxy } from "./generated/exact-permit2-proxy.ts";
export { multicall3 } from "./generated/multicall3.ts";
export { paymentBatcher } from "./generated/payment-batcher.ts";
export { permit2 } from "./generated/permit2.ts";
export { permit2DepositCollector } from "./generated/permit2-deposit-collector.ts";
export { receiptAnchor } from "./generated/receipt-anchor.ts";
export { split } from "./generated/split.ts";
export { splitFactory } from "./generated/split-factory.ts";
export { testUsdCoin } from "./generated/test-usd-coin.ts";
export { testUsdc } from "./generated/test-usdc.ts";
export { testWallet1271 } from "./generated/test-wallet1271.ts";
export { testWalletFactory } from "./generated/test-wallet-factory.ts";
export { uptoPermit2Proxy } from "./generated/upto-permit2-proxy.ts";
export { splitFactoryAddress, splitImplementationAddress, testWalletFactoryAddress } from "./generated/addresses.ts";
export {
  anchorEntryTypes,
  anchorDomain,
  batchSettlementDomain,
  canonicalAddresses,
  create2Deployer,
  developmentProfiles,
  zeroSalt,
} from "./canonical.ts";
export type { DevelopmentProfile } from "./canonical.ts";
export { publicBatchSettlementTemplate, publicCodeHashes } from "./public-code.ts";
export { maxSplitPayees, splitAddressOf } from "./split-address.ts";
export type { Address, Artifact, Deployments, Hex, PaymentScheme, TokenInfo } from "./types.ts";
