// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Split} from "../solidity/assay/Split.sol";
import {SplitFactory} from "../solidity/assay/SplitFactory.sol";
import {Fixture} from "./Fixture.sol";
import {HostileToken} from "./Hostile.sol";

contract SplitTest is Fixture {
    SplitFactory private factory;

    function setUp() public {
        setUpCanonical();
        factory = SplitFactory(deploy("split-factory"));
    }

    function _two(address a, uint16 aShare, address b, uint16 bShare)
        private
        pure
        returns (address[] memory payees, uint16[] memory shares)
    {
        payees = new address[](2);
        shares = new uint16[](2);
        (payees[0], payees[1]) = (a, b);
        (shares[0], shares[1]) = (aShare, bShare);
    }

    function test_addressIsKnownBefore() public {
        (address[] memory payees, uint16[] memory shares) = _two(address(0xA), 8000, address(0xB), 2000);
        address at = factory.splitOf(payees, shares);
        usdc.mint(at, 100);
        vm.expectEmit(true, true, true, true, address(factory));
        emit SplitFactory.SplitCreated(at, payees, shares);
        assertEq(factory.createSplit(payees, shares), at, "there");
        assertEq(factory.createSplit(payees, shares), at, "again");
        (address[] memory kept, uint16[] memory keptShares) = Split(at).payees();
        assertEq(keccak256(abi.encode(kept, keptShares)), keccak256(abi.encode(payees, shares)), "payees");
        assertEq(Split(at).distribute(address(usdc)), 100, "what came before it");
        assertEq(usdc.balanceOf(address(0xA)), 80, "first");
        assertEq(usdc.balanceOf(address(0xB)), 20, "second");
        assertEq(Split(at).distribute(address(usdc)), 0, "nothing new");
    }

    function test_refusals() public {
        (address[] memory payees, uint16[] memory shares) = _two(address(0xA), 8000, address(0xB), 2001);
        vm.expectRevert(abi.encodeWithSelector(SplitFactory.WrongShareSum.selector, 10_001));
        factory.createSplit(payees, shares);
        shares[1] = 0;
        vm.expectRevert(abi.encodeWithSelector(SplitFactory.ZeroShare.selector, 1));
        factory.splitOf(payees, shares);
        payees[0] = address(0);
        vm.expectRevert(abi.encodeWithSelector(SplitFactory.ZeroPayee.selector, 0));
        factory.createSplit(payees, shares);
        vm.expectRevert(abi.encodeWithSelector(SplitFactory.WrongPayeeCount.selector, 2, 3));
        factory.createSplit(payees, new uint16[](3));
        vm.expectRevert(abi.encodeWithSelector(SplitFactory.WrongPayeeCount.selector, 0, 0));
        factory.createSplit(new address[](0), new uint16[](0));
        vm.expectRevert(abi.encodeWithSelector(SplitFactory.WrongPayeeCount.selector, 17, 17));
        factory.createSplit(new address[](17), new uint16[](17));
        Split split = _split(16);
        vm.expectRevert(abi.encodeWithSelector(Split.NoSuchPayee.selector, 16, 16));
        split.release(address(usdc), 16);
        vm.expectRevert(abi.encodeWithSelector(Split.NoSuchPayee.selector, 16, 16));
        split.due(address(usdc), 16);
        vm.expectRevert(abi.encodeWithSelector(Split.NothingDue.selector, address(usdc), 3));
        split.release(address(usdc), 3);
    }

    /// @dev Payees 0x1001, 0x1002, ... with shares that add up to 10,000, all but the last alike.
    function _split(uint256 count) private returns (Split) {
        address[] memory payees = new address[](count);
        uint16[] memory shares = new uint16[](count);
        uint16 rest = 10_000;
        for (uint256 i = 0; i < count; ++i) {
            payees[i] = address(uint160(0x1001 + i));
            shares[i] = i + 1 == count ? rest : uint16(10_000 / count - 3);
            rest -= shares[i];
        }
        return Split(factory.createSplit(payees, shares));
    }

    /// @dev Payments and payouts in any order: everything arrives, and nobody but the last gets more than its share.
    function testFuzz_partsAddUp(uint8 count, uint128[5] memory payments, uint8[5] memory calls, bool small) public {
        uint256 size = bound(count, 1, 16);
        Split split = _split(size);
        uint256 total = 0;
        for (uint256 i = 0; i < 5; ++i) {
            uint256 payment = small ? payments[i] % 40 : payments[i];
            usdc.mint(address(split), payment);
            total += payment;
            uint256 index = calls[i] % size;
            uint256 due = split.due(address(usdc), index);
            uint256 before = usdc.balanceOf(address(uint160(0x1001 + index)));
            if (calls[i] % 3 == 0) split.distribute(address(usdc));
            else if (due != 0) split.release(address(usdc), index);
            assertEq(usdc.balanceOf(address(uint160(0x1001 + index))), before + due, "paid what was due");
        }
        split.distribute(address(usdc));
        (, uint16[] memory shares) = split.payees();
        uint256 sum = 0;
        for (uint256 i = 0; i < size; ++i) {
            uint256 received = usdc.balanceOf(address(uint160(0x1001 + i)));
            uint256 share = total * shares[i] / 10_000;
            if (i + 1 < size) {
                assertLe(received, share, "rounded down");
                // Each of the at most eleven divisions rounds away less than one unit.
                assertLe(share, received + 11, "by less than a unit each time");
            }
            sum += received;
            assertEq(split.due(address(usdc), i), 0, "due");
        }
        assertEq(sum, total, "everything arrived");
        assertEq(usdc.balanceOf(address(split)), 0, "nothing stays");
        assertEq(split.totalOwed(address(usdc)), 0, "nothing is owed");
    }

    /// @dev Fifteen units for sixteen payees are all the last one's; two more are not taken from it again.
    function test_aRemainderThatWasPaidStaysPaid() public {
        Split split = _split(16);
        usdc.mint(address(split), 15);
        split.distribute(address(usdc));
        assertEq(usdc.balanceOf(address(0x1010)), 15, "the last one's");
        usdc.mint(address(split), 2);
        assertEq(split.distribute(address(usdc)), 2, "what is new");
        assertEq(usdc.balanceOf(address(split)), 0, "nothing stays");
    }

    function test_aTokenThatLosesBalanceOwesNothingNew() public {
        HostileToken token = new HostileToken();
        (address[] memory payees, uint16[] memory shares) = _two(address(0xA), 5000, address(0xB), 5000);
        Split split = Split(factory.createSplit(payees, shares));
        token.mint(address(split), 100);
        token.refuse(address(0xA), true);
        split.distribute(address(token));
        vm.prank(address(split));
        token.transfer(address(0xC), 10);
        assertEq(split.due(address(token), 1), 0, "nothing came in");
        assertEq(split.distribute(address(token)), 0, "nothing moves");
    }

    function test_hugeSumsDoNotOverflow() public {
        HostileToken token = new HostileToken();
        Split split = _split(16);
        token.mint(address(split), type(uint256).max);
        assertEq(split.distribute(address(token)), type(uint256).max, "all of it");
    }

    function test_onePayeeThatRefusesHindersNobody() public {
        HostileToken token = new HostileToken();
        (address[] memory payees, uint16[] memory shares) = _two(address(0xA), 5000, address(0xB), 5000);
        Split split = Split(factory.createSplit(payees, shares));
        token.mint(address(split), 100);
        token.refuse(address(0xA), true);
        vm.expectEmit(true, true, true, true, address(split));
        emit Split.PaymentRefused(address(token), address(0xA), 0, 50);
        assertEq(split.distribute(address(token)), 50, "the other's");
        assertEq(token.balanceOf(address(0xB)), 50, "paid");
        vm.expectRevert(abi.encodeWithSelector(HostileToken.Refused.selector, address(0xA)));
        split.release(address(token), 0);
        assertEq(split.due(address(token), 0), 50, "kept for it");
        token.mint(address(split), 10);
        split.distribute(address(token));
        assertEq(token.balanceOf(address(0xB)), 55, "no part of the other's");
        token.refuse(address(0xA), false);
        assertEq(split.release(address(token), 0), 55, "its own, later");
    }

    function test_nobodyIsPaidTwiceByCallingBack() public {
        HostileToken token = new HostileToken();
        (address[] memory payees, uint16[] memory shares) = _two(address(0xA), 5000, address(0xB), 5000);
        Split split = Split(factory.createSplit(payees, shares));
        token.mint(address(split), 100);
        token.callBack(address(split), abi.encodeCall(split.release, (address(token), 1)));
        split.distribute(address(token));
        assertTrue(!token.callSucceeded(), "the inner call was refused");
        assertEq(token.balanceOf(address(0xA)), 50, "first");
        assertEq(token.balanceOf(address(0xB)), 50, "second");
    }

    function test_aPayeeMayStandTwice() public {
        (address[] memory payees, uint16[] memory shares) = _two(address(0xA), 1, address(0xA), 9999);
        Split split = Split(factory.createSplit(payees, shares));
        usdc.mint(address(split), 12_345);
        split.distribute(address(usdc));
        assertEq(usdc.balanceOf(address(0xA)), 12_345, "both parts");
    }

    function test_theImplementationIsNoSplit() public {
        Split implementation = Split(factory.IMPLEMENTATION());
        vm.expectRevert(bytes(""));
        implementation.distribute(address(usdc));
    }
}
