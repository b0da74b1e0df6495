"""What section 8.1 of `docs/spec/receipt.md` needs of an EVM chain's hashes and encodings, without any chain.

The sources are the Keccak submission (256 bits, padding 0x01), SEC 1 section 4.1.6 and SEC 2 (public keys out of
signatures on secp256k1), EIP-712, EIP-3009, the Solidity ABI, and RFC 8785. Nothing here is in constant time: it handles
no secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import Any

PERMIT2 = "0x000000000022d473030f116ddee9f6b43ac78ba3"
EXACT_PROXY = "0x402085c248eea27d92e8b30b2c58ed07f9e20001"
UPTO_PROXY = "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002"
CHANNELS = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"

ANCHOR_TYPE, BATCH_FORMAT = "receipt-anchor/1", "assay/anchor-batch/1"
# Siblings of a proof (section 8.1), leaves of a batch, and bytes of its blob: a leaf is some 330 of JSON.
MAX_PROOF, MAX_LEAVES = 32, 65_536
MAX_BLOB = 400 * MAX_LEAVES + 4_096
MAX_SAFE = 2**53

ADDRESS = re.compile(r"0x[0-9a-f]{40}\Z")
HASH = re.compile(r"0x[0-9a-f]{64}\Z")
AMOUNT = re.compile(r"(?:0|[1-9][0-9]{0,77})\Z")
NETWORK = re.compile(r"eip155:[1-9][0-9]{0,14}\Z")

# --- Keccak-256 -----------------------------------------------------------------------------------------------------

LANE = (1 << 64) - 1
RATE = 136


def round_constants() -> list[int]:
    """The 24 constants of step iota, from the linear feedback shift register that defines them."""
    register, constants = 1, []
    for _ in range(24):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


ROUNDS = round_constants()


def rotate(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & LANE if by else lane


def permute(a: list[int]) -> None:
    """Keccak-f[1600] on 25 lanes, lane x, y at x + 5 y."""
    for constant in ROUNDS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[(x + 4) % 5] ^ rotate(c[(x + 1) % 5], 1) for x in range(5)]
        for i in range(25):
            a[i] ^= d[i % 5]
        x, y, current = 1, 0, a[1]
        for t in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, a[x + 5 * y] = a[x + 5 * y], rotate(current, (t + 1) * (t + 2) // 2 % 64)
        for row in range(0, 25, 5):
            b = a[row : row + 5]
            for x in range(5):
                a[row + x] = b[x] ^ (~b[(x + 1) % 5] & LANE & b[(x + 2) % 5])
        a[0] ^= constant


def keccak256(*parts: bytes) -> bytes:
    """32 bytes: Keccak-256 as Ethereum has it, which is not SHA3-256."""
    message = bytearray(b"".join(parts))
    padding = RATE - len(message) % RATE
    message += b"\x81" if padding == 1 else b"\x01" + bytes(padding - 2) + b"\x80"
    state = [0] * 25
    for start in range(0, len(message), RATE):
        for i in range(RATE // 8):
            state[i] ^= int.from_bytes(message[start + 8 * i : start + 8 * i + 8], "little")
        permute(state)
    return b"".join(lane.to_bytes(8, "little") for lane in state[:4])


# --- secp256k1: who signed -------------------------------------------------------------------------------------------

FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int] | None


def add(p: Point, q: Point) -> Point:
    if p is None or q is None:
        return q if p is None else p
    if p[0] == q[0] and (p[1] + q[1]) % FIELD == 0:
        return None
    slope = 3 * p[0] * p[0] * pow(2 * p[1], -1, FIELD) if p == q else (q[1] - p[1]) * pow(q[0] - p[0], -1, FIELD)
    x = (slope * slope - p[0] - q[0]) % FIELD
    return x, (slope * (p[0] - x) - p[1]) % FIELD


def multiply(p: Point, scalar: int) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = add(total, p)
        p, scalar = add(p, p), scalar >> 1
    return total


def recover_address(digest: bytes, signature: bytes) -> str | None:
    """Who signed a 32-byte digest with 65 bytes r, s and v (27 or 28), as an address; None when nobody did."""
    if len(digest) != 32 or len(signature) != 65 or signature[64] not in (27, 28):
        return None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < ORDER or not 0 < s <= ORDER // 2:
        return None
    square = (pow(r, 3, FIELD) + 7) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if y * y % FIELD != square:
        return None
    if y & 1 != signature[64] - 27:
        y = FIELD - y
    inverse = pow(r, -1, ORDER)
    key = add(multiply((r, y), s * inverse % ORDER), multiply(GENERATOR, -int.from_bytes(digest, "big") * inverse % ORDER))
    return None if key is None else "0x" + keccak256(key[0].to_bytes(32, "big"), key[1].to_bytes(32, "big"))[12:].hex()


# --- ABI and EIP-712 --------------------------------------------------------------------------------------------------


def word(value: int | str | bytes) -> bytes:
    """One ABI word: a number, an address (a text), or 32 bytes. Raises ValueError for anything else."""
    if isinstance(value, int):
        if not 0 <= value < 1 << 256:
            raise ValueError("a number that is no word")
        return value.to_bytes(32, "big")
    if isinstance(value, str):
        if not ADDRESS.match(value.lower()):
            raise ValueError("not an address")
        return bytes(12) + bytes.fromhex(value[2:])
    if len(value) != 32:
        raise ValueError("not 32 bytes")
    return value


def hash_words(*values: int | str | bytes) -> bytes:
    return keccak256(*map(word, values))


@cache
def selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


@cache
def topic(signature: str) -> str:
    return "0x" + keccak256(signature.encode()).hex()


def typed_digest(name: str, chain_id: int, contract: str, type_string: str, *values: int | str | bytes) -> bytes:
    """EIP-712: the digest of one struct under a domain of version "1"."""
    domain = hash_words(
        keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak256(name.encode()), keccak256(b"1"), chain_id, contract,
    )  # fmt: skip
    return keccak256(b"\x19\x01", domain, hash_words(keccak256(type_string.encode()), *values))


def nonce_payment_id(chain_id: int, verifying_contract: str, payer: str, nonce: bytes | int) -> bytes:
    """The id of a payment by EIP-3009 (the contract is the token) or Permit2."""
    return hash_words(chain_id, verifying_contract, payer, nonce)


def voucher_payment_id(chain_id: int, channel_id: bytes, cumulative: int, signature: bytes, refund: int | None = None) -> bytes:
    """The id of a voucher; of a refund when `refund` says what it asks for, 2^256 - 1 being everything."""
    asked = () if refund is None else (refund,)
    return hash_words(chain_id, CHANNELS, channel_id, cumulative, keccak256(signature), *asked)


CHANNEL_CONFIG = "address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt"


def channel_id(chain_id: int, config: Iterable[int | str | bytes]) -> bytes:
    return typed_digest("x402 Batch Settlement", chain_id, CHANNELS, f"ChannelConfig({CHANNEL_CONFIG})", *config)


class Calldata:
    """Words and byte strings of ABI-encoded bytes. Raises ValueError beyond their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def raw(self, at: int, size: int) -> bytes:
        if at < 0 or size < 0 or at + size > len(self.data):
            raise ValueError("beyond the end")
        return self.data[at : at + size]

    def uint(self, at: int) -> int:
        return int.from_bytes(self.raw(at, 32), "big")

    def address(self, at: int) -> str:
        if any(self.raw(at, 12)):
            raise ValueError("not an address")
        return "0x" + self.raw(at + 12, 20).hex()

    def string(self, at: int) -> bytes:
        return self.raw(at + 32, self.uint(at))

    def elements(self, at: int) -> list[int]:
        """Where the elements of a list of dynamic things begin."""
        count = self.uint(at)
        self.raw(at + 32, 32 * count)
        return [at + 32 + self.uint(at + 32 + 32 * i) for i in range(count)]


