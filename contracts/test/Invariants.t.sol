// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Canonical} from "../solidity/lib/Canonical.sol";
import {PaymentBatcher} from "../solidity/assay/PaymentBatcher.sol";
import {ReceiptAnchor} from "../solidity/assay/ReceiptAnchor.sol";
import {TestUSDC} from "../solidity/tokens/TestUSDC.sol";
import {X402BatchSettlement} from "../solidity/x402/X402BatchSettlement.sol";
import {Fixture} from "./Fixture.sol";
import {Test} from "./Test.sol";

/// @notice Payers and receivers who do whatever the channel contract lets them, in any order, and the books of an observer.
contract ChannelActors is Fixture {
    uint256 public constant CHANNELS = 4;
    uint256 private constant AUTHORIZER_KEY = 0xA0;
    uint256 private salt;

    mapping(uint256 => uint256) public deposited;
    mapping(uint256 => uint256) public returned;
    mapping(uint256 => uint128) public highestVoucher;
    mapping(uint256 => uint128) public highestClaim;

    constructor(TestUSDC token) {
        usdc = token;
    }

    function key(uint256 index) public pure returns (uint256) {
        return 0xC0FFEE + index;
    }

    function receiver(uint256 index) public pure returns (address) {
        return address(uint160(0xBEEF + index % 2));
    }

    function channel(uint256 index) public view returns (X402BatchSettlement.ChannelConfig memory) {
        address payer = vm.addr(key(index));
        return config(payer, payer, receiver(index), vm.addr(AUTHORIZER_KEY), address(usdc));
    }

    function idOf(uint256 index) public view returns (bytes32) {
        return batch.getChannelId(channel(index));
    }

    function deposit(uint256 index, uint128 amount) external {
        index %= CHANNELS;
        amount = uint128(bound(amount, 1, 1e9));
        usdc.mint(vm.addr(key(index)), amount);
        batch.deposit(channel(index), amount, ERC3009_COLLECTOR, erc3009Deposit(key(index), idOf(index), amount, ++salt));
        deposited[index] += amount;
    }

    /// @dev A voucher of any ceiling, and a claim of any sum on it; what is not allowed is tried as well.
    function claim(uint256 index, uint128 ceiling, uint128 total, bool relayed) external {
        index %= CHANNELS;
        (uint128 balance, uint128 before) = batch.channels(idOf(index));
        ceiling = uint128(bound(ceiling, 0, uint256(balance) + 10));
        total = uint128(bound(total, 0, uint256(ceiling) + 10));
        if (ceiling > highestVoucher[index]) highestVoucher[index] = ceiling;
        X402BatchSettlement.VoucherClaim[] memory claims = one(claimOf(channel(index), key(index), ceiling, total));
        bytes memory sig = signature(AUTHORIZER_KEY, batch.getClaimBatchDigest(claims));
        address sender = receiver(index);
        if (!relayed) vm.prank(sender);
        (bool ok,) = address(batch).call(
            relayed
                ? abi.encodeCall(batch.claimWithSignature, (claims, sig))
                : abi.encodeCall(batch.claim, (claims))
        );
        assertTrue(ok == (total <= ceiling && (total <= balance || total <= before)), "claimed if and only if allowed");
        if (ok && total > highestClaim[index]) highestClaim[index] = total;
    }

    function settle(uint256 index) external {
        batch.settle(receiver(index), address(usdc));
    }

    function refund(uint256 index, uint128 amount) external {
        index %= CHANNELS;
        amount = uint128(bound(amount, 1, 1e10));
        uint256 before = usdc.balanceOf(vm.addr(key(index)));
        X402BatchSettlement.ChannelConfig memory c = channel(index);
        vm.prank(receiver(index));
        batch.refund(c, amount);
        returned[index] += usdc.balanceOf(vm.addr(key(index))) - before;
    }

    function initiate(uint256 index, uint128 amount) external {
        index %= CHANNELS;
        (uint128 balance, uint128 claimed) = batch.channels(idOf(index));
        (, uint40 initiatedAt) = batch.pendingWithdrawals(idOf(index));
        if (balance == claimed || initiatedAt != 0) return;
        X402BatchSettlement.ChannelConfig memory c = channel(index);
        amount = uint128(bound(amount, 1, balance - claimed));
        vm.prank(vm.addr(key(index)));
        batch.initiateWithdraw(c, amount);
    }

    function finalize(uint256 index, uint32 wait) external {
        index %= CHANNELS;
        (, uint40 initiatedAt) = batch.pendingWithdrawals(idOf(index));
        if (initiatedAt == 0) return;
        vm.warp(block.timestamp + wait % 2000);
        uint256 before = usdc.balanceOf(vm.addr(key(index)));
        X402BatchSettlement.ChannelConfig memory c = channel(index);
        bool due = block.timestamp >= uint256(initiatedAt) + 900;
        vm.prank(vm.addr(key(index)));
        (bool ok,) = address(batch).call(abi.encodeCall(batch.finalizeWithdraw, (c)));
        assertTrue(ok == due, "paid out if and only if it is time");
        returned[index] += usdc.balanceOf(vm.addr(key(index))) - before;
    }

    /// @dev Strangers get nothing.
    function steal(uint256 index, address thief, uint128 amount) external {
        index %= CHANNELS;
        X402BatchSettlement.ChannelConfig memory c = channel(index);
        if (thief == c.payer || thief == c.receiver || thief == c.receiverAuthorizer) return;
        bytes[3] memory tries = [
            abi.encodeCall(batch.refund, (c, amount)),
            abi.encodeCall(batch.initiateWithdraw, (c, amount)),
            abi.encodeCall(batch.finalizeWithdraw, (c))
        ];
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(thief);
            (bool ok,) = address(batch).call(tries[i]);
            assertTrue(!ok, "a stranger was let in");
        }
    }
}

