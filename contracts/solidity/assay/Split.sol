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

    /// @notice What was paid out of a token in all.
    mapping(address token => uint256) public totalPaid;
    /// @notice What was paid out of a token to the payee of that number.
    mapping(address token => mapping(uint256 index => uint256)) public paid;

    /// @notice Who is paid, and what share each has in 1/10,000.
    function payees() public view returns (address[] memory accounts, uint16[] memory basisPoints) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (address[], uint16[]));
    }

    /// @notice What is due to the payee of that number, in the token's smallest unit.
    function due(address token, uint256 index) external view returns (uint256) {
        (address[] memory accounts, uint16[] memory basisPoints) = payees();
        if (index >= accounts.length) revert NoSuchPayee(index, accounts.length);
        return _due(token, index, basisPoints, _received(token));
    }

    /// @notice Pays every payee what is due to it. Anybody may call.
    /// @return distributed What moved.
    function distribute(address token) external nonReentrant returns (uint256 distributed) {
        (address[] memory accounts, uint16[] memory basisPoints) = payees();
        uint256 received = _received(token);
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 amount = _due(token, i, basisPoints, received);
            if (amount == 0) continue;
            _record(token, i, amount);
            if (IERC20(token).trySafeTransfer(accounts[i], amount)) {
                distributed += amount;
                emit Paid(token, accounts[i], i, amount);
            } else {
                totalPaid[token] -= amount;
                paid[token][i] -= amount;
                emit PaymentRefused(token, accounts[i], i, amount);
            }
        }
    }

    /// @notice Pays one payee what is due to it. Anybody may call.
    function release(address token, uint256 index) external nonReentrant returns (uint256 amount) {
        (address[] memory accounts, uint16[] memory basisPoints) = payees();
        if (index >= accounts.length) revert NoSuchPayee(index, accounts.length);
        amount = _due(token, index, basisPoints, _received(token));
        if (amount == 0) revert NothingDue(token, index);
        _record(token, index, amount);
        emit Paid(token, accounts[index], index, amount);
        IERC20(token).safeTransfer(accounts[index], amount);
    }

    function _record(address token, uint256 index, uint256 amount) private {
        totalPaid[token] += amount;
        paid[token][index] += amount;
    }

    function _received(address token) private view returns (uint256) {
        return IERC20(token).balanceOf(address(this)) + totalPaid[token];
    }

    /// @dev Each part is rounded down from the whole sum ever received, so rounding does not accumulate; the last part is
    /// what the others leave.
    function _due(address token, uint256 index, uint16[] memory basisPoints, uint256 received)
        private
        view
        returns (uint256)
    {
        uint256 part;
        if (index + 1 < basisPoints.length) {
            part = _part(received, basisPoints[index]);
        } else {
            part = received;
            for (uint256 i = 0; i + 1 < basisPoints.length; ++i) {
                part -= _part(received, basisPoints[i]);
            }
        }
        uint256 before = paid[token][index];
        return part > before ? part - before : 0;
    }

    /// @dev Divided first, so that no sum overflows: received = q * 10,000 + r, and bp * r / 10,000 is rounded down once.
    function _part(uint256 received, uint256 basisPoints) private pure returns (uint256) {
        return (received / 10_000) * basisPoints + (received % 10_000) * basisPoints / 10_000;
    }
}
