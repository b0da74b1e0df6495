// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ISignatureTransfer} from "../interfaces/ISignatureTransfer.sol";
import {Permit2Proxy} from "./Permit2Proxy.sol";

/// @title Settles x402 payments of the scheme `exact` through Permit2
/// @notice Moves exactly what was permitted to the receiver that the payer signed. Anybody may submit it.
contract X402ExactPermit2Proxy is Permit2Proxy {
    /// @param to Who receives.
    /// @param validAfter Unix seconds from which on the payment may be settled.
    struct Witness {
        address to;
        uint256 validAfter;
    }

    /// @notice Nothing was permitted.
    error InvalidAmount();

    /// @notice What Permit2 appends to its own type to build the signed type.
    string public constant WITNESS_TYPE_STRING =
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)";
    /// @notice Type hash of the witness.
    bytes32 public constant WITNESS_TYPEHASH = keccak256("Witness(address to,uint256 validAfter)");

    /// @notice Settles a payment.
    /// @param permit What `owner` signed for Permit2.
    /// @param owner Who pays.
    /// @param witness Receiver and first moment, part of what was signed.
    /// @param signature `owner`'s, ECDSA or EIP-1271.
    function settle(
        ISignatureTransfer.PermitTransferFrom calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _settle(permit, owner, witness, signature);
        emit Settled();
    }

    /// @notice Submits `owner`'s EIP-2612 permit for Permit2 if it still counts, and settles the payment.
    function settleWithPermit(
        EIP2612Permit calldata permit2612,
        ISignatureTransfer.PermitTransferFrom calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _permit(permit2612, permit.permitted, owner);
        _settle(permit, owner, witness, signature);
        emit SettledWithPermit();
    }

    function _settle(
        ISignatureTransfer.PermitTransferFrom calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) private {
        uint256 amount = permit.permitted.amount;
        if (amount == 0) revert InvalidAmount();
        bytes32 witnessHash = keccak256(abi.encode(WITNESS_TYPEHASH, witness.to, witness.validAfter));
        _transfer(permit, amount, owner, witness.to, witness.validAfter, witnessHash, WITNESS_TYPE_STRING, signature);
    }
}
