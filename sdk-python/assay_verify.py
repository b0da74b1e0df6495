"""Verify an Assay receipt: a second implementation, written from `docs/spec/receipt.md` alone.

"Section N" below means that document. The other sources are RFC 8949 (deterministic CBOR), RFC 9052 and 9995 (the
envelope), RFC 6962 and 9162 (Merkle trees), and C2SP signed-note, tlog-checkpoint and tlog-cosignature (the log).
Payment and anchor (section 8.1) are in `assay_chain.py` and `assay_evm.py`. `verify` is a function of its arguments: no
clock, no files, and no network but the chain that it is given. What the bundle holds never raises; it is judged.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

try:  # Older builds lack ML-DSA; a signature made with it is then inconclusive, never a pass (section 8).
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
except ImportError:
    MLDSA44PublicKey = None  # type: ignore[assignment, misc]

import assay_chain
import assay_evm

# Section 1. Counts and sizes in bytes.
MAX_BUNDLE, MAX_ENVELOPE, MAX_CLAIMS, MAX_ENTRY = 64 << 20, 16_384, 262_144, 65_535
MAX_LISTED, MAX_OPENED_FIELDS, MAX_SAFE = 64, 10_000, 2**53
MAX_OPEN_DEPTH, MAX_OPEN_ITEMS = 6, 4_096
# Not in the document: the tables allow 10 levels and about 1.5 million values (20,000 field openings, 63 hashes each).
# A decoder must stop before that many more would cost memory.
MAX_CBOR_DEPTH, MAX_CBOR_ITEMS = 16, 2_000_000
MAX_BATCH, MAX_BATCH_PATH, CLOCK_SKEW_MS = 65_536, 16, 300_000

ED25519, P256, ML_DSA_44, BATCH = -19, -9, -48, -65801
ALGORITHM_NAMES = {"ed25519": ED25519, "p256": P256, "ml-dsa-44": ML_DSA_44}
PUBLIC_KEY_LENGTHS = {ED25519: (32,), P256: (33, 65), ML_DSA_44: (1312,)}
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

ABSENT_CODES = {
    "attestation": "not_tee",
    "proof": "not_zkml",
    "commitments": "nothing_opened",
    "anchor": "no_anchor",
    "payment": "no_payment",
}
CHECKS = ("format", "signature", "keyset", "attestation", "proof", "commitments", "log", "anchor", "payment", "policy")
ALWAYS_REQUIRED = frozenset({"format", "signature", "keyset", "log", "policy"})
EXIT_CODES = {"verified": 0, "failed": 10, "inconclusive": 11}


class Refused(Exception):
    """Bytes that are not what the document asks for; `code` is the verdict's, the message is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class TrustInvalid(ValueError):
    """The verifier's own trust or policy file is malformed: bad use, not bad evidence."""


class AlgorithmMissing(Exception):
    """This installation cannot check a signature of that algorithm."""


# --- Deterministic CBOR (RFC 8949 section 4.2.1, restricted by section 1) -------------------------------------------


def decode_cbor(data: bytes) -> Any:
    """The one value that `data` encodes: int, bytes, str, list, dict, bool or None. Refuses with `cbor_invalid`."""
    at = 0
    items = 0

    def bad(why: str) -> NoReturn:
        raise Refused("cbor_invalid", f"{why} at byte {at}")

    def take(count: int) -> bytes:
        nonlocal at
        if count > len(data) - at:
            bad("truncated")
        at += count
        return data[at - count : at]

    def item(depth: int) -> Any:
        nonlocal items
        items += 1
        if depth > MAX_CBOR_DEPTH or items > MAX_CBOR_ITEMS:
            bad("too deep or too many values")
        first = take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            if info not in (20, 21, 22):
                bad("a float, undefined or another simple value")
            return {20: False, 21: True, 22: None}[info]
        if info > 27:
            bad("an indefinite or reserved length")
        width = 1 << (info - 24) if info >= 24 else 0
        argument = int.from_bytes(take(width), "big") if width else info
        if width and argument < (24 if width == 1 else 1 << (4 * width)):
            bad("a head that is not the shortest")
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return take(argument)
        if major == 3:
            try:
                return take(argument).decode("utf-8")
            except UnicodeDecodeError:
                bad("malformed UTF-8")
        if major == 4:
            if argument > len(data) - at:  # every element takes a byte: refuse before a loop of 2^64 turns
                bad("truncated")
            return [item(depth + 1) for _ in range(argument)]
        if major == 6:
            bad("a tag")
        return mapping(argument, depth)

    def mapping(count: int, depth: int) -> dict[int | str, Any]:
        result: dict[int | str, Any] = {}
        last = b""
        for _ in range(count):
            start = at
            key = item(depth + 1)
            if type(key) not in (int, str):
                bad("a map key that is neither an integer nor a text")
            if data[start:at] <= last:
                bad("map keys out of order or twice")
            last = data[start:at]
            result[key] = item(depth + 1)
        return result

    value = item(1)
    if at != len(data):
        bad("trailing bytes")
    return value


# --- Tables (sections 3, 4, 5 and 8): a kind says what is wrong with a value, or "" ----------------------------------

Kind = Callable[[Any], str]


def data(low: int, high: int | None = None) -> Kind:
    """Bytes of `low` to `high` in length, or of exactly `low`."""
    top = low if high is None else high
    return lambda v: "" if type(v) is bytes and low <= len(v) <= top else f"not {low} to {top} bytes"


def text(high: int = 512, low: int = 0) -> Kind:
    """A text of `low` to `high` bytes of UTF-8."""
    return lambda v: "" if type(v) is str and low <= len(v.encode()) <= high else f"not a text of {low} to {high} bytes"


def one_of(*allowed: Any) -> Kind:
    return lambda v: "" if any(type(v) is type(a) and v == a for a in allowed) else f"not one of {allowed}"


def many(high: int, kind: Kind) -> Kind:
    def check(v: Any) -> str:
        if type(v) is not list or len(v) > high:
            return f"not a list of at most {high}"
        return next((f"element {i}: {why}" for i, e in enumerate(v) if (why := kind(e))), "")

    return check


def closed(must: Mapping[Any, Kind], may: Mapping[Any, Kind] | None = None) -> Kind:
    kinds = {**must, **(may or {})}

    def check(v: Any) -> str:
        if type(v) is not dict:
            return "not a map"
        for key in kinds | v:
            if key not in kinds:
                return f"unknown key {str(key)[:40]!r}"
            if key in v and (why := kinds[key](v[key])):
                return f"{key}: {why}"
            if key not in v and key in must:
                return f"{key}: missing"
        return ""

    return check


def integer(v: Any) -> str:
    return "" if type(v) is int and -MAX_SAFE < v < MAX_SAFE else "not an integer below 2^53"


