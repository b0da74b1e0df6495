// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title EIP-3009 with signatures of any length
/// @notice The overloads that take a signature as bytes, so that EIP-1271 accounts can authorize too.
interface IAuthorizedTransfer {
    /// @notice Moves `value` from `from` to `to`; anybody may submit it.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice Moves `value` from `from` to the caller, who must be `to`.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
