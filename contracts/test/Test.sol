// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @notice The cheat codes of forge that these tests use.
interface Vm {
    function addr(uint256 privateKey) external pure returns (address);
    function sign(uint256 privateKey, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function warp(uint256 timestamp) external;
    function chainId(uint256 id) external;
    function deal(address account, uint256 balance) external;
    function etch(address target, bytes calldata code) external;
    function expectRevert(bytes calldata reason) external;
    function expectRevert(bytes4 selector) external;
    function expectPartialRevert(bytes4 selector) external;
    function expectEmit(bool topic1, bool topic2, bool topic3, bool data, address emitter) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function readFile(string calldata path) external view returns (string memory);
    function split(string calldata input, string calldata delimiter) external pure returns (string[] memory);
    function parseBytes(string calldata text) external pure returns (bytes memory);
    function toString(uint256 value) external pure returns (string memory);
    function snapshotValue(string calldata group, string calldata name, uint256 value) external;
    function lastCallGas() external view returns (Gas memory);

    struct Gas {
        uint64 gasLimit;
        uint64 gasTotalUsed;
        uint64 gasMemoryUsed;
        int64 gasRefunded;
        uint64 gasRemaining;
    }

    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }
}

/// @notice Assertions that say what was expected.
abstract contract Test {
    error NotEqual(string what, bytes32 actual, bytes32 expected);
    error TooMuch(string what, uint256 actual, uint256 most);
    error NotTrue(string what);

    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function assertEq(uint256 actual, uint256 expected, string memory what) internal pure {
        if (actual != expected) revert NotEqual(what, bytes32(actual), bytes32(expected));
    }

    function assertEq(bytes32 actual, bytes32 expected, string memory what) internal pure {
        if (actual != expected) revert NotEqual(what, actual, expected);
    }

    function assertEq(address actual, address expected, string memory what) internal pure {
        assertEq(uint256(uint160(actual)), uint256(uint160(expected)), what);
    }

    function assertEq(string memory actual, string memory expected, string memory what) internal pure {
        assertEq(keccak256(bytes(actual)), keccak256(bytes(expected)), what);
    }

    function assertLe(uint256 actual, uint256 most, string memory what) internal pure {
        if (actual > most) revert TooMuch(what, actual, most);
    }

    function assertTrue(bool value, string memory what) internal pure {
        if (!value) revert NotTrue(what);
    }

    /// @dev Maps any number into [low, high].
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return high == type(uint256).max && low == 0 ? value : low + value % (high - low + 1);
    }

    /// @dev The init code of a contract as it is committed, so that what is tested is what is deployed.
    function initCode(string memory file) internal view returns (bytes memory) {
        string memory text = vm.readFile(string.concat("contracts/src/generated/", file, ".ts"));
        return vm.parseBytes(vm.split(vm.split(text, "bytecode:")[1], "\"")[1]);
    }

    /// @dev Deploys it; what its constructor reverts with is handed on.
    function deploy(string memory file, bytes memory arguments) internal returns (address at) {
        bytes memory code = abi.encodePacked(initCode(file), arguments);
        assembly ("memory-safe") {
            at := create(0, add(code, 0x20), mload(code))
            if iszero(at) {
                let free := mload(0x40)
                returndatacopy(free, 0, returndatasize())
                revert(free, returndatasize())
            }
        }
    }

    function deploy(string memory file) internal returns (address) {
        return deploy(file, "");
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}

/// @notice Deploys by a call, for constructors that are expected to revert.
contract Deployer is Test {
    function run(string calldata file, bytes calldata arguments) external returns (address) {
        return deploy(file, arguments);
    }
}
