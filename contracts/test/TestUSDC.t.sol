// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {AuthorizedToken} from "../solidity/tokens/AuthorizedToken.sol";
import {AssayToken} from "../solidity/tokens/AssayToken.sol";
import {TestUSDCoin} from "../solidity/tokens/TestUSDC.sol";
import {TestWallet1271} from "../solidity/dev/TestWallet1271.sol";
import {Fixture} from "./Fixture.sol";
import {Deployer} from "./Test.sol";

contract TestUSDCTest is Fixture {
    uint256 private constant KEY = 0xA11CE;
    uint256 private constant OTHER_KEY = 0xB0B;
    address private payer;
    address private constant PAYEE = address(0xBEEF);
    bytes32 private constant NONCE = keccak256("nonce");

    function setUp() public {
        setUpCanonical();
        payer = vm.addr(KEY);
        usdc.mint(payer, 1e12);
    }

    function test_domainIsUsdcs() public {
        assertEq(usdc.name(), "USDC", "name");
        assertEq(usdc.symbol(), "USDC", "symbol");
        assertEq(usdc.version(), "2", "version");
        assertEq(usdc.decimals(), 6, "decimals");
        bytes32 typeHash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        assertEq(
            usdc.DOMAIN_SEPARATOR(),
            keccak256(abi.encode(typeHash, keccak256("USDC"), keccak256("2"), block.chainid, address(usdc))),
            "domain"
        );
        TestUSDCoin coin = TestUSDCoin(deploy("test-usd-coin"));
        assertEq(coin.name(), "USD Coin", "name on Base");
        assertEq(
            coin.DOMAIN_SEPARATOR(),
            keccak256(abi.encode(typeHash, keccak256("USD Coin"), keccak256("2"), block.chainid, address(coin))),
            "domain on Base"
        );
    }

    function test_domainFollowsTheChain() public {
        bytes32 before = usdc.DOMAIN_SEPARATOR();
        vm.chainId(8453);
        assertTrue(usdc.DOMAIN_SEPARATOR() != before, "another chain, another domain");
    }

    function testFuzz_transferWithAuthorization(uint256 value, bytes32 nonce, bool bytesOverload) public {
        value = bound(value, 0, 1e12);
        bytes32 digest = usdcDigest(transferStruct(payer, PAYEE, value, NOW - 1, NOW + 1, nonce));
        if (bytesOverload) {
            usdc.transferWithAuthorization(payer, PAYEE, value, NOW - 1, NOW + 1, nonce, signature(KEY, digest));
        } else {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
            usdc.transferWithAuthorization(payer, PAYEE, value, NOW - 1, NOW + 1, nonce, v, r, s);
        }
        assertEq(usdc.balanceOf(PAYEE), value, "received");
        assertEq(usdc.balanceOf(payer), 1e12 - value, "left");
        assertTrue(usdc.authorizationState(payer, nonce), "used");
    }

    function test_authorizationWorksOnce() public {
        bytes memory sig = signature(KEY, usdcDigest(transferStruct(payer, PAYEE, 5, 0, NOW + 1, NONCE)));
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, sig);
        vm.expectRevert(
            abi.encodeWithSelector(AuthorizedToken.AuthorizationUsedOrCanceled.selector, payer, NONCE)
        );
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, sig);
    }

    function test_timesAreExclusive() public {
        bytes memory sig = signature(KEY, usdcDigest(transferStruct(payer, PAYEE, 5, NOW, NOW + 1, NONCE)));
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.AuthorizationTooEarly.selector, NOW, NOW));
        usdc.transferWithAuthorization(payer, PAYEE, 5, NOW, NOW + 1, NONCE, sig);
        sig = signature(KEY, usdcDigest(transferStruct(payer, PAYEE, 5, 0, NOW, NONCE)));
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.AuthorizationExpired.selector, NOW, NOW));
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW, NONCE, sig);
    }

    function testFuzz_everyFieldIsSigned(uint8 field, bytes32 noise) public {
        address from = payer;
        address to = PAYEE;
        uint256 value = 5;
        uint256 validAfter = NOW - 10;
        uint256 validBefore = NOW + 10;
        bytes32 nonce = NONCE;
        bytes memory sig = signature(KEY, usdcDigest(transferStruct(from, to, value, validAfter, validBefore, nonce)));
        uint256 which = field % 6;
        uint256 delta = bound(uint256(noise), 1, 5);
        if (which == 0) from = address(uint160(uint256(uint160(from)) ^ delta));
        if (which == 1) to = address(uint160(uint256(uint160(to)) ^ delta));
        if (which == 2) value += delta;
        if (which == 3) validAfter -= delta;
        if (which == 4) validBefore += delta;
        if (which == 5) nonce = bytes32(uint256(nonce) ^ delta);
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, from));
        usdc.transferWithAuthorization(from, to, value, validAfter, validBefore, nonce, sig);
    }

    function test_refusesHighS() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, usdcDigest(transferStruct(payer, PAYEE, 5, 0, NOW + 1, NONCE)));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes32 high = bytes32(order - uint256(s));
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, v == 27 ? 28 : 27, r, high);
    }

    function test_receiveIsForTheReceiver() public {
        bytes32 digest = usdcDigest(receiveStruct(payer, PAYEE, 5, 0, NOW + 1, NONCE));
        bytes memory sig = signature(KEY, digest);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        bytes memory refusal =
            abi.encodeWithSelector(AuthorizedToken.CallerMustBePayee.selector, address(this), PAYEE);
        vm.expectRevert(refusal);
        usdc.receiveWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, sig);
        vm.expectRevert(refusal);
        usdc.receiveWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, v, r, s);
        // A receive authorization is no transfer authorization.
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, sig);
        vm.prank(PAYEE);
        usdc.receiveWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, v, r, s);
        assertEq(usdc.balanceOf(PAYEE), 5, "received");
    }

    function test_cancel() public {
        bytes32 digest = usdcDigest(keccak256(abi.encode(usdc.CANCEL_AUTHORIZATION_TYPEHASH(), payer, NONCE)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(OTHER_KEY, digest);
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        usdc.cancelAuthorization(payer, NONCE, v, r, s);
        usdc.cancelAuthorization(payer, NONCE, signature(KEY, digest));
        (v, r, s) = vm.sign(KEY, digest);
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.AuthorizationUsedOrCanceled.selector, payer, NONCE));
        usdc.cancelAuthorization(payer, NONCE, v, r, s);
        bytes memory sig = signature(KEY, usdcDigest(transferStruct(payer, PAYEE, 5, 0, NOW + 1, NONCE)));
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.AuthorizationUsedOrCanceled.selector, payer, NONCE));
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, sig);
    }

    function test_contractAccountsSignByEip1271Alone() public {
        TestWallet1271 wallet = TestWallet1271(payable(deploy("test-wallet1271", abi.encode(payer))));
        usdc.mint(address(wallet), 10);
        bytes32 digest = usdcDigest(transferStruct(address(wallet), PAYEE, 5, 0, NOW + 1, NONCE));
        bytes memory wrong = signature(OTHER_KEY, digest);
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, address(wallet)));
        usdc.transferWithAuthorization(address(wallet), PAYEE, 5, 0, NOW + 1, NONCE, wrong);
        usdc.transferWithAuthorization(address(wallet), PAYEE, 5, 0, NOW + 1, NONCE, signature(KEY, digest));
        assertEq(usdc.balanceOf(PAYEE), 5, "received");
        // An account with code is not asked by ECDSA, even when its own key signed.
        vm.etch(payer, hex"5f5ffd");
        bytes memory own = signature(KEY, usdcDigest(transferStruct(payer, PAYEE, 5, 0, NOW + 1, NONCE)));
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        usdc.transferWithAuthorization(payer, PAYEE, 5, 0, NOW + 1, NONCE, own);
    }

    function testFuzz_permit(uint256 value) public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, permitDigest(address(usdc), payer, PAYEE, value, 0, NOW));
        usdc.permit(payer, PAYEE, value, NOW, v, r, s);
        assertEq(usdc.allowance(payer, PAYEE), value, "allowed");
        assertEq(usdc.nonces(payer), 1, "nonce");
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.InvalidSignature.selector, payer));
        usdc.permit(payer, PAYEE, value, NOW, v, r, s);
        usdc.permit(
            payer, PAYEE, 7, NOW, signature(KEY, permitDigest(address(usdc), payer, PAYEE, 7, 1, NOW))
        );
        assertEq(usdc.allowance(payer, PAYEE), 7, "allowed anew");
    }

    function test_permitExpires() public {
        bytes memory sig = signature(KEY, permitDigest(address(usdc), payer, PAYEE, 1, 0, NOW - 1));
        vm.expectRevert(abi.encodeWithSelector(AuthorizedToken.PermitExpired.selector, NOW - 1, NOW));
        usdc.permit(payer, PAYEE, 1, NOW - 1, sig);
    }

    function test_tooLittle() public {
        bytes memory sig = signature(KEY, usdcDigest(transferStruct(payer, PAYEE, 1e12 + 1, 0, NOW + 1, NONCE)));
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, payer, 1e12, 1e12 + 1)
        );
        usdc.transferWithAuthorization(payer, PAYEE, 1e12 + 1, 0, NOW + 1, NONCE, sig);
        assertTrue(!usdc.authorizationState(payer, NONCE), "a transfer that failed used nothing");
    }

    function test_assayTokenIsFixed() public {
        assertEq(asy.totalSupply(), 1e27, "supply");
        assertEq(asy.balanceOf(address(this)), 1e27, "holder");
        assertEq(asy.symbol(), "ASY", "symbol");
        assertEq(asy.name(), "Assay", "name");
        assertEq(asy.version(), "1", "version");
        assertEq(asy.decimals(), 18, "decimals");
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, permitDigest(address(asy), payer, PAYEE, 3, 0, NOW));
        asy.permit(payer, PAYEE, 3, NOW, v, r, s);
        assertEq(asy.allowance(payer, PAYEE), 3, "allowed");
        Deployer deployer = new Deployer();
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(0)));
        deployer.run("assay-token", abi.encode(address(0)));
    }
}
