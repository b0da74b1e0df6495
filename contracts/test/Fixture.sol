// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {AssayToken} from "../solidity/tokens/AssayToken.sol";
import {TestUSDC} from "../solidity/tokens/TestUSDC.sol";
import {Canonical} from "../solidity/lib/Canonical.sol";
import {ISignatureTransfer} from "../solidity/interfaces/ISignatureTransfer.sol";
import {Permit2Proxy} from "../solidity/x402/Permit2Proxy.sol";
import {X402BatchSettlement} from "../solidity/x402/X402BatchSettlement.sol";
import {X402ExactPermit2Proxy} from "../solidity/x402/X402ExactPermit2Proxy.sol";
import {X402UptoPermit2Proxy} from "../solidity/x402/X402UptoPermit2Proxy.sol";
import {Test} from "./Test.sol";

interface IDomain {
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}

/// @notice The canonical contracts where clients expect them, tokens, and signers of every kind of payment.
abstract contract Fixture is Test {
    address internal constant ERC3009_COLLECTOR = 0x4020806089470a89826cB9fB1f4059150b550004;
    address internal constant PERMIT2_COLLECTOR = 0x4020425FAf3B746C082C2f942b4E5159887B0005;
    address internal constant CREATE2_DEPLOYER = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    /// @dev Well away from zero, so that times before now exist.
    uint256 internal constant NOW = 1_800_000_000;

    X402BatchSettlement internal constant batch = X402BatchSettlement(Canonical.BATCH_SETTLEMENT);
    X402ExactPermit2Proxy internal constant exactProxy = X402ExactPermit2Proxy(Canonical.EXACT_PROXY);
    X402UptoPermit2Proxy internal constant uptoProxy = X402UptoPermit2Proxy(Canonical.UPTO_PROXY);

    TestUSDC internal usdc;
    AssayToken internal asy;

    function setUpCanonical() internal {
        vm.warp(NOW);
        vm.etch(
            CREATE2_DEPLOYER,
            hex"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
        );
        string memory file = vm.readFile("contracts/src/generated/permit2.ts");
        bytes32 salt = abi.decode(vm.parseBytes(vm.split(vm.split(file, "salt:")[1], "\"")[1]), (bytes32));
        (bool ok,) = CREATE2_DEPLOYER.call(abi.encodePacked(salt, initCode("permit2")));
        assertTrue(ok && Canonical.PERMIT2.code.length != 0, "Permit2 lands on its address");

        // By code alone, as the embedded chain places them.
        vm.etch(Canonical.BATCH_SETTLEMENT, deploy("batch-settlement").code);
        vm.etch(Canonical.EXACT_PROXY, deploy("exact-permit2-proxy").code);
        vm.etch(Canonical.UPTO_PROXY, deploy("upto-permit2-proxy").code);
        vm.etch(ERC3009_COLLECTOR, deploy("erc3009-deposit-collector").code);
        vm.etch(PERMIT2_COLLECTOR, deploy("permit2-deposit-collector").code);
        usdc = TestUSDC(0x036CbD53842c5426634e7929541eC2318f3dCF7e);
        vm.etch(address(usdc), deploy("test-usdc").code);
        asy = AssayToken(deploy("assay-token", abi.encode(address(this))));
    }

    function typed(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function usdcDigest(bytes32 structHash) internal view returns (bytes32) {
        return typed(usdc.DOMAIN_SEPARATOR(), structHash);
    }

    function transferStruct(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
                ),
                from,
                to,
                value,
                validAfter,
                validBefore,
                nonce
            )
        );
    }

    function receiveStruct(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
                ),
                from,
                to,
                value,
                validAfter,
                validBefore,
                nonce
            )
        );
    }

    function permitDigest(address token, address owner, address spender, uint256 value, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        return typed(
            IDomain(token).DOMAIN_SEPARATOR(),
            keccak256(
                abi.encode(
                    keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                    owner,
                    spender,
                    value,
                    nonce,
                    deadline
                )
            )
        );
    }

    /// @dev The whole Permit2 type is written out here, so that the contracts' witness strings are checked against it.
    function permit2Digest(
        string memory witnessType,
        bytes32 witnessHash,
        address spender,
        ISignatureTransfer.PermitTransferFrom memory permit
    ) internal view returns (bytes32) {
        bytes32 typeHash = keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,",
                witnessType
            )
        );
        bytes32 permitted = keccak256(
            abi.encode(
                keccak256("TokenPermissions(address token,uint256 amount)"), permit.permitted.token, permit.permitted.amount
            )
        );
        return typed(
            IDomain(Canonical.PERMIT2).DOMAIN_SEPARATOR(),
            keccak256(abi.encode(typeHash, permitted, spender, permit.nonce, permit.deadline, witnessHash))
        );
    }

    function permitOf(address token, uint256 amount, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (ISignatureTransfer.PermitTransferFrom memory)
    {
        return ISignatureTransfer.PermitTransferFrom({
            permitted: ISignatureTransfer.TokenPermissions({token: token, amount: amount}),
            nonce: nonce,
            deadline: deadline
        });
    }

    function exactDigest(ISignatureTransfer.PermitTransferFrom memory permit, address to, uint256 validAfter)
        internal
        view
        returns (bytes32)
    {
        return permit2Digest(
            "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)",
            keccak256(abi.encode(keccak256("Witness(address to,uint256 validAfter)"), to, validAfter)),
            Canonical.EXACT_PROXY,
            permit
        );
    }

    function uptoDigest(
        ISignatureTransfer.PermitTransferFrom memory permit,
        address to,
        address facilitator,
        uint256 validAfter
    ) internal view returns (bytes32) {
        return permit2Digest(
            "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)",
            keccak256(
                abi.encode(
                    keccak256("Witness(address to,address facilitator,uint256 validAfter)"), to, facilitator, validAfter
                )
            ),
            Canonical.UPTO_PROXY,
            permit
        );
    }

    function permit2612(uint256 key, address token, uint256 value, uint256 nonce, uint256 deadline)
        internal
        view
        returns (Permit2Proxy.EIP2612Permit memory)
    {
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, permitDigest(token, vm.addr(key), Canonical.PERMIT2, value, nonce, deadline));
        return Permit2Proxy.EIP2612Permit({value: value, deadline: deadline, r: r, s: s, v: v});
    }

    /// @dev Collector data of an EIP-3009 deposit signed by `key`.
    function erc3009Deposit(uint256 key, bytes32 channelId, uint256 amount, uint256 salt)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = receiveStruct(
            vm.addr(key), ERC3009_COLLECTOR, amount, 0, NOW + 365 days, keccak256(abi.encode(channelId, salt))
        );
        return abi.encode(uint256(0), NOW + 365 days, salt, signature(key, usdcDigest(structHash)));
    }

    function config(address payer, address payerAuthorizer, address receiver, address receiverAuthorizer, address token)
        internal
        pure
        returns (X402BatchSettlement.ChannelConfig memory)
    {
        return X402BatchSettlement.ChannelConfig({
            payer: payer,
            payerAuthorizer: payerAuthorizer,
            receiver: receiver,
            receiverAuthorizer: receiverAuthorizer,
            token: token,
            withdrawDelay: 900,
            salt: 0
        });
    }

    function claimOf(
        X402BatchSettlement.ChannelConfig memory channel,
        uint256 key,
        uint128 maxClaimable,
        uint128 totalClaimed
    ) internal view returns (X402BatchSettlement.VoucherClaim memory) {
        bytes32 digest = batch.getVoucherDigest(batch.getChannelId(channel), maxClaimable);
        return X402BatchSettlement.VoucherClaim({
            voucher: X402BatchSettlement.Voucher({channel: channel, maxClaimableAmount: maxClaimable}),
            signature: signature(key, digest),
            totalClaimed: totalClaimed
        });
    }

    function one(X402BatchSettlement.VoucherClaim memory claim)
        internal
        pure
        returns (X402BatchSettlement.VoucherClaim[] memory claims)
    {
        claims = new X402BatchSettlement.VoucherClaim[](1);
        claims[0] = claim;
    }
}
