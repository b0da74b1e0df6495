// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ISignatureTransfer} from "../solidity/interfaces/ISignatureTransfer.sol";
import {PaymentBatcher} from "../solidity/assay/PaymentBatcher.sol";
import {ReceiptAnchor} from "../solidity/assay/ReceiptAnchor.sol";
import {X402BatchSettlement} from "../solidity/x402/X402BatchSettlement.sol";
import {Fixture} from "./Fixture.sol";

/// @notice What settling costs, transaction and calldata included. Calls are isolated: each is a transaction of its own, with
/// cold storage, and `lastCallGas` is what its sender pays.
/// forge-config: default.isolate = true
contract GasTest is Fixture {
    uint256 private constant CHANNELS = 100;
    uint256 private constant VOUCHERS = 10;
    uint256 private constant PAYMENTS = 50;
    uint256 private constant SUBMITTER_KEY = 0x5B;
    uint256 private constant AUTHORIZER_KEY = 0xA0;
    address private constant RECEIVER = address(0xBEEF);

    PaymentBatcher private batcher;
    ReceiptAnchor private anchor;
    address private submitter;
    address private authorizer;
    bytes32 private firstEntry;

    function setUp() public {
        setUpCanonical();
        address[] memory operators = new address[](1);
        operators[0] = address(this);
        batcher = PaymentBatcher(deploy("payment-batcher", abi.encode(address(this), operators)));
        anchor = ReceiptAnchor(deploy("receipt-anchor", abi.encode(1 ether, 7 days)));
        submitter = vm.addr(SUBMITTER_KEY);
        authorizer = vm.addr(AUTHORIZER_KEY);
        vm.deal(submitter, 10 ether);
        vm.prank(submitter);
        anchor.bond{value: 1 ether}();
        firstEntry = _post(0, 1000, bytes32(0));

        // What a receiver and payers have before: the steady state, not their first payment.
        usdc.mint(RECEIVER, 1);
        asy.transfer(RECEIVER, 1);
        for (uint256 i = 0; i < CHANNELS; ++i) {
            address payer = _payer(i);
            usdc.mint(payer, 2e6);
            asy.transfer(payer, 2e6);
            vm.prank(payer);
            asy.approve(address(0x000000000022D473030F116dDEE9F6B43aC78BA3), type(uint256).max);
            X402BatchSettlement.ChannelConfig memory channel = _channel(i);
            batch.deposit(
                channel, 1e6, ERC3009_COLLECTOR, erc3009Deposit(_key(i), batch.getChannelId(channel), 1e6, i)
            );
        }
        // One claim and settlement before, so that the receiver's sums are not zero.
        batch.claimWithSignature(_claims(1, 1), _sign(_claims(1, 1)));
        batch.settle(RECEIVER, address(usdc));
    }

    /// @dev Ten vouchers for each channel; the highest is what is claimed.
    function test_gasClaim100ChannelsOf10Vouchers() public {
        X402BatchSettlement.VoucherClaim[] memory claims = _claims(CHANNELS, uint128(VOUCHERS * 100));
        bytes memory sig = _sign(claims);
        batch.claimWithSignature(claims, sig);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        figure("channel claimed with 99 others", used / CHANNELS, 30_000);
        figure("voucher payment, 10 per channel", used / (CHANNELS * VOUCHERS), 3_000);
    }

    function test_gasClaim100ChannelsDirectly() public {
        X402BatchSettlement.VoucherClaim[] memory claims = _claims(CHANNELS, 1000);
        vm.prank(authorizer);
        batch.claim(claims);
        figure("channel claimed with 99 others, by the authorizer itself", vm.lastCallGas().gasTotalUsed / CHANNELS, 30_000);
    }

    function test_gasClaimOneChannel() public {
        X402BatchSettlement.VoucherClaim[] memory claims = _claims(1, 1000);
        vm.prank(authorizer);
        batch.claim(claims);
        figure("channel claimed alone", vm.lastCallGas().gasTotalUsed, 65_000);
    }

    function test_gasSettleSweep() public {
        X402BatchSettlement.VoucherClaim[] memory claims = _claims(10, 1000);
        vm.prank(authorizer);
        batch.claim(claims);
        batch.settle(RECEIVER, address(usdc));
        figure("sweep to a receiver", vm.lastCallGas().gasTotalUsed, 60_000);
    }

    function test_gasDepositEip3009() public {
        X402BatchSettlement.ChannelConfig memory channel = _channel(0);
        channel.salt = bytes32(uint256(1));
        bytes memory data = erc3009Deposit(_key(0), batch.getChannelId(channel), 1e6, 7);
        batch.deposit(channel, 1e6, ERC3009_COLLECTOR, data);
        figure("first deposit by EIP-3009", vm.lastCallGas().gasTotalUsed, 150_000);
    }

    function test_gasBatchOf50Upto() public {
        PaymentBatcher.Payment[] memory payments = _payments(PaymentBatcher.Kind.UptoPermit2);
        uint256 settled = batcher.settle(payments);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        assertEq(settled, PAYMENTS, "all settled");
        figure("upto payment in a batch of 50", used / PAYMENTS, 56_000);
    }

    function test_gasBatchOf50Exact() public {
        PaymentBatcher.Payment[] memory payments = _payments(PaymentBatcher.Kind.ExactPermit2);
        uint256 settled = batcher.settle(payments);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        assertEq(settled, PAYMENTS, "all settled");
        figure("exact Permit2 payment in a batch of 50", used / PAYMENTS, 56_000);
    }

    function test_gasBatchOf50Eip3009() public {
        PaymentBatcher.Payment[] memory payments = _payments(PaymentBatcher.Kind.Eip3009);
        uint256 settled = batcher.settle(payments);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        assertEq(settled, PAYMENTS, "all settled");
        figure("EIP-3009 payment in a batch of 50", used / PAYMENTS, 52_000);
    }

    /// @dev Any number of receipts costs the same; the figure to keep is at 1,000.
    function test_gasAnchor1000Receipts() public {
        _post(1000, 1000, firstEntry);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        figure("anchored batch of any size", used, 100_000);
        figure("receipt anchored with 999 others", used / 1000, 100);
    }

    /// @dev Keeps a figure in contracts/gas, where a change shows, and holds it below its bound.
    function figure(string memory name, uint256 gas, uint256 most) private {
        vm.snapshotValue("settlement", name, gas);
        assertLe(gas, most, name);
    }

    function _post(uint64 firstLeaf, uint64 leafCount, bytes32 prev) private returns (bytes32) {
        ReceiptAnchor.Entry memory entry = ReceiptAnchor.Entry({
            submitter: submitter,
            firstLeaf: firstLeaf,
            leafCount: leafCount,
            root: keccak256(abi.encode("root", firstLeaf)),
            logSize: 2 * (firstLeaf + leafCount),
            logRoot: keccak256(abi.encode("log", firstLeaf)),
            blob: keccak256(abi.encode("blob", firstLeaf)),
            prev: prev
        });
        bytes memory sig = signature(SUBMITTER_KEY, anchor.entryHash(entry));
        vm.prank(submitter);
        return anchor.post(entry, sig);
    }

    function _key(uint256 index) private pure returns (uint256) {
        return uint256(keccak256(abi.encode("payer", index)));
    }

    function _payer(uint256 index) private pure returns (address) {
        return vm.addr(_key(index));
    }

    function _channel(uint256 index) private view returns (X402BatchSettlement.ChannelConfig memory) {
        return config(_payer(index), _payer(index), RECEIVER, authorizer, address(usdc));
    }

    function _claims(uint256 count, uint128 amount)
        private
        view
        returns (X402BatchSettlement.VoucherClaim[] memory claims)
    {
        claims = new X402BatchSettlement.VoucherClaim[](count);
        for (uint256 i = 0; i < count; ++i) {
            claims[i] = claimOf(_channel(i), _key(i), amount, amount);
        }
    }

    function _sign(X402BatchSettlement.VoucherClaim[] memory claims) private view returns (bytes memory) {
        return signature(AUTHORIZER_KEY, batch.getClaimBatchDigest(claims));
    }

    function _payments(PaymentBatcher.Kind kind) private view returns (PaymentBatcher.Payment[] memory payments) {
        payments = new PaymentBatcher.Payment[](PAYMENTS);
        address token = kind == PaymentBatcher.Kind.Eip3009 ? address(usdc) : address(asy);
        for (uint256 i = 0; i < PAYMENTS; ++i) {
            bytes32 nonce = keccak256(abi.encode("nonce", i));
            bytes32 digest;
            ISignatureTransfer.PermitTransferFrom memory permit = permitOf(token, 5000, uint256(nonce), NOW + 900);
            if (kind == PaymentBatcher.Kind.Eip3009) {
                digest = usdcDigest(transferStruct(_payer(i), RECEIVER, 1234, NOW - 600, NOW + 900, nonce));
            } else if (kind == PaymentBatcher.Kind.ExactPermit2) {
                digest = exactDigest(permit, RECEIVER, NOW - 600);
            } else {
                digest = uptoDigest(permit, RECEIVER, address(batcher), NOW - 600);
            }
            payments[i] = PaymentBatcher.Payment({
                kind: kind,
                receiptDigest: keccak256(abi.encode("receipt", i)),
                token: token,
                payer: _payer(i),
                payTo: RECEIVER,
                amount: kind == PaymentBatcher.Kind.ExactPermit2 ? 5000 : 1234,
                permitted: 5000,
                validAfter: NOW - 600,
                deadline: NOW + 900,
                nonce: nonce,
                signature: signature(_key(i), digest),
                permit2612: ""
            });
        }
    }
}
