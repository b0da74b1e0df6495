// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IAuthorizedTransfer} from "../interfaces/IAuthorizedTransfer.sol";
import {TypedData} from "../lib/TypedData.sol";

/// @title ERC-20 with EIP-2612 permits and EIP-3009 authorizations, without constructor storage or immutables
/// @notice Signatures of accounts without code are ECDSA; accounts with code are asked by EIP-1271 and nothing else.
abstract contract AuthorizedToken is ERC20, IAuthorizedTransfer {
    /// @notice The signature is not `signer`'s.
    error InvalidSignature(address signer);
    /// @notice The permit's deadline has passed.
    error PermitExpired(uint256 deadline, uint256 timestamp);
    /// @notice The authorization is valid only after `validAfter`.
    error AuthorizationTooEarly(uint256 validAfter, uint256 timestamp);
    /// @notice The authorization was valid only before `validBefore`.
    error AuthorizationExpired(uint256 validBefore, uint256 timestamp);
    /// @notice The authorization was used or cancelled before.
    error AuthorizationUsedOrCanceled(address authorizer, bytes32 nonce);
    /// @notice `receiveWithAuthorization` is for the receiver alone.
    error CallerMustBePayee(address caller, address payee);

    /// @notice An authorization was used.
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    /// @notice An authorization was cancelled by who gave it.
    event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

    /// @notice Type hash of EIP-2612.
    bytes32 public constant PERMIT_TYPEHASH =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    /// @notice Type hash of EIP-3009.
    bytes32 public constant TRANSFER_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    /// @notice Type hash of EIP-3009.
    bytes32 public constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    /// @notice Type hash of EIP-3009.
    bytes32 public constant CANCEL_AUTHORIZATION_TYPEHASH =
        keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");

    /// @notice The EIP-2612 nonce that `owner`'s next permit must carry.
    mapping(address owner => uint256) public nonces;
    /// @notice True once `authorizer` used or cancelled the authorization of that nonce.
    mapping(address authorizer => mapping(bytes32 nonce => bool)) public authorizationState;

    /// @notice The version of the EIP-712 domain.
    function version() public pure virtual returns (string memory);

    /// @dev keccak256 of `name()`, a constant.
    function _nameHash() internal pure virtual returns (bytes32);

    /// @dev keccak256 of `version()`, a constant.
    function _versionHash() internal pure virtual returns (bytes32);

    /// @notice The EIP-712 domain separator on this chain.
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return TypedData.separator(_nameHash(), _versionHash());
    }

    /// @notice Sets `spender`'s allowance to `value` by `owner`'s signature (EIP-2612).
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        _permit(owner, spender, value, deadline, abi.encodePacked(r, s, v));
    }

    /// @notice As the other `permit`, with a signature of any length for EIP-1271 owners.
    function permit(address owner, address spender, uint256 value, uint256 deadline, bytes calldata signature)
        external
    {
        _permit(owner, spender, value, deadline, signature);
    }

    /// @notice Moves `value` from `from` to `to` by `from`'s signature (EIP-3009).
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        bytes32 structHash = keccak256(
            abi.encode(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        _authorize(from, nonce, validAfter, validBefore, structHash, abi.encodePacked(r, s, v));
        _transfer(from, to, value);
    }

    /// @inheritdoc IAuthorizedTransfer
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        bytes32 structHash = keccak256(
            abi.encode(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        _authorize(from, nonce, validAfter, validBefore, structHash, signature);
        _transfer(from, to, value);
    }

    /// @notice Moves `value` from `from` to the caller, who must be `to` (EIP-3009).
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        if (to != msg.sender) revert CallerMustBePayee(msg.sender, to);
        bytes32 structHash = keccak256(
            abi.encode(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        _authorize(from, nonce, validAfter, validBefore, structHash, abi.encodePacked(r, s, v));
        _transfer(from, to, value);
    }

    /// @inheritdoc IAuthorizedTransfer
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        if (to != msg.sender) revert CallerMustBePayee(msg.sender, to);
        bytes32 structHash = keccak256(
            abi.encode(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        _authorize(from, nonce, validAfter, validBefore, structHash, signature);
        _transfer(from, to, value);
    }

    /// @notice Makes an authorization void before it is used (EIP-3009).
    function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external {
        _cancel(authorizer, nonce, abi.encodePacked(r, s, v));
    }

    /// @notice As the other `cancelAuthorization`, with a signature of any length for EIP-1271 authorizers.
    function cancelAuthorization(address authorizer, bytes32 nonce, bytes calldata signature) external {
        _cancel(authorizer, nonce, signature);
    }

    function _permit(address owner, address spender, uint256 value, uint256 deadline, bytes memory signature) private {
        if (block.timestamp > deadline) revert PermitExpired(deadline, block.timestamp);
        bytes32 structHash =
            keccak256(abi.encode(PERMIT_TYPEHASH, owner, spender, value, nonces[owner]++, deadline));
        _check(owner, structHash, signature);
        _approve(owner, spender, value);
    }

    /// @dev Spends the nonce before any balance moves. The bounds are exclusive, as EIP-3009 has them.
    function _authorize(
        address from,
        bytes32 nonce,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 structHash,
        bytes memory signature
    ) private {
        if (block.timestamp <= validAfter) revert AuthorizationTooEarly(validAfter, block.timestamp);
        if (block.timestamp >= validBefore) revert AuthorizationExpired(validBefore, block.timestamp);
        if (authorizationState[from][nonce]) revert AuthorizationUsedOrCanceled(from, nonce);
        _check(from, structHash, signature);
        authorizationState[from][nonce] = true;
        emit AuthorizationUsed(from, nonce);
    }

    function _cancel(address authorizer, bytes32 nonce, bytes memory signature) private {
        if (authorizationState[authorizer][nonce]) revert AuthorizationUsedOrCanceled(authorizer, nonce);
        _check(authorizer, keccak256(abi.encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)), signature);
        authorizationState[authorizer][nonce] = true;
        emit AuthorizationCanceled(authorizer, nonce);
    }

    function _check(address signer, bytes32 structHash, bytes memory signature) private view {
        bytes32 digest = TypedData.digest(DOMAIN_SEPARATOR(), structHash);
        if (!SignatureChecker.isValidSignatureNow(signer, digest, signature)) revert InvalidSignature(signer);
    }
}
