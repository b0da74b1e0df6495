// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IDepositCollector} from "../solidity/interfaces/IDepositCollector.sol";

/// @notice A token that refuses to pay some accounts, takes a fee, reverts at length, or calls back, as told.
contract HostileToken is ERC20 {
    error Refused(address to);

    mapping(address account => bool) public refuses;
    uint256 public fee;
    uint256 public reasonLength;
    address public callTarget;
    bytes public callData;
    bool public callSucceeded;

    constructor() ERC20("Hostile", "HOS") {}

    function mint(address to, uint256 value) external {
        _mint(to, value);
    }

    function refuse(address account, bool value) external {
        refuses[account] = value;
    }

    function setFee(uint256 value) external {
        fee = value;
    }

    function setReasonLength(uint256 value) external {
        reasonLength = value;
    }

    function callBack(address target, bytes calldata data) external {
        callTarget = target;
        callData = data;
    }

    function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32, bytes calldata)
        external
        view
    {
        uint256 length = reasonLength;
        assembly ("memory-safe") {
            revert(0x1000, length)
        }
    }

    function _update(address from, address to, uint256 value) internal override {
        if (refuses[to]) revert Refused(to);
        if (callTarget != address(0)) (callSucceeded,) = callTarget.call(callData);
        uint256 taken = from == address(0) || to == address(0) ? 0 : fee;
        super._update(from, to, value - taken);
        if (taken != 0) super._update(from, address(0xFEE), taken);
    }
}

/// @notice A collector that brings what it is told, from its own balance, and may call back meanwhile.
contract FreeCollector is IDepositCollector {
    uint256 public brings;
    address public callTarget;
    bytes public callData;
    bool public callSucceeded;
    bytes public callReason;

    function bring(uint256 amount) external {
        brings = amount;
    }

    function callBack(address target, bytes calldata data) external {
        callTarget = target;
        callData = data;
    }

    function collect(address, address token, uint256, bytes32, bytes calldata) external {
        if (callTarget != address(0)) (callSucceeded, callReason) = callTarget.call(callData);
        ERC20(token).transfer(msg.sender, brings);
    }
}

/// @notice An account whose signature check eats all gas it gets.
contract GreedyWallet {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        uint256 x = 1;
        while (x != 0) x = uint256(keccak256(abi.encode(x)));
        return 0x1626ba7e;
    }
}

/// @notice An account that takes no native value.
contract NoReceiver {
    function run(address target, bytes calldata data) external returns (bool ok, bytes memory reason) {
        return target.call(data);
    }
}
