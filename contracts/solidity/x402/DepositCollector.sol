// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IDepositCollector} from "../interfaces/IDepositCollector.sol";
import {Canonical} from "../lib/Canonical.sol";

/// @title What both deposit collectors have in common
/// @notice Only the channel contract may call: a deposit that anybody else triggered would arrive in it without being
/// credited to a channel, and would be lost.
abstract contract DepositCollector is IDepositCollector {
    /// @notice The caller is not the channel contract.
    error OnlyBatchSettlement(address caller);

    modifier onlyBatchSettlement() {
        if (msg.sender != Canonical.BATCH_SETTLEMENT) revert OnlyBatchSettlement(msg.sender);
        _;
    }
}
