// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {AuthorizedToken} from "../solidity/tokens/AuthorizedToken.sol";
import {Canonical} from "../solidity/lib/Canonical.sol";
import {PaymentBatcher} from "../solidity/assay/PaymentBatcher.sol";
import {ISignatureTransfer} from "../solidity/interfaces/ISignatureTransfer.sol";
import {Fixture} from "./Fixture.sol";
import {GreedyWallet, HostileToken} from "./Hostile.sol";
import {Deployer} from "./Test.sol";

contract PaymentBatcherTest is Fixture {
    uint256 private constant KEY = 0xA11CE;
    address private constant PAYEE = address(0xBEEF);
    address private constant OWNER = address(0x0111);
    address private constant OPERATOR = address(0x0222);
    address private payer;
    PaymentBatcher private batcher;

    function setUp() public {
        setUpCanonical();
        payer = vm.addr(KEY);
        usdc.mint(payer, 1e9);
        asy.transfer(payer, 1e20);
        vm.prank(payer);
        asy.approve(Canonical.PERMIT2, type(uint256).max);
        address[] memory operators = new address[](1);
        operators[0] = OPERATOR;
        batcher = PaymentBatcher(deploy("payment-batcher", abi.encode(OWNER, operators)));
    }

    /// @dev A payment as its kind is signed; `amount` of at most `permitted`.
    function _payment(PaymentBatcher.Kind kind, address token, uint256 amount, uint256 permitted, uint256 nonce)
        private
        view
        returns (PaymentBatcher.Payment memory payment)
    {
        bytes32 digest;
        ISignatureTransfer.PermitTransferFrom memory permit = permitOf(token, permitted, nonce, NOW + 900);
        if (kind == PaymentBatcher.Kind.Eip3009) {
            digest = usdcDigest(transferStruct(payer, PAYEE, amount, NOW - 1, NOW + 900, bytes32(nonce)));
        } else if (kind == PaymentBatcher.Kind.ExactPermit2) {
            digest = exactDigest(permit, PAYEE, NOW - 1);
        } else {
            digest = uptoDigest(permit, PAYEE, address(batcher), NOW - 1);
        }
        payment = PaymentBatcher.Payment({
            kind: kind,
            receiptDigest: keccak256(abi.encode("receipt", nonce)),
            token: token,
            payer: payer,
            payTo: PAYEE,
            amount: amount,
            permitted: permitted,
            validAfter: NOW - 1,
            deadline: NOW + 900,
            nonce: bytes32(nonce),
            signature: signature(KEY, digest),
            permit2612: ""
        });
    }

    function _one(PaymentBatcher.Payment memory payment) private pure returns (PaymentBatcher.Payment[] memory list) {
        list = new PaymentBatcher.Payment[](1);
        list[0] = payment;
    }

    function _settle(PaymentBatcher.Payment[] memory payments) private returns (uint256) {
        vm.prank(OPERATOR);
        return batcher.settle(payments);
    }

    function _expect(PaymentBatcher.Payment memory payment, bool ok, bytes memory reason) private {
        vm.expectEmit(true, true, true, true, address(batcher));
        address contractOf = payment.kind == PaymentBatcher.Kind.Eip3009 ? payment.token : Canonical.PERMIT2;
        emit PaymentBatcher.PaymentSettled(
            keccak256(abi.encode(block.chainid, contractOf, payment.payer, payment.nonce)),
            payment.receiptDigest,
            payment.payer,
            payment.token,
            payment.payTo,
            payment.amount,
            ok,
            reason
        );
    }

    function test_settlesEveryKind() public {
        PaymentBatcher.Payment[] memory payments = new PaymentBatcher.Payment[](3);
        payments[0] = _payment(PaymentBatcher.Kind.Eip3009, address(usdc), 100, 0, 1);
        payments[1] = _payment(PaymentBatcher.Kind.ExactPermit2, address(asy), 200, 200, 2);
        payments[2] = _payment(PaymentBatcher.Kind.UptoPermit2, address(asy), 30, 300, 3);
        for (uint256 i = 0; i < 3; ++i) {
            _expect(payments[i], true, "");
        }
        assertEq(_settle(payments), 3, "settled");
        assertEq(usdc.balanceOf(PAYEE), 100, "dollars");
        assertEq(asy.balanceOf(PAYEE), 230, "tokens");
        assertEq(usdc.balanceOf(address(batcher)) + asy.balanceOf(address(batcher)), 0, "nothing stays");
    }

    function testFuzz_onePoisonedPaymentHindersNoOther(uint8 place, uint8 fault, uint8 count) public {
        uint256 size = bound(count, 1, 12);
        uint256 poisoned = place % size;
        PaymentBatcher.Payment[] memory payments = new PaymentBatcher.Payment[](size);
        uint256 expected = 0;
        for (uint256 i = 0; i < size; ++i) {
            PaymentBatcher.Kind kind = PaymentBatcher.Kind(i % 3);
            address token = kind == PaymentBatcher.Kind.Eip3009 ? address(usdc) : address(asy);
            payments[i] = _payment(kind, token, 10 + i, kind == PaymentBatcher.Kind.UptoPermit2 ? 100 : 10 + i, i);
            if (i != poisoned) expected += 10 + i;
        }
        uint256 which = fault % 8;
        if (which == 0) payments[poisoned].signature = "";
        if (which == 1) payments[poisoned].payTo = address(this);
        if (which == 2) payments[poisoned].nonce = keccak256("other");
        if (which == 3) payments[poisoned].validAfter = NOW + 1;
        if (which == 4) payments[poisoned].deadline = NOW - 1;
        if (which == 5) payments[poisoned].payer = address(0x1234);
        if (which == 6) payments[poisoned].token = address(0xDEAD);
        if (which == 7) {
            payments[poisoned].amount = 1e30;
            payments[poisoned].permitted = 1e29;
        }
        assertEq(_settle(payments), size - 1, "all but one");
        assertEq(usdc.balanceOf(PAYEE) + asy.balanceOf(PAYEE), expected, "what the others are");
        assertEq(usdc.balanceOf(address(batcher)) + asy.balanceOf(address(batcher)), 0, "nothing stays");
    }

    function test_reasonsAreToldByTheirStart() public {
        PaymentBatcher.Payment memory payment = _payment(PaymentBatcher.Kind.Eip3009, address(usdc), 100, 0, 1);
        assertEq(_settle(_one(payment)), 1, "settled");
        _expect(
            payment,
            false,
            abi.encodeWithSelector(AuthorizedToken.AuthorizationUsedOrCanceled.selector, payer, payment.nonce)
        );
        assertEq(_settle(_one(payment)), 0, "once");

        HostileToken token = new HostileToken();
        payment.token = address(token);
        token.setReasonLength(132);
        _expect(payment, false, new bytes(132));
        _settle(_one(payment));
        token.setReasonLength(133);
        _expect(payment, false, new bytes(132));
        _settle(_one(payment));
        token.setReasonLength(4);
        _expect(payment, false, new bytes(4));
        _settle(_one(payment));
    }

    function test_anAddressWithoutCodeMovesNothing() public {
        for (uint256 kind = 0; kind < 3; ++kind) {
            PaymentBatcher.Payment memory payment =
                _payment(PaymentBatcher.Kind(kind), address(0xDEAD), 100, 100, 1 + kind);
            _expect(payment, false, "");
            assertEq(_settle(_one(payment)), 0, "nothing there");
        }
    }

    function test_sponsoredPayments() public {
        PaymentBatcher.Payment[] memory payments = new PaymentBatcher.Payment[](2);
        payments[0] = _payment(PaymentBatcher.Kind.ExactPermit2, address(usdc), 40, 40, 1);
        payments[1] = _payment(PaymentBatcher.Kind.UptoPermit2, address(usdc), 5, 50, 2);
        // Without allowance neither moves.
        assertEq(_settle(payments), 0, "no allowance");
        for (uint256 i = 0; i < 2; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(
                KEY, permitDigest(address(usdc), payer, Canonical.PERMIT2, payments[i].permitted, i, NOW + 900)
            );
            payments[i].permit2612 = abi.encode(payments[i].permitted, NOW + 900, v, r, s);
        }
        assertEq(_settle(payments), 2, "with permits");
        assertEq(usdc.balanceOf(PAYEE), 45, "received");
    }

    function test_permitsDecideNothing() public {
        PaymentBatcher.Payment[] memory payments = new PaymentBatcher.Payment[](4);
        bytes[4] memory permits = [
            bytes("short"),
            abi.encode(uint256(1), NOW, uint8(27), bytes32(0), bytes32(0)),
            abi.encode(type(uint256).max, type(uint256).max, type(uint256).max, bytes32(0), bytes32(0)),
            new bytes(5000)
        ];
        for (uint256 i = 0; i < 4; ++i) {
            payments[i] = _payment(PaymentBatcher.Kind.UptoPermit2, address(asy), 5, 50, i);
            payments[i].permit2612 = permits[i];
        }
        assertEq(_settle(payments), 4, "all settled by the allowance there is");
    }

    function test_onlyOperators() public {
        PaymentBatcher.Payment[] memory payments = _one(_payment(PaymentBatcher.Kind.Eip3009, address(usdc), 1, 0, 1));
        vm.expectRevert(abi.encodeWithSelector(PaymentBatcher.NotOperator.selector, address(this)));
        batcher.settle(payments);
        vm.expectRevert(abi.encodeWithSelector(PaymentBatcher.NotOperator.selector, OWNER));
        vm.prank(OWNER);
        batcher.settle(payments);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, OPERATOR));
        vm.prank(OPERATOR);
        batcher.setOperator(address(this), true);
        vm.prank(OWNER);
        batcher.setOperator(address(this), true);
        batcher.settle(payments);
        vm.expectEmit(true, true, true, true, address(batcher));
        emit PaymentBatcher.OperatorChanged(OPERATOR, false);
        vm.prank(OWNER);
        batcher.setOperator(OPERATOR, false);
        vm.expectRevert(abi.encodeWithSelector(PaymentBatcher.NotOperator.selector, OPERATOR));
        vm.prank(OPERATOR);
        batcher.settle(payments);
    }

    function test_ownershipChangesInTwoSteps() public {
        vm.prank(OWNER);
        batcher.transferOwnership(address(this));
        assertEq(batcher.owner(), OWNER, "still");
        batcher.acceptOwnership();
        assertEq(batcher.owner(), address(this), "now");
    }

    function test_emptyBatch() public {
        vm.expectRevert(PaymentBatcher.NoPayments.selector);
        vm.prank(OPERATOR);
        batcher.settle(new PaymentBatcher.Payment[](0));
    }

    function test_tooLittleGasIsNoFailedPayment() public {
        PaymentBatcher.Payment[] memory payments = _one(_payment(PaymentBatcher.Kind.Eip3009, address(usdc), 1, 0, 1));
        vm.prank(OPERATOR);
        vm.expectPartialRevert(PaymentBatcher.InsufficientGas.selector);
        batcher.settle{gas: 310_000}(payments);
        payments[0].permit2612 = new bytes(160);
        vm.prank(OPERATOR);
        vm.expectPartialRevert(PaymentBatcher.InsufficientGas.selector);
        batcher.settle{gas: 420_000}(payments);
        vm.prank(OPERATOR);
        assertEq(batcher.settle{gas: 450_000}(payments), 1, "enough");
    }

    function test_aGreedyPayerEatsItsOwnShareOnly() public {
        address greedy = address(new GreedyWallet());
        usdc.mint(greedy, 100);
        PaymentBatcher.Payment[] memory payments = new PaymentBatcher.Payment[](3);
        payments[0] = _payment(PaymentBatcher.Kind.Eip3009, address(usdc), 1, 0, 1);
        payments[1] = _payment(PaymentBatcher.Kind.Eip3009, address(usdc), 1, 0, 2);
        payments[1].payer = greedy;
        payments[2] = _payment(PaymentBatcher.Kind.Eip3009, address(usdc), 1, 0, 3);
        uint256 before = gasleft();
        assertEq(_settle(payments), 2, "the others");
        assertLe(before - gasleft(), 300_000 + 300_000, "gas");
    }

    function test_nobodyComesBackIn() public {
        HostileToken token = new HostileToken();
        token.mint(payer, 100);
        vm.prank(payer);
        token.approve(Canonical.PERMIT2, 100);
        vm.prank(OWNER);
        batcher.setOperator(address(token), true);
        PaymentBatcher.Payment[] memory inner = _one(_payment(PaymentBatcher.Kind.Eip3009, address(usdc), 1, 0, 1));
        token.callBack(address(batcher), abi.encodeCall(batcher.settle, (inner)));
        PaymentBatcher.Payment[] memory outer =
            _one(_payment(PaymentBatcher.Kind.UptoPermit2, address(token), 5, 50, 2));
        assertEq(_settle(outer), 1, "settled");
        assertTrue(!token.callSucceeded(), "the inner call was refused");
    }

    function test_ownerOfNobody() public {
        Deployer deployer = new Deployer();
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
        deployer.run("payment-batcher", abi.encode(address(0), new address[](0)));
    }
}
