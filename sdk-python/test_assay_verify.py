"""Tests of the second verifier: the published vectors, receipts made here with faults in them, and random damage.

Receipts are made by `Maker` with an encoder of its own, so nothing of the verifier is used to write what it reads, except
the constants that name algorithms.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
import tempfile
import unittest
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import assay_verify as av

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "receipts.json").read_text())["vectors"]
NOW_MS = 1_795_341_600_000

def judge(vector: dict[str, Any], receipt: bytes | None = None) -> av.Verdict:
    encoded = base64.b64decode(vector["receipt"]) if receipt is None else receipt
    return av.verify(encoded, av.parse_trust(vector["trust"]), av.parse_policy(vector["policy"]), vector["now"])


def named(name: str) -> dict[str, Any]:
    return next(v for v in VECTORS if v["name"] == name)


# --- A maker of receipts ---------------------------------------------------------------------------------------------


def h(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def cbor(value: Any) -> bytes:
    """Deterministic CBOR of the values that receipts are made of."""

    def head(major: int, n: int) -> bytes:
        if n < 24:
            return bytes([major << 5 | n])
        width = next(w for w in (1, 2, 4, 8) if n < 1 << 8 * w)
        return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + n.to_bytes(width, "big")

    if value is None or isinstance(value, bool):
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(k + v for k, v in sorted((cbor(k), cbor(v)) for k, v in value.items()))


class Key:
    """A signing key of one of the three algorithms."""

    def __init__(self, algorithm: int = av.ED25519) -> None:
        self.algorithm = algorithm
        if algorithm == av.ED25519:
            self.ed = Ed25519PrivateKey.generate()
            self.public, self.sign = self.ed.public_key().public_bytes_raw(), self.ed.sign
        elif algorithm == av.P256:
            self.p256 = ec.generate_private_key(ec.SECP256R1())
            point = self.p256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            self.public, self.sign = point, self.sign_p256
        else:
            from cryptography.hazmat.primitives.asymmetric import mldsa

            key = mldsa.MLDSA44PrivateKey.generate()
            self.public, self.sign = key.public_key().public_bytes_raw(), key.sign
        self.kid = h(self.public)[:8]

    def sign_p256(self, message: bytes, high: bool = False) -> bytes:
        r, s = decode_dss_signature(self.p256.sign(message, ec.ECDSA(hashes.SHA256())))
        if high != (s > av.P256_ORDER // 2):
            s = av.P256_ORDER - s
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def vkey(self, name: str, kind: int) -> str:
        raw = bytes([kind]) + self.public
        key_id = h(name.encode(), b"\n", raw)[:4]
        return f"{name}+{key_id.hex()}+{base64.b64encode(raw).decode()}"

    def line(self, name: str, kind: int, signature: bytes) -> str:
        key_id = h(name.encode(), b"\n", bytes([kind]) + self.public)[:4]
        return f"\u2014 {name} {base64.b64encode(key_id + signature).decode()}\n"


class Maker:
    """An onnx execution and its service statement, logged alone. Change a member, then call `bundle`."""

    def __init__(self, algorithm: int = av.ED25519) -> None:
        self.receipt_id = bytes(range(16))
        self.node, self.node_identity = Key(algorithm), Key(algorithm)
        self.gateway, self.gateway_identity = Key(), Key()
        self.log, self.witness = Key(), Key()
        self.log_kind = self.witness_kind = 0
        self.time_ms = NOW_MS - 5_000
        self.subject = "urn:assay:receipt:" + self.receipt_id.hex()
        self.issuers = {"node": "urn:assay:node:n", "gateway": "urn:assay:gateway:g"}
        self.documents: dict[str, dict[int, Any]] = {
            role: {
                265: "urn:assay:keyset:1", 1: self.issuers[role], 2: role, 3: bytes(16), 4: 0,
                5: [{1: key.kid, 2: key.algorithm, 3: key.public, 4: use} for use in uses],
                14: NOW_MS - 60_000, 15: NOW_MS + 60_000, 16: {1: identity.algorithm, 2: identity.public},
            }
            for role, key, identity, uses in (
                ("node", self.node, self.node_identity, ["execution"]),
                ("gateway", self.gateway, self.gateway_identity, ["service"]),
            )
        }  # fmt: skip
        self.execution: dict[int, Any] = {
            265: "urn:assay:execution:1", 7: self.receipt_id, -65540: h(), -65541: h(), -65810: "vanilla", -65811: "chat",
            -65812: self.time_ms, -65817: 0, -65818: 0, -65822: "stop",
        }  # fmt: skip
        self.service: dict[int, Any] = {265: "urn:assay:service:1", 7: self.receipt_id, -65812: self.time_ms, -65836: "none"}
        self.supplements: list[dict[int, Any]] = []
        self.extra: dict[str, Any] = {}
        self.quorum = 1
        self.stamp = NOW_MS // 1000
        self.header: dict[str, dict[int, Any]] = {"execution": {}, "service": {}, "supplement": {}, "keyset": {}}
        self.chain: dict[str, list[Any]] = {}

    def envelope(self, kind: str, claims: bytes, issuer: str, subject: str, time_ms: int, key: Key, k: bytes, seq: int = 0) -> bytes:
        header = {
            1: key.algorithm, 4: key.kid, 15: {1: issuer, 2: subject, 6: time_ms // 1000}, 258: -16,
            259: f"application/vnd.assay.{kind}.v1+cbor", -65800: self.chain.get(kind, [k, seq, b"\x01" * 32 if seq else b""]),
        }  # fmt: skip
        protected = cbor(header | self.header[kind])
        self.signed = cbor(["Signature1", protected, b"", h(claims)])
        return b"\xd2" + cbor([protected, {}, h(claims), key.sign(self.signed)])

    def parts(self) -> dict[str, Any]:
        keysets, k = [], {}
        for role, identity in (("node", self.node_identity), ("gateway", self.gateway_identity)):
            document = cbor(self.documents[role])
            k[role] = h(b"assay/keyset/1\x00", document)
            name, seq = self.documents[role][1], self.documents[role][4]
            keysets.append(
                {"envelope": self.envelope("keyset", document, name, name, NOW_MS, identity, k[role], seq), "document": document}
            )
        claims = cbor(self.execution)
        envelope = self.envelope("execution", claims, self.issuers["node"], self.subject, self.time_ms, self.node, k["node"])
        statements = [{"envelope": envelope, "claims": claims}]
        claims = cbor({-65830: h(self.signed)} | self.service)
        envelope = self.envelope("service", claims, self.issuers["gateway"], self.subject, self.time_ms, self.gateway, k["gateway"])
        statements.append({"envelope": envelope, "claims": claims})
        for supplement in self.supplements:
            claims = cbor({-65840: h(self.signed)} | supplement)
            envelope = self.envelope(
                "supplement", claims, self.issuers["gateway"], self.subject, self.time_ms, self.gateway, k["gateway"], 1
            )
            statements.append({"envelope": envelope, "claims": claims})
        entry = cbor(["urn:assay:entry:1", *(s["envelope"] for s in statements)])
        return {
            "profile": "urn:assay:bundle:1", "statements": statements, "keysets": keysets,
            "log": [{"entry": entry, "index": 0, "path": [], "checkpoint": 0}], "checkpoints": [self.checkpoint(h(b"\x00", entry))],
        } | self.extra  # fmt: skip

    def note_line(self, key: Key, name: str, kind: int, body: str, root: bytes, stamp: int) -> str:
        if kind == 1:
            return key.line(name, kind, key.sign(body.encode()))
        time = stamp.to_bytes(8, "big")
        message = f"cosignature/v1\ntime {stamp}\n{body}".encode()
        if kind == 6:
            message = b"subtree/v1\n\x00" + b"".join(
                [bytes([len(name)]), name.encode(), time, b"\x05l.org", bytes(8), (1).to_bytes(8, "big"), root]
            )
        return key.line(name, kind, time + key.sign(message))

    def kinds(self) -> tuple[int, int]:
        return (6 if self.log.algorithm == av.ML_DSA_44 else 1), (6 if self.witness.algorithm == av.ML_DSA_44 else 4)

    def checkpoint(self, root: bytes) -> str:
        body = f"l.org\n1\n{base64.b64encode(root).decode()}\n"
        log_kind, witness_kind = self.kinds()
        lines = self.note_line(self.log, "l.org", log_kind, body, root, self.stamp)
        return f"{body}\n{lines}{self.note_line(self.witness, 'w.org', witness_kind, body, root, self.stamp)}"

    def trust(self) -> dict[str, Any]:
        names = {v: k for k, v in av.ALGORITHM_NAMES.items()}
        log_kind, witness_kind = self.kinds()
        return {
            "version": 1,
            "identities": [
                {"algorithm": names[i.algorithm], "publicKey": base64.b64encode(i.public).decode(), "label": ""}
                for i in (self.node_identity, self.gateway_identity)
            ],
            "keysets": [],
            "logs": [
                {
                    "origin": "l.org",
                    "keys": [self.log.vkey("l.org", log_kind)],
                    "witnesses": [self.witness.vkey("w.org", witness_kind)],
                    "quorum": self.quorum,
                }
            ],
            "revoked": [],
            "roots": [],
            "chains": [],
        }

    def judge(self, damage: Callable[[dict[str, Any]], None] | None = None, policy: dict[str, Any] | None = None) -> av.Verdict:
        parts = self.parts()
        if damage:
            damage(parts)
        return av.verify(cbor(parts), av.parse_trust(self.trust()), av.parse_policy(policy or {}), NOW_MS)


def lacks_ml_dsa() -> bool:
    try:
        Key(av.ML_DSA_44)
    except (ImportError, UnsupportedAlgorithm):
        return True
    return False


# --- Tests -----------------------------------------------------------------------------------------------------------


class Vectors(unittest.TestCase):
    def test_every_vector_has_its_status_and_code(self) -> None:
        self.assertGreater(len(VECTORS), 80)
        for vector in VECTORS:
            with self.subTest(vector["name"]):
                verdict = judge(vector)
                self.assertEqual(verdict.status, vector["expect"]["status"])
                self.assertEqual(verdict.code, vector["expect"]["code"])

    def test_rows_are_the_ten_checks_in_order(self) -> None:
        for name in ("accept: onnx", "bytes: empty", "statements: one claim byte changed"):
            self.assertEqual(tuple(row.check for row in judge(named(name)).rows), av.CHECKS)


class Cbor(unittest.TestCase):
    REFUSED: ClassVar[dict[str, str]] = {
        "nothing": "", "trailing": "0000", "truncated head": "19ff", "truncated bytes": "4261", "truncated list": "8201",
        "uint8 in long form": "1817", "uint16 in long form": "1900ff", "uint32 in long form": "1a0000ffff",
        "uint64 in long form": "1b00000000ffffffff", "long length": "580161", "reserved": "1c", "indefinite bytes": "5f4161ff",
        "indefinite text": "7f6161ff", "indefinite list": "9f00ff", "indefinite map": "bf0000ff", "break": "ff", "half": "f90000",
        "float": "fa00000000", "double": "fb0000000000000000", "undefined": "f7", "simple": "f3", "long simple": "f820",
        "false as a long simple": "f814", "tag": "c000", "tag 18": "d200", "keys out of order": "a201000000",
        "a key twice": "a200000000", "a text key before a shorter": "a2626161006161 00", "a bytes key": "a1410000",
        "a list key": "a18000", "a bool key": "a1f400", "UTF-8 surrogate": "63eda080", "UTF-8 overlong": "62c080",
        "UTF-8 cut": "61c3", "a list of 2^64": "9bffffffffffffffff", "a map of 2^64": "bbffffffffffffffff",
        "bytes of 2^63": "5b8000000000000000",
    }  # fmt: skip

    def test_refusals(self) -> None:
        for name, encoded in self.REFUSED.items():
            with self.subTest(name), self.assertRaises(av.Refused) as caught:
                av.decode_cbor(bytes.fromhex(encoded))
            self.assertEqual(caught.exception.code, "cbor_invalid")

    def test_depth_limit(self) -> None:
        self.assertEqual(av.decode_cbor(b"\x81" * (av.MAX_CBOR_DEPTH - 1) + b"\x00").__class__, list)
        for depth in (av.MAX_CBOR_DEPTH, 100_000):
            with self.assertRaises(av.Refused):
                av.decode_cbor(b"\x81" * depth + b"\x00")

    def test_item_limit(self) -> None:
        with mock.patch.object(av, "MAX_CBOR_ITEMS", 10):
            self.assertEqual(av.decode_cbor(b"\x89" + bytes(9)), [0] * 9)
            with self.assertRaises(av.Refused):
                av.decode_cbor(b"\x8a" + bytes(10))

    def test_round_trip(self) -> None:
        source = random.Random(8949)
        for _ in range(300):
            value = random_value(source, 4)
            self.assertEqual(av.decode_cbor(cbor(value)), value)

    def test_integers_at_their_bounds(self) -> None:
        for n in (0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1):
            self.assertEqual(av.decode_cbor(cbor(n)), n)
            self.assertEqual(av.decode_cbor(cbor(-1 - n)), -1 - n)


def random_value(source: random.Random, depth: int) -> Any:
    choice = source.randrange(8 if depth else 6)
    if choice < 2:
        return source.choice([-1, 1]) * source.getrandbits(source.randrange(1, 60))
    if choice == 2:
        return source.randbytes(source.randrange(30))
    if choice == 3:
        return "".join(source.choice("aZ0\u00e9\u4e2d\U0001f600") for _ in range(source.randrange(30)))
    if choice < 6:
        return source.choice([True, False, None])
    if choice == 6:
        return [random_value(source, depth - 1) for _ in range(source.randrange(5))]
    return {source.choice([str(n), n]): random_value(source, depth - 1) for n in range(source.randrange(5))}


class Tables(unittest.TestCase):
    def nested(self, depth: int) -> Any:
        return {"a": self.nested(depth - 1)} if depth > 1 else {}

    def test_open_maps(self) -> None:
        for good in ({}, {"a": [1, {"b": b""}], "c": True}, self.nested(7), {"a": [0] * 4094}):
            self.assertEqual(av.open_map(good), "")
        for bad in ([], None, {1: 1}, {"a": None}, {"a": {1: 1}}, {"a": 2**53}, {"a": [-(2**53)]}, self.nested(8), {"a": [0] * 4095}):
            self.assertNotEqual(av.open_map(bad), "", str(bad)[:60])

    def test_kinds(self) -> None:
        for kind, bad in (
            (av.uint, -1), (av.uint, True), (av.uint, 2**53), (av.integer, "1"), (av.integer, -(2**53)), (av.HASH, bytes(31)),
            (av.HASH, "a" * 32), (av.TEXT, "a" * 513), (av.TEXT, "\u00e9" * 257), (av.TEXT, b"a"), (av.one_of(1), True),
            (av.many(1, av.uint), [1, 1]), (av.many(1, av.uint), [-1]), (av.many(1, av.uint), {}),
            (av.closed({1: av.uint}), {}), (av.closed({1: av.uint}), {1: 1, 2: 2}), (av.closed({}, {1: av.uint}), {1: ""}),
        ):  # fmt: skip
            self.assertNotEqual(kind(bad), "", str(bad)[:60])


class Trees(unittest.TestCase):
    def test_paths_lead_to_the_root_and_no_other_path_does(self) -> None:
        leaves = [h(bytes([i])) for i in range(21)]

        def root_of(part: list[bytes]) -> bytes:  # RFC 6962 section 2.1, as written
            if len(part) == 1:
                return part[0]
            k = 1 << (len(part) - 1).bit_length() - 1
            return h(b"\x01", root_of(part[:k]), root_of(part[k:]))

        def path_of(m: int, part: list[bytes]) -> list[bytes]:  # RFC 6962 section 2.1.1, as written
            if len(part) == 1:
                return []
            k = 1 << (len(part) - 1).bit_length() - 1
            return [*path_of(m, part[:k]), root_of(part[k:])] if m < k else [*path_of(m - k, part[k:]), root_of(part[:k])]

        self.assertEqual(av.merkle_root([]), h())
        for size in range(1, 22):
            part = leaves[:size]
            root = root_of(part)
            self.assertEqual(av.merkle_root(part), root)
            for index in range(size):
                path = path_of(index, part)
                self.assertEqual(av.root_from_path(part[index], index, size, path), root)
                self.assertNotEqual(av.root_from_path(part[index], index, size, [*path, root]), root)
                self.assertNotEqual(av.root_from_path(h(), index, size, path), root)
                if path:
                    self.assertNotEqual(av.root_from_path(part[index], index, size, path[:-1]), root)
            self.assertIsNone(av.root_from_path(part[0], size, size, []))


class Signatures(unittest.TestCase):
    def test_p256_refuses_high_s_and_other_lengths(self) -> None:
        key = Key(av.P256)
        low, high = key.sign_p256(b"m"), key.sign_p256(b"m", high=True)
        self.assertTrue(av.signature_holds(av.P256, key.public, low, b"m"))
        for bad in (high, low[:-1], low + b"\x00", bytes(64), b""):
            self.assertFalse(av.signature_holds(av.P256, key.public, bad, b"m"))
        self.assertFalse(av.signature_holds(av.P256, b"\x02" + b"\xff" * 32, low, b"m"))

    def test_ed25519_refuses_s_above_the_order(self) -> None:
        key, order = Key(), 2**252 + 27742317777372353535851937790883648493
        good = key.sign(b"m")
        s = int.from_bytes(good[32:], "little") + order
        self.assertTrue(av.signature_holds(av.ED25519, key.public, good, b"m"))
        for bad in (good[:32] + s.to_bytes(32, "little"), good[:-1], good + b"\x00", b""):
            self.assertFalse(av.signature_holds(av.ED25519, key.public, bad, b"m"))
        self.assertFalse(av.signature_holds(av.ED25519, key.public, good, b"n"))

    def test_batch_refusals(self) -> None:
        key, statement, sibling = Key(), h(b"statement"), h(b"sibling")
        root = h(b"\x01", h(b"\x00", statement), sibling)
        inner = key.sign(b"assay/batch/1\x00" + (2).to_bytes(4, "big") + root)
        good = [2, 0, [sibling], inner]
        self.assertTrue(av.batch_holds(key.public, cbor(good), statement))
        for name, bad in {
            "index": [2, 1, [sibling], inner], "index outside": [2, 2, [sibling], inner], "size": [3, 0, [sibling], inner],
            "path": [2, 0, [root], inner], "no path": [2, 0, [], inner], "long path": [2, 0, [sibling] * 17, inner],
            "too large": [65_537, 0, [sibling] * 16, inner], "negative": [2, -1, [sibling], inner],
            "short signature": [2, 0, [sibling], inner[:-1]], "five parts": [*good, 0], "a map": {}, "kinds": ["2", 0, [sibling], inner],
        }.items():  # fmt: skip
            self.assertFalse(av.batch_holds(key.public, cbor(bad), statement), name)
        self.assertFalse(av.batch_holds(key.public, b"", statement))
        self.assertFalse(av.batch_holds(key.public, cbor(good) + b"\x00", statement))

    def test_an_algorithm_that_is_not_installed_is_inconclusive(self) -> None:
        maker = Maker()
        document = maker.documents["node"]
        document[5][0] |= {2: av.ML_DSA_44, 3: bytes(1312), 1: h(bytes(1312))[:8]}
        maker.header["execution"] = {1: av.ML_DSA_44, 4: h(bytes(1312))[:8]}
        with mock.patch.object(av, "MLDSA44PublicKey", None):
            verdict = maker.judge()
        self.assertEqual((verdict.status, verdict.code), ("inconclusive", "algorithm_unsupported"))

    def test_p256_receipt(self) -> None:
        self.assertEqual(Maker(av.P256).judge().code, "verified")

    @unittest.skipIf(lacks_ml_dsa(), "this cryptography has no ML-DSA-44")
    def test_ml_dsa_receipt_and_log(self) -> None:
        maker = Maker(av.ML_DSA_44)
        maker.log, maker.witness = Key(av.ML_DSA_44), Key(av.ML_DSA_44)
        self.assertEqual(maker.judge().code, "verified")
        with mock.patch.object(av, "MLDSA44PublicKey", None):
            verdict = maker.judge()
        self.assertEqual((verdict.status, verdict.code), ("inconclusive", "algorithm_unsupported"))
        maker.log.sign = Key(av.ML_DSA_44).sign
        self.assertEqual(maker.judge().code, "checkpoint_invalid")


class Made(unittest.TestCase):
    """Faults that the vectors do not have, in receipts that are otherwise signed and logged as they should be."""

    def refused(self, code: str, change: Callable[[Maker], None], status: str = "failed") -> None:
        maker = Maker()
        self.assertEqual(maker.judge().code, "verified")
        change(maker)
        verdict = maker.judge()
        self.assertEqual((verdict.status, verdict.code), (status, code))

    def test_claims(self) -> None:
        for name, claims in {
            "unknown key": {-1: 0}, "a boolean for a number": {-65823: True}, "2^53": {-65823: 2**53}, "negative": {-65823: -1},
            "long text": {-65544: "a" * 513}, "short nonce": {10: bytes(7)}, "unknown mode": {-65810: "trusted"},
            "onnx without a model": {-65811: "onnx"}, "step without one": {-65811: "step"}, "scheme alone": {-65549: "sha256-single"},
            "null in an open map": {-65899: {"a": None}}, "another profile": {265: "urn:assay:execution:2"},
            "principal without caller": {-65813: {2: "token"}}, "65 parents": {-65826: [bytes(32)] * 65},
        }.items():  # fmt: skip
            with self.subTest(name):
                self.refused("claims_invalid", lambda m, claims=claims: m.execution.update(claims))

    def test_parts_of_a_price(self) -> None:
        def price(amount: str, *parts: str) -> dict[int, Any]:
            return {-65833: {1: amount, 2: "USDC", 3: "parts", 5: [{1: part, 2: "model:a/b", 3: "listing"} for part in parts]}}

        largest = str(2**256 - 1)
        for stated in (price("2500", "2000", "500"), price("0", "0", "0"), price(largest, largest, "0")):
            maker = Maker()
            maker.service.update(stated)
            self.assertEqual(maker.judge().code, "verified")
        for stated in (
            price("2500", "2000", "499"), price("2500", "2500"), price("0"), price("2500", "3000", "-500"),
            price("2500", "2000", "0500"), price("2500", "2000", "500.0"), price("5", "2", "3\n"), price("5", "2", "٣"),
            price("0x5", "2", "3"), price(str(10**78), str(10**78), "0"), price("9", *["1"] * 9),
        ):  # fmt: skip
            with self.subTest(stated):
                self.refused("claims_invalid", lambda m, stated=stated: m.service.update(stated))

    def test_headers(self) -> None:
        for name, header in {
            "unknown algorithm": {1: -7}, "no digest": {258: -44}, "unknown parameter": {2: []}, "long kid": {4: bytes(9)},
            "content type": {259: "application/cbor"}, "no issuer": {15: {1: "", 2: "a", 6: 0}},
            "text chain": {-65800: "a"}, "prev at the start": {-65800: [bytes(32), 0, bytes(32)]},
            "no prev later": {-65800: [bytes(32), 1, b""]}, "short prev": {-65800: [bytes(32), 1, bytes(31)]},
        }.items():  # fmt: skip
            with self.subTest(name):
                self.refused("statement_invalid", lambda m, header=header: m.header["execution"].update(header))

    def test_relations(self) -> None:
        supplement = {265: "urn:assay:supplement:1", 7: bytes(16), -65841: "audit", -65812: NOW_MS - 5_000, -65842: {}}
        self.refused("subject_mismatch", lambda m: setattr(m, "subject", "urn:assay:receipt:" + "0" * 32))
        self.refused("time_mismatch", lambda m: m.service.update({-65812: NOW_MS}))
        self.refused("supplement_unrelated", lambda m: m.supplements.append(supplement | {-65840: bytes(32)}))
        self.refused("key_not_in_keyset", lambda m: m.supplements.append(supplement))
        self.refused("issuer_mismatch", lambda m: m.issuers.update(node="urn:assay:node:other"))
        self.refused("role_mismatch", lambda m: m.documents["node"].update({2: "gateway"}))
        self.refused("key_not_in_keyset", lambda m: m.documents["node"][5][0].update({4: "service"}))
        self.refused("key_not_in_keyset", lambda m: m.header["execution"].update({4: bytes(8)}))
        self.refused("keyset_missing", lambda m: m.chain.update(execution=[bytes(32), 0, b""]), "inconclusive")

    def test_keysets(self) -> None:
        other = Key()
        self.refused("keyset_invalid", lambda m: m.documents["node"].update({15: NOW_MS - 60_000}))
        self.refused("keyset_invalid", lambda m: m.documents["node"][5].append(m.documents["node"][5][0] | {4: "supplement"}))
        self.refused("keyset_invalid", lambda m: m.documents["gateway"][5].append({1: bytes(8), 2: -19, 3: other.public, 4: "release"}))
        self.refused(
            "keyset_invalid", lambda m: m.documents["gateway"][5].append({1: other.kid, 2: av.BATCH, 3: other.public, 4: "release"})
        )
        self.refused("keyset_invalid", lambda m: m.documents["gateway"][5].append({1: other.kid, 2: -9, 3: other.public, 4: "release"}))

        def identity_again(m: Maker) -> None:
            identity = m.gateway_identity
            m.documents["gateway"][5].append({1: identity.kid, 2: -19, 3: identity.public, 4: "release"})

        self.refused("keyset_invalid", identity_again)
        self.refused("keyset_chain_broken", lambda m: m.documents["node"].update({13: bytes(32)}))
        self.refused("keyset_chain_broken", lambda m: m.documents["node"].update({4: 1}))
        self.refused("keyset_statement_mismatch", lambda m: m.header["keyset"].update({4: bytes(8)}))
        self.refused("keyset_statement_mismatch", lambda m: m.header["keyset"].update({15: {1: "a", 2: "a", 6: 0}}))
        self.refused("keyset_statement_mismatch", lambda m: m.header["keyset"].update({1: av.BATCH}))
        self.refused("keyset_statement_mismatch", lambda m: m.chain.update(keyset=[bytes(32), 0, b""]))
        self.refused("keyset_signature_invalid", lambda m: setattr(m.gateway_identity, "sign", other.sign))
        self.refused("keyset_expired", lambda m: m.documents["node"].update({14: NOW_MS, 15: NOW_MS + 1}))
        self.refused("claims_invalid", lambda m: m.documents["node"].update({18: 0}))

    def test_log(self) -> None:
        def twice(m: Maker) -> None:
            m.quorum = 2
            line = m.note_line

            def doubled(key: Key, name: str, *rest: Any) -> str:
                return line(key, name, *rest) * (2 if name == "w.org" else 1)

            m.note_line = doubled  # type: ignore[method-assign, assignment]

        self.refused("quorum_missing", twice)
        self.refused("checkpoint_invalid", lambda m: setattr(m.witness, "sign", Key().sign))
        self.refused("checkpoint_invalid", lambda m: setattr(m, "stamp", 2**63))
        for name, change in {
            "no blank line": lambda t: t.replace("\n\n", "\n"), "a tab": lambda t: t.replace("l.org\n1", "l.org\t\n1"),
            "leading zero": lambda t: t.replace("\n1\n", "\n01\n"), "hyphen": lambda t: t.replace("\u2014", "-"),
            "no end": lambda t: t[:-1], "plus in a name": lambda t: t.replace(" w.org", " w+org"),
            "no signatures": lambda t: t[: t.index("\n\n") + 2], "an empty extension": lambda t: t.replace("\n\n", "\n\n\n"),
            "another digit alphabet": lambda t: t.replace("\n1\n", "\n\u0661\n"), "four words": lambda t: t.replace(" w.org", " w .org"),
        }.items():  # fmt: skip
            with self.subTest(name):

                def damage(parts: dict[str, Any], change: Any = change) -> None:
                    parts["checkpoints"] = [change(parts["checkpoints"][0])]

                self.assertEqual(Maker().judge(damage).code, "checkpoint_invalid")

    def test_entries(self) -> None:
        for bad in (["urn:assay:entry:1"], ["urn:assay:entry:2", b""], ["urn:assay:entry:1", *[b""] * 5], ["urn:assay:entry:1", ""], {}, 0):

            def damage(parts: dict[str, Any], bad: Any = bad) -> None:
                parts["log"][0]["entry"] = cbor(bad)

            self.assertEqual(Maker().judge(damage).code, "entry_invalid")

    def test_log_time_decides_a_revocation(self) -> None:
        maker = Maker()
        for since, expected in ((NOW_MS + 1_000, "verified"), (NOW_MS, "keyset_revoked"), (0, "keyset_revoked")):
            for key in (maker.node_identity.public, h(b"assay/keyset/1\x00", cbor(maker.documents["node"]))):
                trust = maker.trust() | {"revoked": [{"key": key.hex(), "sinceMs": since, "reason": ""}]}
                self.assertEqual(av.verify(cbor(maker.parts()), av.parse_trust(trust), av.Policy(), NOW_MS).code, expected)

    def test_field_openings(self) -> None:
        def extra(index: int = 1, value: bytes = b"two", name: str = "b") -> dict[str, Any]:
            return {"fields": [{"side": "request", "name": name, "salt": salts[1], "value": value, "index": index, "path": [leaves[0]]}]}

        salts = [h(b"assay/salt/1\x00", bytes(32), b"\x01", n) for n in (b"a", b"b")]
        leaves = [h(b"\x00", salts[0], b"a\x00one"), h(b"\x00", salts[1], b"b\x00two")]
        maker = Maker()
        maker.execution |= {-65540: h(b"\x01", *leaves), -65817: 2}
        for expected, change in (
            ("verified", extra()), ("commitment_mismatch", extra(0)), ("commitment_mismatch", extra(2)),
            ("commitment_mismatch", extra(value=b"too")), ("opening_invalid", extra(name="")), ("opening_invalid", extra(name="b\x00")),
            ("opening_invalid", extra(name="b" * 1025)),
        ):  # fmt: skip
            maker.extra = change
            self.assertEqual(maker.judge().code, expected)

    def test_limits(self) -> None:
        over = {
            "evidence": [{"type": "policy", "data": b""}] * 65, "anchors": [{}] * 17, "checkpoints": [""] * 65, "unknown": 0,
            "openings": [{"side": "request", "salt": bytes(32), "fields": [{"name": "a", "value": b""}] * 10_001}],
            "fields": [{"side": "request", "name": "a", "salt": bytes(32), "value": b"", "index": 0, "path": []}] * 10_001,
        }  # fmt: skip
        for name, value in over.items():
            with self.subTest(name):
                self.refused("claims_invalid", lambda m, e={name: value}: m.extra.update(e))
        self.refused("claims_invalid", lambda m: m.execution.update({-65899: {"a": bytes(262_144)}}))
        with mock.patch.object(av, "MAX_BUNDLE", 100):
            self.assertEqual(av.verify(bytes(101), av.Trust(), av.Policy(), 0).code, "bundle_too_large")

    def test_required_checks_that_have_nothing_to_check(self) -> None:
        self.assertEqual(Maker().judge(policy={"require": ["anchor"]}).code, "no_anchor")
        maker = Maker()
        maker.extra = {"anchors": [{}]}
        self.assertEqual(maker.judge().code, "verified")
        self.assertEqual(maker.judge(policy={"require": ["anchor"]}).code, "anchor_unknown")


    def test_labels(self) -> None:
        maker = Maker()
        encoded, trust = cbor(maker.parts()), maker.trust()

        def judged(trust: dict[str, Any], labels: list[str], **more: Any) -> str:
            return av.verify(encoded, av.parse_trust(trust), av.parse_policy({"labels": labels, **more}), NOW_MS).code

        trust["identities"][0]["label"] = "production"
        self.assertEqual(judged(trust, ["production", ""]), "verified")
        self.assertEqual(judged(trust, ["production"]), "label_refused")
        self.assertEqual(judged(trust, []), "label_refused")
        self.assertEqual(judged(trust, [], maxAgeMs=0), "too_old")
        pinned = trust | {"identities": [], "keysets": [h(b"assay/keyset/1\0", cbor(d)).hex() for d in maker.documents.values()]}
        self.assertEqual(judged(pinned, ["pinned"]), "verified")
        self.assertEqual(judged(pinned, ["production"]), "label_refused")


class Files(unittest.TestCase):
    def test_trust_refusals(self) -> None:
        good = Maker().trust()
        av.parse_trust(good)
        log = good["logs"][0]
        vkey = log["keys"][0]
        for bad in (
            None, [], {}, good | {"version": 2}, good | {"version": True}, good | {"more": 1}, good | {"keysets": ["00"]},
            good | {"keysets": ["zz" * 32]}, good | {"identities": [{"algorithm": "rsa", "publicKey": "", "label": ""}]},
            good | {"revoked": [{"key": "00"}]}, good | {"logs": [log, log]}, good | {"logs": [log | {"quorum": -1}]},
            good | {"logs": [log | {"keys": []}]}, good | {"logs": [log | {"keys": [vkey[:-4]]}]}, good | {"logs": [log | {"keys": ["\ud800+00+AA=="]}]},
            good | {"logs": [log | {"witnesses": [vkey]}]}, good | {"logs": [log | {"keys": [vkey.replace("l.org", "k.org")]}]}, good | {"logs": 1},
        ):  # fmt: skip
            with self.assertRaises(av.TrustInvalid, msg=ascii(bad)[:200]):
                av.parse_trust(bad)

    def test_policy_refusals(self) -> None:
        for bad in (None, {"mode": []}, {"modes": "tee"}, {"modelDigest": "z"}, {"clientNonce": 1}, {"maxAgeMs": -1}, {"require": ["all"]}, {"labels": "x"}):
            with self.assertRaises(av.TrustInvalid):
                av.parse_policy(bad)


class CommandLine(unittest.TestCase):
    def run_on(self, vector: dict[str, Any], *more: str, trust: str | None = None) -> tuple[int, str]:
        with tempfile.TemporaryDirectory() as folder:
            receipt, trusted = Path(folder) / "a.receipt", Path(folder) / "trust.json"
            receipt.write_bytes(base64.b64decode(vector["receipt"]))
            trusted.write_text(json.dumps(vector["trust"]) if trust is None else trust)
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                try:
                    code = av.main([str(receipt), "--trust", str(trusted), "--now", str(vector["now"]), *more])
                except SystemExit as exit_:
                    code = int(exit_.code or 0)
            return code, out.getvalue()

    def test_exit_codes(self) -> None:
        for name, expected in (("accept: onnx", 0), ("bytes: empty", 10), ("trust: nothing is trusted", 11)):
            code, out = self.run_on(named(name), "--json")
            self.assertEqual(code, expected)
            self.assertEqual(json.loads(out)["code"], named(name)["expect"]["code"])
        code, out = self.run_on(named("accept: onnx"))
        self.assertEqual((code, out.splitlines()[0]), (0, "verified: verified"))

    def test_bad_use(self) -> None:
        vector = named("accept: onnx")
        self.assertEqual(self.run_on(vector, "--what")[0], 2)
        for trust in ("", "{", "{}", '{"version": 1, "version": 1}', "[" * 100_000):
            self.assertEqual(self.run_on(vector, trust=trust)[0], 2)
        self.assertEqual(self.run_on(vector, "--policy", "/nonexistent/policy.json")[0], 1)


class Damage(unittest.TestCase):
    """A receipt that verifies, changed at random, is never verified and never an exception. The seed is fixed."""

    ROUNDS = 1500

    def test_random_bytes(self) -> None:
        source = random.Random(6962)
        for name in ("accept: onnx", "accept: paid-chat", "accept: one signature over a batch of five"):
            vector = named(name)
            good = base64.b64decode(vector["receipt"])
            self.assertEqual(judge(vector).status, "verified")
            for turn in range(self.ROUNDS // 3):
                bad = bytearray(good)
                for _ in range(source.choice([1, 1, 1, 2, 8])):
                    at = source.randrange(len(bad))
                    change = source.randrange(4)
                    if change == 0:
                        bad[at] ^= 1 << source.randrange(8)
                    elif change == 1:
                        bad[at] = source.randrange(256)
                    elif change == 2:
                        del bad[at : at + source.randrange(1, 40)]
                    else:
                        bad[at:at] = source.randbytes(source.randrange(1, 5))
                if bytes(bad) != good:
                    self.assertNotEqual(judge(vector, bytes(bad)).status, "verified", f"{name}, turn {turn}")

    def test_random_values(self) -> None:
        """The decoded bundle with one value, at any depth and inside nested encodings, replaced by another."""
        source = random.Random(8949)
        vector = named("accept: onnx")
        good = base64.b64decode(vector["receipt"])
        spared = 0
        for turn in range(self.ROUNDS):
            bad = cbor(replace_one(av.decode_cbor(good), source))
            if bad != good and not only_less_is_shown(good, bad):
                self.assertNotEqual(judge(vector, bad).status, "verified", f"turn {turn}")
            else:
                spared += 1
        self.assertLess(spared, self.ROUNDS // 5)

    def test_noise(self) -> None:
        source = random.Random(9052)
        for _ in range(self.ROUNDS):
            self.assertEqual(judge(named("accept: onnx"), source.randbytes(source.randrange(200))).status, "failed")


def only_less_is_shown(good: bytes, bad: bytes) -> bool:
    """Openings and evidence are shown or withheld at will: a bundle with fewer of them, or none, is still a good one."""
    before, after = av.decode_cbor(good), av.decode_cbor(bad)
    if not isinstance(after, dict):
        return False
    shown = ("openings", "evidence")
    if any(not isinstance(after.get(k, []), list) or any(e not in before[k] for e in after.get(k, [])) for k in shown):
        return False
    return {**after, **{k: before[k] for k in shown}} == before


def replace_one(value: Any, source: random.Random) -> Any:
    """`value` with one part replaced; bytes that hold CBOR are opened half of the time and encoded again."""
    if isinstance(value, dict) and value and source.random() < 0.95:
        key = source.choice(list(value))
        if source.random() < 0.05:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: replace_one(value[key], source)}
    if isinstance(value, list) and value and source.random() < 0.95:
        at = source.randrange(len(value))
        return [*value[:at], replace_one(value[at], source), *value[at + 1 :]]
    if isinstance(value, bytes) and source.random() < 0.5:
        tag = value[:1] if value[:1] == b"\xd2" else b""
        with contextlib.suppress(av.Refused):
            return tag + cbor(replace_one(av.decode_cbor(value[len(tag) :]), source))
    return random_value(source, 2)


if __name__ == "__main__":
    unittest.main()
