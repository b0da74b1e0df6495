import { bytesToHex, concatBytes, hexToBytes } from "@assay/core";
import { BATCH_SETTLEMENT, PERMIT2 } from "./addresses.ts";
import { batchDomain, hashWords, keep, permit2Domain, tokenDomain, typedDigest } from "./typed-data.ts";
import type { TokenDomain } from "./typed-data.ts";
import type {
  Address,
  ChannelConfig,
  Eip2612Permit,
  Eip3009Authorization,
  EvmSuite,
  Permit2Authorization,
} from "./types.ts";

// Hashes of EIP-712 types. Permit2 hashes its outer type with the witness's type after the members' (EIP-712, encodeType).

/** TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce) */
const TRANSFER = hexToBytes("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267");
/** ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce) */
const RECEIVE = hexToBytes("d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8");
/** CancelAuthorization(address authorizer,bytes32 nonce) */
const CANCEL = hexToBytes("158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429");
/** Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline) */
const PERMIT = hexToBytes("6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9");
/** TokenPermissions(address token,uint256 amount) */
const TOKEN_PERMISSIONS = hexToBytes("618358ac3db8dc274f0cd8829da7e234bd48cd73c4a740aede1adec9846d06a1");
/** Witness(address to,uint256 validAfter) */
const EXACT_WITNESS = hexToBytes("d97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37");
/** Witness(address to,address facilitator,uint256 validAfter) */
const UPTO_WITNESS = hexToBytes("d4171c445a74218b01d4fd8af34ff1106580ea1e36ff837e64484bfaa2253b75");
/** DepositWitness(bytes32 channelId) */
const DEPOSIT_WITNESS = hexToBytes("ba0000097e86dabe64178afe31109221193339a6861598f2133fcbdc92c84479");
/** PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Witness witness)… */
const PERMIT_EXACT = hexToBytes("ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7");
/** The same with the witness of `upto`. */
const PERMIT_UPTO = hexToBytes("51dff6974ad4388c499e7fcfe838d2bd767162553a144098ce20ea661d70c2ee");
/** The same with `DepositWitness witness`. */
const PERMIT_DEPOSIT = hexToBytes("436a25c01a21a6ed025816c4c9ea3d6132aa879dd7ef16f6188dd3b0aebccc52");
/** ChannelConfig(address payer,address payerAuthorizer,…,uint40 withdrawDelay,bytes32 salt) */
const CHANNEL = hexToBytes("1c9a06ceab9b0ebbd3301dc56c9111bb6d9af421356dc9ccb3b7084c755db308");
/** Voucher(bytes32 channelId,uint128 maxClaimableAmount) */
const VOUCHER = hexToBytes("1e1bd6ff84c3e0d9029a292b212e039c0ca97ec497c55191a4a5874294609a69");
/** Refund(bytes32 channelId,uint256 nonce,uint128 amount) */
const REFUND = hexToBytes("be23ad087435072cd69b49cc5b92de10ee610fce7ae0ab428307972d764bb216");
/** ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed) */
const CLAIM_ENTRY = hexToBytes("30b9a0367528fca13c3e8ec6134c3113f1887ebe7a1ad61de0955aac288b0cf5");
/** ClaimBatch(ClaimEntry[] claims)ClaimEntry(…) */
const CLAIM_BATCH = hexToBytes("42bd57c010b870c2e96203c66341f28a6a19b4d56a74533a8eb5f706b9fd6d57");

function authorization(suite: EvmSuite, type: Uint8Array, domain: TokenDomain, a: Eip3009Authorization): Uint8Array {
  const struct = hashWords(suite, type, a.from, a.to, a.value, a.validAfter, a.validBefore, a.nonce);
  return typedDigest(suite, tokenDomain(suite, domain), struct);
}

/** What an EIP-3009 payer signs for `exact`: anyone may bring it to the token. */
export function transferDigest(suite: EvmSuite, domain: TokenDomain, a: Eip3009Authorization): Uint8Array {
  return authorization(suite, TRANSFER, domain, a);
}

/** What an EIP-3009 payer signs for a deposit: only `to` may bring it to the token. */
export function receiveDigest(suite: EvmSuite, domain: TokenDomain, a: Eip3009Authorization): Uint8Array {
  return authorization(suite, RECEIVE, domain, a);
}

/** What takes an unused EIP-3009 authorization back; `nonce` is its 32 bytes. */
export function cancelDigest(suite: EvmSuite, domain: TokenDomain, authorizer: Address, nonce: Uint8Array): Uint8Array {
  return typedDigest(suite, tokenDomain(suite, domain), hashWords(suite, CANCEL, authorizer, nonce));
}

/** What an EIP-2612 owner signs; `nonce` is the token's next for that owner. */
export function permit2612Digest(
  suite: EvmSuite,
  domain: TokenDomain,
  permit: Pick<Eip2612Permit, "owner" | "spender" | "amount" | "nonce" | "deadline">,
): Uint8Array {
  const { owner, spender, amount, nonce, deadline } = permit;
  const struct = hashWords(suite, PERMIT, owner, spender, amount, nonce, deadline);
  return typedDigest(suite, tokenDomain(suite, domain), struct);
}

// What is permitted and to whom recurs from payment to payment: it is the quote's. Hashes of it are kept.
const permissions = new Map<string, Uint8Array>();
const witnesses = new Map<string, Uint8Array>();
const channels = new Map<string, Uint8Array>();

