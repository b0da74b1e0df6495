// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title The part of Permit2 that moves tokens by a signature
/// @notice Types and functions as Permit2 at 0x000000000022D473030F116dDEE9F6B43aC78BA3 has them.
interface ISignatureTransfer {
    /// @param token The token to be moved.
    /// @param amount The most that may be moved, in the token's smallest unit.
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    /// @param permitted What may be moved.
    /// @param nonce Unordered: the upper 248 bits are a word, the lower 8 a bit of it.
    /// @param deadline Unix seconds after which the signature is void.
    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    /// @param to Who receives.
    /// @param requestedAmount How much, at most what is permitted.
    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /// @notice Moves tokens of `owner` as signed for the caller, with a witness in the signed data.
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;

    /// @notice Bits of the nonces that `owner` has used or invalidated in `word`.
    function nonceBitmap(address owner, uint256 word) external view returns (uint256);
}
