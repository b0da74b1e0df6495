export {
  BATCH_SETTLEMENT,
  ERC3009_DEPOSIT_COLLECTOR,
  EXACT_PERMIT2_PROXY,
  PERMIT2,
  PERMIT2_DEPOSIT_COLLECTOR,
  UPTO_PERMIT2_PROXY,
  ZERO_ADDRESS,
} from "./addresses.ts";
export {
  authorizeDeposit,
  authorizeExact,
  authorizePermit2612,
  authorizeRefund,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
} from "./authorize.ts";
export type { Authorize, AuthorizeChannel } from "./authorize.ts";
export {
  admitVoucher,
  applyChain,
  applyCharge,
  applyDeposit,
  applyRefund,
  channelStateOf,
  claimable,
  judgeDeposit,
  judgeRefund,
  openAccount,
  resyncFor,
} from "./channel.ts";
export type { ChannelAccount, RefundVerdict, VoucherVerdict } from "./channel.ts";
export { checkPayment } from "./check.ts";
export type { CheckOptions } from "./check.ts";
export {
  cancelDigest,
  channelIdOf,
  claimBatchDigest,
  depositNonce,
  noncePaymentId,
  permit2612Digest,
  permit2PaymentId,
  permitDepositDigest,
  permitExactDigest,
  permitUptoDigest,
  receiveDigest,
  refundDigest,
  transferDigest,
  voucherDigest,
  voucherPaymentId,
} from "./digests.ts";
export {
  EIP2612_GAS_SPONSORING,
  PAYMENT_IDENTIFIER,
  isPaymentIdentifier,
  offeredExtensions,
  readIdentifier,
  readSponsored,
  sponsoredToJson,
} from "./extensions.ts";
export { checksumAddress, fromHex, toHex } from "./hex.ts";
export { matchRequirement } from "./match.ts";
export { chainIdOf, networkOfV1Name, v1NameOf } from "./networks.ts";
export { depositIdOf, paymentIdOf, paymentParty } from "./party.ts";
export { nextVoucher, resyncFrom } from "./payer-channel.ts";
export type { PayerAccount } from "./payer-channel.ts";
export { encodePayment, parsePaymentDocument, parsePaymentHeader, paymentDocument, sponsoredOf } from "./payload.ts";
export type { PaymentHeaderName, QuoteEcho } from "./payload.ts";
export { channelConfigToJson, parseChannelConfig } from "./payment.ts";
export { SPEND_NOTHING, assetLimitOf, chooseRequirement, judgeQuote } from "./policy.ts";
export type { AssetLimit, Capabilities, SpendPolicy, SpendQuestion, Spent } from "./policy.ts";
export { encodePaymentRequired, parsePaymentRequired, paymentRequiredDocument, paymentRequiredV1 } from "./required.ts";
export type { ParsedQuote } from "./required.ts";
export { parseRequirements, requirementsToJson } from "./requirements.ts";
export {
  channelOutcome,
  encodeSettlementResponse,
  parseSettlementDocument,
  parseSettlementResponse,
  settlementDocument,
} from "./settlement.ts";
export { isErc6492, isSignedBy, judgeSigner, unwrapErc6492, wrapErc6492 } from "./signature.ts";
export type { AccountCode, Deployment, SignatureQuestion, SignerVerdict } from "./signature.ts";
export { hashWords, tokenDomain, typedDigest } from "./typed-data.ts";
export type { TokenDomain, Word } from "./typed-data.ts";
export type {
  Address,
  ChannelConfig,
  ChannelStateWire,
  Eip2612Permit,
  Eip3009Authorization,
  EvmSigner,
  EvmSuite,
  Hex,
  Network,
  Payment,
  PaymentParty,
  PaymentPayload,
  PaymentRequired,
  PaymentRequirements,
  Permit2Authorization,
  RequirementExtra,
  ResourceInfo,
  Scheme,
  SettlementResponse,
  TransferMethod,
  VerifyResponse,
  Voucher,
} from "./types.ts";
export { formatUnits, parseUnits } from "./units.ts";
export type { Admission, Refusal } from "./verdict.ts";
