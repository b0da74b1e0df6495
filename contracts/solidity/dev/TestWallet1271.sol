// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Contract account for tests
/// @notice DEVELOPMENT ONLY. One key owns it and signs for it by EIP-1271.
contract TestWallet1271 is IERC1271 {
    /// @notice The caller does not own the wallet.
    error NotOwner(address caller);
    /// @notice The call failed.
    error ExecutionFailed(bytes returnData);

    /// @notice The key that the wallet answers for.
    address public immutable OWNER;

    /// @param owner The key that the wallet answers for.
    constructor(address owner) {
        OWNER = owner;
    }

    receive() external payable {}

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(hash, signature);
        return fault == ECDSA.RecoverError.NoError && signer == OWNER
            ? IERC1271.isValidSignature.selector
            : bytes4(0xffffffff);
    }

    /// @notice Calls `target` in the wallet's name.
    function execute(address target, uint256 value, bytes calldata data) external returns (bytes memory) {
        if (msg.sender != OWNER) revert NotOwner(msg.sender);
        (bool success, bytes memory returnData) = target.call{value: value}(data);
        if (!success) revert ExecutionFailed(returnData);
        return returnData;
    }
}

/// @title Places test wallets at addresses that are known before (CREATE2), for ERC-6492 signatures
/// @notice DEVELOPMENT ONLY.
contract TestWalletFactory {
    /// @notice A wallet was placed.
    event WalletCreated(address indexed wallet, address indexed owner, bytes32 salt);

    /// @notice Places the wallet of `owner` and `salt`, unless it is there.
    function createWallet(address owner, bytes32 salt) external returns (address wallet) {
        wallet = walletOf(owner, salt);
        if (wallet.code.length != 0) return wallet;
        new TestWallet1271{salt: salt}(owner);
        emit WalletCreated(wallet, owner, salt);
    }

    /// @notice Where the wallet of `owner` and `salt` is, or will be.
    function walletOf(address owner, bytes32 salt) public view returns (address) {
        bytes32 initCodeHash = keccak256(abi.encodePacked(type(TestWallet1271).creationCode, abi.encode(owner)));
        bytes32 hash = keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, initCodeHash));
        return address(uint160(uint256(hash)));
    }
}
