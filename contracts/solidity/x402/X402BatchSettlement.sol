// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {TypedData} from "../lib/TypedData.sol";

/// @title Payment channels with cumulative vouchers (x402 scheme `batch-settlement`)
/// @notice A payer deposits once and signs vouchers off chain; each voucher says how much may be claimed in all, so the
/// highest one is enough. Claiming moves no tokens, only `settle` does: one transfer for any number of channels. The payer
/// gets back what is not claimed, at once with the receiver's consent, else after the channel's delay.
///
/// What holds at all times, per channel: `totalClaimed` never falls, never exceeds a voucher that the payer signed nor the
/// channel's `balance`. Per token, what the contract holds is at least the sum over channels of `balance - totalClaimed`
/// plus the sum over receivers of `totalClaimed - totalSettled`.
contract X402BatchSettlement is Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice What a channel is; its EIP-712 digest is the channel's id, so none of it can change.
    /// @param payer Who deposits, and gets back what is left.
    /// @param payerAuthorizer The key that signs vouchers; zero leaves that to `payer` (ECDSA, or EIP-1271 with code).
    /// @param receiver Who is paid.
    /// @param receiverAuthorizer Who may claim and refund besides the receiver, and sign for others to do it.
    /// @param token The ERC-20 token.
    /// @param withdrawDelay Seconds between asking for a withdrawal and getting it.
    /// @param salt Tells apart channels that are otherwise alike.
    struct ChannelConfig {
        address payer;
        address payerAuthorizer;
        address receiver;
        address receiverAuthorizer;
        address token;
        uint40 withdrawDelay;
        bytes32 salt;
    }

    /// @param channel The channel that it is for.
    /// @param maxClaimableAmount The most that may be claimed from the channel in all.
    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    /// @param voucher What the payer signed.
    /// @param signature The payer's, or its authorizer's.
    /// @param totalClaimed What is claimed in all, this claim included.
    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    /// @param balance Deposits less withdrawals and refunds.
    /// @param totalClaimed What was claimed of it in all.
    struct ChannelState {
        uint128 balance;
        uint128 totalClaimed;
    }

    /// @param amount What was asked for, less refunds since.
    /// @param initiatedAt Unix seconds; zero when none is pending.
    struct WithdrawalState {
        uint128 amount;
        uint40 initiatedAt;
    }

    /// @param totalClaimed What was claimed for the receiver in this token in all.
    /// @param totalSettled What of it was sent.
    struct ReceiverState {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    /// @notice A member of the channel's configuration must not be zero.
    error InvalidChannel(ChannelConfig config);
    /// @notice The delay is shorter than 15 minutes or longer than 30 days.
    error WithdrawDelayOutOfRange(uint40 withdrawDelay);
    /// @notice An amount of zero.
    error ZeroAmount();
    /// @notice A claim of nothing.
    error NoClaims();
    /// @notice The collector brought another amount than was announced.
    error WrongDeposit(uint256 expected, uint256 received);
    /// @notice The caller may not do this for the channel.
    error Unauthorized(bytes32 channelId, address caller);
    /// @notice The voucher is not signed by who may sign for the channel.
    error InvalidVoucherSignature(bytes32 channelId);
    /// @notice The signature is not the receiver authorizer's.
    error InvalidAuthorizerSignature(address receiverAuthorizer);
    /// @notice Claims under one signature must have one receiver authorizer.
    error MixedAuthorizers(address expected, address found);
    /// @notice More is claimed than the voucher allows.
    error ClaimExceedsVoucher(bytes32 channelId, uint128 totalClaimed, uint128 maxClaimableAmount);
    /// @notice More is claimed than the channel holds.
    error ClaimExceedsBalance(bytes32 channelId, uint128 totalClaimed, uint128 balance);
    /// @notice More is to be withdrawn than is unclaimed.
    error WithdrawExceedsUnclaimed(bytes32 channelId, uint128 amount, uint128 unclaimed);
    /// @notice A withdrawal is pending already.
    error WithdrawalPending(bytes32 channelId, uint40 initiatedAt);
    /// @notice No withdrawal is pending.
    error NoWithdrawal(bytes32 channelId);
    /// @notice The delay has not passed.
    error WithdrawTooEarly(bytes32 channelId, uint256 availableAt, uint256 timestamp);
    /// @notice The refund was signed for another nonce.
    error WrongRefundNonce(bytes32 channelId, uint256 expected, uint256 given);

    /// @notice First deposit into a channel; again after it was emptied unclaimed.
    event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
    /// @notice A channel of which nothing was claimed was emptied.
    event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
    /// @notice Tokens came in.
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 balance);
    /// @notice `amount` more was claimed; `totalClaimed` is all that was.
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 totalClaimed);
    /// @notice Claimed tokens were sent to their receiver.
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    /// @notice Unclaimed tokens went back with the receiver's consent.
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    /// @notice A withdrawal was asked for.
    event WithdrawInitiated(bytes32 indexed channelId, address indexed sender, uint128 amount, uint256 availableAt);
    /// @notice A withdrawal was paid out.
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    /// @notice The shortest delay: 15 minutes.
    uint40 public constant MIN_WITHDRAW_DELAY = 900;
    /// @notice The longest delay: 30 days.
    uint40 public constant MAX_WITHDRAW_DELAY = 2_592_000;

    /// @notice EIP-712 type hash of a channel's configuration.
    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    /// @notice EIP-712 type hash of a voucher.
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    /// @notice EIP-712 type hash of a refund.
    bytes32 public constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    /// @notice EIP-712 type hash of one claim of a batch.
    bytes32 public constant CLAIM_ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    /// @notice EIP-712 type hash of a batch of claims.
    bytes32 public constant CLAIM_BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );

    bytes32 private constant NAME_HASH = keccak256("x402 Batch Settlement");
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// @notice Balance and claims of a channel.
    mapping(bytes32 channelId => ChannelState) public channels;
    /// @notice The withdrawal that is pending for a channel.
    mapping(bytes32 channelId => WithdrawalState) public pendingWithdrawals;
    /// @notice Claimed and settled sums of a receiver, by token.
    mapping(address receiver => mapping(address token => ReceiverState)) public receivers;
    /// @notice The nonce that the next signed refund must carry; every refund moves it on.
    mapping(bytes32 channelId => uint256) public refundNonce;

    /// @notice Deposits into a channel, which comes into being with its first deposit. Anybody may submit what the payer
    /// signed for the collector.
    /// @param config The channel.
    /// @param amount How much, in the token's smallest unit.
    /// @param collector Brings the tokens. It need not be trusted: what counts is what arrives.
    /// @param collectorData The collector's own.
    function deposit(
        ChannelConfig calldata config,
        uint128 amount,
        address collector,
        bytes calldata collectorData
    ) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        if (
            config.payer == address(0) || config.receiver == address(0) || config.receiverAuthorizer == address(0)
                || config.token == address(0)
        ) revert InvalidChannel(config);
        if (config.withdrawDelay < MIN_WITHDRAW_DELAY || config.withdrawDelay > MAX_WITHDRAW_DELAY) {
            revert WithdrawDelayOutOfRange(config.withdrawDelay);
        }
        bytes32 channelId = getChannelId(config);

        // The guard keeps everything that moves tokens out of this window, so the difference is this deposit's.
        uint256 before = IERC20(config.token).balanceOf(address(this));
        IDepositCollector(collector).collect(config.payer, config.token, amount, channelId, collectorData);
        uint256 received = IERC20(config.token).balanceOf(address(this)) - before;
        if (received != amount) revert WrongDeposit(amount, received);

        ChannelState storage channel = channels[channelId];
        (uint128 balance, uint128 totalClaimed) = (channel.balance, channel.totalClaimed);
        if (balance == 0 && totalClaimed == 0) emit ChannelCreated(channelId, config);
        channel.balance = balance + amount;
        emit Deposited(channelId, msg.sender, amount, balance + amount);
    }

    /// @notice Claims on vouchers; no token moves. The caller is each channel's receiver or receiver authorizer.
    /// A claim that is not above what was claimed before changes nothing, so a batch may be submitted twice.
    function claim(VoucherClaim[] calldata voucherClaims) external nonReentrant {
        if (voucherClaims.length == 0) revert NoClaims();
        bytes32 domain = _domain();
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            ChannelConfig calldata config = voucherClaims[i].voucher.channel;
            bytes32 channelId = _channelId(domain, config);
            _onlyReceiverSide(channelId, config);
            _claim(domain, channelId, voucherClaims[i]);
        }
    }

    /// @notice As `claim`, submitted by anybody with the receiver authorizer's signature over all claims.
    /// @param authorizerSignature Over the EIP-712 `ClaimBatch`; ECDSA, or EIP-1271 when the authorizer has code.
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature)
        external
        nonReentrant
    {
        if (voucherClaims.length == 0) revert NoClaims();
        bytes32 domain = _domain();
        address authorizer = voucherClaims[0].voucher.channel.receiverAuthorizer;
        bytes32[] memory channelIds = new bytes32[](voucherClaims.length);
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            ChannelConfig calldata config = voucherClaims[i].voucher.channel;
            if (config.receiverAuthorizer != authorizer) revert MixedAuthorizers(authorizer, config.receiverAuthorizer);
            channelIds[i] = _channelId(domain, config);
        }
        bytes32 digest = _claimBatchDigest(domain, voucherClaims, channelIds);
        if (!SignatureChecker.isValidSignatureNowCalldata(authorizer, digest, authorizerSignature)) {
            revert InvalidAuthorizerSignature(authorizer);
        }
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            _claim(domain, channelIds[i], voucherClaims[i]);
        }
    }

    /// @notice Sends everything that was claimed for a receiver in a token and not sent yet. Anybody may call it; with
    /// nothing to send it does nothing.
    function settle(address receiver, address token) external nonReentrant {
        ReceiverState storage state = receivers[receiver][token];
        uint128 amount = state.totalClaimed - state.totalSettled;
        if (amount == 0) return;
        state.totalSettled += amount;
        emit Settled(receiver, token, msg.sender, amount);
        IERC20(token).safeTransfer(receiver, amount);
    }

    /// @notice Gives the payer up to `amount` of what is unclaimed. The caller is the receiver or its authorizer.
    function refund(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        bytes32 channelId = getChannelId(config);
        _onlyReceiverSide(channelId, config);
        _refund(channelId, config, amount);
    }

    /// @notice As `refund`, submitted by anybody with the receiver authorizer's signature.
    /// @param nonce Must be `refundNonce` of the channel.
    /// @param receiverAuthorizerSignature Over the EIP-712 `Refund`; ECDSA, or EIP-1271 when the authorizer has code.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external nonReentrant {
        bytes32 channelId = getChannelId(config);
        uint256 expected = refundNonce[channelId];
        if (nonce != expected) revert WrongRefundNonce(channelId, expected, nonce);
        bytes32 digest = getRefundDigest(channelId, nonce, amount);
        if (
            !SignatureChecker.isValidSignatureNowCalldata(
                config.receiverAuthorizer, digest, receiverAuthorizerSignature
            )
        ) revert InvalidAuthorizerSignature(config.receiverAuthorizer);
        _refund(channelId, config, amount);
    }

    /// @notice Asks for `amount` of what is unclaimed; the receiver may claim vouchers until the delay has passed.
    /// The caller is the payer or its authorizer.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        bytes32 channelId = getChannelId(config);
        _onlyPayerSide(channelId, config);
        if (amount == 0) revert ZeroAmount();
        ChannelState memory channel = channels[channelId];
        uint128 unclaimed = channel.balance - channel.totalClaimed;
        if (amount > unclaimed) revert WithdrawExceedsUnclaimed(channelId, amount, unclaimed);
        WithdrawalState storage pending = pendingWithdrawals[channelId];
        if (pending.initiatedAt != 0) revert WithdrawalPending(channelId, pending.initiatedAt);
        pending.amount = amount;
        pending.initiatedAt = uint40(block.timestamp);
        emit WithdrawInitiated(channelId, msg.sender, amount, block.timestamp + config.withdrawDelay);
    }

    /// @notice Pays a withdrawal out after its delay, as far as tokens are unclaimed by then. The caller is the payer or
    /// its authorizer; the tokens go to the payer.
    function finalizeWithdraw(ChannelConfig calldata config) external nonReentrant {
        bytes32 channelId = getChannelId(config);
        _onlyPayerSide(channelId, config);
        WithdrawalState memory pending = pendingWithdrawals[channelId];
        if (pending.initiatedAt == 0) revert NoWithdrawal(channelId);
        uint256 availableAt = uint256(pending.initiatedAt) + config.withdrawDelay;
        if (block.timestamp < availableAt) revert WithdrawTooEarly(channelId, availableAt, block.timestamp);
        delete pendingWithdrawals[channelId];
        uint128 amount = _takeUnclaimed(channelId, config, pending.amount);
        emit WithdrawFinalized(channelId, msg.sender, amount);
        if (amount != 0) IERC20(config.token).safeTransfer(config.payer, amount);
    }

    /// @notice The channel's id: the EIP-712 digest of its configuration, bound to this chain and contract.
    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return _channelId(_domain(), config);
    }

    /// @notice What the payer signs as a voucher.
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32) {
        return _voucherDigest(_domain(), channelId, maxClaimableAmount);
    }

    /// @notice What the receiver authorizer signs as a refund.
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return TypedData.digest(_domain(), keccak256(abi.encode(REFUND_TYPEHASH, channelId, nonce, amount)));
    }

    /// @notice What the receiver authorizer signs as a batch of claims.
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32) {
        bytes32 domain = _domain();
        bytes32[] memory channelIds = new bytes32[](voucherClaims.length);
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            channelIds[i] = _channelId(domain, voucherClaims[i].voucher.channel);
        }
        return _claimBatchDigest(domain, voucherClaims, channelIds);
    }

    /// @notice The EIP-712 domain separator on this chain.
    function domainSeparator() external view returns (bytes32) {
        return _domain();
    }

    function _domain() private view returns (bytes32) {
        return TypedData.separator(NAME_HASH, VERSION_HASH);
    }

    function _channelId(bytes32 domain, ChannelConfig calldata config) private pure returns (bytes32) {
        return TypedData.digest(
            domain,
            keccak256(
                abi.encode(
                    CHANNEL_CONFIG_TYPEHASH,
                    config.payer,
                    config.payerAuthorizer,
                    config.receiver,
                    config.receiverAuthorizer,
                    config.token,
                    config.withdrawDelay,
                    config.salt
                )
            )
        );
    }

    function _voucherDigest(bytes32 domain, bytes32 channelId, uint128 maxClaimableAmount)
        private
        pure
        returns (bytes32)
    {
        return TypedData.digest(domain, keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, maxClaimableAmount)));
    }

    function _claimBatchDigest(bytes32 domain, VoucherClaim[] calldata voucherClaims, bytes32[] memory channelIds)
        private
        pure
        returns (bytes32)
    {
        bytes32[] memory entries = new bytes32[](channelIds.length);
        for (uint256 i = 0; i < channelIds.length; ++i) {
            entries[i] = keccak256(
                abi.encode(
                    CLAIM_ENTRY_TYPEHASH,
                    channelIds[i],
                    voucherClaims[i].voucher.maxClaimableAmount,
                    voucherClaims[i].totalClaimed
                )
            );
        }
        return TypedData.digest(
            domain, keccak256(abi.encode(CLAIM_BATCH_TYPEHASH, keccak256(abi.encodePacked(entries))))
        );
    }

    function _onlyReceiverSide(bytes32 channelId, ChannelConfig calldata config) private view {
        if (msg.sender != config.receiver && msg.sender != config.receiverAuthorizer) {
            revert Unauthorized(channelId, msg.sender);
        }
    }

    function _onlyPayerSide(bytes32 channelId, ChannelConfig calldata config) private view {
        if (msg.sender != config.payer && msg.sender != config.payerAuthorizer) {
            revert Unauthorized(channelId, msg.sender);
        }
    }

    function _claim(bytes32 domain, bytes32 channelId, VoucherClaim calldata voucherClaim) private {
        ChannelConfig calldata config = voucherClaim.voucher.channel;
        uint128 claimed = voucherClaim.totalClaimed;
        uint128 ceiling = voucherClaim.voucher.maxClaimableAmount;
        if (claimed > ceiling) revert ClaimExceedsVoucher(channelId, claimed, ceiling);
        ChannelState storage channel = channels[channelId];
        (uint128 balance, uint128 before) = (channel.balance, channel.totalClaimed);
        if (claimed <= before) return;
        if (claimed > balance) revert ClaimExceedsBalance(channelId, claimed, balance);

        bytes32 digest = _voucherDigest(domain, channelId, ceiling);
        bytes calldata signature = voucherClaim.signature;
        bool valid;
        if (config.payerAuthorizer == address(0)) {
            valid = SignatureChecker.isValidSignatureNowCalldata(config.payer, digest, signature);
        } else {
            (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
            valid = fault == ECDSA.RecoverError.NoError && signer == config.payerAuthorizer;
        }
        if (!valid) revert InvalidVoucherSignature(channelId);

        channel.totalClaimed = claimed;
        receivers[config.receiver][config.token].totalClaimed += claimed - before;
        emit Claimed(channelId, msg.sender, claimed - before, claimed);
    }

    /// @dev The nonce moves on even when nothing is left to give, so that no signed refund can be kept for later.
    function _refund(bytes32 channelId, ChannelConfig calldata config, uint128 amount) private {
        if (amount == 0) revert ZeroAmount();
        unchecked {
            ++refundNonce[channelId];
        }
        uint128 given = _takeUnclaimed(channelId, config, amount);
        if (given == 0) return;
        WithdrawalState storage pending = pendingWithdrawals[channelId];
        if (pending.initiatedAt != 0) {
            if (pending.amount > given) pending.amount -= given;
            else delete pendingWithdrawals[channelId];
        }
        emit Refunded(channelId, msg.sender, given);
        IERC20(config.token).safeTransfer(config.payer, given);
    }

    /// @dev Takes at most `wanted` of what is unclaimed out of the channel's balance.
    function _takeUnclaimed(bytes32 channelId, ChannelConfig calldata config, uint128 wanted)
        private
        returns (uint128 taken)
    {
        ChannelState storage channel = channels[channelId];
        (uint128 balance, uint128 totalClaimed) = (channel.balance, channel.totalClaimed);
        uint128 unclaimed = balance - totalClaimed;
        taken = wanted < unclaimed ? wanted : unclaimed;
        if (taken == 0) return 0;
        channel.balance = balance - taken;
        if (balance == taken && totalClaimed == 0) emit ChannelClosed(channelId, config);
    }
}
