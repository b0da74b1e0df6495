// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IAuthorizedTransfer} from "../interfaces/IAuthorizedTransfer.sol";
import {Canonical} from "../lib/Canonical.sol";
import {X402ExactPermit2Proxy} from "../x402/X402ExactPermit2Proxy.sol";
import {X402UptoPermit2Proxy} from "../x402/X402UptoPermit2Proxy.sol";

/// @title Settles many payments in one transaction, each on its own
/// @notice Submits signed payments (EIP-3009, exact and upto through Permit2). Each moves straight from its payer to the
/// receiver that the payer signed; a payment that fails says why in its event and hinders no other. The contract is the
/// `facilitator` that upto payments name, so only its operators can say what was used of them. No token ever passes through
/// it, and it has no function that could move one out.
contract PaymentBatcher is Ownable2Step, ReentrancyGuardTransient {
    /// @notice How a payment was signed.
    enum Kind {
        Eip3009,
        ExactPermit2,
        UptoPermit2
    }

    /// @param kind How it was signed.
    /// @param receiptDigest The digest that the receipt goes by which it pays for.
    /// @param token What is paid with.
    /// @param payer Who signed.
    /// @param payTo Who receives, as signed.
    /// @param amount What moves: for Eip3009 and ExactPermit2 what was signed, for UptoPermit2 at most that.
    /// @param permitted The signed amount of Permit2 payments; not read for Eip3009.
    /// @param validAfter Unix seconds, as signed.
    /// @param deadline Unix seconds, as signed: `validBefore` for Eip3009, `deadline` for Permit2.
    /// @param nonce As signed; Permit2's number as 32 bytes.
    /// @param signature The payer's: 65 bytes, or what its contract accepts.
    /// @param permit2612 Empty, or abi.encode(uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s): the payer's
    /// EIP-2612 permit for Permit2, submitted first; whether it succeeds decides nothing by itself.
    struct Payment {
        Kind kind;
        bytes32 receiptDigest;
        address token;
        address payer;
        address payTo;
        uint256 amount;
        uint256 permitted;
        uint256 validAfter;
        uint256 deadline;
        bytes32 nonce;
        bytes signature;
        bytes permit2612;
    }

    /// @notice The caller is no operator.
    error NotOperator(address caller);
    /// @notice A batch of nothing.
    error NoPayments();
    /// @notice Too little gas is left to give the payment at `index` its share. Without this check, too small a gas limit
    /// would look like a failed payment.
    error InsufficientGas(uint256 index, uint256 gasLeft);

    /// @notice A payment was tried. `ok` says whether it moved; `reason` is the start of what it reverted with.
    event PaymentSettled(
        bytes32 indexed paymentId,
        bytes32 indexed receiptDigest,
        address indexed payer,
        address token,
        address payTo,
        uint256 amount,
        bool ok,
        bytes reason
    );
    /// @notice An account became an operator, or is one no more.
    event OperatorChanged(address indexed operator, bool allowed);

    /// @notice What one payment may use: several times what the costliest honest one needs, an EIP-1271 payer included,
    /// so that a payer's contract cannot eat the batch.
    uint256 public constant GAS_PER_PAYMENT = 300_000;
    /// @notice What one EIP-2612 permit may use.
    uint256 public constant GAS_PER_PERMIT = 120_000;
    /// @notice Bytes of a revert reason that are kept: a selector with four words, or a short sentence.
    uint256 public constant MAX_REASON = 132;

    /// @dev A call gets at most 63/64 of what is left (EIP-150); the rest of the margin pays for the event.
    uint256 private constant GAS_NEEDED = GAS_PER_PAYMENT * 33 / 32;

    /// @notice Who may settle.
    mapping(address account => bool) public isOperator;

    /// @param owner Who appoints operators.
    /// @param operators The first ones.
    constructor(address owner, address[] memory operators) Ownable(owner) {
        for (uint256 i = 0; i < operators.length; ++i) {
            _setOperator(operators[i], true);
        }
    }

    /// @notice Makes an account an operator, or ends that.
    function setOperator(address operator, bool allowed) external onlyOwner {
        _setOperator(operator, allowed);
    }

    /// @notice Settles payments in order. What fails is in the events and does not revert.
    /// @return settled How many moved.
    function settle(Payment[] calldata payments) external nonReentrant returns (uint256 settled) {
        if (!isOperator[msg.sender]) revert NotOperator(msg.sender);
        if (payments.length == 0) revert NoPayments();
        uint256 free;
        assembly ("memory-safe") {
            free := mload(0x40)
        }
        for (uint256 i = 0; i < payments.length; ++i) {
            // Nothing of a payment outlives its turn. Memory that only grew would cost more with every payment.
            assembly ("memory-safe") {
                mstore(0x40, free)
            }
            Payment calldata payment = payments[i];
            bytes calldata permit2612 = payment.permit2612;
            if (permit2612.length == 0) {
                if (gasleft() < GAS_NEEDED) revert InsufficientGas(i, gasleft());
            } else {
                if (gasleft() < GAS_NEEDED + GAS_PER_PERMIT * 33 / 32) revert InsufficientGas(i, gasleft());
                _permit(payment, permit2612);
            }
            (bool ok, bytes memory reason) = _settle(payment);
            if (ok) ++settled;
            emit PaymentSettled(
                paymentId(payment),
                payment.receiptDigest,
                payment.payer,
                payment.token,
                payment.payTo,
                payment.amount,
                ok,
                reason
            );
        }
    }

    /// @notice The payment's id: keccak256(abi.encode(chainId, verifyingContract, payer, nonce)), where the verifying
    /// contract is the token for EIP-3009 and Permit2 otherwise.
    function paymentId(Payment calldata payment) public view returns (bytes32) {
        address verifyingContract = payment.kind == Kind.Eip3009 ? payment.token : Canonical.PERMIT2;
        return keccak256(abi.encode(block.chainid, verifyingContract, payment.payer, payment.nonce));
    }

    function _setOperator(address operator, bool allowed) private {
        isOperator[operator] = allowed;
        emit OperatorChanged(operator, allowed);
    }

    /// @dev A call to an address without code succeeds, and Permit2 does not look either: such a payment would be said to
    /// have moved.
    function _settle(Payment calldata payment) private returns (bool, bytes memory) {
        if (payment.token.code.length == 0) return (false, "");
        if (payment.kind == Kind.Eip3009) {
            return _call(
                payment.token,
                GAS_PER_PAYMENT,
                abi.encodeCall(
                    IAuthorizedTransfer.transferWithAuthorization,
                    (
                        payment.payer,
                        payment.payTo,
                        payment.amount,
                        payment.validAfter,
                        payment.deadline,
                        payment.nonce,
                        payment.signature
                    )
                )
            );
        }
        // The proxies' structs have static members only, so their encoding is that of the members one after the other:
        // the same bytes without building the structs first.
        if (payment.kind == Kind.ExactPermit2) {
            return _call(
                Canonical.EXACT_PROXY,
                GAS_PER_PAYMENT,
                abi.encodeWithSelector(
                    X402ExactPermit2Proxy.settle.selector,
                    payment.token,
                    payment.permitted,
                    payment.nonce,
                    payment.deadline,
                    payment.payer,
                    payment.payTo,
                    payment.validAfter,
                    payment.signature
                )
            );
        }
        return _call(
            Canonical.UPTO_PROXY,
            GAS_PER_PAYMENT,
            abi.encodeWithSelector(
                X402UptoPermit2Proxy.settle.selector,
                payment.token,
                payment.permitted,
                payment.nonce,
                payment.deadline,
                payment.amount,
                payment.payer,
                payment.payTo,
                address(this),
                payment.validAfter,
                payment.signature
            )
        );
    }

    /// @dev Bytes that abi.decode refuses would revert the whole batch. Five words decode whatever they hold, and a `v`
    /// above 255 is the token's to refuse.
    function _permit(Payment calldata payment, bytes calldata permit2612) private {
        if (permit2612.length != 160) return;
        (uint256 value, uint256 deadline, uint256 v, bytes32 r, bytes32 s) =
            abi.decode(permit2612, (uint256, uint256, uint256, bytes32, bytes32));
        bytes memory data = abi.encodeWithSelector(
            IERC20Permit.permit.selector, payment.payer, Canonical.PERMIT2, value, deadline, v, r, s
        );
        _call(payment.token, GAS_PER_PERMIT, data);
    }

    /// @dev Copies at most MAX_REASON bytes of what came back: a revert reason's length is the callee's to choose.
    function _call(address target, uint256 gasLimit, bytes memory data) private returns (bool ok, bytes memory reason) {
        assembly ("memory-safe") {
            ok := call(gasLimit, target, 0, add(data, 0x20), mload(data), 0, 0)
            reason := mload(0x40)
            let size := 0
            if iszero(ok) {
                size := returndatasize()
                if gt(size, MAX_REASON) { size := MAX_REASON }
            }
            mstore(reason, size)
            returndatacopy(add(reason, 0x20), 0, size)
            mstore(0x40, and(add(add(reason, 0x3f), size), not(0x1f)))
        }
    }
}