# --- Calls of the contracts ------------------------------------------------------------------------------------------

TRANSFER_FROM = "((address,uint256),uint256,uint256)"
PERMIT_2612 = "(uint256,uint256,bytes32,bytes32,uint8)"
# Words before Permit2's nonce and before the owner, by proxy and selector; every argument but the last is static.
PERMIT_CALLS = {
    EXACT_PROXY: {
        selector(f"settle({TRANSFER_FROM},address,(address,uint256),bytes)"): (2, 4),
        selector(f"settleWithPermit({PERMIT_2612},{TRANSFER_FROM},address,(address,uint256),bytes)"): (7, 9),
    },
    UPTO_PROXY: {
        selector(f"settle({TRANSFER_FROM},uint256,address,(address,address,uint256),bytes)"): (2, 5),
        selector(f"settleWithPermit({PERMIT_2612},{TRANSFER_FROM},uint256,address,(address,address,uint256),bytes)"): (7, 10),
    },
}
VOUCHER_CLAIMS = "(((address,address,address,address,address,uint40,bytes32),uint128),bytes,uint128)[]"
CLAIM, CLAIM_SIGNED = selector(f"claim({VOUCHER_CLAIMS})"), selector(f"claimWithSignature({VOUCHER_CLAIMS},bytes)")
MULTICALL = selector("multicall(bytes[])")


