// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {AuthorizedToken} from "./AuthorizedToken.sol";

/// @title Test dollar for development chains
/// @notice DEVELOPMENT ONLY: anybody may mint. It answers as USDC does (EIP-2612, EIP-3009, 6 decimals) and is worth
/// nothing. Its EIP-712 domain is USDC's on Base Sepolia: "USDC", "2".
contract TestUSDC is AuthorizedToken {
    constructor() ERC20("", "") {}

    /// @notice Name of the token and of its EIP-712 domain.
    function name() public pure virtual override returns (string memory) {
        return "USDC";
    }

    /// @notice Symbol of the token.
    function symbol() public pure override returns (string memory) {
        return "USDC";
    }

    /// @notice One dollar is 10^6 units.
    function decimals() public pure override returns (uint8) {
        return 6;
    }

    /// @inheritdoc AuthorizedToken
    function version() public pure override returns (string memory) {
        return "2";
    }

    /// @notice DEVELOPMENT ONLY: creates `value` units for `to`, at anybody's wish.
    function mint(address to, uint256 value) external {
        _mint(to, value);
    }

    function _nameHash() internal pure virtual override returns (bytes32) {
        return keccak256("USDC");
    }

    function _versionHash() internal pure override returns (bytes32) {
        return keccak256("2");
    }
}

/// @title Test dollar whose EIP-712 domain is USDC's on Base: "USD Coin", "2"
/// @notice DEVELOPMENT ONLY: anybody may mint.
contract TestUSDCoin is TestUSDC {
    /// @inheritdoc TestUSDC
    function name() public pure override returns (string memory) {
        return "USD Coin";
    }

    function _nameHash() internal pure override returns (bytes32) {
        return keccak256("USD Coin");
    }
}
