// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title EIP-712 hashing without stored state
/// @notice Computes domain separators from constants at every call. Contracts that are placed at a canonical address by
/// their code alone have neither constructor storage nor immutables to keep a separator in.
library TypedData {
    /// @dev EIP-712, section "Definition of domainSeparator", with all four usual members.
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @notice The domain separator of the calling contract on the current chain.
    /// @param nameHash keccak256 of the domain's name.
    /// @param versionHash keccak256 of the domain's version.
    function separator(bytes32 nameHash, bytes32 versionHash) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, nameHash, versionHash, block.chainid, address(this)));
    }

    /// @notice The digest that is signed: keccak256("\x19\x01" ‖ domain ‖ structHash).
    function digest(bytes32 domain, bytes32 structHash) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, hex"1901")
            mstore(add(free, 0x02), domain)
            mstore(add(free, 0x22), structHash)
            result := keccak256(free, 0x42)
        }
    }
}