def permit_payment_id(chain_id: int, proxy: str, calldata: bytes) -> bytes | None:
    """The payment that a call of a Permit2 proxy settles; None when it settles none."""
    places = PERMIT_CALLS.get(proxy, {}).get(calldata[:4])
    if places is None:
        return None
    try:
        call = Calldata(calldata[4:])
        return nonce_payment_id(chain_id, PERMIT2, call.address(32 * places[1]), call.uint(32 * places[0]))
    except ValueError:
        return None


@dataclass(frozen=True)
class ChannelClaim:
    """One claim of a channel; `config` has the members of the channel's EIP-712 struct in their order."""

    config: tuple[str, str, str, str, str, int, bytes]
    ceiling: int
    signature: bytes
    total: int


def channel_claims(calldata: bytes, inner: bool = False) -> list[ChannelClaim]:
    """Claims in a call of the channel contract, those of a `multicall` too; none in a call that is not one."""
    try:
        call = Calldata(calldata[4:])
        if calldata[:4] == MULTICALL and not inner:
            return [c for at in call.elements(call.uint(0)) for c in channel_claims(call.string(at), True)]
        if calldata[:4] not in (CLAIM, CLAIM_SIGNED):
            return []
        claims = []
        for at in call.elements(call.uint(0)):
            parties = tuple(call.address(at + 32 * i) for i in range(5))
            config = (*parties, call.uint(at + 160), call.raw(at + 192, 32))
            claims.append(ChannelClaim(config, call.uint(at + 224), call.string(at + call.uint(at + 256)), call.uint(at + 288)))  # type: ignore[arg-type]
        return claims
    except ValueError:
        return []


# --- Anchors ----------------------------------------------------------------------------------------------------------

ENTRY_NUMBERS, ENTRY_HASHES = ("firstLeaf", "leafCount", "logSize"), ("root", "logRoot", "blob", "prev")
ENTRY_TYPE = (
    "Entry(address submitter,uint64 firstLeaf,uint64 leafCount,bytes32 root,uint64 logSize,bytes32 logRoot,bytes32 blob,bytes32 prev)"
)
LEAF_HASHES = ("executionDigest", "serviceDigest", "paymentId")
LEAF_MEMBERS = {*LEAF_HASHES, "amountAtomic", "logIndex"}
BATCH_MEMBERS = {
    "format", "chainId", "contract", "submitter", *ENTRY_NUMBERS, "root", "logRoot", "prev", "fromIndex", "toIndex", "leaves",
}  # fmt: skip