contract ChannelInvariants is Fixture {
    ChannelActors private actors;

    function setUp() public {
        setUpCanonical();
        actors = new ChannelActors(usdc);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    /// @dev What the contract holds is, to the unit, what channels have left and receivers have coming.
    function invariant_nothingIsCreatedOrStuck() external view {
        uint256 owed = 0;
        uint256 claimedByChannels = 0;
        for (uint256 i = 0; i < actors.CHANNELS(); ++i) {
            (uint128 balance, uint128 claimed) = batch.channels(actors.idOf(i));
            owed += balance - claimed;
            claimedByChannels += claimed;
        }
        uint256 claimedForReceivers = 0;
        uint256 received = 0;
        for (uint256 i = 0; i < 2; ++i) {
            (uint128 claimed, uint128 settled) = batch.receivers(actors.receiver(i), address(usdc));
            owed += claimed - settled;
            claimedForReceivers += claimed;
            received += settled;
            assertEq(usdc.balanceOf(actors.receiver(i)), settled, "received is what was settled");
        }
        assertEq(claimedByChannels, claimedForReceivers, "both books of claims");
        assertEq(usdc.balanceOf(address(batch)), owed, "held is what is owed");
        assertEq(usdc.balanceOf(ERC3009_COLLECTOR), 0, "the collector holds nothing");
    }

    /// @dev A payer loses at most what it signed, and only its own deposit comes back to it.
    function invariant_claimsStayWithinVouchersAndDeposits() external view {
        for (uint256 i = 0; i < actors.CHANNELS(); ++i) {
            (uint128 balance, uint128 claimed) = batch.channels(actors.idOf(i));
            assertLe(claimed, actors.highestVoucher(i), "claimed within what was signed");
            assertEq(claimed, actors.highestClaim(i), "claimed is the highest claim");
            assertLe(claimed, balance, "claimed within what is there");
            assertEq(balance + actors.returned(i), actors.deposited(i), "deposits are here or back");
        }
    }
}

/// @notice Somebody who settles payments of every kind and fault through the batcher.
contract BatcherActor is Fixture {
    PaymentBatcher public immutable BATCHER;
    uint256 public paid;
    uint256 private nonce;

    constructor(TestUSDC token) {
        usdc = token;
        address[] memory operators = new address[](1);
        operators[0] = address(this);
        BATCHER = PaymentBatcher(deploy("payment-batcher", abi.encode(address(this), operators)));
    }

    function settle(uint256 kind, uint128 amount, uint128 permitted, bool signed, bool toBatcher) external {
        uint256 payerKey = 0xFACE + kind % 5;
        address payer = vm.addr(payerKey);
        address payTo = toBatcher ? address(0xD00D) : address(0xBEEF);
        amount = uint128(bound(amount, 1, 1e9));
        permitted = uint128(bound(permitted, 1, 1e9));
        usdc.mint(payer, amount);
        vm.prank(payer);
        usdc.approve(Canonical.PERMIT2, permitted);
        PaymentBatcher.Payment[] memory payments = new PaymentBatcher.Payment[](1);
        PaymentBatcher.Kind k = PaymentBatcher.Kind(kind % 3);
        bytes32 digest = k == PaymentBatcher.Kind.Eip3009
            ? usdcDigest(transferStruct(payer, payTo, amount, 0, NOW + 1e9, bytes32(++nonce)))
            : k == PaymentBatcher.Kind.ExactPermit2
                ? exactDigest(permitOf(address(usdc), permitted, ++nonce, NOW + 1e9), payTo, 0)
                : uptoDigest(permitOf(address(usdc), permitted, ++nonce, NOW + 1e9), payTo, address(BATCHER), 0);
        payments[0] = PaymentBatcher.Payment({
            kind: k,
            receiptDigest: digest,
            token: address(usdc),
            payer: payer,
            payTo: payTo,
            amount: amount,
            permitted: permitted,
            validAfter: 0,
            deadline: NOW + 1e9,
            nonce: bytes32(nonce),
            signature: signature(signed ? payerKey : 1, digest),
            permit2612: ""
        });
        uint256 before = usdc.balanceOf(payTo);
        uint256 settled = BATCHER.settle(payments);
        uint256 moved = usdc.balanceOf(payTo) - before;
        assertTrue(signed || settled == 0, "settled what was not signed");
        if (settled == 0) assertEq(moved, 0, "moved without being settled");
        else assertEq(moved, k == PaymentBatcher.Kind.ExactPermit2 ? permitted : amount, "moved what was settled");
        paid += moved;
    }
}

contract BatcherInvariants is Fixture {
    BatcherActor private actor;

    function setUp() public {
        setUpCanonical();
        actor = new BatcherActor(usdc);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function invariant_theBatcherHoldsNothing() external view {
        assertEq(usdc.balanceOf(address(actor.BATCHER())), 0, "tokens");
        assertEq(address(actor.BATCHER()).balance, 0, "native");
        assertEq(usdc.balanceOf(Canonical.EXACT_PROXY) + usdc.balanceOf(Canonical.UPTO_PROXY), 0, "proxies");
        assertEq(usdc.balanceOf(address(0xBEEF)) + usdc.balanceOf(address(0xD00D)), actor.paid(), "all arrived");
    }
}

/// @notice Submitters who bond, post, ask for their bonds and get convicted.
contract AnchorActors is Test {
    ReceiptAnchor public immutable ANCHOR = ReceiptAnchor(deploy("receipt-anchor", abi.encode(1 ether, 7 days)));
    uint256 public bonded;
    uint256 public paidOut;

    function _key(uint256 index) private pure returns (uint256) {
        return 0x5B00 + index % 3;
    }

    function bond(uint256 index, uint64 value) external {
        address who = vm.addr(_key(index));
        (,,,, bool convicted) = ANCHOR.submitters(who);
        if (convicted || value == 0) return;
        vm.deal(who, value);
        vm.prank(who);
        ANCHOR.bond{value: value}();
        bonded += value;
    }

    function request(uint256 index) external {
        address who = vm.addr(_key(index));
        (uint80 amount,,,,) = ANCHOR.submitters(who);
        if (amount == 0) return;
        vm.prank(who);
        ANCHOR.requestWithdraw();
    }

    function withdraw(uint256 index, uint32 wait) external {
        address who = vm.addr(_key(index));
        (uint80 amount,,, uint40 at,) = ANCHOR.submitters(who);
        vm.warp(block.timestamp + wait % 10 days);
        bool due = amount != 0 && at != 0 && block.timestamp >= at;
        uint256 before = who.balance;
        vm.prank(who);
        (bool ok,) = address(ANCHOR).call(abi.encodeCall(ANCHOR.withdraw, ()));
        assertTrue(ok == due, "withdrawn if and only if it is time");
        paidOut += who.balance - before;
    }

    function convict(uint256 index, uint64 first, uint64 second) external {
        address who = vm.addr(_key(index));
        (uint80 amount,,,,) = ANCHOR.submitters(who);
        ReceiptAnchor.Entry memory a = ReceiptAnchor.Entry(who, first % 20, 5, "a", 10, "log", "blob", 0);
        ReceiptAnchor.Entry memory b = ReceiptAnchor.Entry(who, second % 20, 5, "b", 11, "log", "blob", 0);
        bool conflict = first % 20 < second % 20 + 5 && second % 20 < first % 20 + 5;
        bytes memory sigA = signature(_key(index), ANCHOR.entryHash(a));
        bytes memory sigB = signature(_key(index), ANCHOR.entryHash(b));
        vm.prank(address(0x4E9));
        (bool ok,) = address(ANCHOR).call(abi.encodeCall(ANCHOR.convict, (a, sigA, b, sigB)));
        assertTrue(ok == (conflict && amount != 0), "convicted if and only if guilty and bonded");
        if (ok) paidOut += amount;
    }
}

contract AnchorInvariants is Test {
    AnchorActors private actors;

    function setUp() public {
        vm.warp(1_800_000_000);
        actors = new AnchorActors();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    function invariant_bondsAreHereOrPaidOut() external view {
        uint256 held = 0;
        for (uint256 i = 0; i < 3; ++i) {
            (uint80 bond,,,,) = actors.ANCHOR().submitters(vm.addr(0x5B00 + i));
            held += bond;
        }
        assertEq(address(actors.ANCHOR()).balance, held, "held");
        assertEq(held + actors.paidOut(), actors.bonded(), "bonded");
        assertEq(address(0x4E9).balance <= actors.paidOut() / 2 ? 1 : 0, 1, "at most half is a reward");
    }
}