def uint(v: Any) -> str:
    return integer(v) or ("" if v >= 0 else "negative")


def open_map(v: Any) -> str:
    """Section 1, an open value. Values lie at most 6 levels below the map; it, its entries and theirs are counted."""
    if type(v) is not dict:
        return "not a map"
    level, count = [v], 1
    for _ in range(MAX_OPEN_DEPTH):
        below: list[Any] = []
        for container in level:
            inside = container.values() if type(container) is dict else container
            if type(container) is dict and any(type(key) is not str for key in container):
                return "an open map with a key that is not a text"
            count += len(inside)
            for e in inside:
                if type(e) in (dict, list):
                    below.append(e)
                elif type(e) not in (str, bool, bytes) and integer(e):
                    return "an open map with a value that is not allowed"
        if count > MAX_OPEN_ITEMS:
            return "an open map with too many items"
        level = below
    return "an open map that is too deep" if any(level) else ""


TEXT, HASH, ID = text(), data(32), data(16)
PUBLIC_KEY = data(32, 1312)

EXECUTION = closed(
    {
        265: one_of("urn:assay:execution:1"), 7: ID, -65540: HASH, -65541: HASH, -65810: one_of("vanilla", "tee", "zkml"),
        -65811: one_of("onnx", "chat", "completion", "embedding", "step", "decision"), -65812: uint, -65817: uint,
        -65818: uint, -65822: one_of("stop", "length", "tool_calls", "content_filter", "incomplete", "error"),
    },
    {
        10: data(8, 64), -65537: TEXT, -65538: TEXT, -65539: HASH, -65549: one_of("sha256-manifest", "sha256-single"),
        -65542: HASH, -65543: open_map, -65544: TEXT, -65547: uint, -65548: one_of("production", "evaluation"),
        -65813: closed({1: TEXT, 2: one_of("signature", "token", "mutual-tls", "payment")}, {3: TEXT, 4: HASH}),
        -65814: one_of("hashed-at-load", "measured", "declared"), -65815: open_map, -65816: open_map,
        -65819: closed({1: HASH, 2: uint}), -65820: HASH, -65821: open_map, -65823: uint,
        -65824: closed({1: TEXT}, {2: TEXT, 3: HASH, 4: open_map}), -65825: HASH, -65826: many(64, HASH),
        -65827: closed({1: TEXT, 2: TEXT, 3: uint}, {4: HASH}), -65899: open_map,
    },
)  # fmt: skip
SERVICE = closed(
    {
        265: one_of("urn:assay:service:1"), 7: ID, -65830: HASH, -65812: uint,
        -65836: one_of("none", "client-encrypted", "server-encrypted"),
    },
    {
        -65831: closed({1: TEXT}, {2: TEXT, 3: many(64, closed({1: TEXT, 2: TEXT}, {3: integer})), 4: open_map}),
        -65832: closed({1: HASH, 2: HASH, 3: one_of("allow", "deny")}),
        -65833: closed({1: TEXT, 2: TEXT, 3: TEXT}, {4: TEXT, 5: many(8, closed({1: TEXT, 2: TEXT, 3: TEXT}))}),
        -65834: closed(dict.fromkeys(range(1, 8), TEXT), {8: TEXT}), -65835: closed({1: TEXT, 2: TEXT}, {3: TEXT}),
        -65837: open_map, -65899: open_map,
    },
)  # fmt: skip
SUPPLEMENT_KINDS = ("proof", "settlement", "refund", "audit", "dispute", "revocation", "attestation", "anchor", "erasure")
SUPPLEMENT = closed(
    {265: one_of("urn:assay:supplement:1"), 7: ID, -65840: HASH, -65841: one_of(*SUPPLEMENT_KINDS), -65812: uint, -65842: open_map},
    {-65843: many(64, HASH), -65899: open_map},
)
KEYSET = closed(
    {
        265: one_of("urn:assay:keyset:1"), 1: TEXT, 2: one_of("node", "gateway"), 3: ID, 4: uint,
        5: many(16, closed({1: data(8), 2: integer, 3: PUBLIC_KEY, 4: one_of("execution", "service", "supplement", "release")})),
        14: uint, 15: uint, 16: closed({1: integer, 2: PUBLIC_KEY}),
    },
    {
        6: many(16, closed({1: data(8), 2: TEXT, 3: data(32, 2048)})), 7: many(16, closed({1: HASH}, {2: TEXT})),
        8: many(16, closed({1: TEXT, 2: TEXT})), 9: HASH, 10: many(1024, closed({1: TEXT, 2: HASH})), 11: many(16, HASH),
        12: HASH, 13: HASH, 17: open_map,
    },
)  # fmt: skip
# A release has a table too (section 4.4), but a bundle holds none, so a verifier of bundles has no use for it.
TABLES = {"execution": EXECUTION, "service": SERVICE, "supplement": SUPPLEMENT, "keyset": KEYSET}
CONTENT_TYPES = {f"application/vnd.assay.{k}.v1+cbor": k for k in (*TABLES, "release")}

PROTECTED = closed(
    {
        1: one_of(ED25519, P256, ML_DSA_44, BATCH), 4: data(8), 15: closed({1: text(512, 1), 2: text(512, 1), 6: uint}),
        258: one_of(-16), 259: one_of(*CONTENT_TYPES), -65800: lambda v: "" if type(v) is list and len(v) == 3 else "not three values",
    },
)  # fmt: skip
BLOB, SIDE, PATH = data(0, MAX_BUNDLE), one_of("request", "response"), many(63, HASH)
OPENED = closed({"name": text(MAX_BUNDLE), "value": BLOB})
BUNDLE = closed(
    {
        "profile": one_of("urn:assay:bundle:1"),
        "statements": many(MAX_LISTED, closed({"envelope": data(0, MAX_ENVELOPE), "claims": data(0, MAX_CLAIMS)})),
        "keysets": many(MAX_LISTED, closed({"envelope": data(0, MAX_ENVELOPE), "document": data(0, MAX_CLAIMS)})),
    },
    {
        "log": many(MAX_LISTED, closed({"entry": BLOB, "index": uint, "path": PATH, "checkpoint": uint})),
        "checkpoints": many(MAX_LISTED, text(262_144)),
        "evidence": many(MAX_LISTED, closed({"type": text(256), "data": BLOB})),
        "anchors": many(16, open_map),
        "openings": many(2, closed({"side": SIDE, "salt": HASH, "fields": many(MAX_OPENED_FIELDS, OPENED)})),
        "fields": many(
            2 * MAX_OPENED_FIELDS,
            closed({"side": SIDE, "name": text(MAX_BUNDLE), "salt": HASH, "value": BLOB, "index": uint, "path": PATH}),
        ),
    },
)


