// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ReceiptAnchor} from "../solidity/assay/ReceiptAnchor.sol";
import {NoReceiver} from "./Hostile.sol";
import {Deployer, Test} from "./Test.sol";

contract ReceiptAnchorTest is Test {
    uint256 private constant NOW = 1_800_000_000;
    uint256 private constant KEY = 0x5B;
    uint256 private constant OTHER_KEY = 0x5C;
    address private constant REPORTER = address(0x4E9);
    ReceiptAnchor private anchor;
    address private submitter;

    function setUp() public {
        vm.warp(NOW);
        anchor = ReceiptAnchor(deploy("receipt-anchor", abi.encode(1 ether, 7 days)));
        submitter = vm.addr(KEY);
        vm.deal(submitter, 10 ether);
        vm.deal(address(this), 10 ether);
        vm.prank(submitter);
        anchor.bond{value: 1 ether}();
    }

    function _entry(uint64 firstLeaf, uint64 leafCount, uint64 logSize, bytes32 prev)
        private
        view
        returns (ReceiptAnchor.Entry memory)
    {
        return ReceiptAnchor.Entry({
            submitter: submitter,
            firstLeaf: firstLeaf,
            leafCount: leafCount,
            root: leafCount == 0 ? bytes32(0) : keccak256(abi.encode("root", firstLeaf, leafCount)),
            logSize: logSize,
            logRoot: keccak256(abi.encode("log", logSize)),
            blob: keccak256(abi.encode("blob", firstLeaf)),
            prev: prev
        });
    }

    function _sign(ReceiptAnchor.Entry memory entry) private view returns (bytes memory) {
        return signature(KEY, anchor.entryHash(entry));
    }

    function _post(ReceiptAnchor.Entry memory entry) private returns (bytes32) {
        bytes memory sig = _sign(entry);
        vm.prank(submitter);
        return anchor.post(entry, sig);
    }

    function _refuse(ReceiptAnchor.Entry memory entry, bytes memory reason) private {
        bytes memory sig = _sign(entry);
        vm.expectRevert(reason);
        vm.prank(submitter);
        anchor.post(entry, sig);
    }

    function _kept() private view returns (uint80 bond, uint64 nextLeaf, uint64 logSize, uint40 at, bool convicted) {
        return anchor.submitters(submitter);
    }

    function test_entryHashIsTheDigest() public view {
        ReceiptAnchor.Entry memory entry = _entry(0, 10, 20, 0);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Assay Receipt Anchor"),
                keccak256("1"),
                block.chainid,
                address(anchor)
            )
        );
        bytes32 structHash = keccak256(abi.encode(anchor.ENTRY_TYPEHASH(), entry));
        assertEq(anchor.entryHash(entry), keccak256(abi.encodePacked(hex"1901", domain, structHash)), "digest");
    }

    function test_entriesMakeAChain() public {
        ReceiptAnchor.Entry memory first = _entry(0, 10, 20, 0);
        bytes32 hash = anchor.entryHash(first);
        bytes memory sig = _sign(first);
        vm.expectEmit(true, true, true, true, address(anchor));
        emit ReceiptAnchor.Anchored(
            hash, submitter, 0, 10, first.root, 20, first.logRoot, first.blob, bytes32(0)
        );
        vm.prank(submitter);
        assertEq(anchor.post(first, sig), hash, "hash");
        assertEq(anchor.head(submitter), hash, "head");
        assertEq(anchor.postedAt(hash), NOW, "time");
        bytes32 second = _post(_entry(10, 1, 20, hash));
        // A checkpoint alone.
        bytes32 third = _post(_entry(11, 0, 25, second));
        _post(_entry(11, 5, 25, third));
        (, uint64 nextLeaf, uint64 logSize,,) = _kept();
        assertEq(nextLeaf, 16, "next leaf");
        assertEq(logSize, 25, "log size");
    }

    function test_refusals() public {
        bytes32 head = _post(_entry(0, 10, 20, 0));
        _refuse(_entry(10, 5, 30, 0), abi.encodeWithSelector(ReceiptAnchor.WrongPrevious.selector, head, bytes32(0)));
        // Overlap, and a gap.
        _refuse(_entry(9, 5, 30, head), abi.encodeWithSelector(ReceiptAnchor.WrongFirstLeaf.selector, 10, 9));
        _refuse(_entry(11, 5, 30, head), abi.encodeWithSelector(ReceiptAnchor.WrongFirstLeaf.selector, 10, 11));
        _refuse(_entry(10, 5, 19, head), abi.encodeWithSelector(ReceiptAnchor.LogShrank.selector, 20, 19));
        ReceiptAnchor.Entry memory entry = _entry(10, 0, 30, head);
        entry.root = keccak256("root");
        _refuse(entry, abi.encodeWithSelector(ReceiptAnchor.InvalidBatch.selector, 0, entry.root));
        entry = _entry(10, 5, 30, head);
        entry.root = 0;
        _refuse(entry, abi.encodeWithSelector(ReceiptAnchor.InvalidBatch.selector, 5, bytes32(0)));
        entry = _entry(10, 31, 30, head);
        _refuse(entry, abi.encodeWithSelector(ReceiptAnchor.InvalidBatch.selector, 31, entry.root));
    }

    function test_onlyTheSubmitterPosts() public {
        ReceiptAnchor.Entry memory entry = _entry(0, 10, 20, 0);
        bytes memory sig = _sign(entry);
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.NotSubmitter.selector, address(this), submitter)
        );
        anchor.post(entry, sig);
        bytes memory other = signature(OTHER_KEY, anchor.entryHash(entry));
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.InvalidEntrySignature.selector, submitter));
        vm.prank(submitter);
        anchor.post(entry, other);
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.InvalidEntrySignature.selector, submitter));
        vm.prank(submitter);
        anchor.post(entry, "");
    }

    function test_noBondNoPost() public {
        ReceiptAnchor.Entry memory entry = _entry(0, 10, 20, 0);
        entry.submitter = vm.addr(OTHER_KEY);
        bytes memory sig = signature(OTHER_KEY, anchor.entryHash(entry));
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.NotBonded.selector, entry.submitter, 0, 1 ether)
        );
        vm.prank(entry.submitter);
        anchor.post(entry, sig);
        vm.deal(entry.submitter, 1 ether);
        vm.prank(entry.submitter);
        anchor.bond{value: 1 ether - 1}();
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.NotBonded.selector, entry.submitter, 1 ether - 1, 1 ether)
        );
        vm.prank(entry.submitter);
        anchor.post(entry, sig);
        vm.prank(entry.submitter);
        anchor.bond{value: 1}();
        vm.prank(entry.submitter);
        anchor.post(entry, sig);
    }

    function test_bondBounds() public {
        vm.expectRevert(ReceiptAnchor.ZeroBond.selector);
        anchor.bond();
        vm.deal(address(this), 2 ** 80);
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.BondTooLarge.selector, 2 ** 80));
        anchor.bond{value: 2 ** 80}();
        anchor.bond{value: 2 ** 80 - 1}();
        Deployer deployer = new Deployer();
        vm.expectRevert(ReceiptAnchor.ZeroBond.selector);
        deployer.run("receipt-anchor", abi.encode(1, 7 days));
    }

    function test_bondIsWithdrawnAfterItsDelay() public {
        vm.startPrank(submitter);
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.WithdrawTooEarly.selector, 0, NOW));
        anchor.withdraw();
        anchor.requestWithdraw();
        vm.stopPrank();
        _refuse(
            _entry(0, 10, 20, 0), abi.encodeWithSelector(ReceiptAnchor.NotBonded.selector, submitter, 1 ether, 1 ether)
        );
        vm.warp(NOW + 7 days - 1);
        vm.startPrank(submitter);
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.WithdrawTooEarly.selector, NOW + 7 days, NOW + 7 days - 1)
        );
        anchor.withdraw();
        vm.warp(NOW + 7 days);
        anchor.withdraw();
        assertEq(submitter.balance, 10 ether, "all of it");
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.NoBond.selector, submitter));
        anchor.withdraw();
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.NoBond.selector, submitter));
        anchor.requestWithdraw();
        vm.stopPrank();
    }

    function test_bondingAgainTakesTheRequestBack() public {
        vm.startPrank(submitter);
        anchor.requestWithdraw();
        anchor.bond{value: 1}();
        vm.stopPrank();
        _post(_entry(0, 10, 20, 0));
        vm.warp(NOW + 8 days);
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.WithdrawTooEarly.selector, 0, NOW + 8 days));
        vm.prank(submitter);
        anchor.withdraw();
    }

    function test_aSubmitterThatTakesNothingKeepsItsBond() public {
        NoReceiver mute = new NoReceiver();
        vm.deal(address(mute), 0);
        // The bond is paid in its name by its own call; it cannot take it back.
        vm.deal(address(mute), 1 ether);
        vm.prank(address(mute));
        anchor.bond{value: 1 ether}();
        mute.run(address(anchor), abi.encodeCall(anchor.requestWithdraw, ()));
        vm.warp(NOW + 7 days);
        (bool ok, bytes memory reason) = mute.run(address(anchor), abi.encodeCall(anchor.withdraw, ()));
        assertTrue(!ok, "refused");
        assertEq(
            keccak256(reason),
            keccak256(abi.encodeWithSelector(ReceiptAnchor.TransferFailed.selector, address(mute), 1 ether)),
            "reason"
        );
        (uint80 bond,,,,) = anchor.submitters(address(mute));
        assertEq(bond, 1 ether, "still there");
    }

    function _convict(ReceiptAnchor.Entry memory a, ReceiptAnchor.Entry memory b) private {
        (bytes memory sigA, bytes memory sigB) = (_sign(a), _sign(b));
        vm.prank(REPORTER);
        anchor.convict(a, sigA, b, sigB);
    }

    function _noConflict(ReceiptAnchor.Entry memory a, ReceiptAnchor.Entry memory b) private {
        (bytes memory sigA, bytes memory sigB) = (_sign(a), _sign(b));
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.NoConflict.selector, anchor.entryHash(a), anchor.entryHash(b))
        );
        vm.prank(REPORTER);
        anchor.convict(a, sigA, b, sigB);
    }

    function test_overlapConvicts() public {
        ReceiptAnchor.Entry memory posted = _entry(0, 10, 20, 0);
        _post(posted);
        ReceiptAnchor.Entry memory other = _entry(9, 3, 30, keccak256("elsewhere"));
        vm.expectEmit(true, true, true, true, address(anchor));
        emit ReceiptAnchor.Convicted(
            submitter, REPORTER, anchor.entryHash(posted), anchor.entryHash(other), 0.5 ether, 0.5 ether
        );
        _convict(posted, other);
        assertEq(REPORTER.balance, 0.5 ether, "reward");
        assertEq(anchor.BURN().balance, 0.5 ether, "burned");
        (uint80 bond,,,, bool convicted) = _kept();
        assertEq(bond, 0, "bond");
        assertTrue(convicted, "for ever");
        _refuse(
            _entry(10, 1, 30, anchor.entryHash(posted)),
            abi.encodeWithSelector(ReceiptAnchor.SubmitterConvicted.selector, submitter)
        );
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.SubmitterConvicted.selector, submitter));
        vm.prank(submitter);
        anchor.bond{value: 1 ether}();
        (bytes memory sigA, bytes memory sigB) = (_sign(posted), _sign(other));
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.NoBond.selector, submitter));
        anchor.convict(posted, sigA, other, sigB);
        // What was posted before stays posted.
        assertEq(anchor.postedAt(anchor.entryHash(posted)), NOW, "posted");
    }

    function test_twoRootsOfOneLogSizeConvict() public {
        ReceiptAnchor.Entry memory a = _entry(0, 0, 20, 0);
        ReceiptAnchor.Entry memory b = _entry(5, 5, 20, keccak256("later"));
        b.logRoot = keccak256("another log");
        _convict(a, b);
        (,,,, bool convicted) = _kept();
        assertTrue(convicted, "convicted");
    }

    function test_anOddBondIsTakenWhole() public {
        vm.prank(submitter);
        anchor.bond{value: 1}();
        _convict(_entry(0, 2, 20, 0), _entry(1, 2, 20, 0));
        assertEq(address(anchor).balance, 0, "nothing stays");
        assertEq(anchor.BURN().balance, 0.5 ether + 1, "the odd wei is burned");
    }

    function test_withdrawingDoesNotSaveTheBond() public {
        vm.prank(submitter);
        anchor.requestWithdraw();
        vm.warp(NOW + 7 days);
        _convict(_entry(0, 2, 20, 0), _entry(1, 2, 20, 0));
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.NoBond.selector, submitter));
        vm.prank(submitter);
        anchor.withdraw();
    }

    /// @dev Whatever an honest submitter signs in one chain of entries, no two of them convict it.
    function testFuzz_theHonestIsNotConvicted(uint256 seed, uint8 first, uint8 second) public {
        ReceiptAnchor.Entry[8] memory chain;
        bytes32 prev = 0;
        uint64 leaf = 0;
        uint64 size = 0;
        for (uint256 i = 0; i < 8; ++i) {
            uint64 count = uint64(uint256(keccak256(abi.encode(seed, i))) % 4);
            size += count + uint64(uint256(keccak256(abi.encode(seed, i, "size"))) % 3);
            chain[i] = _entry(leaf, count, size, prev);
            prev = anchor.entryHash(chain[i]);
            leaf += count;
        }
        _noConflict(chain[first % 8], chain[second % 8]);
    }

    /// @dev Overlap is what it is by definition, for any numbers that can be signed.
    function testFuzz_overlap(uint64 a, uint64 aCount, uint64 b, uint64 bCount) public {
        ReceiptAnchor.Entry memory first = _entry(a, aCount, 1, 0);
        ReceiptAnchor.Entry memory second = _entry(b, bCount, 2, keccak256("other"));
        uint256 low = a > b ? a : b;
        uint256 aEnd = uint256(a) + aCount;
        uint256 bEnd = uint256(b) + bCount;
        uint256 high = aEnd < bEnd ? aEnd : bEnd;
        if (low < high) _convict(first, second);
        else _noConflict(first, second);
    }

    function test_noConvictionWithoutTwoSignatures() public {
        ReceiptAnchor.Entry memory a = _entry(0, 10, 20, 0);
        ReceiptAnchor.Entry memory b = _entry(5, 10, 20, 0);
        bytes memory sigA = _sign(a);
        bytes memory forged = signature(OTHER_KEY, anchor.entryHash(b));
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.InvalidEntrySignature.selector, submitter));
        anchor.convict(a, sigA, b, forged);
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.InvalidEntrySignature.selector, submitter));
        anchor.convict(b, forged, a, sigA);
        // The same entry twice, and entries of two submitters.
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.NoConflict.selector, anchor.entryHash(a), anchor.entryHash(a))
        );
        anchor.convict(a, sigA, a, sigA);
        b.submitter = vm.addr(OTHER_KEY);
        forged = signature(OTHER_KEY, anchor.entryHash(b));
        vm.expectRevert(
            abi.encodeWithSelector(ReceiptAnchor.NoConflict.selector, anchor.entryHash(a), anchor.entryHash(b))
        );
        anchor.convict(a, sigA, b, forged);
    }

    function test_signaturesAreForOneChainAndContract() public {
        ReceiptAnchor.Entry memory entry = _entry(0, 10, 20, 0);
        bytes memory sig = _sign(entry);
        vm.chainId(10);
        vm.expectRevert(abi.encodeWithSelector(ReceiptAnchor.InvalidEntrySignature.selector, submitter));
        vm.prank(submitter);
        anchor.post(entry, sig);
    }

    function _leaf(uint256 index) private pure returns (ReceiptAnchor.Leaf memory) {
        return ReceiptAnchor.Leaf({
            executionDigest: keccak256(abi.encode("execution", index)),
            serviceDigest: keccak256(abi.encode("service", index)),
            paymentId: keccak256(abi.encode("payment", index)),
            amountAtomic: index * 1000,
            logIndex: uint64(index)
        });
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encodePacked(a, b)) : keccak256(abi.encodePacked(b, a));
    }

    function testFuzz_verifyReceipt(uint8 which, uint8 tampered) public {
        uint256 index = which % 4;
        bytes32[4] memory hashes;
        for (uint256 i = 0; i < 4; ++i) {
            ReceiptAnchor.Leaf memory l = _leaf(i);
            hashes[i] = keccak256(
                abi.encode(
                    keccak256(abi.encode(l.executionDigest, l.serviceDigest, l.paymentId, l.amountAtomic, l.logIndex))
                )
            );
            assertEq(anchor.leafHash(l), hashes[i], "leaf hash");
        }
        bytes32[2] memory nodes = [_pair(hashes[0], hashes[1]), _pair(hashes[2], hashes[3])];
        ReceiptAnchor.Entry memory entry = _entry(0, 4, 20, 0);
        entry.root = _pair(nodes[0], nodes[1]);
        bytes32[] memory proof = new bytes32[](2);
        proof[0] = hashes[index ^ 1];
        proof[1] = nodes[1 - index / 2];
        ReceiptAnchor.Leaf memory leaf = _leaf(index);
        assertTrue(!anchor.verifyReceipt(entry, leaf, proof), "not posted yet");
        _post(entry);
        assertTrue(anchor.verifyReceipt(entry, leaf, proof), "holds");

        uint256 what = tampered % 8;
        if (what == 0) leaf.executionDigest = keccak256("x");
        if (what == 1) leaf.serviceDigest = keccak256("x");
        if (what == 2) leaf.paymentId = keccak256("x");
        if (what == 3) leaf.amountAtomic += 1;
        if (what == 4) leaf.logIndex += 1;
        if (what == 5) proof[0] = keccak256("x");
        if (what == 6) entry.blob = keccak256("x");
        if (what == 7) {
            proof = new bytes32[](1);
            proof[0] = nodes[1];
        }
        assertTrue(!anchor.verifyReceipt(entry, leaf, proof), "tampered with");
    }

    function test_anEmptyBatchProvesNothing() public {
        ReceiptAnchor.Entry memory entry = _entry(0, 0, 20, 0);
        _post(entry);
        assertTrue(!anchor.verifyReceipt(entry, _leaf(0), new bytes32[](0)), "nothing in it");
    }
}
