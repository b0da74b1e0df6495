// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The network token
/// @notice ERC-20 with EIP-2612 permits and a supply that is fixed when it is deployed. Nobody can mint, burn or stop it.
contract AssayToken is ERC20, ERC20Permit {
    /// @notice All that there ever is: 10^9 tokens of 10^18 units.
    uint256 public constant SUPPLY = 1_000_000_000 * 1e18;

    /// @param holder Who receives the whole supply.
    constructor(address holder) ERC20("Assay", "ASY") ERC20Permit("Assay") {
        _mint(holder, SUPPLY);
    }

    /// @notice The version of the EIP-712 domain.
    function version() external pure returns (string memory) {
        return "1";
    }
}
