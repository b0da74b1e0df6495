// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IAuthorizedTransfer} from "../interfaces/IAuthorizedTransfer.sol";
import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {DepositCollector} from "./DepositCollector.sol";

/// @title Collects deposits by EIP-3009 `ReceiveWithAuthorization`
/// @notice The authorization's nonce is keccak256(abi.encode(channelId, salt)), which binds it to one channel.
contract ERC3009DepositCollector is DepositCollector {
    using SafeERC20 for IERC20;

    /// @inheritdoc IDepositCollector
    /// @dev `collectorData` is abi.encode(uint256 validAfter, uint256 validBefore, uint256 salt, bytes signature).
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external
        onlyBatchSettlement
    {
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(collectorData, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        IAuthorizedTransfer(token).receiveWithAuthorization(
            payer, address(this), amount, validAfter, validBefore, nonce, signature
        );
        IERC20(token).safeTransfer(msg.sender, amount);
    }
}
