// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {ISignatureTransfer} from "../interfaces/ISignatureTransfer.sol";
import {Canonical} from "../lib/Canonical.sol";

/// @title What the exact and the upto proxy have in common
/// @notice Payers sign Permit2 transfers whose spender is a proxy and whose witness names the receiver. The proxy is the
/// only spender that such a signature allows and sends to no other receiver, so whoever submits it cannot divert it.
/// It keeps nothing, neither tokens nor state, so there is nothing that a token could find half done by calling back in;
/// Permit2 spends the nonce before it calls the token. Error names and their parameters are those of the deployed x402 proxies, which clients match by name.
abstract contract Permit2Proxy {
    /// @notice An EIP-2612 permit for Permit2, to be submitted with the payment.
    /// @param value Allowance to give: exactly what the payment permits.
    /// @param deadline Unix seconds.
    struct EIP2612Permit {
        uint256 value;
        uint256 deadline;
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    /// @notice The receiver is the zero address.
    error InvalidDestination();
    /// @notice The owner is the zero address.
    error InvalidOwner();
    /// @notice The witness' `validAfter` has not come.
    error PaymentTooEarly();
    /// @notice The permit gives another allowance than the payment permits.
    error Permit2612AmountMismatch();

    /// @notice A payment was settled.
    event Settled();
    /// @notice A payment was settled together with its EIP-2612 permit.
    event SettledWithPermit();

    /// @notice The Permit2 contract that payments go through.
    ISignatureTransfer public constant PERMIT2 = ISignatureTransfer(Canonical.PERMIT2);

    /// @dev Checks and moves; Permit2 spends the nonce before it calls the token.
    function _transfer(
        ISignatureTransfer.PermitTransferFrom calldata permit,
        uint256 amount,
        address owner,
        address to,
        uint256 validAfter,
        bytes32 witness,
        string memory witnessType,
        bytes calldata signature
    ) internal {
        if (owner == address(0)) revert InvalidOwner();
        if (to == address(0)) revert InvalidDestination();
        if (block.timestamp < validAfter) revert PaymentTooEarly();
        PERMIT2.permitWitnessTransferFrom(
            permit,
            ISignatureTransfer.SignatureTransferDetails({to: to, requestedAmount: amount}),
            owner,
            witness,
            witnessType,
            signature
        );
    }

    /// @dev A permit that somebody submitted before has done its work: what it is needed for decides, not the permit.
    function _permit(
        EIP2612Permit calldata permit2612,
        ISignatureTransfer.TokenPermissions calldata permitted,
        address owner
    ) internal {
        if (permit2612.value != permitted.amount) revert Permit2612AmountMismatch();
        if (permitted.token.code.length == 0) return;
        try IERC20Permit(permitted.token).permit(
            owner,
            Canonical.PERMIT2,
            permit2612.value,
            permit2612.deadline,
            permit2612.v,
            permit2612.r,
            permit2612.s
        ) {} catch {}
    }
}
