// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Canonical} from "../solidity/lib/Canonical.sol";
import {ISignatureTransfer} from "../solidity/interfaces/ISignatureTransfer.sol";
import {Permit2Proxy} from "../solidity/x402/Permit2Proxy.sol";
import {TestWallet1271} from "../solidity/dev/TestWallet1271.sol";
import {X402ExactPermit2Proxy} from "../solidity/x402/X402ExactPermit2Proxy.sol";
import {X402UptoPermit2Proxy} from "../solidity/x402/X402UptoPermit2Proxy.sol";
import {Fixture} from "./Fixture.sol";

/// @dev Permit2's own errors.
interface IPermit2Errors {
    error SignatureExpired(uint256 signatureDeadline);
    error InvalidNonce();
    error InvalidSigner();
    error InvalidContractSignature();
}

contract ProxiesTest is Fixture {
    uint256 private constant KEY = 0xA11CE;
    address private constant PAYEE = address(0xBEEF);
    address private constant FACILITATOR = address(0xFAC);
    uint256 private constant NONCE = 77;
    address private payer;

    function setUp() public {
        setUpCanonical();
        payer = vm.addr(KEY);
        asy.transfer(payer, 1e20);
        vm.prank(payer);
        asy.approve(Canonical.PERMIT2, type(uint256).max);
    }

    function test_witnessTypes() public view {
        assertEq(exactProxy.WITNESS_TYPEHASH(), keccak256("Witness(address to,uint256 validAfter)"), "exact");
        assertEq(
            uptoProxy.WITNESS_TYPEHASH(), keccak256("Witness(address to,address facilitator,uint256 validAfter)"), "upto"
        );
        assertEq(address(exactProxy.PERMIT2()), Canonical.PERMIT2, "exact's Permit2");
        assertEq(address(uptoProxy.PERMIT2()), Canonical.PERMIT2, "upto's Permit2");
    }

    function testFuzz_exactMovesWhatWasPermitted(uint256 amount, uint256 nonce, address anybody) public {
        amount = bound(amount, 1, 1e20);
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(asy), amount, nonce, NOW);
        bytes memory sig = signature(KEY, exactDigest(permit, PAYEE, NOW));
        vm.prank(anybody);
        exactProxy.settle(permit, payer, X402ExactPermit2Proxy.Witness(PAYEE, NOW), sig);
        assertEq(asy.balanceOf(PAYEE), amount, "received");
        vm.expectRevert(IPermit2Errors.InvalidNonce.selector);
        exactProxy.settle(permit, payer, X402ExactPermit2Proxy.Witness(PAYEE, NOW), sig);
    }

    function testFuzz_uptoMovesAtMostWhatWasPermitted(uint256 permitted, uint256 amount) public {
        permitted = bound(permitted, 0, 1e20);
        amount = bound(amount, 0, 2e20);
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(asy), permitted, NONCE, NOW);
        bytes memory sig = signature(KEY, uptoDigest(permit, PAYEE, FACILITATOR, 0));
        X402UptoPermit2Proxy.Witness memory witness = X402UptoPermit2Proxy.Witness(PAYEE, FACILITATOR, 0);
        if (amount > permitted) vm.expectRevert(X402UptoPermit2Proxy.AmountExceedsPermitted.selector);
        vm.prank(FACILITATOR);
        uptoProxy.settle(permit, amount, payer, witness, sig);
        assertEq(asy.balanceOf(PAYEE), amount > permitted ? 0 : amount, "received");
        if (amount > permitted) return;
        vm.expectRevert(IPermit2Errors.InvalidNonce.selector);
        vm.prank(FACILITATOR);
        uptoProxy.settle(permit, 0, payer, witness, sig);
    }

    function test_exactRefusals() public {
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(asy), 10, NONCE, NOW);
        bytes memory sig = signature(KEY, exactDigest(permit, PAYEE, 0));
        X402ExactPermit2Proxy.Witness memory witness = X402ExactPermit2Proxy.Witness(PAYEE, 0);

        vm.expectRevert(Permit2Proxy.InvalidOwner.selector);
        exactProxy.settle(permit, address(0), witness, sig);
        vm.expectRevert(Permit2Proxy.InvalidDestination.selector);
        exactProxy.settle(permit, payer, X402ExactPermit2Proxy.Witness(address(0), 0), sig);
        vm.expectRevert(Permit2Proxy.PaymentTooEarly.selector);
        exactProxy.settle(permit, payer, X402ExactPermit2Proxy.Witness(PAYEE, NOW + 1), sig);
        vm.expectRevert(X402ExactPermit2Proxy.InvalidAmount.selector);
        exactProxy.settle(permitOf(address(asy), 0, NONCE, NOW), payer, witness, sig);
        // Another receiver, amount, token or nonce than was signed.
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        exactProxy.settle(permit, payer, X402ExactPermit2Proxy.Witness(address(this), 0), sig);
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        exactProxy.settle(permitOf(address(asy), 11, NONCE, NOW), payer, witness, sig);
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        exactProxy.settle(permitOf(address(usdc), 10, NONCE, NOW), payer, witness, sig);
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        exactProxy.settle(permitOf(address(asy), 10, NONCE + 1, NOW), payer, witness, sig);
        vm.warp(NOW + 1);
        vm.expectRevert(abi.encodeWithSelector(IPermit2Errors.SignatureExpired.selector, NOW));
        exactProxy.settle(permit, payer, witness, sig);
    }

    function test_uptoRefusals() public {
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(asy), 10, NONCE, NOW);
        bytes memory sig = signature(KEY, uptoDigest(permit, PAYEE, FACILITATOR, 0));
        X402UptoPermit2Proxy.Witness memory witness = X402UptoPermit2Proxy.Witness(PAYEE, FACILITATOR, 0);

        vm.expectRevert(X402UptoPermit2Proxy.UnauthorizedFacilitator.selector);
        uptoProxy.settle(permit, 5, payer, witness, sig);
        // Naming oneself facilitator is not what was signed.
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        uptoProxy.settle(permit, 5, payer, X402UptoPermit2Proxy.Witness(PAYEE, address(this), 0), sig);
        vm.startPrank(FACILITATOR);
        vm.expectRevert(Permit2Proxy.InvalidOwner.selector);
        uptoProxy.settle(permit, 5, address(0), witness, sig);
        vm.expectRevert(Permit2Proxy.InvalidDestination.selector);
        uptoProxy.settle(permit, 5, payer, X402UptoPermit2Proxy.Witness(address(0), FACILITATOR, 0), sig);
        vm.expectRevert(Permit2Proxy.PaymentTooEarly.selector);
        uptoProxy.settle(permit, 5, payer, X402UptoPermit2Proxy.Witness(PAYEE, FACILITATOR, NOW + 1), sig);
        // A signature for the exact proxy is none for this one.
        bytes memory exact = signature(KEY, exactDigest(permit, PAYEE, 0));
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        uptoProxy.settle(permit, 5, payer, witness, exact);
        vm.stopPrank();
    }

    function test_exactWithPermit() public {
        usdc.mint(payer, 100);
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(usdc), 10, NONCE, NOW);
        bytes memory sig = signature(KEY, exactDigest(permit, PAYEE, 0));
        X402ExactPermit2Proxy.Witness memory witness = X402ExactPermit2Proxy.Witness(PAYEE, 0);
        Permit2Proxy.EIP2612Permit memory more = permit2612(KEY, address(usdc), 11, 0, NOW);
        vm.expectRevert(Permit2Proxy.Permit2612AmountMismatch.selector);
        exactProxy.settleWithPermit(more, permit, payer, witness, sig);
        Permit2Proxy.EIP2612Permit memory same = permit2612(KEY, address(usdc), 10, 0, NOW);
        exactProxy.settleWithPermit(same, permit, payer, witness, sig);
        assertEq(usdc.balanceOf(PAYEE), 10, "received");
        assertEq(usdc.allowance(payer, Canonical.PERMIT2), 0, "nothing stays allowed");
    }

    function test_uptoWithPermit() public {
        usdc.mint(payer, 100);
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(usdc), 10, NONCE, NOW);
        bytes memory sig = signature(KEY, uptoDigest(permit, PAYEE, FACILITATOR, 0));
        Permit2Proxy.EIP2612Permit memory same = permit2612(KEY, address(usdc), 10, 0, NOW);
        // Somebody submitted the permit before: the payment settles all the same.
        usdc.permit(payer, Canonical.PERMIT2, 10, NOW, same.v, same.r, same.s);
        vm.startPrank(FACILITATOR);
        uptoProxy.settleWithPermit(
            same, permit, 4, payer, X402UptoPermit2Proxy.Witness(PAYEE, FACILITATOR, 0), sig
        );
        assertEq(usdc.balanceOf(PAYEE), 4, "received");
        vm.expectRevert(Permit2Proxy.Permit2612AmountMismatch.selector);
        uptoProxy.settleWithPermit(
            same,
            permitOf(address(usdc), 11, NONCE, NOW),
            4,
            payer,
            X402UptoPermit2Proxy.Witness(PAYEE, FACILITATOR, 0),
            sig
        );
    }

    function test_withPermitOfNoToken() public {
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(0xDEAD), 10, NONCE, NOW);
        Permit2Proxy.EIP2612Permit memory none = Permit2Proxy.EIP2612Permit(10, NOW, 0, 0, 27);
        bytes memory sig = signature(KEY + 1, exactDigest(permit, PAYEE, 0));
        // The permit is skipped, and what the payer did not sign is refused.
        vm.expectRevert(IPermit2Errors.InvalidSigner.selector);
        exactProxy.settleWithPermit(none, permit, payer, X402ExactPermit2Proxy.Witness(PAYEE, 0), sig);
    }

    function test_contractPayers() public {
        TestWallet1271 wallet = TestWallet1271(payable(deploy("test-wallet1271", abi.encode(payer))));
        asy.transfer(address(wallet), 10);
        vm.prank(payer);
        wallet.execute(address(asy), 0, abi.encodeCall(asy.approve, (Canonical.PERMIT2, 10)));
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(asy), 10, NONCE, NOW);
        bytes memory wrong = signature(KEY + 1, exactDigest(permit, PAYEE, 0));
        vm.expectRevert(IPermit2Errors.InvalidContractSignature.selector);
        exactProxy.settle(permit, address(wallet), X402ExactPermit2Proxy.Witness(PAYEE, 0), wrong);
        bytes memory sig = signature(KEY, exactDigest(permit, PAYEE, 0));
        exactProxy.settle(permit, address(wallet), X402ExactPermit2Proxy.Witness(PAYEE, 0), sig);
        assertEq(asy.balanceOf(PAYEE), 10, "received");
    }
}
