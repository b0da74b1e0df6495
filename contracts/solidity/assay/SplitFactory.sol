// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Split} from "./Split.sol";

/// @title Places splits at addresses that follow from payees and shares
/// @notice Without constructor arguments, so that the factory too has one address on every chain (through the CREATE2
/// deployer), and so have the splits.
contract SplitFactory {
    /// @notice No payee, or more than 16.
    error WrongPayeeCount(uint256 payees, uint256 shares);
    /// @notice A payee is the zero address.
    error ZeroPayee(uint256 index);
    /// @notice A share is zero.
    error ZeroShare(uint256 index);
    /// @notice The shares do not add up to 10,000.
    error WrongShareSum(uint256 sum);

    /// @notice A split was placed.
    event SplitCreated(address indexed split, address[] payees, uint16[] basisPoints);

    /// @notice The most payees: what `distribute` pays in one transaction stays small.
    uint256 public constant MAX_PAYEES = 16;
    /// @notice The code that every split runs.
    address public immutable IMPLEMENTATION;

    constructor() {
        IMPLEMENTATION = address(new Split());
    }

    /// @notice Places the split of these payees and shares, unless it is there.
    /// @param payees Who is paid; the last has the remainder.
    /// @param basisPoints What share each has in 1/10,000; they add up to 10,000.
    function createSplit(address[] calldata payees, uint16[] calldata basisPoints) external returns (address split) {
        bytes memory args = _args(payees, basisPoints);
        split = Clones.predictDeterministicAddressWithImmutableArgs(IMPLEMENTATION, args, bytes32(0));
        if (split.code.length != 0) return split;
        Clones.cloneDeterministicWithImmutableArgs(IMPLEMENTATION, args, bytes32(0));
        emit SplitCreated(split, payees, basisPoints);
    }

    /// @notice Where the split of these payees and shares is, or will be.
    function splitOf(address[] calldata payees, uint16[] calldata basisPoints) external view returns (address) {
        return Clones.predictDeterministicAddressWithImmutableArgs(
            IMPLEMENTATION, _args(payees, basisPoints), bytes32(0)
        );
    }

    function _args(address[] calldata payees, uint16[] calldata basisPoints) private pure returns (bytes memory) {
        if (payees.length == 0 || payees.length > MAX_PAYEES || payees.length != basisPoints.length) {
            revert WrongPayeeCount(payees.length, basisPoints.length);
        }
        uint256 sum = 0;
        for (uint256 i = 0; i < payees.length; ++i) {
            if (payees[i] == address(0)) revert ZeroPayee(i);
            if (basisPoints[i] == 0) revert ZeroShare(i);
            sum += basisPoints[i];
        }
        if (sum != 10_000) revert WrongShareSum(sum);
        return abi.encode(payees, basisPoints);
    }
}