def is_hash(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_SAFE


def is_amount(value: Any) -> bool:
    return type(value) is str and AMOUNT.match(value) is not None and int(value) < 1 << 256


def is_anchor(value: Any) -> bool:
    """Whether an entry of a bundle's `anchors` has the type and the form of section 8.1."""
    if type(value) is not dict or value.get("type") != ANCHOR_TYPE:
        return False
    entry, leaf, proof = value.get("entry"), value.get("leaf"), value.get("proof")
    if type(entry) is not dict or type(leaf) is not dict or type(proof) is not list or len(proof) > MAX_PROOF:
        return False
    signature, transaction, block = value.get("signature"), value.get("transaction"), value.get("blockNumber")
    texts = [(NETWORK, value.get("network")), (ADDRESS, value.get("contract")), (ADDRESS, entry.get("submitter"))]
    texts += [] if transaction is None else [(HASH, transaction)]
    return (
        all(type(text) is str and pattern.match(text) for pattern, text in texts)
        and all(is_count(entry.get(name)) for name in ENTRY_NUMBERS)
        and all(is_hash(entry.get(name)) for name in ENTRY_HASHES)
        and all(is_hash(leaf.get(name)) for name in LEAF_HASHES)
        and is_amount(leaf.get("amountAtomic"))
        and is_count(leaf.get("logIndex"))
        and all(is_hash(sibling) for sibling in proof)
        and (signature is None or (type(signature) is bytes and len(signature) == 65))
        and (block is None or is_count(block))
    )


def network_id(network: str) -> int:
    return int(network.removeprefix("eip155:"))


def leaf_hash(leaf: Mapping[str, Any]) -> bytes:
    return keccak256(hash_words(*(leaf[name] for name in LEAF_HASHES), int(leaf["amountAtomic"]), leaf["logIndex"]))


def pair_hash(a: bytes, b: bytes) -> bytes:
    return keccak256(min(a, b), max(a, b))


def proof_root(leaf: Mapping[str, Any], proof: Iterable[bytes]) -> bytes:
    node = leaf_hash(leaf)
    for sibling in proof:
        node = pair_hash(node, sibling)
    return node


def tree_root(leaves: list[bytes]) -> bytes:
    """OpenZeppelin's StandardMerkleTree over leaf hashes; zeros when there are none."""
    if not leaves:
        return bytes(32)
    nodes = [b""] * (len(leaves) - 1) + sorted(leaves, reverse=True)
    for i in reversed(range(len(leaves) - 1)):
        nodes[i] = pair_hash(nodes[2 * i + 1], nodes[2 * i + 2])
    return nodes[0]


def entry_hash(network: str, contract: str, entry: Mapping[str, Any]) -> bytes:
    """What the submitter signs, the contract stores and the next entry names."""
    return typed_digest(
        "Assay Receipt Anchor", network_id(network), contract, ENTRY_TYPE, entry["submitter"], entry["firstLeaf"],
        entry["leafCount"], entry["root"], entry["logSize"], entry["logRoot"], entry["blob"], entry["prev"],
    )  # fmt: skip


def blob_fault(anchor: Mapping[str, Any], blob: bytes) -> str:
    """What of a batch's blob is not what the anchor says, or "": its digest, its form, its leaves, its root."""
    entry = anchor["entry"]
    if len(blob) > MAX_BLOB or sha256(blob).digest() != entry["blob"]:
        return "the blob has another digest than the entry names"
    try:
        batch = json.loads(blob)
        # What this format holds (lower-case ASCII, integers, plain names) Python writes as RFC 8785 does.
        again = json.dumps(batch, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        leaves = batch["leaves"]
        forms = [set(batch) == BATCH_MEMBERS, again == blob, all(set(leaf) == LEAF_MEMBERS for leaf in leaves)]
        counts = [batch[n] for n in ("chainId", "fromIndex", "toIndex", *ENTRY_NUMBERS)] + [leaf["logIndex"] for leaf in leaves]
        if not all(forms) or not all(map(is_count, counts)) or not all(is_amount(leaf["amountAtomic"]) for leaf in leaves):
            return "the blob is not the canonical form of a batch"
        leaves = [leaf | {name: bytes.fromhex(leaf[name]) for name in LEAF_HASHES} for leaf in leaves]
        stated = {name: batch[name] for name in (*ENTRY_NUMBERS, "submitter")}
        stated |= {name: bytes.fromhex(batch[name]) for name in ENTRY_HASHES if name != "blob"}
        place = (batch["format"], f"eip155:{batch['chainId']}", batch["contract"])
        if place != (BATCH_FORMAT, anchor["network"], anchor["contract"]) or any(entry[n] != v for n, v in stated.items()):
            return "the blob is of another entry"
        if len(leaves) > MAX_LEAVES or len(leaves) != entry["leafCount"] or len(leaves) > entry["logSize"]:
            return "the blob has another number of leaves than the entry says"
        order = [batch["fromIndex"] - 1, *(leaf["logIndex"] for leaf in leaves), batch["toIndex"]]
        if leaves and any(a >= b for a, b in pairwise(order)):
            return "the blob's leaves are not in the order of the log"
        if tree_root([leaf_hash(leaf) for leaf in leaves]) != entry["root"]:
            return "the blob's leaves do not give the entry's root"
        mine = {name: anchor["leaf"][name] for name in LEAF_MEMBERS}
        return "" if mine in leaves else "the receipt's leaf is not in the blob"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the blob is not the canonical form of a batch"
