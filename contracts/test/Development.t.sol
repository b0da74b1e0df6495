// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Multicall3} from "../solidity/dev/Multicall3.sol";
import {TestWallet1271, TestWalletFactory} from "../solidity/dev/TestWallet1271.sol";
import {Fixture} from "./Fixture.sol";

contract DevelopmentTest is Fixture {
    uint256 private constant KEY = 0xA11CE;
    Multicall3 private multi;
    TestWalletFactory private factory;

    function setUp() public {
        setUpCanonical();
        multi = Multicall3(deploy("multicall3"));
        factory = TestWalletFactory(deploy("test-wallet-factory"));
    }

    function test_walletAnswersForItsKeyAlone() public {
        TestWallet1271 wallet = TestWallet1271(payable(deploy("test-wallet1271", abi.encode(vm.addr(KEY)))));
        bytes32 hash = keccak256("message");
        assertEq(bytes32(wallet.isValidSignature(hash, signature(KEY, hash))), bytes32(bytes4(0x1626ba7e)), "own");
        bytes32 refusal = bytes32(bytes4(0xffffffff));
        assertEq(bytes32(wallet.isValidSignature(hash, signature(KEY + 1, hash))), refusal, "another key");
        assertEq(bytes32(wallet.isValidSignature(keccak256("other"), signature(KEY, hash))), refusal, "another message");
        assertEq(bytes32(wallet.isValidSignature(hash, "")), refusal, "none");
        vm.expectRevert(abi.encodeWithSelector(TestWallet1271.NotOwner.selector, address(this)));
        wallet.execute(address(usdc), 0, "");
        vm.expectRevert(abi.encodeWithSelector(TestWallet1271.ExecutionFailed.selector, bytes("")));
        vm.prank(vm.addr(KEY));
        wallet.execute(address(usdc), 0, hex"deadbeef");
    }

    function testFuzz_walletsAreWhereTheyAreSaidToBe(address owner, bytes32 salt) public {
        address at = factory.walletOf(owner, salt);
        assertEq(at.code.length, 0, "not yet");
        assertEq(factory.createWallet(owner, salt), at, "there");
        assertEq(factory.createWallet(owner, salt), at, "again");
        assertEq(TestWallet1271(payable(at)).OWNER(), owner, "owner");
    }

    function _calls() private view returns (Multicall3.Call[] memory calls) {
        calls = new Multicall3.Call[](2);
        calls[0] = Multicall3.Call(address(usdc), abi.encodeCall(usdc.decimals, ()));
        calls[1] = Multicall3.Call(address(usdc), hex"deadbeef");
    }

    function test_multicallTellsFailures() public {
        Multicall3.Result[] memory results = multi.tryAggregate(false, _calls());
        assertTrue(results[0].success && !results[1].success, "one each");
        assertEq(abi.decode(results[0].returnData, (uint256)), 6, "decimals");
        (uint256 number, bytes32 hash, Multicall3.Result[] memory more) = multi.tryBlockAndAggregate(false, _calls());
        assertEq(number, block.number, "block");
        assertEq(hash, blockhash(block.number), "hash");
        assertEq(more.length, 2, "results");
        bytes memory refusal = abi.encodeWithSelector(Multicall3.CallFailed.selector, 1, bytes(""));
        vm.expectRevert(refusal);
        multi.tryAggregate(true, _calls());
        vm.expectRevert(refusal);
        multi.aggregate(_calls());
        vm.expectRevert(refusal);
        multi.blockAndAggregate(_calls());
    }

    function test_multicall3() public {
        Multicall3.Call3[] memory calls = new Multicall3.Call3[](2);
        calls[0] = Multicall3.Call3(address(usdc), false, abi.encodeCall(usdc.decimals, ()));
        calls[1] = Multicall3.Call3(address(usdc), true, hex"deadbeef");
        Multicall3.Result[] memory results = multi.aggregate3(calls);
        assertTrue(results[0].success && !results[1].success, "one each");
        calls[1].allowFailure = false;
        vm.expectRevert(abi.encodeWithSelector(Multicall3.CallFailed.selector, 1, bytes("")));
        multi.aggregate3(calls);
    }

    function test_multicallMovesItsValue() public {
        Multicall3.Call3Value[] memory calls = new Multicall3.Call3Value[](2);
        calls[0] = Multicall3.Call3Value(address(0xA000), false, 3, "");
        calls[1] = Multicall3.Call3Value(address(0xB000), false, 4, "");
        vm.deal(address(this), 100);
        multi.aggregate3Value{value: 7}(calls);
        assertEq(address(0xA000).balance, 3, "first");
        assertEq(address(0xB000).balance, 4, "second");
        vm.expectRevert(abi.encodeWithSelector(Multicall3.ValueMismatch.selector, 8, 7));
        multi.aggregate3Value{value: 8}(calls);
        assertEq(multi.getEthBalance(address(0xA000)), 3, "balance");
    }

    function test_multicallKnowsTheBlock() public view {
        assertEq(multi.getBlockNumber(), block.number, "number");
        assertEq(multi.getBlockHash(0), blockhash(0), "hash");
        assertEq(multi.getLastBlockHash(), blockhash(block.number - 1), "last hash");
        assertEq(multi.getCurrentBlockTimestamp(), block.timestamp, "time");
        assertEq(multi.getCurrentBlockGasLimit(), block.gaslimit, "gas limit");
        assertEq(multi.getCurrentBlockCoinbase(), block.coinbase, "coinbase");
        assertEq(multi.getCurrentBlockDifficulty(), block.prevrandao, "random value");
        assertEq(multi.getBasefee(), block.basefee, "base fee");
        assertEq(multi.getChainId(), block.chainid, "chain");
    }
}
