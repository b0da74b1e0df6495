// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Canonical} from "../solidity/lib/Canonical.sol";
import {AuthorizedToken} from "../solidity/tokens/AuthorizedToken.sol";
import {DepositCollector} from "../solidity/x402/DepositCollector.sol";
import {ERC3009DepositCollector} from "../solidity/x402/ERC3009DepositCollector.sol";
import {ISignatureTransfer} from "../solidity/interfaces/ISignatureTransfer.sol";
import {Permit2DepositCollector} from "../solidity/x402/Permit2DepositCollector.sol";
import {TestWallet1271} from "../solidity/dev/TestWallet1271.sol";
import {X402BatchSettlement} from "../solidity/x402/X402BatchSettlement.sol";
import {Fixture} from "./Fixture.sol";
import {FreeCollector, HostileToken} from "./Hostile.sol";

contract BatchSettlementTest is Fixture {
    uint256 private constant KEY = 0xA11CE;
    uint256 private constant VOUCHER_KEY = 0x70C;
    uint256 private constant AUTHORIZER_KEY = 0xA0;
    uint256 private constant STRANGER_KEY = 0x666;
    address private constant RECEIVER = address(0xBEEF);
    address private constant STRANGER = address(0x666);

    address private payer;
    address private authorizer;
    X402BatchSettlement.ChannelConfig private channel;
    bytes32 private id;

    function setUp() public {
        setUpCanonical();
        payer = vm.addr(KEY);
        authorizer = vm.addr(AUTHORIZER_KEY);
        channel = config(payer, vm.addr(VOUCHER_KEY), RECEIVER, authorizer, address(usdc));
        id = batch.getChannelId(channel);
        usdc.mint(payer, 10_000);
        _deposit(1000, 1);
    }

    function _deposit(uint128 amount, uint256 salt) private {
        batch.deposit(channel, amount, ERC3009_COLLECTOR, erc3009Deposit(KEY, id, amount, salt));
    }

    function _claim(uint128 maxClaimable, uint128 total) private {
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, VOUCHER_KEY, maxClaimable, total));
        vm.prank(RECEIVER);
        batch.claim(claims);
    }

    function _state(uint128 balance, uint128 totalClaimed) private view {
        (uint128 actualBalance, uint128 actualClaimed) = batch.channels(id);
        assertEq(actualBalance, balance, "balance");
        assertEq(actualClaimed, totalClaimed, "claimed");
    }

    function test_channelIdIsTheDigest() public view {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("x402 Batch Settlement"),
                keccak256("1"),
                block.chainid,
                Canonical.BATCH_SETTLEMENT
            )
        );
        assertEq(batch.domainSeparator(), domain, "domain");
        assertEq(id, typed(domain, keccak256(abi.encode(batch.CHANNEL_CONFIG_TYPEHASH(), channel))), "id");
    }

    function test_depositByEip3009() public {
        _state(1000, 0);
        assertEq(usdc.balanceOf(address(batch)), 1000, "held");
        _deposit(500, 2);
        _state(1500, 0);
        bytes memory again = erc3009Deposit(KEY, id, 500, 2);
        vm.expectPartialRevert(AuthorizedToken.AuthorizationUsedOrCanceled.selector);
        batch.deposit(channel, 500, ERC3009_COLLECTOR, again);
    }

    function test_depositIsBoundToItsChannel() public {
        bytes memory data = erc3009Deposit(KEY, id, 500, 2);
        X402BatchSettlement.ChannelConfig memory other = channel;
        other.receiver = STRANGER;
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        batch.deposit(other, 500, ERC3009_COLLECTOR, data);
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        batch.deposit(channel, 501, ERC3009_COLLECTOR, data);
    }

    function test_depositByPermit2() public {
        vm.prank(payer);
        usdc.approve(Canonical.PERMIT2, 700);
        bytes memory sig = signature(KEY, _permit2DepositDigest(700));
        batch.deposit(channel, 700, PERMIT2_COLLECTOR, abi.encode(uint256(9), NOW, sig, bytes("")));
        _state(1700, 0);
    }

    function test_depositByPermit2WithPermit() public {
        bytes memory sig = signature(KEY, _permit2DepositDigest(700));
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(KEY, permitDigest(address(usdc), payer, Canonical.PERMIT2, 700, 0, NOW));
        bytes memory permit = abi.encode(uint256(700), NOW, v, r, s);
        // Submitted by somebody else before: the deposit goes through all the same.
        usdc.permit(payer, Canonical.PERMIT2, 700, NOW, v, r, s);
        batch.deposit(channel, 700, PERMIT2_COLLECTOR, abi.encode(uint256(9), NOW, sig, permit));
        _state(1700, 0);
        assertEq(usdc.allowance(payer, Canonical.PERMIT2), 0, "nothing stays allowed");
    }

    function test_collectorsServeTheChannelContractAlone() public {
        bytes memory data = erc3009Deposit(KEY, id, 500, 2);
        bytes memory refusal = abi.encodeWithSelector(DepositCollector.OnlyBatchSettlement.selector, address(this));
        vm.expectRevert(refusal);
        ERC3009DepositCollector(ERC3009_COLLECTOR).collect(payer, address(usdc), 500, id, data);
        vm.expectRevert(refusal);
        Permit2DepositCollector(PERMIT2_COLLECTOR).collect(payer, address(usdc), 500, id, data);
    }

    function test_depositRefusals() public {
        vm.expectRevert(X402BatchSettlement.ZeroAmount.selector);
        batch.deposit(channel, 0, ERC3009_COLLECTOR, "");
        X402BatchSettlement.ChannelConfig memory wrong = channel;
        wrong.payer = address(0);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidChannel.selector, wrong));
        batch.deposit(wrong, 1, ERC3009_COLLECTOR, "");
        wrong = config(payer, payer, address(0), authorizer, address(usdc));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidChannel.selector, wrong));
        batch.deposit(wrong, 1, ERC3009_COLLECTOR, "");
        wrong = config(payer, payer, RECEIVER, address(0), address(usdc));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidChannel.selector, wrong));
        batch.deposit(wrong, 1, ERC3009_COLLECTOR, "");
        wrong = config(payer, payer, RECEIVER, authorizer, address(0));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidChannel.selector, wrong));
        batch.deposit(wrong, 1, ERC3009_COLLECTOR, "");
    }

    function testFuzz_withdrawDelayHasBounds(uint40 delay) public {
        X402BatchSettlement.ChannelConfig memory other = channel;
        other.withdrawDelay = delay;
        bytes memory data = erc3009Deposit(KEY, batch.getChannelId(other), 1, 3);
        if (delay < 900 || delay > 2_592_000) {
            vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WithdrawDelayOutOfRange.selector, delay));
        }
        batch.deposit(other, 1, ERC3009_COLLECTOR, data);
    }

    function test_withdrawDelayAtItsBounds() public {
        uint40[4] memory delays = [uint40(899), 900, 2_592_000, 2_592_001];
        for (uint256 i = 0; i < 4; ++i) {
            X402BatchSettlement.ChannelConfig memory other = channel;
            other.withdrawDelay = delays[i];
            bytes memory data = erc3009Deposit(KEY, batch.getChannelId(other), 1, 3);
            if (i == 0 || i == 3) {
                vm.expectRevert(
                    abi.encodeWithSelector(X402BatchSettlement.WithdrawDelayOutOfRange.selector, delays[i])
                );
            }
            batch.deposit(other, 1, ERC3009_COLLECTOR, data);
        }
    }

    function testFuzz_onlyWhatArrivesCounts(uint128 announced, uint128 brought) public {
        announced = uint128(bound(announced, 1, 1e30));
        brought = uint128(bound(brought, 0, 1e30));
        FreeCollector collector = new FreeCollector();
        usdc.mint(address(collector), brought);
        collector.bring(brought);
        if (announced != brought) {
            vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WrongDeposit.selector, announced, brought));
        }
        batch.deposit(channel, announced, address(collector), "");
        _state(announced == brought ? 1000 + announced : 1000, 0);
    }

    function test_tokensWithFeesAreRefused() public {
        HostileToken token = new HostileToken();
        token.setFee(1);
        FreeCollector collector = new FreeCollector();
        token.mint(address(collector), 100);
        collector.bring(100);
        channel.token = address(token);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WrongDeposit.selector, 100, 99));
        batch.deposit(channel, 100, address(collector), "");
    }

    function test_nothingGoesOnDuringADeposit() public {
        _claim(400, 400);
        FreeCollector collector = new FreeCollector();
        usdc.mint(address(collector), 100);
        collector.bring(100);
        bytes[] memory calls = new bytes[](1);
        calls[0] = abi.encodeCall(batch.settle, (RECEIVER, address(usdc)));
        collector.callBack(address(batch), abi.encodeCall(batch.multicall, (calls)));
        batch.deposit(channel, 100, address(collector), "");
        assertTrue(!collector.callSucceeded(), "settled during a deposit");
        assertEq(
            bytes32(collector.callReason()),
            bytes32(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector),
            "refused by the guard"
        );
        _state(1100, 400);
    }

    function testFuzz_claimsStayBelowVoucherAndBalance(uint128 ceiling, uint128 total) public {
        ceiling = uint128(bound(ceiling, 0, 2000));
        total = uint128(bound(total, 1, 2000));
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, VOUCHER_KEY, ceiling, total));
        bool refused = total > ceiling || total > 1000;
        if (total > ceiling) {
            vm.expectRevert(
                abi.encodeWithSelector(X402BatchSettlement.ClaimExceedsVoucher.selector, id, total, ceiling)
            );
        } else if (total > 1000) {
            vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.ClaimExceedsBalance.selector, id, total, 1000));
        }
        vm.prank(authorizer);
        batch.claim(claims);
        _state(1000, refused ? 0 : total);
    }

    function test_claimsAreCumulative() public {
        _claim(400, 300);
        _state(1000, 300);
        // Below or at what was claimed changes nothing, whatever it is signed with.
        _claim(400, 300);
        _claim(200, 200);
        _state(1000, 300);
        _claim(900, 800);
        _state(1000, 800);
        (uint128 claimed, uint128 settled) = batch.receivers(RECEIVER, address(usdc));
        assertEq(claimed, 800, "claimed for the receiver");
        assertEq(settled, 0, "settled");
        batch.settle(RECEIVER, address(usdc));
        batch.settle(RECEIVER, address(usdc));
        assertEq(usdc.balanceOf(RECEIVER), 800, "received once");
        (claimed, settled) = batch.receivers(RECEIVER, address(usdc));
        assertEq(settled, 800, "settled");
    }

    function test_claimRefusals() public {
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, VOUCHER_KEY, 400, 300));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, STRANGER));
        vm.prank(STRANGER);
        batch.claim(claims);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, payer));
        vm.prank(payer);
        batch.claim(claims);
        vm.expectRevert(X402BatchSettlement.NoClaims.selector);
        batch.claim(new X402BatchSettlement.VoucherClaim[](0));
        // The payer's own key does not sign vouchers when there is an authorizer for that.
        claims = one(claimOf(channel, KEY, 400, 300));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidVoucherSignature.selector, id));
        vm.prank(RECEIVER);
        batch.claim(claims);
        claims = one(claimOf(channel, VOUCHER_KEY, 400, 300));
        claims[0].voucher.maxClaimableAmount = 401;
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidVoucherSignature.selector, id));
        vm.prank(RECEIVER);
        batch.claim(claims);
        claims[0].signature = new bytes(64);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidVoucherSignature.selector, id));
        vm.prank(RECEIVER);
        batch.claim(claims);
    }

    function test_claimWithSignature() public {
        X402BatchSettlement.VoucherClaim[] memory claims = new X402BatchSettlement.VoucherClaim[](2);
        X402BatchSettlement.ChannelConfig memory second = channel;
        second.salt = bytes32(uint256(5));
        bytes32 secondId = batch.getChannelId(second);
        batch.deposit(second, 50, ERC3009_COLLECTOR, erc3009Deposit(KEY, secondId, 50, 1));
        claims[0] = claimOf(channel, VOUCHER_KEY, 400, 300);
        claims[1] = claimOf(second, VOUCHER_KEY, 50, 50);
        bytes memory wrong = signature(STRANGER_KEY, batch.getClaimBatchDigest(claims));
        vm.expectRevert(
            abi.encodeWithSelector(X402BatchSettlement.InvalidAuthorizerSignature.selector, authorizer)
        );
        batch.claimWithSignature(claims, wrong);
        bytes memory sig = signature(AUTHORIZER_KEY, batch.getClaimBatchDigest(claims));
        claims[0].totalClaimed = 301;
        vm.expectRevert(
            abi.encodeWithSelector(X402BatchSettlement.InvalidAuthorizerSignature.selector, authorizer)
        );
        batch.claimWithSignature(claims, sig);
        claims[0].totalClaimed = 300;
        vm.prank(STRANGER);
        batch.claimWithSignature(claims, sig);
        batch.claimWithSignature(claims, sig);
        _state(1000, 300);
        (, uint128 claimed) = batch.channels(secondId);
        assertEq(claimed, 50, "second channel");
        vm.expectRevert(X402BatchSettlement.NoClaims.selector);
        batch.claimWithSignature(new X402BatchSettlement.VoucherClaim[](0), sig);
    }

    function test_oneSignatureIsForOneAuthorizer() public {
        X402BatchSettlement.VoucherClaim[] memory claims = new X402BatchSettlement.VoucherClaim[](2);
        X402BatchSettlement.ChannelConfig memory second = channel;
        second.receiverAuthorizer = STRANGER;
        claims[0] = claimOf(channel, VOUCHER_KEY, 400, 300);
        claims[1] = claimOf(second, VOUCHER_KEY, 50, 50);
        bytes memory sig = signature(AUTHORIZER_KEY, batch.getClaimBatchDigest(claims));
        vm.expectRevert(
            abi.encodeWithSelector(X402BatchSettlement.MixedAuthorizers.selector, authorizer, STRANGER)
        );
        batch.claimWithSignature(claims, sig);
    }

    function test_contractAuthorizer() public {
        TestWallet1271 wallet = TestWallet1271(payable(deploy("test-wallet1271", abi.encode(authorizer))));
        channel.receiverAuthorizer = address(wallet);
        id = batch.getChannelId(channel);
        _deposit(1000, 4);
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, VOUCHER_KEY, 400, 300));
        batch.claimWithSignature(claims, signature(AUTHORIZER_KEY, batch.getClaimBatchDigest(claims)));
        batch.refundWithSignature(channel, 100, 0, signature(AUTHORIZER_KEY, batch.getRefundDigest(id, 0, 100)));
        _state(900, 300);
    }

    function test_contractPayerSignsVouchersByEip1271() public {
        TestWallet1271 wallet = TestWallet1271(payable(deploy("test-wallet1271", abi.encode(payer))));
        usdc.mint(address(wallet), 1000);
        channel.payer = address(wallet);
        channel.payerAuthorizer = address(0);
        id = batch.getChannelId(channel);
        bytes32 structHash = receiveStruct(
            address(wallet), ERC3009_COLLECTOR, 1000, 0, NOW + 1, keccak256(abi.encode(id, uint256(1)))
        );
        batch.deposit(
            channel,
            1000,
            ERC3009_COLLECTOR,
            abi.encode(uint256(0), NOW + 1, uint256(1), signature(KEY, usdcDigest(structHash)))
        );
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, STRANGER_KEY, 400, 300));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.InvalidVoucherSignature.selector, id));
        vm.prank(RECEIVER);
        batch.claim(claims);
        claims = one(claimOf(channel, KEY, 400, 300));
        vm.prank(RECEIVER);
        batch.claim(claims);
        _state(1000, 300);
        // With no authorizer, nobody is the zero address.
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, payer));
        vm.prank(payer);
        batch.initiateWithdraw(channel, 1);
        vm.prank(payer);
        wallet.execute(address(batch), 0, abi.encodeCall(batch.initiateWithdraw, (channel, 700)));
        vm.warp(NOW + 900);
        vm.prank(payer);
        wallet.execute(address(batch), 0, abi.encodeCall(batch.finalizeWithdraw, (channel)));
        assertEq(usdc.balanceOf(address(wallet)), 700, "the rest is back");
    }

    function test_refund() public {
        _claim(400, 400);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, payer));
        vm.prank(payer);
        batch.refund(channel, 100);
        vm.startPrank(RECEIVER);
        vm.expectRevert(X402BatchSettlement.ZeroAmount.selector);
        batch.refund(channel, 0);
        batch.refund(channel, 100);
        _state(900, 400);
        assertEq(usdc.balanceOf(payer), 9100, "back with the payer");
        // More than is left gives what is left; then nothing, which still spends the nonce.
        batch.refund(channel, 5000);
        _state(400, 400);
        batch.refund(channel, 1);
        vm.stopPrank();
        assertEq(batch.refundNonce(id), 3, "nonce");
        assertEq(usdc.balanceOf(payer), 9600, "no more");
    }

    function test_refundWithSignature() public {
        bytes memory sig = signature(AUTHORIZER_KEY, batch.getRefundDigest(id, 0, 100));
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WrongRefundNonce.selector, id, 0, 1));
        batch.refundWithSignature(channel, 100, 1, sig);
        vm.expectRevert(
            abi.encodeWithSelector(X402BatchSettlement.InvalidAuthorizerSignature.selector, authorizer)
        );
        batch.refundWithSignature(channel, 101, 0, sig);
        bytes memory payers = signature(KEY, batch.getRefundDigest(id, 0, 100));
        vm.expectRevert(
            abi.encodeWithSelector(X402BatchSettlement.InvalidAuthorizerSignature.selector, authorizer)
        );
        batch.refundWithSignature(channel, 100, 0, payers);
        vm.prank(STRANGER);
        batch.refundWithSignature(channel, 100, 0, sig);
        _state(900, 0);
        assertEq(usdc.balanceOf(payer), 9100, "with the payer, not the caller");
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WrongRefundNonce.selector, id, 1, 0));
        batch.refundWithSignature(channel, 100, 0, sig);
    }

    function test_aRefundVoidsThoseSignedBefore() public {
        bytes memory sig = signature(AUTHORIZER_KEY, batch.getRefundDigest(id, 0, 100));
        vm.prank(authorizer);
        batch.refund(channel, 1);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WrongRefundNonce.selector, id, 1, 0));
        batch.refundWithSignature(channel, 100, 0, sig);
    }

    function test_withdraw() public {
        _claim(100, 100);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, STRANGER));
        vm.prank(STRANGER);
        batch.initiateWithdraw(channel, 1);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, RECEIVER));
        vm.prank(RECEIVER);
        batch.initiateWithdraw(channel, 1);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.NoWithdrawal.selector, id));
        batch.finalizeWithdraw(channel);
        vm.expectRevert(X402BatchSettlement.ZeroAmount.selector);
        batch.initiateWithdraw(channel, 0);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WithdrawExceedsUnclaimed.selector, id, 901, 900));
        batch.initiateWithdraw(channel, 901);
        batch.initiateWithdraw(channel, 900);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.WithdrawalPending.selector, id, NOW));
        batch.initiateWithdraw(channel, 900);
        vm.warp(NOW + 899);
        vm.expectRevert(
            abi.encodeWithSelector(X402BatchSettlement.WithdrawTooEarly.selector, id, NOW + 900, NOW + 899)
        );
        batch.finalizeWithdraw(channel);
        vm.stopPrank();
        // The receiver still claims, and that comes first.
        _claim(300, 300);
        vm.warp(NOW + 900);
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.Unauthorized.selector, id, STRANGER));
        vm.prank(STRANGER);
        batch.finalizeWithdraw(channel);
        vm.prank(vm.addr(VOUCHER_KEY));
        batch.finalizeWithdraw(channel);
        _state(300, 300);
        assertEq(usdc.balanceOf(payer), 9700, "with the payer, whoever of the two asked");
        vm.expectRevert(abi.encodeWithSelector(X402BatchSettlement.NoWithdrawal.selector, id));
        vm.prank(payer);
        batch.finalizeWithdraw(channel);
    }

    function test_refundReducesAPendingWithdrawal() public {
        vm.prank(payer);
        batch.initiateWithdraw(channel, 600);
        vm.prank(RECEIVER);
        batch.refund(channel, 200);
        (uint128 amount, uint40 initiatedAt) = batch.pendingWithdrawals(id);
        assertEq(amount, 400, "reduced");
        assertEq(initiatedAt, NOW, "not restarted");
        vm.prank(RECEIVER);
        batch.refund(channel, 400);
        (amount, initiatedAt) = batch.pendingWithdrawals(id);
        assertEq(amount, 0, "cancelled");
        assertEq(initiatedAt, 0, "cancelled");
    }

    function test_withdrawingNothingEndsTheRequest() public {
        vm.prank(payer);
        batch.initiateWithdraw(channel, 1000);
        _claim(1000, 1000);
        vm.warp(NOW + 900);
        vm.prank(payer);
        batch.finalizeWithdraw(channel);
        (uint128 amount, uint40 initiatedAt) = batch.pendingWithdrawals(id);
        assertEq(amount + initiatedAt, 0, "no request");
        _state(1000, 1000);
    }

    function test_eventsOfALife() public {
        vm.recordLogs();
        vm.prank(RECEIVER);
        batch.refund(channel, 1000);
        assertEq(vm.getRecordedLogs()[0].topics[0], X402BatchSettlement.ChannelClosed.selector, "closed");
        bytes memory data = erc3009Deposit(KEY, id, 10, 8);
        vm.expectEmit(true, true, true, true, address(batch));
        emit X402BatchSettlement.ChannelCreated(id, channel);
        batch.deposit(channel, 10, ERC3009_COLLECTOR, data);
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, VOUCHER_KEY, 9, 8));
        vm.expectEmit(true, true, true, true, address(batch));
        emit X402BatchSettlement.Claimed(id, RECEIVER, 8, 8);
        vm.prank(RECEIVER);
        batch.claim(claims);
        vm.expectEmit(true, true, true, true, address(batch));
        emit X402BatchSettlement.Settled(RECEIVER, address(usdc), address(this), 8);
        batch.settle(RECEIVER, address(usdc));
    }

    /// @dev What the SDK's facilitator sends for a refund of a channel with unclaimed charges.
    function test_claimAndRefundInOne() public {
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel, VOUCHER_KEY, 400, 300));
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(
            batch.claimWithSignature, (claims, signature(AUTHORIZER_KEY, batch.getClaimBatchDigest(claims)))
        );
        calls[1] = abi.encodeCall(
            batch.refundWithSignature,
            (channel, 1000, 0, signature(AUTHORIZER_KEY, batch.getRefundDigest(id, 0, 1000)))
        );
        batch.multicall(calls);
        _state(300, 300);
        assertEq(usdc.balanceOf(payer), 9700, "refunded");
    }

    function _permit2DepositDigest(uint256 amount) private view returns (bytes32) {
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(address(usdc), amount, 9, NOW);
        return permit2Digest(
            "DepositWitness witness)DepositWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)",
            keccak256(abi.encode(keccak256("DepositWitness(bytes32 channelId)"), id)),
            PERMIT2_COLLECTOR,
            permit
        );
    }
}
