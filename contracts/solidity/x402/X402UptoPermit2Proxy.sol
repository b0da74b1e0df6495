// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ISignatureTransfer} from "../interfaces/ISignatureTransfer.sol";
import {Permit2Proxy} from "./Permit2Proxy.sol";

/// @title Settles x402 payments of the scheme `upto` through Permit2
/// @notice Moves at most what was permitted to the receiver that the payer signed. Only the facilitator that the payer
/// signed may say how much, because the amount is not signed.
contract X402UptoPermit2Proxy is Permit2Proxy {
    /// @param to Who receives.
    /// @param facilitator Who may settle.
    /// @param validAfter Unix seconds from which on the payment may be settled.
    struct Witness {
        address to;
        address facilitator;
        uint256 validAfter;
    }

    /// @notice More was asked for than was permitted.
    error AmountExceedsPermitted();
    /// @notice The caller is not the facilitator that was signed.
    error UnauthorizedFacilitator();

    /// @notice What Permit2 appends to its own type to build the signed type.
    string public constant WITNESS_TYPE_STRING =
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)";
    /// @notice Type hash of the witness.
    bytes32 public constant WITNESS_TYPEHASH = keccak256("Witness(address to,address facilitator,uint256 validAfter)");

    /// @notice Settles `amount` of a payment, once.
    /// @param permit What `owner` signed for Permit2.
    /// @param amount What was used, at most what was permitted; zero spends the nonce and moves nothing.
    /// @param owner Who pays.
    /// @param witness Receiver, facilitator and first moment, part of what was signed.
    /// @param signature `owner`'s, ECDSA or EIP-1271.
    function settle(
        ISignatureTransfer.PermitTransferFrom calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _settle(permit, amount, owner, witness, signature);
        emit Settled();
    }

    /// @notice Submits `owner`'s EIP-2612 permit for Permit2 if it still counts, and settles `amount` of the payment.
    function settleWithPermit(
        EIP2612Permit calldata permit2612,
        ISignatureTransfer.PermitTransferFrom calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _permit(permit2612, permit.permitted, owner);
        _settle(permit, amount, owner, witness, signature);
        emit SettledWithPermit();
    }

    function _settle(
        ISignatureTransfer.PermitTransferFrom calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) private {
        if (msg.sender != witness.facilitator) revert UnauthorizedFacilitator();
        if (amount > permit.permitted.amount) revert AmountExceedsPermitted();
        bytes32 witnessHash =
            keccak256(abi.encode(WITNESS_TYPEHASH, witness.to, witness.facilitator, witness.validAfter));
        _transfer(permit, amount, owner, witness.to, witness.validAfter, witnessHash, WITNESS_TYPE_STRING, signature);
    }
}
