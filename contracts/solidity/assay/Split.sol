// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Divides what it receives among payees
/// @notice Payees and shares are part of the address and cannot change. Tokens may arrive before the contract does. Every
/// payee's part is its own: one that cannot receive keeps its part here and hinders no other. Of what does not divide, the
/// last payee has the remainder, so that the parts add up to what came in.
///
/// What came in is divided when somebody calls, and a part that was divided off stays the payee's. (Dividing the sum of all
/// that ever came in would let the last payee's remainder shrink again, after it was paid.)
contract Split is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice There is no payee of that number.
    error NoSuchPayee(uint256 index, uint256 count);
    /// @notice Nothing is due to the payee.
    error NothingDue(address token, uint256 index);

    /// @notice A payee received its part.
    event Paid(address indexed token, address indexed payee, uint256 index, uint256 amount);
    /// @notice A payee could not receive; its part stays due.
    event PaymentRefused(address indexed token, address indexed payee, uint256 index, uint256 amount);

    /// @notice What was divided off and not paid yet, of a token in all.
    mapping(address token => uint256) public totalOwed;
    /// @notice What was divided off for the payee of that number and not paid yet.
    mapping(address token => mapping(uint256 index => uint256)) public owed;

    /// @notice Who is paid, and what share each has in 1/10,000.
    function payees() public view returns (address[] memory accounts, uint16[] memory basisPoints) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (address[], uint16[]));
    }

    /// @notice What is due to the payee of that number, in the token's smallest unit.
    function due(address token, uint256 index) external view returns (uint256) {
        (address[] memory accounts, uint16[] memory basisPoints) = payees();
        if (index >= accounts.length) revert NoSuchPayee(index, accounts.length);
        return owed[token][index] + _parts(_fresh(token), basisPoints)[index];
    }

    /// @notice Divides what came in and pays every payee what is due to it. Anybody may call.
    /// @dev What a transfer did decides what stays owed, so that is written after it; the guard keeps everybody out until
    /// then.
    /// @return distributed What moved.
    function distribute(address token) external nonReentrant returns (uint256 distributed) {
        (address[] memory accounts, uint16[] memory basisPoints) = payees();
        uint256[] memory parts = _parts(_fresh(token), basisPoints);
        uint256 kept = 0;
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 before = owed[token][i];
            uint256 amount = before + parts[i];
            if (amount == 0) continue;
            if (IERC20(token).trySafeTransfer(accounts[i], amount)) {
                if (before != 0) owed[token][i] = 0;
                distributed += amount;
                emit Paid(token, accounts[i], i, amount);
            } else {
                owed[token][i] = amount;
                kept += amount;
                emit PaymentRefused(token, accounts[i], i, amount);
            }
        }
        if (totalOwed[token] != kept) totalOwed[token] = kept;
    }

    /// @notice Divides what came in and pays one payee what is due to it. Anybody may call.
    function release(address token, uint256 index) external nonReentrant returns (uint256 amount) {
        (address[] memory accounts, uint16[] memory basisPoints) = payees();
        if (index >= accounts.length) revert NoSuchPayee(index, accounts.length);
        uint256 fresh = _fresh(token);
        uint256[] memory parts = _parts(fresh, basisPoints);
        amount = owed[token][index] + parts[index];
        if (amount == 0) revert NothingDue(token, index);
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (i != index && parts[i] != 0) owed[token][i] += parts[i];
        }
        owed[token][index] = 0;
        totalOwed[token] = totalOwed[token] + fresh - amount;
        emit Paid(token, accounts[index], index, amount);
        IERC20(token).safeTransfer(accounts[index], amount);
    }

    /// @dev What came in since it was divided last; nothing of a token that took balance away.
    function _fresh(address token) private view returns (uint256) {
        uint256 balance = IERC20(token).balanceOf(address(this));
        uint256 before = totalOwed[token];
        return balance > before ? balance - before : 0;
    }

    /// @dev Divides first, so that nothing overflows: fresh = q * 10,000 + r, and share * r / 10,000 is rounded down once.
    function _parts(uint256 fresh, uint16[] memory basisPoints) private pure returns (uint256[] memory parts) {
        uint256 last = basisPoints.length - 1;
        parts = new uint256[](last + 1);
        uint256 rest = fresh;
        for (uint256 i = 0; i < last; ++i) {
            parts[i] = (fresh / 10_000) * basisPoints[i] + (fresh % 10_000) * basisPoints[i] / 10_000;
            rest -= parts[i];
        }
        parts[last] = rest;
    }
}
