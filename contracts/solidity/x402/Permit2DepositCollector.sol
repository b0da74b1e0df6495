// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {ISignatureTransfer} from "../interfaces/ISignatureTransfer.sol";
import {Canonical} from "../lib/Canonical.sol";
import {DepositCollector} from "./DepositCollector.sol";

/// @title Collects deposits by a Permit2 transfer
/// @notice The signed witness is the channel's id, which binds the transfer to one channel.
contract Permit2DepositCollector is DepositCollector {
    /// @notice What Permit2 appends to its own type to build the signed type.
    string public constant WITNESS_TYPE_STRING =
        "DepositWitness witness)DepositWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";
    /// @notice Type hash of the witness.
    bytes32 public constant WITNESS_TYPEHASH = keccak256("DepositWitness(bytes32 channelId)");

    /// @inheritdoc IDepositCollector
    /// @dev `collectorData` is abi.encode(uint256 nonce, uint256 deadline, bytes signature, bytes permit2612) with
    /// `permit2612` empty or abi.encode(uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s).
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external
        onlyBatchSettlement
    {
        (uint256 nonce, uint256 deadline, bytes memory signature, bytes memory permit2612) =
            abi.decode(collectorData, (uint256, uint256, bytes, bytes));
        if (permit2612.length != 0) _permit(token, payer, permit2612);
        ISignatureTransfer(Canonical.PERMIT2).permitWitnessTransferFrom(
            ISignatureTransfer.PermitTransferFrom({
                permitted: ISignatureTransfer.TokenPermissions({token: token, amount: amount}),
                nonce: nonce,
                deadline: deadline
            }),
            ISignatureTransfer.SignatureTransferDetails({to: msg.sender, requestedAmount: amount}),
            payer,
            keccak256(abi.encode(WITNESS_TYPEHASH, channelId)),
            WITNESS_TYPE_STRING,
            signature
        );
    }

    /// @dev A permit that somebody submitted before has done its work: the transfer decides.
    function _permit(address token, address payer, bytes memory permit2612) private {
        (uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) =
            abi.decode(permit2612, (uint256, uint256, uint8, bytes32, bytes32));
        try IERC20Permit(token).permit(payer, Canonical.PERMIT2, value, deadline, v, r, s) {} catch {}
    }
}
