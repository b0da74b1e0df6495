// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Brings a payer's tokens into the channel contract
interface IDepositCollector {
    /// @notice Moves exactly `amount` of `token` from `payer` to the caller, by an authorization that names `channelId`.
    /// @param payer Whose tokens.
    /// @param token Which token.
    /// @param amount How much, in the token's smallest unit.
    /// @param channelId The channel that the payer signed the deposit for.
    /// @param collectorData The authorization, in the collector's own encoding.
    function collect(address payer, address token, uint256 amount, bytes32 channelId, bytes calldata collectorData)
        external;
}