def parse(kind: Kind, value: Any, code: str, what: str) -> Any:
    if why := kind(value):
        raise Refused(code, f"{what}: {why}")
    return value


# --- Hashes and signatures (sections 3, 6 and 7) --------------------------------------------------------------------


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """RFC 6962 section 2.1 over leaf hashes: complete subtrees are joined as they fill, the rest from the right."""
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        stack.append((1, leaf))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            (size, right), (_, left) = stack.pop(), stack.pop()
            stack.append((2 * size, digest(b"\x01", left, right)))
    if not stack:
        return digest()
    root = stack.pop()[1]
    while stack:
        root = digest(b"\x01", stack.pop()[1], root)
    return root


def root_from_path(leaf: bytes, index: int, size: int, path: Iterable[bytes]) -> bytes | None:
    """RFC 9162 section 2.1.3.2; None when the path has another length than `index` and `size` ask for."""
    if index >= size:
        return None
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = digest(b"\x01", sibling, root)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            root = digest(b"\x01", root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def signature_holds(algorithm: int, public_key: bytes, signature: bytes, message: bytes) -> bool:
    """One raw signature of section 3, batch excepted. Raises AlgorithmMissing where the installation lacks ML-DSA-44."""
    try:
        if algorithm == ED25519:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        elif algorithm == P256:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            if len(signature) != 64 or s > P256_ORDER // 2:
                return False
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        elif MLDSA44PublicKey is None:
            raise AlgorithmMissing
        else:
            MLDSA44PublicKey.from_public_bytes(public_key).verify(signature, message)
    except UnsupportedAlgorithm as cause:
        raise AlgorithmMissing from cause
    except (InvalidSignature, ValueError):
        return False
    return True


def batch_holds(public_key: bytes, signature: bytes, statement_digest: bytes) -> bool:
    """Section 3, Batch: one Ed25519 signature over the root of a tree of statement digests."""
    try:
        proof = decode_cbor(signature)
    except Refused:
        return False
    if type(proof) is not list or len(proof) != 4:
        return False
    size, index, path, inner = proof
    if uint(size) or uint(index) or many(MAX_BATCH_PATH, HASH)(path) or data(64)(inner) or size > MAX_BATCH:
        return False
    root = root_from_path(digest(b"\x00", statement_digest), index, size, path)
    return root is not None and signature_holds(ED25519, public_key, inner, b"assay/batch/1\x00" + size.to_bytes(4, "big") + root)


# --- Statements and the bundle (sections 3, 4, 5 and 8) -------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """A parsed envelope and its claims; `claims` is None when they do not hash to the payload and cannot be read."""

    envelope: bytes
    kind: str
    algorithm: int
    kid: bytes
    issuer: str
    subject: str
    time_s: int
    keyset: bytes
    seq: int
    signature: bytes
    digest: bytes
    to_be_signed: bytes
    mismatch: bool
    claims: Any

    def signed_by(self, algorithm: int, public_key: bytes) -> bool:
        if self.algorithm == BATCH:
            return batch_holds(public_key, self.signature, self.digest)
        return signature_holds(algorithm, public_key, self.signature, self.to_be_signed)


def byte_string(value: bytes) -> bytes:
    """The shortest CBOR encoding of a byte string below 64 KiB."""
    size = len(value)
    return (bytes([0x40 | size]) if size < 24 else b"\x58" + bytes([size]) if size < 256 else b"\x59" + size.to_bytes(2, "big")) + value


def parse_statement(envelope: bytes, claims: bytes) -> Statement:
    """Section 3. Refuses with `cbor_invalid`, `statement_invalid` or, for the tables of section 4 and 5, `claims_invalid`."""
    tagged = envelope[:1] == b"\xd2"
    parts = decode_cbor(envelope[1:] if tagged else envelope)
    if not tagged or type(parts) is not list or [type(p) for p in parts] != [bytes, dict, bytes, bytes]:
        raise Refused("statement_invalid", "the envelope is not a tagged COSE_Sign1")
    protected, unprotected, payload, signature = parts
    if unprotected or len(payload) != 32:
        raise Refused("statement_invalid", "the envelope has an unprotected header or a payload that is no digest")
    header = parse(PROTECTED, decode_cbor(protected), "statement_invalid", "protected header")
    keyset, seq, prev = header[-65800]
    if HASH(keyset) or uint(seq) or type(prev) is not bytes or len(prev) != (32 if seq else 0):
        raise Refused("statement_invalid", "the chain position is not [keyset, seq, prev]")
    kind, cwt = CONTENT_TYPES[header[259]], header[15]
    mismatch, value = digest(claims) != payload, None
    if kind in TABLES:
        try:
            value = parse(TABLES[kind], decode_cbor(claims), "claims_invalid", kind)
            if kind == "execution":
                check_execution(value)
            if kind == "service":
                check_service(value)
        except Refused:
            # Claims of something else are a mismatch (section 8), whatever they look like.
            if not mismatch:
                raise
            value = None
    signed = b"\x84\x6aSignature1" + byte_string(protected) + b"\x40" + byte_string(payload)
    return Statement(
        envelope, kind, header[1], header[4], cwt[1], cwt[2], cwt[6], keyset, seq, signature, digest(signed), signed, mismatch, value
    )


def check_execution(claims: Mapping[int, Any]) -> None:
    """Section 4.1, beyond the table."""
    needs = {"tee": [-65542], "zkml": [-65825]}.get(claims[-65810], [])
    needs += {"onnx": [-65537, -65539], "step": [-65827]}.get(claims[-65811], [])
    if any(key in claims for key in (-65539, -65549, -65814)):
        needs += [-65539, -65549, -65814]
    if missing := [key for key in needs if key not in claims]:
        raise Refused("claims_invalid", f"execution: {missing} are missing for its mode, kind or model digest")


def check_service(claims: Mapping[int, Any]) -> None:
    """Section 4.2, beyond the table: the parts of a price are its amount together."""
    price = claims.get(-65833, {})
    if 5 not in price:
        return
    amounts = [price[1], *(part[1] for part in price[5])]
    if len(amounts) < 3 or not all(re.fullmatch(r"0|[1-9][0-9]{0,77}", amount) for amount in amounts):
        raise Refused("claims_invalid", "service: the price has fewer than two parts, or an amount that is no number")
    whole, *parts = map(int, amounts)
    if whole != sum(parts):
        raise Refused("claims_invalid", "service: the parts of the price are not its amount together")


@dataclass(frozen=True)
class Bundle:
    raw: Mapping[str, Any]
    statements: list[Statement]
    keysets: list[tuple[bytes, Statement]]  # each with K, the digest of its document

    def part(self, key: str) -> list[Any]:
        return list(self.raw.get(key, []))


def parse_bundle(encoded: bytes) -> Bundle:
    """Section 8, the check `format`."""
    if len(encoded) > MAX_BUNDLE:
        raise Refused("bundle_too_large", "the bundle is above 64 MiB")
    raw = parse(BUNDLE, decode_cbor(encoded), "claims_invalid", "bundle")
    if any(sum(f["side"] == side for f in raw.get("fields", [])) > MAX_OPENED_FIELDS for side in ("request", "response")):
        raise Refused("claims_invalid", "bundle: too many opened fields on one side")
    statements = [parse_statement(s["envelope"], s["claims"]) for s in raw["statements"]]
    kinds = [s.kind for s in statements]
    if "execution" not in kinds:
        raise Refused("execution_missing", "the bundle has no execution statement")
    if len({s.digest for s in statements}) != len(statements):
        raise Refused("statement_duplicate", "a statement is there twice")
    rest = kinds[2:] if kinds[1:2] == ["service"] else kinds[1:]
    if kinds[0] != "execution" or any(kind != "supplement" for kind in rest):
        raise Refused("bundle_order", "not an execution, at most one service statement, and supplements")
    keysets = []
    for k in raw["keysets"]:
        statement = parse_statement(k["envelope"], k["document"])
        if statement.kind != "keyset":
            raise Refused("statement_invalid", "a keyset's envelope holds another kind of statement")
        keysets.append((digest(b"assay/keyset/1\x00", k["document"]), statement))
    documents = [k["document"] for k in raw["keysets"]]
    opened = [(f["side"], f["name"]) for f in raw.get("fields", [])]
    # A document that is not the signed one is a fault of its own, reported under keyset.
    sound = not any(statement.mismatch for _, statement in keysets)
    if sound and (len(set(documents)) != len(documents) or len(set(opened)) != len(opened)):
        raise Refused("part_duplicate", "a keyset or an opened field is there twice")
    return Bundle(raw, statements, keysets)


# --- Trust and policy: the verifier's own files (section 9) ---------------------------------------------------------


@dataclass(frozen=True)
class NoteKey:
    """A C2SP verifier key; `kind` is the signature type: 1 Ed25519, 4 Ed25519 cosignature, 6 ML-DSA-44 cosignature."""

    name: str
    key_id: bytes
    kind: int
    public_key: bytes


@dataclass(frozen=True)
class Log:
    keys: tuple[NoteKey, ...]
    witnesses: tuple[NoteKey, ...]
    quorum: int
    ignore_unknown: bool


@dataclass(frozen=True)
class Trust:
    identities: tuple[tuple[int, bytes, str | None, str], ...] = ()  # algorithm, key, subject, label
    keysets: frozenset[bytes] = frozenset()
    logs: Mapping[str, Log] = field(default_factory=dict)
    revoked: tuple[tuple[bytes, int], ...] = ()
    chains: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    modes: frozenset[str] | None = None
    model_digest: bytes | None = None
    client_nonce: bytes | None = None
    max_age_ms: int | None = None
    labels: frozenset[str] | None = None
    require: frozenset[str] = frozenset()


def strict_base64(value: str) -> bytes:
    """RFC 4648 section 4 with padding and no stray bits. Raises ValueError."""
    raw = base64.b64decode(value.encode("ascii"), validate=True)
    if base64.b64encode(raw).decode() != value:
        raise ValueError("base64 that is not canonical")
    return raw


def note_name(name: str) -> bool:
    return name != "" and "+" not in name and not any(c.isspace() for c in name)


def parse_vkey(vkey: str, kinds: tuple[int, ...]) -> NoteKey:
    """C2SP signed-note, "Verifier keys". Raises ValueError."""
    name, key_id, material = vkey.split("+", 2)
    raw = strict_base64(material)
    kind, public_key = raw[0] if raw else 0, raw[1:]
    expected = digest(name.encode(), b"\n", raw)[:4]
    if not note_name(name) or kind not in kinds or len(public_key) != (1312 if kind == 6 else 32) or key_id != expected.hex():
        raise ValueError(f"not a verifier key of type {kinds}: {vkey[:80]}")
    return NoteKey(name, expected, kind, public_key)


def members(value: Any, must: set[str], may: set[str], what: str) -> dict[str, Any]:
    if type(value) is not dict or not must <= set(value) <= must | may:
        raise ValueError(f"{what} must have {sorted(must)} and may have {sorted(may)}")
    return value


def of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise ValueError(f"{str(value)[:40]!r} is not a valid {kind.__name__}")
    return value


def parse_trust(value: Any) -> Trust:
    """Section 9, from parsed JSON. `roots` serve a check that this verifier does not make. Raises TrustInvalid."""
    try:
        lists = {"identities", "keysets", "logs", "revoked", "roots", "chains"}
        trust = dict.fromkeys(lists, ()) | members(value, {"version"}, lists, "trust")
        if any(type(value.get(name, [])) is not list for name in lists):
            raise ValueError("a part of the trust is not a list")
        if of_type(trust["version"], int) != 1:
            raise ValueError("trust is not of version 1")
        identities = []
        for i in trust["identities"]:
            members(i, {"algorithm", "publicKey", "label"}, {"subject"}, "an identity")
            subject = of_type(i["subject"], str) if "subject" in i else None
            key = strict_base64(i["publicKey"])
            identities.append((ALGORITHM_NAMES[i["algorithm"]], key, subject, of_type(i["label"], str)))
        logs: dict[str, Log] = {}
        for entry in trust["logs"]:
            members(entry, {"origin", "keys"}, {"witnesses", "quorum", "ignoreUnknownSignatures"}, "a log")
            keys = tuple(parse_vkey(k, (1, 4, 6)) for k in entry["keys"])
            witnesses = tuple(parse_vkey(k, (4, 6)) for k in entry.get("witnesses", []))
            if not keys or of_type(entry["origin"], str) in logs:
                raise ValueError("a log without a key, or twice")
            ignore = of_type(entry.get("ignoreUnknownSignatures", False), bool)
            logs[entry["origin"]] = Log(keys, witnesses, of_type(entry.get("quorum", 0), int), ignore)
        revoked = []
        for r in trust["revoked"]:
            members(r, {"key", "sinceMs", "reason"}, set(), "a revocation")
            revoked.append((bytes.fromhex(r["key"]), of_type(r["sinceMs"], int)))
        pinned = frozenset(bytes.fromhex(k) for k in trust["keysets"])
        if any(len(k) != 32 for k in pinned):
            raise ValueError("a pinned keyset is not the hexadecimal of 32 bytes")
        chains: dict[str, Mapping[str, str]] = {}
        for chain in trust["chains"]:
            members(chain, {"chain"}, {"contracts"}, "a chain")
            contracts = {of_type(name, str): of_type(at, str) for name, at in chain.get("contracts", {}).items()}
            chains.setdefault(of_type(chain["chain"], str), contracts)
        return Trust(tuple(identities), pinned, logs, tuple(revoked), chains)
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise TrustInvalid(f"trust: {cause}") from cause


def parse_policy(value: Any) -> Policy:
    """The policy as the vectors write it; every member may be left out. Raises TrustInvalid."""
    try:
        p = members(value, set(), {"modes", "modelDigest", "clientNonce", "maxAgeMs", "labels", "require"}, "policy")
        require = frozenset(of_type(p.get("require", []), list))
        if not require <= set(CHECKS):
            raise ValueError(f"policy requires a check that does not exist: {sorted(require - set(CHECKS))}")
        return Policy(
            frozenset(of_type(p["modes"], list)) if "modes" in p else None,
            bytes.fromhex(p["modelDigest"]) if "modelDigest" in p else None,
            bytes.fromhex(p["clientNonce"]) if "clientNonce" in p else None,
            of_type(p["maxAgeMs"], int) if "maxAgeMs" in p else None,
            frozenset(of_type(p["labels"], list)) if "labels" in p else None,
            require,
        )
    except (ValueError, TypeError) as cause:
        raise TrustInvalid(f"policy: {cause}") from cause


# --- Checkpoints (C2SP tlog-checkpoint and tlog-cosignature) --------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes
    body: str
    lines: list[tuple[str, bytes, bytes]]  # key name, key id, signature


def parse_checkpoint(note: str) -> Checkpoint:
    """A signed note whose text is a checkpoint. Refuses with `checkpoint_invalid`."""
    try:
        cut = note.rindex("\n\n")
        body, signatures = note[: cut + 1], note[cut + 2 :]
        if any(c < " " and c != "\n" for c in note) or not signatures.endswith("\n"):
            raise ValueError("control characters, or no signature lines")
        lines = []
        for line in signatures[:-1].split("\n"):
            dash, name, encoded = line.split(" ")
            raw = strict_base64(encoded)
            if dash != "\u2014" or not note_name(name) or len(raw) < 5:
                raise ValueError("a malformed signature line")
            lines.append((name, raw[:4], raw[4:]))
        head = body[:-1].split("\n")
        origin, size, root = head[0], head[1], strict_base64(head[2])
        decimal = size.isascii() and size.isdigit() and len(size) <= 19 and str(int(size)) == size
        if "" in head or not decimal or len(root) != 32:
            raise ValueError("a malformed origin, size, root or extension line")
        return Checkpoint(origin, int(size), root, body, lines)
    except (ValueError, IndexError) as cause:
        raise Refused("checkpoint_invalid", f"not a checkpoint: {cause}") from None


def line_holds(key: NoteKey, signature: bytes, checkpoint: Checkpoint) -> bool:
    """One signature line by a known key. Raises AlgorithmMissing."""
    if key.kind == 1:
        return signature_holds(ED25519, key.public_key, signature, checkpoint.body.encode())
    stamp, raw = signature[:8], signature[8:]
    seconds = int.from_bytes(stamp, "big")
    if len(stamp) != 8 or seconds >= 2**63:
        return False
    if key.kind == 4:
        return signature_holds(ED25519, key.public_key, raw, f"cosignature/v1\ntime {seconds}\n{checkpoint.body}".encode())
    name, origin = key.name.encode(), checkpoint.origin.encode()
    if max(len(name), len(origin)) > 255:
        return False
    extent = (0).to_bytes(8, "big") + checkpoint.size.to_bytes(8, "big")
    message = b"subtree/v1\n\x00" + bytes([len(name)]) + name + stamp + bytes([len(origin)]) + origin + extent + checkpoint.root
    return signature_holds(ML_DSA_44, key.public_key, raw, message)


# --- The checks of section 8 ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    check: str
    result: str  # pass, fail, inconclusive or absent
    code: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    status: str  # verified, failed or inconclusive
    code: str
    rows: tuple[Row, ...]
    facts: Mapping[str, Any]  # what the receipt says of itself; worth nothing unless verified


class Findings:
    """What each check found; a check with no finding passed if it was made, and is absent otherwise."""

    def __init__(self) -> None:
        self.found: list[Row] = []
        self.made: set[str] = set()
        self.labels: list[str] = []  # of whoever vouched for the keysets

    def fail(self, check: str, code: str, detail: str) -> None:
        self.found.append(Row(check, "fail", code, detail))

    def doubt(self, check: str, code: str, detail: str) -> None:
        self.found.append(Row(check, "inconclusive", code, detail))

    def judge(self, check: str, result: assay_chain.Result | None) -> None:
        if result is not None:
            self.found.append(Row(check, *result))

    def row(self, check: str) -> Row:
        mine = [f for f in self.found if f.check == check]
        default = Row(check, "pass", "", "") if check in self.made else Row(check, "absent", "", "")
        return next((f for f in mine if f.result == "fail"), mine[0] if mine else default)

    def verdict(self, required: frozenset[str], facts: Mapping[str, Any]) -> Verdict:
        rows = tuple(self.row(check) for check in CHECKS)
        failing = [r for r in rows if r.result == "fail"]
        open_rows = [r for r in rows if r.check in required and r.result != "pass"]
        status = "failed" if failing else "inconclusive" if open_rows else "verified"
        first = (failing or open_rows or [Row("", "", "verified", "")])[0]
        return Verdict(status, first.code or ABSENT_CODES.get(first.check, f"{first.check}_absent"), rows, facts)


def verify(
    encoded: bytes,
    trust: Trust,
    policy: Policy,
    now_ms: int,
    chain: assay_chain.Chain | None = None,
    blobs: tuple[bytes, ...] = (),
) -> Verdict:
    """The verdict on one bundle (section 8) at `now_ms`, milliseconds since 1970. Never raises for what is in the bundle.

    With a `chain` the rows `payment` and `anchor` have to pass where the receipt states something of the kind: who names a
    chain wants to know what is on it. `blobs` are those of the anchored batch: anchors are held to each of them.
    """
    out = Findings()
    out.made = {"format"}
    try:
        bundle = parse_bundle(bytes(encoded))
    except Refused as refused:
        out.fail("format", refused.code, str(refused))
        return out.verdict(ALWAYS_REQUIRED | policy.require, {})
    mismatched = [s for s in bundle.statements if s.mismatch]
    for s in mismatched:
        out.fail("signature", "claims_mismatch", f"the claims of the {s.kind} statement are not the ones that were signed")
    if mismatched:  # Nothing past this can be read as what was signed, and no later check outranks this one's code.
        return out.verdict(ALWAYS_REQUIRED | policy.require, {})
    execution = bundle.statements[0].claims
    check_relations(bundle, out)
    for s in bundle.statements:
        check_signature(s, bundle, out)
    log_time_ms = check_log(bundle, trust, out)
    for k, statement in bundle.keysets:
        check_keyset(k, statement, trust, log_time_ms, out)
    check_validity(bundle, out)
    check_deferred(bundle, out)
    paid = paid_of(bundle)
    out.judge("anchor", assay_chain.anchor_row(paid, chain, blobs))
    out.judge("payment", assay_chain.payment_row(paid, chain))
    check_commitments(bundle, out)
    check_policy(execution, policy, now_ms, out)
    out.made |= ALWAYS_REQUIRED
    required = ALWAYS_REQUIRED | policy.require | {"tee": {"attestation"}, "zkml": {"proof"}}.get(execution[-65810], set())
    if chain is not None:
        required |= {row.check for row in out.found if row.check in ("anchor", "payment")}
    return out.verdict(required, facts_of(execution, log_time_ms))


def check_relations(bundle: Bundle, out: Findings) -> None:
    """Section 8, signature: that the statements speak of each other, before who signed them."""
    first = bundle.statements[0]
    receipt_id = first.claims[7]
    earlier: set[bytes] = set()
    for s in bundle.statements:
        if s.kind == "service" and s.claims[7] != receipt_id:
            out.fail("signature", "receipt_id_mismatch", "the service statement is of another receipt")
        if s.kind == "service" and s.claims[-65830] != first.digest:
            out.fail("signature", "execution_digest_mismatch", "the service statement is for another execution")
        if s.kind == "supplement" and s.claims[-65840] not in earlier:
            out.fail("signature", "supplement_unrelated", "a supplement refers to no statement before it")
        if s.subject != f"urn:assay:receipt:{receipt_id.hex()}":
            out.fail("signature", "subject_mismatch", f"the {s.kind} statement has another subject")
        if s.time_s != s.claims[-65812] // 1000:
            out.fail("signature", "time_mismatch", f"the {s.kind} statement has two times")
        earlier.add(s.digest)


def check_signature(s: Statement, bundle: Bundle, out: Findings) -> None:
    """Section 8, signature: one statement under the keyset that its header names."""
    document = next((k.claims for digest_, k in bundle.keysets if digest_ == s.keyset and k.claims is not None), None)
    if document is None:
        return out.doubt("signature", "keyset_missing", f"the keyset of the {s.kind} statement is not in the bundle")
    if document[1] != s.issuer:
        out.fail("signature", "issuer_mismatch", f"the issuer of the {s.kind} statement is not its keyset's subject")
    if document[2] != {"execution": "node", "service": "gateway"}.get(s.kind, document[2]):
        out.fail("signature", "role_mismatch", f"a {document[2]} cannot sign the {s.kind} statement")
    algorithm = ED25519 if s.algorithm == BATCH else s.algorithm
    key = next((k for k in document[5] if (k[1], k[2], k[4]) == (s.kid, algorithm, s.kind)), None)
    if key is None:
        return out.fail("signature", "key_not_in_keyset", f"no key of the keyset may sign the {s.kind} statement")
    try:
        if not s.signed_by(algorithm, key[3]):
            out.fail("signature", "signature_invalid", f"the signature of the {s.kind} statement does not verify")
    except AlgorithmMissing:
        out.doubt("signature", "algorithm_unsupported", f"no ML-DSA-44 here for the {s.kind} statement")


def check_keyset(k: bytes, s: Statement, trust: Trust, log_time_ms: int | None, out: Findings) -> None:
    """Sections 5 and 8, keyset: one keyset of the bundle, used or not."""
    if s.mismatch:
        return out.fail("keyset", "claims_mismatch", "a keyset document is not the one that was signed")
    document = s.claims
    algorithm, identity = document[16][1], document[16][2]
    keys = [(key[2], key[3]) for key in document[5]]
    if not keys or document[15] <= document[14]:
        out.fail("keyset", "keyset_invalid", "a keyset has no key or no time of validity")
    if any(len(public) not in PUBLIC_KEY_LENGTHS.get(a, ()) for a, public in [*keys, (algorithm, identity)]):
        return out.fail("keyset", "keyset_invalid", "a keyset has a key of no known algorithm")
    if any(key[1] != digest(key[3])[:8] for key in document[5]) or len({p for _, p in keys} | {identity}) != len(keys) + 1:
        out.fail("keyset", "keyset_invalid", "a keyset has a key under another id, or twice")
    header = (s.algorithm, s.kid, s.keyset, s.issuer, s.subject, s.seq)
    if header != (algorithm, digest(identity)[:8], k, document[1], document[1], document[4]):
        out.fail("keyset", "keyset_statement_mismatch", "the header of a keyset statement is not its document's")
    if (13 in document) != (document[4] != 0):
        out.fail("keyset", "keyset_chain_broken", "previousKeyset must be absent at the first boot and there later")
    try:
        if s.algorithm == BATCH or not s.signed_by(algorithm, identity):
            out.fail("keyset", "keyset_signature_invalid", "the identity key did not sign the keyset")
    except AlgorithmMissing:
        out.doubt("keyset", "algorithm_unsupported", "no ML-DSA-44 here for the keyset's signature")
    for named, since_ms in trust.revoked:
        if named in (k, identity) and (log_time_ms is None or log_time_ms >= since_ms):
            out.fail("keyset", "keyset_revoked", f"the keyset of {document[1]} was revoked before it was logged")
    vouched = (label for a, p, who, label in trust.identities if (a, p) == (algorithm, identity) and who in (None, document[1]))
    label = next(vouched, "pinned" if k in trust.keysets else None)
    if label is None:
        return out.doubt("keyset", "keyset_not_trusted", f"nothing vouches for the keyset of {document[1]}")
    out.labels.append(label)


def check_validity(bundle: Bundle, out: Findings) -> None:
    """Section 8, keyset: each statement's time is within its keyset's validity, to the second, both ends included."""
    documents = {k: s.claims for k, s in bundle.keysets if s.claims is not None}
    for s in bundle.statements:
        document = documents.get(s.keyset)
        if document is not None and not document[14] // 1000 <= s.time_s <= document[15] // 1000:
            out.fail("keyset", "keyset_expired", f"the {s.kind} statement was issued outside its keyset's validity")


def check_deferred(bundle: Bundle, out: Findings) -> None:
    """Attestation and proof: stated or absent, and never checked by this verifier."""
    mode = bundle.statements[0].claims[-65810]
    supplements = {s.claims[-65841] for s in bundle.statements if s.kind == "supplement"}
    if mode == "tee":
        out.doubt("attestation", "attestation_unchecked", "this verifier does not check attestation")
    if mode == "zkml" and "proof" not in supplements:
        out.doubt("proof", "proof_pending", "the proof has not arrived")
    elif mode == "zkml":
        out.doubt("proof", "proof_unchecked", "this verifier does not check proofs")


def paid_of(bundle: Bundle) -> assay_chain.Paid:
    """What section 8.1 looks at. The log proofs of the execution say where in the log it is, and under which roots."""
    execution = bundle.statements[0]
    service = next((s for s in bundle.statements if s.kind == "service"), None)
    supplements = [s for s in bundle.statements if s.kind == "supplement"]
    notes, proofs, roots = bundle.part("checkpoints"), [], []
    for proof in bundle.part("log"):
        try:
            if execution.envelope not in parse_entry(proof["entry"]):
                continue
            proofs.append(proof["index"])
            checkpoint = parse_checkpoint(notes[proof["checkpoint"]])
            roots.append((checkpoint.size, checkpoint.root))
        except (Refused, IndexError):
            continue  # The row `log` says what is wrong with it.
    return assay_chain.Paid(
        execution.digest,
        service.digest if service else None,
        service.claims.get(-65834) if service else None,
        [(s.claims[-65840], s.claims[-65842]) for s in supplements if s.claims[-65841] == "settlement"],
        bundle.part("anchors"),
        any(s.claims[-65841] == "anchor" for s in supplements),
        proofs,
        roots,
    )


def field_leaf(salt: bytes, name: str, value: bytes) -> bytes:
    return digest(b"\x00", salt, name.encode(), b"\x00", value)


def field_salt(master: bytes, side: str, name: str) -> bytes:
    return digest(b"assay/salt/1\x00", master, b"\x01" if side == "request" else b"\x02", name.encode())


def name_valid(name: str) -> bool:
    return 1 <= len(name.encode()) <= 1024 and "\x00" not in name


def check_commitments(bundle: Bundle, out: Findings) -> None:
    """Sections 6 and 8, commitments: openings lead to the signed roots, evidence is named by a claim of its type."""
    execution = bundle.statements[0].claims
    signed = {"request": (execution[-65540], execution[-65817]), "response": (execution[-65541], execution[-65818])}
    openings, fields, evidence = bundle.part("openings"), bundle.part("fields"), bundle.part("evidence")
    if openings or fields or evidence:
        out.made.add("commitments")
    if len({o["side"] for o in openings}) != len(openings):
        out.fail("commitments", "opening_duplicate", "one side is opened twice")
    for o in openings:
        side = o["side"]
        names = [f["name"].encode() for f in o["fields"]]
        if any(a >= b for a, b in pairwise(names)) or not all(name_valid(f["name"]) for f in o["fields"]):
            out.fail("commitments", "opening_invalid", f"the {side}'s fields are out of order, twice or badly named")
        leaves = [field_leaf(field_salt(o["salt"], side, f["name"]), f["name"], f["value"]) for f in o["fields"]]
        if (merkle_root(leaves), len(leaves)) != signed[side]:
            out.fail("commitments", "commitment_mismatch", f"the {side} that is opened is not the one that was signed")
    for f in fields:
        root, count = signed[f["side"]]
        if not name_valid(f["name"]):
            out.fail("commitments", "opening_invalid", "an opened field is badly named")
        if root_from_path(field_leaf(f["salt"], f["name"], f["value"]), f["index"], count, f["path"]) != root:
            out.fail("commitments", "commitment_mismatch", f"a field of the {f['side']} is not the one that was signed")
    named = evidence_named(bundle.statements)
    if any((e["type"], digest(e["data"])) not in named for e in evidence):
        out.fail("commitments", "evidence_unreferenced", "no claim names a blob of evidence under its type")
    if len({e["data"] for e in evidence}) != len(evidence):
        out.fail("commitments", "evidence_duplicate", "one blob of evidence is there twice")


def evidence_named(statements: list[Statement]) -> set[tuple[str, bytes | None]]:
    execution = statements[0].claims
    named = {
        ("attestation", execution.get(-65542)),
        ("proof-statement", execution.get(-65825)),
        ("preprocessing", execution.get(-65820)),
        ("model-manifest", execution.get(-65539)),
        ("workflow", execution.get(-65827, {}).get(4)),
        ("delegation", execution.get(-65813, {}).get(4)),
    }
    for s in statements:
        if s.kind == "service":
            policy = s.claims.get(-65832, {})
            named |= {("policy", policy.get(1)), ("decision", policy.get(2))}
        elif s.kind == "supplement":
            named |= {(s.claims[-65841], blob) for blob in s.claims.get(-65843, [])}
    return named


def parse_entry(encoded: bytes) -> list[bytes]:
    """Section 7: the 1 to 4 envelopes of a log entry. Refuses with `cbor_invalid` or `entry_invalid`."""
    entry = decode_cbor(encoded) if len(encoded) <= MAX_ENTRY else None
    if type(entry) is not list or not 2 <= len(entry) <= 5 or entry[0] != "urn:assay:entry:1":
        raise Refused("entry_invalid", "a log entry is too long or no list of a tag and 1 to 4 envelopes")
    if any(type(envelope) is not bytes for envelope in entry[1:]):
        raise Refused("entry_invalid", "a log entry holds something else than envelopes")
    return entry[1:]


def check_log(bundle: Bundle, trust: Trust, out: Findings) -> int | None:
    """Sections 7 and 8, log. Returns the log time in milliseconds, or None when no witness gave one."""
    notes = bundle.part("checkpoints")
    checkpoints: list[Checkpoint | None] = []
    times: list[int] = []
    for note in notes:
        try:
            checkpoint = parse_checkpoint(note)
            checkpoints.append(checkpoint)
            times += check_checkpoint(checkpoint, trust, out)
        except Refused as refused:
            checkpoints.append(None)
            out.fail("log", refused.code, str(refused))
    known = {s.envelope for s in bundle.statements} | {s.envelope for _, s in bundle.keysets}
    logged: set[bytes] = set()
    for proof in bundle.part("log"):
        try:
            envelopes = parse_entry(proof["entry"])
        except Refused as refused:
            out.fail("log", "entry_invalid", str(refused))
            continue
        if not known.issuperset(envelopes):
            out.fail("log", "entry_unrelated", "a log entry holds an envelope that the bundle does not")
        logged.update(envelopes)
        if proof["checkpoint"] >= len(checkpoints):
            out.fail("log", "checkpoint_missing", "a log entry has no checkpoint")
            continue
        used = checkpoints[proof["checkpoint"]]
        leaf = digest(b"\x00", proof["entry"])
        if used is not None and root_from_path(leaf, proof["index"], used.size, proof["path"]) != used.root:
            out.fail("log", "not_included", "a path does not lead from its entry to the checkpoint's root")
    if {p["checkpoint"] for p in bundle.part("log")} < set(range(len(notes))):
        out.fail("log", "checkpoint_unreferenced", "no log entry uses a checkpoint")
    places = [(p["index"], p["checkpoint"]) for p in bundle.part("log")]
    if len(set(places)) != len(places) or len(set(notes)) != len(notes):
        out.fail("log", "log_duplicate", "one log proof or checkpoint is there twice")
    if any(s.envelope not in logged for s in bundle.statements):
        out.doubt("log", "not_logged", "a statement is in no log entry")
    return 1000 * min(times) if times else None


def check_checkpoint(checkpoint: Checkpoint, trust: Trust, out: Findings) -> list[int]:
    """One checkpoint's signatures. Returns the times, in seconds, of the witness cosignatures that verified."""
    log = trust.logs.get(checkpoint.origin)
    if log is None:
        out.doubt("log", "log_not_trusted", f"the log {checkpoint.origin[:80]} is not trusted")
        return []
    keys = {(k.name, k.key_id): k for k in (*log.keys, *log.witnesses)}
    signed: set[NoteKey] = set()
    undecided: set[NoteKey] = set()
    times: list[int] = []
    for name, key_id, signature in checkpoint.lines:
        key = keys.get((name, key_id))
        if key is None:
            if not log.ignore_unknown:
                out.doubt("log", "signature_unknown", f"the trust does not name the key of {name[:80]}")
            continue
        try:
            if not line_holds(key, signature, checkpoint):
                out.fail("log", "checkpoint_invalid", f"the signature of {name} on the checkpoint does not verify")
                continue
            signed.add(key)
            # A cosigner that states no time writes zero (tlog-cosignature); that is not a time.
            if key in log.witnesses and (seconds := int.from_bytes(signature[:8], "big")):
                times.append(seconds)
        except AlgorithmMissing:
            undecided.add(key)
            out.doubt("log", "algorithm_unsupported", f"no ML-DSA-44 here for the signature of {name}")
    if not signed | undecided >= set(log.keys):
        out.fail("log", "log_signature_missing", "a key of the log has not signed the checkpoint")
    if len({k.name for k in (signed | undecided) & set(log.witnesses)}) < log.quorum:
        out.fail("log", "quorum_missing", "too few witnesses cosigned the checkpoint")
    return times


def check_policy(execution: Mapping[int, Any], policy: Policy, now_ms: int, out: Findings) -> None:
    """Section 8, policy: the execution against the verifier's clock and what it asks for."""
    issued_ms = execution[-65812]
    if issued_ms > now_ms + CLOCK_SKEW_MS:
        out.fail("policy", "issued_in_future", "the receipt was issued after the verifier's clock")
    if policy.modes is not None and execution[-65810] not in policy.modes:
        out.fail("policy", "mode_refused", f"mode {execution[-65810]} is not accepted")
    if policy.model_digest is not None and execution.get(-65539) != policy.model_digest:
        out.fail("policy", "model_refused", "another model ran")
    if policy.client_nonce is not None and execution.get(10) != policy.client_nonce:
        out.fail("policy", "nonce_mismatch", "the receipt does not have the client's nonce")
    if policy.max_age_ms is not None and now_ms - issued_ms > policy.max_age_ms:
        out.fail("policy", "too_old", "the receipt is older than accepted")
    if policy.labels is not None and (refused := [label for label in out.labels if label not in policy.labels]):
        out.fail("policy", "label_refused", f"keys labelled {refused[0][:80]} are not accepted")


def facts_of(execution: Mapping[int, Any], log_time_ms: int | None) -> dict[str, Any]:
    """What a person wants to see of a receipt; open maps are shown and not interpreted (section 10)."""
    shown = {7: "receiptId", -65810: "mode", -65811: "kind", -65537: "modelName", -65539: "modelDigest", -65812: "issuedAtMs"}
    shown |= {-65822: "finishReason", -65815: "runtime", -65816: "parameters", -65821: "usage", -65899: "extensions"}
    facts = {name: plain(execution[key]) for key, name in shown.items() if key in execution}
    return facts | ({} if log_time_ms is None else {"logTimeMs": log_time_ms})


def plain(value: Any) -> Any:
    if type(value) is dict:
        return {str(k): plain(v) for k, v in value.items()}
    if type(value) is list:
        return [plain(v) for v in value]
    return value.hex() if type(value) is bytes else value


# --- Command line ---------------------------------------------------------------------------------------------------


def read_json(path: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member is there twice")
        return dict(pairs)

    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file, object_pairs_hook=unique)
        except (ValueError, RecursionError) as cause:
            raise TrustInvalid(f"{path}: {cause}") from cause


def read_blob(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(assay_evm.MAX_BLOB + 1)


def main(arguments: list[str]) -> int:
    """Prints the verdict. Returns 0 verified, 10 failed, 11 inconclusive, 2 bad use, 1 anything else."""
    parser = argparse.ArgumentParser(prog="assay_verify", description="Verify an Assay receipt; without a network unless a chain is named.")
    parser.add_argument("file", help="the receipt, *.receipt")
    parser.add_argument("--trust", required=True, help="the trust file (JSON)")
    parser.add_argument("--policy", help="what to ask for (JSON): modes, modelDigest, clientNonce, maxAgeMs, labels, require")
    parser.add_argument("--now", type=int, metavar="MS", help="the verifier's clock, milliseconds since 1970")
    parser.add_argument("--chain", metavar="URL", help="ask the chain at this JSON-RPC address for payment and anchor")
    parser.add_argument("--batch", action="append", default=[], metavar="FILE", help="the blob of the anchored batch; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    given = parser.parse_args(arguments)
    try:
        trust = parse_trust(read_json(given.trust))
        policy = parse_policy(read_json(given.policy)) if given.policy else Policy()
        with open(given.file, "rb") as file:
            encoded = file.read(MAX_BUNDLE + 1)
        blobs = tuple(read_blob(path) for path in given.batch)
        chain = assay_chain.read_chain(given.chain, trust.chains) if given.chain else None
    except (TrustInvalid, assay_chain.ChainUnknown) as cause:
        parser.error(str(cause))
    except (OSError, UnicodeDecodeError, assay_chain.ChainFault) as cause:
        print(f"assay_verify: {cause}", file=sys.stderr)
        return 1
    now_ms = time.time_ns() // 1_000_000 if given.now is None else given.now
    verdict = verify(encoded, trust, policy, now_ms, chain, blobs)
    if given.json:
        checks = [vars(row) for row in verdict.rows]
        print(json.dumps({"status": verdict.status, "code": verdict.code, "checks": checks, "facts": verdict.facts}, indent=2))
    else:
        print(f"{verdict.status}: {verdict.code}")
        for row in verdict.rows:
            # Details may quote the receipt: ascii() keeps its control characters off the terminal.
            print(f"  {row.check:<12} {row.result:<13}{row.code} {ascii(row.detail)[1:-1]}".rstrip())
        print(f"  {json.dumps(verdict.facts)}")
    return EXIT_CODES[verdict.status]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
