// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {TypedData} from "../lib/TypedData.sol";

/// @title Anchors checkpoints of receipt logs and roots of receipt batches
/// @notice Every submitter has a chain of entries of its own, each naming the one before. Only an entry's hash is stored;
/// the entry itself is in the calldata, in the event, and in the blob that it names. A submitter posts with a bond behind
/// it, and signs every entry: two different signed entries that speak for the same leaves, or that give one log size two
/// roots, take the bond from it, whoever shows them.
contract ReceiptAnchor {
    /// @notice One batch of receipts and the checkpoint that it was made under.
    /// @param submitter Who signs and posts.
    /// @param firstLeaf Number of the batch's first leaf, counted over all batches of the submitter.
    /// @param leafCount How many leaves; zero anchors a checkpoint alone.
    /// @param root Merkle root: leaves hashed twice, pairs sorted (OpenZeppelin's StandardMerkleTree); zero without leaves.
    /// @param logSize Size of the receipt log.
    /// @param logRoot Root of the log at that size (RFC 6962, SHA-256).
    /// @param blob SHA-256 of the blob that holds the batch.
    /// @param prev Hash of the submitter's entry before; zero for the first.
    struct Entry {
        address submitter;
        uint64 firstLeaf;
        uint64 leafCount;
        bytes32 root;
        uint64 logSize;
        bytes32 logRoot;
        bytes32 blob;
        bytes32 prev;
    }

    /// @notice What a batch holds of a receipt.
    /// @param executionDigest Digest of the execution statement.
    /// @param serviceDigest Digest of the service statement.
    /// @param paymentId Id of its payment; zero when it was free.
    /// @param amountAtomic What was charged, in the asset's smallest unit.
    /// @param logIndex Its place in the log.
    struct Leaf {
        bytes32 executionDigest;
        bytes32 serviceDigest;
        bytes32 paymentId;
        uint256 amountAtomic;
        uint64 logIndex;
    }

    /// @notice What is kept of a submitter, apart from the last entry's hash.
    /// @param bond In wei.
    /// @param nextLeaf Number that its next batch begins with.
    /// @param logSize Log size of its last entry.
    /// @param withdrawableAt Unix seconds from which on the bond may be withdrawn; zero unless that was asked for.
    /// @param convicted True for ever once it was.
    struct Submitter {
        uint80 bond;
        uint64 nextLeaf;
        uint64 logSize;
        uint40 withdrawableAt;
        bool convicted;
    }

    /// @notice The caller is not the entry's submitter.
    error NotSubmitter(address caller, address submitter);
    /// @notice The bond is missing, too small, or being withdrawn.
    error NotBonded(address submitter, uint256 bond, uint256 required);
    /// @notice The submitter was convicted.
    error SubmitterConvicted(address submitter);
    /// @notice The entry does not name the one before it.
    error WrongPrevious(bytes32 expected, bytes32 given);
    /// @notice The batch overlaps the one before, or leaves leaves out.
    error WrongFirstLeaf(uint64 expected, uint64 given);
    /// @notice The log of this entry is smaller than that of the one before.
    error LogShrank(uint64 before, uint64 given);
    /// @notice A root without leaves, leaves without a root, or more leaves than the log has.
    error InvalidBatch(uint64 leafCount, bytes32 root);
    /// @notice The signature is not the submitter's.
    error InvalidEntrySignature(address submitter);
    /// @notice The two entries may stand beside each other.
    error NoConflict(bytes32 first, bytes32 second);
    /// @notice No value was sent.
    error ZeroBond();
    /// @notice More than 2^80 - 1 wei.
    error BondTooLarge(uint256 bond);
    /// @notice There is no bond to take.
    error NoBond(address submitter);
    /// @notice The withdrawal was not asked for, or its delay has not passed; `withdrawableAt` is zero in the first case.
    error WithdrawTooEarly(uint256 withdrawableAt, uint256 timestamp);
    /// @notice The native transfer failed.
    error TransferFailed(address to, uint256 amount);

    /// @notice An entry was posted.
    event Anchored(
        bytes32 indexed entryHash,
        address indexed submitter,
        uint64 indexed firstLeaf,
        uint64 leafCount,
        bytes32 root,
        uint64 logSize,
        bytes32 logRoot,
        bytes32 blob,
        bytes32 prev
    );
    /// @notice A bond grew.
    event Bonded(address indexed submitter, uint256 amount, uint256 bond);
    /// @notice A submitter stopped, and may withdraw from `withdrawableAt` on.
    event WithdrawRequested(address indexed submitter, uint256 withdrawableAt);
    /// @notice A bond was withdrawn.
    event BondWithdrawn(address indexed submitter, uint256 amount);
    /// @notice A submitter signed two entries that contradict each other.
    event Convicted(
        address indexed submitter, address indexed reporter, bytes32 first, bytes32 second, uint256 reward, uint256 burned
    );

    /// @notice EIP-712 type hash of an entry.
    bytes32 public constant ENTRY_TYPEHASH = keccak256(
        "Entry(address submitter,uint64 firstLeaf,uint64 leafCount,bytes32 root,uint64 logSize,bytes32 logRoot,bytes32 blob,bytes32 prev)"
    );
    /// @notice Where the burned half of a bond goes: nobody has its key.
    address public constant BURN = 0x000000000000000000000000000000000000dEaD;
    /// @notice The bond without which nobody posts, in wei.
    uint256 public immutable MIN_BOND;
    /// @notice Seconds that a bond stays after its withdrawal was asked for, in which it can still be taken.
    uint256 public immutable UNBONDING_DELAY;

    bytes32 private constant NAME_HASH = keccak256("Assay Receipt Anchor");
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// @notice What is kept of a submitter.
    mapping(address account => Submitter) public submitters;
    /// @notice Hash of a submitter's last entry.
    mapping(address submitter => bytes32 entryHash) public head;
    /// @notice Unix seconds at which an entry was posted; zero when it was not.
    mapping(bytes32 entryHash => uint256 timestamp) public postedAt;

    /// @param minBond In wei; at least 2, so that both halves are something.
    /// @param unbondingDelay Seconds.
    constructor(uint80 minBond, uint32 unbondingDelay) {
        if (minBond < 2) revert ZeroBond();
        MIN_BOND = minBond;
        UNBONDING_DELAY = unbondingDelay;
    }

    /// @notice Adds to the caller's bond, and takes back a request to withdraw it.
    function bond() external payable {
        if (msg.value == 0) revert ZeroBond();
        Submitter storage state = submitters[msg.sender];
        if (state.convicted) revert SubmitterConvicted(msg.sender);
        uint256 total = state.bond + msg.value;
        if (total > type(uint80).max) revert BondTooLarge(total);
        // forge-lint: disable-next-line(unsafe-typecast)
        state.bond = uint80(total);
        state.withdrawableAt = 0;
        emit Bonded(msg.sender, msg.value, total);
    }

    /// @notice Stops the caller from posting and starts the delay after which its bond may be withdrawn.
    function requestWithdraw() external {
        Submitter storage state = submitters[msg.sender];
        if (state.bond == 0) revert NoBond(msg.sender);
        uint256 withdrawableAt = block.timestamp + UNBONDING_DELAY;
        // forge-lint: disable-next-line(unsafe-typecast)
        state.withdrawableAt = uint40(withdrawableAt);
        emit WithdrawRequested(msg.sender, withdrawableAt);
    }

    /// @notice Pays the caller's bond back after the delay.
    function withdraw() external {
        Submitter storage state = submitters[msg.sender];
        uint256 amount = state.bond;
        if (amount == 0) revert NoBond(msg.sender);
        if (state.withdrawableAt == 0 || block.timestamp < state.withdrawableAt) {
            revert WithdrawTooEarly(state.withdrawableAt, block.timestamp);
        }
        state.bond = 0;
        state.withdrawableAt = 0;
        emit BondWithdrawn(msg.sender, amount);
        _send(msg.sender, amount);
    }

    /// @notice Posts the caller's next entry.
    /// @param signature The caller's over `entryHash(entry)`: posted with the entry, so that everybody has it.
    function post(Entry calldata entry, bytes calldata signature) external returns (bytes32 hash) {
        if (msg.sender != entry.submitter) revert NotSubmitter(msg.sender, entry.submitter);
        Submitter memory state = submitters[msg.sender];
        if (state.convicted) revert SubmitterConvicted(msg.sender);
        if (state.bond < MIN_BOND || state.withdrawableAt != 0) revert NotBonded(msg.sender, state.bond, MIN_BOND);
        bytes32 previous = head[msg.sender];
        if (entry.prev != previous) revert WrongPrevious(previous, entry.prev);
        if (entry.firstLeaf != state.nextLeaf) revert WrongFirstLeaf(state.nextLeaf, entry.firstLeaf);
        if (entry.logSize < state.logSize) revert LogShrank(state.logSize, entry.logSize);
        if ((entry.leafCount == 0) != (entry.root == 0) || entry.leafCount > entry.logSize) {
            revert InvalidBatch(entry.leafCount, entry.root);
        }
        hash = entryHash(entry);
        if (!_signed(hash, entry.submitter, signature)) revert InvalidEntrySignature(entry.submitter);

        state.nextLeaf = entry.firstLeaf + entry.leafCount;
        state.logSize = entry.logSize;
        submitters[msg.sender] = state;
        head[msg.sender] = hash;
        postedAt[hash] = block.timestamp;
        emit Anchored(
            hash,
            entry.submitter,
            entry.firstLeaf,
            entry.leafCount,
            entry.root,
            entry.logSize,
            entry.logRoot,
            entry.blob,
            entry.prev
        );
    }

    /// @notice Takes the bond of who signed two entries that contradict each other: different ones that share a leaf
    /// number, or that give one log size two roots. Half goes to the caller, the rest is burned. Neither entry need be
    /// posted; withdrawing does not help before its delay is over.
    function convict(
        Entry calldata first,
        bytes calldata firstSignature,
        Entry calldata second,
        bytes calldata secondSignature
    ) external {
        bytes32 firstHash = entryHash(first);
        bytes32 secondHash = entryHash(second);
        if (first.submitter != second.submitter || firstHash == secondHash || !_conflict(first, second)) {
            revert NoConflict(firstHash, secondHash);
        }
        address submitter = first.submitter;
        if (!_signed(firstHash, submitter, firstSignature) || !_signed(secondHash, submitter, secondSignature)) {
            revert InvalidEntrySignature(submitter);
        }
        Submitter storage state = submitters[submitter];
        uint256 amount = state.bond;
        if (amount == 0) revert NoBond(submitter);
        state.bond = 0;
        state.withdrawableAt = 0;
        state.convicted = true;
        uint256 reward = amount / 2;
        emit Convicted(submitter, msg.sender, firstHash, secondHash, reward, amount - reward);
        _send(BURN, amount - reward);
        _send(msg.sender, reward);
    }

    /// @notice True when `entry` was posted and its batch holds `leaf`.
    /// @param proof Siblings from the leaf up.
    function verifyReceipt(Entry calldata entry, Leaf calldata leaf, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        return entry.leafCount != 0 && postedAt[entryHash(entry)] != 0
            && MerkleProof.verifyCalldata(proof, entry.root, leafHash(leaf));
    }

    /// @notice The entry's hash: its EIP-712 digest, bound to this chain and contract; what is signed, stored and named by
    /// the next entry.
    function entryHash(Entry calldata entry) public view returns (bytes32) {
        return TypedData.digest(
            TypedData.separator(NAME_HASH, VERSION_HASH),
            keccak256(
                abi.encode(
                    ENTRY_TYPEHASH,
                    entry.submitter,
                    entry.firstLeaf,
                    entry.leafCount,
                    entry.root,
                    entry.logSize,
                    entry.logRoot,
                    entry.blob,
                    entry.prev
                )
            )
        );
    }

    /// @notice The leaf's hash: keccak256 twice over its abi.encode, so that no inner node can pass for a leaf.
    function leafHash(Leaf calldata leaf) public pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                keccak256(
                    abi.encode(
                        leaf.executionDigest, leaf.serviceDigest, leaf.paymentId, leaf.amountAtomic, leaf.logIndex
                    )
                )
            )
        );
    }

    /// @dev Empty batches share no leaf with any. The sums are widened: numbers in entries that were never posted are
    /// whatever was signed.
    function _conflict(Entry calldata first, Entry calldata second) private pure returns (bool) {
        bool overlap = uint256(first.firstLeaf) < uint256(second.firstLeaf) + second.leafCount
            && uint256(second.firstLeaf) < uint256(first.firstLeaf) + first.leafCount
            && first.leafCount != 0 && second.leafCount != 0;
        return overlap || (first.logSize == second.logSize && first.logRoot != second.logRoot);
    }

    function _signed(bytes32 hash, address submitter, bytes calldata signature) private pure returns (bool) {
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(hash, signature);
        return fault == ECDSA.RecoverError.NoError && signer == submitter;
    }

    function _send(address to, uint256 amount) private {
        (bool ok,) = to.call{value: amount}("");
        if (!ok) revert TransferFailed(to, amount);
    }
}