function permit2(
  suite: EvmSuite,
  type: Uint8Array,
  chainId: number,
  permit: Permit2Authorization,
  witness: Uint8Array,
): Uint8Array {
  const permitted = keep(permissions, `${permit.token}${permit.amount}`, () =>
    hashWords(suite, TOKEN_PERMISSIONS, permit.token, permit.amount),
  );
  const struct = hashWords(suite, type, permitted, permit.spender, permit.nonce, permit.deadline, witness);
  return typedDigest(suite, permit2Domain(suite, chainId), struct);
}

/** What a Permit2 payer signs for `exact`. */
export function permitExactDigest(
  suite: EvmSuite,
  chainId: number,
  permit: Permit2Authorization,
  witness: { readonly to: Address; readonly validAfter: bigint },
): Uint8Array {
  const { to, validAfter } = witness;
  const hash = keep(witnesses, `${to}${validAfter}`, () => hashWords(suite, EXACT_WITNESS, to, validAfter));
  return permit2(suite, PERMIT_EXACT, chainId, permit, hash);
}

/** What a payer signs for `upto`: `facilitator` alone may settle it, for at most the permitted amount. */
export function permitUptoDigest(
  suite: EvmSuite,
  chainId: number,
  permit: Permit2Authorization,
  witness: { readonly to: Address; readonly facilitator: Address; readonly validAfter: bigint },
): Uint8Array {
  const { to, facilitator, validAfter } = witness;
  const hash = keep(witnesses, `${to}${facilitator}${validAfter}`, () =>
    hashWords(suite, UPTO_WITNESS, to, facilitator, validAfter),
  );
  return permit2(suite, PERMIT_UPTO, chainId, permit, hash);
}

/** What a Permit2 payer signs to deposit into the channel whose id (32 bytes) is the witness. */
export function permitDepositDigest(
  suite: EvmSuite,
  chainId: number,
  permit: Permit2Authorization,
  channelId: Uint8Array,
): Uint8Array {
  return permit2(suite, PERMIT_DEPOSIT, chainId, permit, hashWords(suite, DEPOSIT_WITNESS, channelId));
}

/** A channel's id: the EIP-712 digest of its configuration, so that it holds on one chain only. 32 bytes. */
export function channelIdOf(suite: EvmSuite, chainId: number, channel: ChannelConfig): Uint8Array {
  const { payer, payerAuthorizer, receiver, receiverAuthorizer, token, withdrawDelay, salt } = channel;
  const parties = [payer, payerAuthorizer, receiver, receiverAuthorizer, token] as const;
  const key = `${parties.join("")}${withdrawDelay}:${chainId}:${bytesToHex(salt)}`;
  const id = keep(channels, key, () => {
    const struct = hashWords(suite, CHANNEL, ...parties, withdrawDelay, salt);
    return typedDigest(suite, batchDomain(suite, chainId), struct);
  });
  // Callers hold on to ids: what is kept stays as it is, whatever they do with theirs.
  return id.slice();
}

/** What a payer, or its authorizer, signs for each use of a channel: a promise up to `maxClaimable` in all. */
export function voucherDigest(
  suite: EvmSuite,
  chainId: number,
  channelId: Uint8Array,
  maxClaimable: bigint,
): Uint8Array {
  return typedDigest(suite, batchDomain(suite, chainId), hashWords(suite, VOUCHER, channelId, maxClaimable));
}

/** What a receiver's authorizer signs to give `amount` of a channel's balance back. */
export function refundDigest(
  suite: EvmSuite,
  chainId: number,
  channelId: Uint8Array,
  nonce: bigint,
  amount: bigint,
): Uint8Array {
  return typedDigest(suite, batchDomain(suite, chainId), hashWords(suite, REFUND, channelId, nonce, amount));
}

/** What a receiver's authorizer signs so that anyone may bring its claims to the chain. */
export function claimBatchDigest(
  suite: EvmSuite,
  chainId: number,
  claims: readonly { readonly channelId: Uint8Array; readonly maxClaimable: bigint; readonly totalClaimed: bigint }[],
): Uint8Array {
  const entries = claims.map((claim) =>
    hashWords(suite, CLAIM_ENTRY, claim.channelId, claim.maxClaimable, claim.totalClaimed),
  );
  const list = suite.keccak256(concatBytes(...entries));
  return typedDigest(suite, batchDomain(suite, chainId), hashWords(suite, CLAIM_BATCH, list));
}

/** The EIP-3009 nonce of a deposit: keccak256(abi.encode(channelId, uint256 salt)), both 32 bytes. */
export function depositNonce(suite: EvmSuite, channelId: Uint8Array, salt: Uint8Array): Uint8Array {
  return hashWords(suite, channelId, salt);
}

/** The id of a payment that spends a nonce once: keccak256(abi.encode(chain, verifying contract, payer, nonce)). */
export function noncePaymentId(
  suite: EvmSuite,
  chainId: number,
  verifyingContract: Address,
  payer: Address,
  nonce: Uint8Array | bigint,
): Uint8Array {
  return hashWords(suite, chainId, verifyingContract, payer, nonce);
}

/** {@link noncePaymentId} of a Permit2 payment. */
export function permit2PaymentId(suite: EvmSuite, chainId: number, payer: Address, nonce: bigint): Uint8Array {
  return noncePaymentId(suite, chainId, PERMIT2, payer, nonce);
}

/** The id of a signed voucher: keccak256(abi.encode(chain, channel contract, channelId, maxClaimable, keccak(signature))). */
export function voucherPaymentId(
  suite: EvmSuite,
  chainId: number,
  voucher: { readonly channelId: Uint8Array; readonly maxClaimable: bigint; readonly signature: Uint8Array },
): Uint8Array {
  const signature = suite.keccak256(voucher.signature);
  return hashWords(suite, chainId, BATCH_SETTLEMENT, voucher.channelId, voucher.maxClaimable, signature);
}
