"""Tests of section 8.1: published vectors, receipts whose money contradicts itself, and nodes that lie.

The vectors are `vectors/chain.json`, which the TypeScript implementation is held to as well. Nodes are real HTTP servers on
the loopback that answer what a test says.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import random
import socket
import threading
import unittest
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha3_256, sha256
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import assay_chain as ac
import assay_evm as evm
import assay_verify as av

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "chain.json").read_text())
CHAIN_ID = VECTORS["chainId"]
NETWORK = f"eip155:{CHAIN_ID}"


def raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def address(byte: str) -> str:
    return "0x" + byte * 20


class Known(unittest.TestCase):
    """Known answers."""

    def test_keccak(self) -> None:
        # From the Keccak team's test vectors, and the hash of nothing that every Ethereum account has.
        empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        self.assertEqual(evm.keccak256(b"").hex(), empty)
        self.assertEqual(evm.keccak256(b"abc").hex(), "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45")
        self.assertEqual(evm.selector("transfer(address,uint256)").hex(), "a9059cbb")
        for vector in VECTORS["keccak256"]:
            self.assertEqual(evm.keccak256(raw(vector["data"])), raw(vector["digest"]))
        self.assertNotEqual(evm.keccak256(b""), sha3_256(b"").digest())

    def test_constants(self) -> None:
        self.assertEqual(evm.ROUNDS[0], 1)
        self.assertEqual(evm.ROUNDS[1], 0x8082)
        self.assertEqual(evm.ROUNDS[23], 0x8000000080008008)
        x, y = evm.GENERATOR
        self.assertEqual((y * y - x * x * x - 7) % evm.FIELD, 0)
        self.assertIsNone(evm.multiply(evm.GENERATOR, evm.ORDER))

    def test_signers(self) -> None:
        for vector in VECTORS["signatures"]:
            digest, signature = raw(vector["digest"]), raw(vector["signature"])
            self.assertEqual(evm.recover_address(digest, signature), vector["signer"])
            for bad in (
                signature[:64], signature + b"\0", signature[:64] + bytes([55 - signature[64]]), signature[:64] + b"\0",
                bytes(32) + signature[32:], signature[:32] + bytes(32) + signature[64:],
                evm.ORDER.to_bytes(32, "big") + signature[32:], b"\xff" * 32 + signature[32:],
                # The twin that a signature has: s above half the order, with the other v.
                signature[:32] + (evm.ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big") + bytes([55 - signature[64]]),
            ):  # fmt: skip
                self.assertNotEqual(evm.recover_address(digest, bad), vector["signer"], bad.hex())
            self.assertNotEqual(evm.recover_address(sha256(digest).digest(), signature), vector["signer"])
            self.assertIsNone(evm.recover_address(digest[:31], signature))

    def test_payment_ids(self) -> None:
        for vector in VECTORS["paymentIds"]:
            if vector["by"] == "authorization":
                made = evm.nonce_payment_id(CHAIN_ID, vector["token"], vector["payer"], raw(vector["nonce"]))
            elif vector["by"] == "permit2":
                made = evm.nonce_payment_id(CHAIN_ID, evm.PERMIT2, vector["payer"], int(vector["nonce"]))
            else:
                signed = raw(vector["signature"])
                made = evm.voucher_payment_id(CHAIN_ID, raw(vector["channelId"]), int(vector["cumulative"]), signed)
                refund = evm.voucher_payment_id(CHAIN_ID, raw(vector["channelId"]), int(vector["cumulative"]), signed, 2**256 - 1)
                self.assertNotEqual(refund, made)
            self.assertEqual(made, raw(vector["paymentId"]))

    def test_channel(self) -> None:
        channel = VECTORS["channel"]
        names = ("payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token", "withdrawDelay")
        config = (*(channel[name] for name in names), raw(channel["salt"]))
        self.assertEqual(evm.channel_id(CHAIN_ID, config), raw(channel["channelId"]))

    def test_words(self) -> None:
        for bad in (-1, 2**256, "0x12", "", "hello", b"", bytes(31), bytes(33)):
            with self.assertRaises(ValueError, msg=bad):
                evm.word(bad)

    def test_batch(self) -> None:
        anchor = VECTORS["anchor"]
        leaves = [leaf_of(i) for i in range(5)]
        hashes = [evm.leaf_hash(leaf) for leaf in leaves]
        self.assertEqual([h.hex() for h in hashes], [leaf["leafHash"][2:] for leaf in anchor["leaves"]])
        self.assertEqual(evm.tree_root(hashes), raw(anchor["entry"]["root"]))
        self.assertEqual(evm.tree_root([]), bytes(32))
        self.assertEqual(evm.tree_root(hashes[:1]), hashes[0])
        for leaf, vector in zip(leaves, anchor["leaves"], strict=True):
            self.assertEqual(evm.proof_root(leaf, map(raw, vector["proof"])), raw(anchor["entry"]["root"]))
        digest = evm.entry_hash(anchor["network"], anchor["contract"], entry_of())
        self.assertEqual(digest, raw(anchor["hash"]))
        self.assertEqual(evm.recover_address(digest, raw(anchor["signature"])), entry_of()["submitter"])


def leaf_of(i: int) -> dict[str, Any]:
    leaf = json.loads(VECTORS["anchor"]["blob"])["leaves"][i]
    return leaf | {name: bytes.fromhex(leaf[name]) for name in evm.LEAF_HASHES}


def entry_of() -> dict[str, Any]:
    entry = VECTORS["anchor"]["entry"]
    return {name: raw(value) if name in evm.ENTRY_HASHES else value for name, value in entry.items()}


LEAF = leaf_of(1)
ANCHOR: dict[str, Any] = {
    "type": "receipt-anchor/1",
    "network": NETWORK,
    "contract": VECTORS["anchor"]["contract"],
    "entry": entry_of(),
    "leaf": LEAF,
    "proof": [raw(sibling) for sibling in VECTORS["anchor"]["leaves"][1]["proof"]],
    "signature": raw(VECTORS["anchor"]["signature"]),
    "transaction": "0x" + "ab" * 32,
    "blockNumber": 7,
}
SERVICE = LEAF["serviceDigest"]
CLAIM = {
    1: address("aa"),
    2: "0x" + LEAF["paymentId"].hex(),
    3: "exact",
    4: NETWORK,
    5: LEAF["amountAtomic"],
    6: address("bb"),
    7: "batch",
    8: address("cc"),
}
BODY = {
    "payer": CLAIM[1], "paymentId": CLAIM[2], "scheme": CLAIM[3], "network": CLAIM[4], "amountAtomic": CLAIM[5],
    "asset": CLAIM[6], "payTo": CLAIM[8], "transaction": "0x" + "ab" * 32, "blockNumber": "7", "contract": address("dd"),
}  # fmt: skip
PAID = ac.Paid(
    execution_digest=LEAF["executionDigest"],
    service_digest=SERVICE,
    claim=CLAIM,
    settlements=[(SERVICE, BODY)],
    anchors=[ANCHOR],
    anchor_supplement=False,
    log_indexes=[LEAF["logIndex"]],
    checkpoints=[(ANCHOR["entry"]["logSize"], ANCHOR["entry"]["logRoot"])],
)


def row(result: ac.Result | None) -> tuple[str, str]:
    return ("absent", "") if result is None else (result.result, result.code)


class Stated(unittest.TestCase):
    """Without a chain."""

    def test_what_holds_is_open(self) -> None:
        self.assertEqual(row(ac.payment_row(PAID, None)), ("inconclusive", "payment_unchecked"))
        self.assertEqual(row(ac.anchor_row(PAID, None)), ("inconclusive", "anchor_unchecked"))
        free = ac.Paid(b"", None, None, [], [], False, [], [])
        self.assertEqual([ac.payment_row(free, None), ac.anchor_row(free, None)], [None, None])
        self.assertEqual(row(ac.anchor_row(replace(free, anchor_supplement=True), None)), ("inconclusive", "anchor_unchecked"))
        other = replace(PAID, settlements=[(bytes(32), {"note": "of another form"})])
        self.assertEqual(row(ac.payment_row(other, None)), ("inconclusive", "payment_unchecked"))
        shouted = replace(PAID, settlements=[(SERVICE, BODY | {"payer": "0x" + "AA" * 20})])
        self.assertEqual(row(ac.payment_row(shouted, None)), ("inconclusive", "payment_unchecked"))

    def test_settlements(self) -> None:
        bad: list[tuple[bytes, dict[str, Any]]] = [(SERVICE, BODY | {name: "another"}) for name in BODY]
        bad += [(SERVICE, BODY | {name: 7}) for name in BODY]
        bad += [(SERVICE, {k: v for k, v in BODY.items() if k != name}) for name in BODY if name != "paymentId"]
        bad += [(LEAF["executionDigest"], BODY), (SERVICE, BODY | {"transaction": "0x" + "AB" * 32})]
        for one in bad:
            for settlements in ([one], [one, (SERVICE, BODY)], [(SERVICE, BODY), one]):
                with self.subTest(one):
                    result = ac.payment_row(replace(PAID, settlements=settlements), None)
                    self.assertEqual(row(result), ("fail", "settlement_mismatch"))
        self.assertEqual(row(ac.payment_row(replace(PAID, claim=None), None)), ("fail", "settlement_mismatch"))

    def test_leaf(self) -> None:
        for name in evm.LEAF_HASHES:
            self.anchor_fails("anchor_leaf_mismatch", leaf={name: bytes(32)})
        self.anchor_fails("anchor_leaf_mismatch", leaf={"amountAtomic": "1"})
        self.anchor_fails("anchor_leaf_mismatch", leaf={"logIndex": 1})
        for paid in (replace(PAID, claim=None, settlements=[]), replace(PAID, service_digest=None)):
            self.assertEqual(row(ac.anchor_row(paid, None)), ("fail", "anchor_leaf_mismatch"))
        # A bundle without a log proof of the execution says nothing of its place.
        self.assertEqual(row(ac.anchor_row(replace(PAID, log_indexes=[]), None))[1], "anchor_unchecked")

    def test_entry(self) -> None:
        self.anchor_fails("anchor_proof_invalid", proof=[])
        self.anchor_fails("anchor_proof_invalid", proof=ANCHOR["proof"][::-1])
        self.anchor_fails("anchor_proof_invalid", entry={"leafCount": 0})
        self.anchor_fails("anchor_proof_invalid", entry={"root": bytes(32)})
        self.anchor_fails("anchor_log_conflict", entry={"logRoot": bytes(32)})
        for entry in ({"submitter": address("ee")}, {"firstLeaf": 8}, {"logSize": 151}, {"blob": bytes(32)}, {"prev": bytes(32)}):
            self.anchor_fails("anchor_signature_invalid", entry=entry)
        self.anchor_fails("anchor_signature_invalid", network="eip155:1")
        self.anchor_fails("anchor_signature_invalid", contract=address("ee"))
        self.anchor_fails("anchor_signature_invalid", signature=bytes(65))
        unsigned = {k: v for k, v in ANCHOR.items() if k != "signature"}
        result = ac.anchor_row(replace(PAID, anchors=[unsigned]), None)
        self.assertEqual(row(result), ("inconclusive", "anchor_unchecked"))

    def test_order(self) -> None:
        bad = ANCHOR | {"proof": []}
        for anchors in ([ANCHOR, bad], [{"type": "other/1"}, bad], [bad, {"type": "other/1"}]):
            self.assertEqual(row(ac.anchor_row(replace(PAID, anchors=anchors), None)), ("fail", "anchor_proof_invalid"))

    def test_forms(self) -> None:
        entry, leaf = ANCHOR["entry"], ANCHOR["leaf"]
        odd: list[Any] = [
            None, {}, [], "anchor", ANCHOR | {"type": "receipt-anchor/2"}, ANCHOR | {"network": "eip155:0"},
            ANCHOR | {"network": "eip155:1234567890123456"}, ANCHOR | {"network": "eip155:1\n"}, ANCHOR | {"contract": address("AB")},
            ANCHOR | {"contract": 7}, ANCHOR | {"entry": None}, ANCHOR | {"entry": entry | {"root": bytes(31)}},
            ANCHOR | {"entry": entry | {"logSize": -1}}, ANCHOR | {"entry": entry | {"logSize": 2**53}},
            ANCHOR | {"entry": entry | {"leafCount": True}}, ANCHOR | {"leaf": leaf | {"amountAtomic": "025"}},
            ANCHOR | {"leaf": leaf | {"amountAtomic": "9" * 78}}, ANCHOR | {"leaf": leaf | {"logIndex": "7"}},
            ANCHOR | {"proof": [bytes(32)] * 33}, ANCHOR | {"proof": [bytes(31)]}, ANCHOR | {"proof": None},
            ANCHOR | {"signature": bytes(64)}, ANCHOR | {"signature": ""}, ANCHOR | {"transaction": "0x12"},
            ANCHOR | {"blockNumber": "7"},
        ]  # fmt: skip
        for one in odd:
            with self.subTest(one):
                self.assertEqual(row(ac.anchor_row(replace(PAID, anchors=[one]), None)), ("inconclusive", "anchor_unknown"))
        self.anchor_fails("anchor_proof_invalid", proof=[bytes(32)] * 32)

    def anchor_fails(self, code: str, **changes: Any) -> None:
        changed = {k: {**ANCHOR[k], **v} if isinstance(v, dict) else v for k, v in changes.items()}
        with self.subTest(changes):
            self.assertEqual(row(ac.anchor_row(replace(PAID, anchors=[ANCHOR | changed]), None)), ("fail", code))

    def test_blob(self) -> None:
        good = VECTORS["anchor"]["blob"].encode()
        self.assertEqual(row(ac.anchor_row(PAID, None, (good,)))[1], "anchor_unchecked")
        self.assertEqual(row(ac.anchor_row(PAID, None, (good, good + b" "))), ("fail", "anchor_blob_invalid"))
        self.assertEqual(evm.blob_fault(ANCHOR, good), "")
        batch = json.loads(good)
        one, two = batch["leaves"][0], batch["leaves"][1]
        changes: list[dict[str, Any]] = [
            {"format": "assay/anchor-batch/2"}, {"chainId": 1}, {"chainId": str(CHAIN_ID)}, {"contract": address("ee")},
            {"submitter": address("ee")}, {"firstLeaf": 8}, {"leafCount": 4}, {"logSize": 4}, {"logRoot": "00" * 32},
            {"prev": "00" * 32}, {"root": "00" * 32}, {"fromIndex": 101}, {"toIndex": 112}, {"leaves": batch["leaves"][::-1]},
            {"leaves": batch["leaves"][:4]}, {"leaves": [one, one, *batch["leaves"][2:]]}, {"leaves": []}, {"leaves": {}},
            {"leaves": [one | {"more": 1}, *batch["leaves"][1:]]}, {"more": 1}, {"fromIndex": 90.0}, {"leaves": [7]},
            {"leaves": [one, two | {"amountAtomic": "01"}, *batch["leaves"][2:]]},
        ]  # fmt: skip
        for change in changes:
            self.blob_fails(json.dumps(batch | change, sort_keys=True, separators=(",", ":")).encode())
        for bad in (b"", b"[]", b"{", b"\xff", b"[" * 100_000, good.replace(b":", b": ", 1), good[:-1] + b',"z":NaN}', good.upper()):
            self.blob_fails(bad)
        self.assertNotEqual(evm.blob_fault(ANCHOR | {"leaf": LEAF | {"logIndex": 104}}, good), "")
        with mock.patch.object(evm, "MAX_BLOB", len(good) - 1):
            self.assertNotEqual(evm.blob_fault(ANCHOR, good), "")
        with mock.patch.object(evm, "MAX_LEAVES", 4):
            self.assertNotEqual(evm.blob_fault(ANCHOR, good), "")

    def blob_fails(self, blob: bytes) -> None:
        """Also when the entry names these very bytes."""
        named = ANCHOR | {"entry": ANCHOR["entry"] | {"blob": sha256(blob).digest()}}
        for anchor in (ANCHOR, named):
            with self.subTest(blob[:80]):
                self.assertNotEqual(evm.blob_fault(anchor, blob), "")


class Calls(unittest.TestCase):
    def test_noise_is_no_call(self) -> None:
        source = random.Random(712)
        selectors = [evm.CLAIM, evm.CLAIM_SIGNED, evm.MULTICALL, *(s for calls in evm.PERMIT_CALLS.values() for s in calls)]
        for _ in range(400):
            data = source.choice(selectors) + bytes(source.choice([0, 0, 0, 1, 32, 255]) for _ in range(source.randrange(400)))
            self.assertLessEqual(len(evm.channel_claims(data)), 12)
            for proxy in evm.PERMIT_CALLS:
                self.assertIn(type(evm.permit_payment_id(CHAIN_ID, proxy, data)), (bytes, type(None)))

    def test_lists_that_lie(self) -> None:
        for count in (2**255, 2**64, 10_000):
            data = evm.CLAIM + (32).to_bytes(32, "big") + count.to_bytes(32, "big")
            self.assertEqual(evm.channel_claims(data), [])
        nested = evm.MULTICALL + evm.word(32) + evm.word(1) + evm.word(32) + evm.word(4) + evm.MULTICALL + bytes(28)
        self.assertEqual(evm.channel_claims(nested), [])


# --- A node -----------------------------------------------------------------------------------------------------------

Answer = Callable[[str, list[Any]], Any]
TRUSTED = {NETWORK: {"paymentBatcher": address("ba"), "receiptAnchor": ANCHOR["contract"]}}


@contextlib.contextmanager
def node(answer: Answer) -> Iterator[str]:
    """A JSON-RPC node. `answer` gives a result, or whole bytes of a response, with its status before them in a tuple."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = answer(asked["method"], asked["params"])
            status, body = said if isinstance(said, tuple) else (200, said)
            if not isinstance(body, bytes):
                body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": body}).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("location", self.path)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            serving.join()


def log(address_: str, topics: list[str], data: bytes, index: int = 0) -> dict[str, Any]:
    return {"address": address_, "topics": topics, "data": "0x" + data.hex(), "transactionHash": BODY["transaction"], "logIndex": hex(index)}


def padded(address_: str) -> str:
    return "0x" + evm.word(address_).hex()


def settled(ok: int = 1, **changes: Any) -> dict[str, Any]:
    v = {"id": CLAIM[2], "receipt": "0x" + SERVICE.hex(), "payer": CLAIM[1], "token": CLAIM[6], "payTo": CLAIM[8], "amount": int(CLAIM[5])}
    v |= changes
    words = (v["token"], v["payTo"], v["amount"], ok, 160, 0)
    return log(address("ba"), [ac.SETTLED, v["id"], v["receipt"], padded(v["payer"])], b"".join(map(evm.word, words)))


def moved_log(**changes: Any) -> dict[str, Any]:
    v = {"token": CLAIM[6], "payer": CLAIM[1], "payTo": CLAIM[8], "amount": int(CLAIM[5])} | changes
    return log(v["token"], [ac.MOVED, padded(v["payer"]), padded(v["payTo"])], evm.word(v["amount"]))


def receipt(*logs: Any, **changes: Any) -> dict[str, Any]:
    ordered = [one | {"logIndex": hex(i)} if type(one.get("logIndex")) is str else one for i, one in enumerate(logs)]
    good = {"transactionHash": BODY["transaction"], "status": "0x1", "to": address("ba"), "blockNumber": "0x7", "logs": ordered}
    return good | changes


class Asked(unittest.TestCase):
    """With a chain."""

    state: ClassVar[dict[str, Any]] = {"eth_chainId": hex(CHAIN_ID), "eth_blockNumber": "0x10", "eth_getLogs": []}

    def judged(self, paid: ac.Paid = PAID, **answers: Any) -> tuple[tuple[str, str], tuple[str, str]]:
        """The rows `payment` and `anchor` before a node that answers so."""
        said = self.state | answers
        with node(lambda method, _: said.get(method)) as url:
            chain = ac.read_chain(url, TRUSTED)
            return row(ac.payment_row(paid, chain)), row(ac.anchor_row(paid, chain))

    def payment(self, code: str, result: str, *logs: Any, paid: ac.Paid = PAID, **changes: Any) -> None:
        found = self.judged(paid, eth_getTransactionReceipt=receipt(*logs, **changes), eth_call="0x")
        self.assertEqual(found[0], (result, code))

    def test_settled(self) -> None:
        moved = moved_log()
        self.payment("payment_settled", "pass", moved, settled())
        self.payment("payment_settled", "pass", settled(id="0x" + "12" * 32), moved, settled(), settled(ok=0, id="0x" + "13" * 32))
        with node(lambda method, _: (self.state | {"eth_getTransactionReceipt": receipt(moved, settled())}).get(method)) as url:
            result = ac.payment_row(PAID, ac.read_chain(url, TRUSTED))
        self.assertIn("as the asked node says; blocks above it: 9", result.detail if result else "")
        # A batcher that says what the token does not: no transfer, another one, or another payment's.
        self.payment("payment_not_settled", "fail", settled())
        for change in ({"token": address("99")}, {"payer": address("99")}, {"payTo": address("99")}, {"amount": 1}):
            self.payment("payment_not_settled", "fail", moved_log(**change), settled())
        self.payment("payment_not_settled", "fail", settled(), moved)
        self.payment("payment_not_settled", "fail", moved, settled(id="0x" + "12" * 32), settled())
        self.payment("payment_not_settled", "fail", moved, settled(ok=0))
        self.payment("payment_not_settled", "fail", settled(ok=2))
        self.payment("payment_not_settled", "fail", settled() | {"address": address("bb")})
        self.payment("payment_not_settled", "fail", settled() | {"data": "0x"})
        self.payment("payment_not_settled", "fail")
        self.payment("payment_reverted", "fail", status="0x0")
        other = address("99")
        self.payment("payment_payer_mismatch", "fail", settled(payer=other))
        self.payment("payment_asset_mismatch", "fail", settled(token=other))
        self.payment("payment_amount_mismatch", "fail", settled(amount=1))
        self.payment("payment_pay_to_mismatch", "fail", settled(payTo=other))
        self.payment("payment_receipt_mismatch", "fail", settled(receipt="0x" + "00" * 32))

    def test_found_by_its_event(self) -> None:
        unstated = replace(PAID, settlements=[])
        answers = {"eth_getLogs": [settled()], "eth_getTransactionReceipt": receipt(moved_log(), settled()), "eth_call": "0x"}
        self.assertEqual(self.judged(unstated, **answers)[0], ("pass", "payment_settled"))
        self.assertEqual(self.judged(unstated, eth_call="0x")[0], ("inconclusive", "payment_unsettled"))
        odd = replace(unstated, claim=CLAIM | {2: "0x1234"})
        self.assertEqual(self.judged(odd, **answers)[0], ("inconclusive", "payment_unsettled"))
        self.assertEqual(self.judged(eth_call="0x")[0], ("fail", "payment_not_on_chain"))

    def test_blocks_that_are_searched(self) -> None:
        asked: list[tuple[int, int]] = []

        def answer(method: str, params: list[Any]) -> Any:
            if method == "eth_getLogs":
                asked.append((int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)))
            return (self.state | {"eth_blockNumber": hex(50_000)}).get(method)

        with node(answer) as url:
            self.assertIsNone(ac.search(ac.read_chain(url, TRUSTED), CLAIM[2]))
        self.assertEqual((asked[0][1], asked[-1][0]), (50_000, 30_000))
        self.assertTrue(all(0 <= to - first < ac.CHUNK_BLOCKS for first, to in asked))
        self.assertTrue(all(later[1] == earlier[0] - 1 for earlier, later in zip(asked, asked[1:], strict=False)))

    def test_brought_by_somebody_else(self) -> None:
        nonce = sha256(b"nonce").digest()
        made = "0x" + evm.nonce_payment_id(CHAIN_ID, CLAIM[6], CLAIM[1], nonce).hex()
        paid = replace(PAID, claim=CLAIM | {2: made}, settlements=[(SERVICE, BODY | {"paymentId": made})])
        used = log(CLAIM[6], [ac.USED, padded(CLAIM[1]), "0x" + nonce.hex()], b"", 0)
        moved = log(CLAIM[6], [ac.MOVED, padded(CLAIM[1]), padded(CLAIM[8])], evm.word(int(CLAIM[5])), 1)
        to_itself = log(CLAIM[6], [ac.MOVED, padded(CLAIM[1]), padded(CLAIM[1])], evm.word(int(CLAIM[5])), 1)
        self.payment("payment_settled", "pass", used, moved, paid=paid)
        self.payment("payment_unlinked", "inconclusive", moved, paid=paid)
        self.payment("payment_not_settled", "fail", used, paid=paid)
        # The same number used up for something else, beside a transfer that pays for something else.
        self.payment("payment_not_settled", "fail", used, to_itself, moved | {"logIndex": "0x2"}, paid=paid)
        for other in (moved | {"address": address("99")}, moved | {"data": "0x" + evm.word(1).hex()}, moved | {"topics": moved["topics"][:2]}):
            self.payment("payment_not_settled", "fail", used, other, paid=paid)

    def test_permit2(self) -> None:
        made = "0x" + evm.nonce_payment_id(CHAIN_ID, evm.PERMIT2, CLAIM[1], 77).hex()
        paid = replace(PAID, claim=CLAIM | {2: made}, settlements=[(SERVICE, BODY | {"paymentId": made})])
        moved = log(CLAIM[6], [ac.MOVED, padded(CLAIM[1]), padded(CLAIM[8])], evm.word(int(CLAIM[5])))
        for proxy, calls in evm.PERMIT_CALLS.items():
            for selector, (at_nonce, at_owner) in calls.items():
                for nonce, owner, code in ((77, CLAIM[1], "payment_settled"), (78, CLAIM[1], "payment_unlinked"), (77, address("99"), "payment_unlinked")):
                    words = [bytes(32)] * 20
                    words[at_nonce], words[at_owner] = evm.word(nonce), evm.word(owner)
                    answers = {
                        "eth_getTransactionReceipt": receipt(moved, to=proxy),
                        "eth_getTransactionByHash": {"input": "0x" + (selector + b"".join(words)).hex()},
                        "eth_call": "0x",
                    }
                    self.assertEqual(self.judged(paid, **answers)[0][1], code)
                    short = answers | {"eth_getTransactionByHash": {"input": "0x" + selector.hex()}}
                    self.assertEqual(self.judged(paid, **short)[0][1], "payment_unlinked")

    def test_channels(self) -> None:
        channel = VECTORS["channel"]
        signed = raw(VECTORS["paymentIds"][2]["signature"])
        names = ("payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token", "withdrawDelay")
        config = [*(channel[name] for name in names), raw(channel["salt"])]

        def calldata(total: int, ceiling: int = 12345, selector: bytes = evm.CLAIM) -> bytes:
            voucher = b"".join(map(evm.word, [*config, ceiling, 320, total, len(signed)])) + signed + bytes(31)
            return selector + b"".join(map(evm.word, [32, 1, 32])) + voucher

        own = VECTORS["paymentIds"][2]["paymentId"]
        claim = {1: channel["payer"], 2: own, 3: "batch-settlement", 4: NETWORK, 5: "100", 6: channel["token"], 7: "batch", 8: channel["receiver"]}

        def judged(call: bytes, to: str = evm.CHANNELS, **changes: str) -> ac.Result | None:
            mine = claim | {{"payer": 1, "id": 2, "amount": 5, "asset": 6, "payTo": 8}[k]: v for k, v in changes.items()}
            body = BODY | {name: mine[key] for name, key in ac.CLAIM_KEYS.items()}
            paid = replace(PAID, claim=mine, settlements=[(SERVICE, body)])
            said = self.state | {"eth_getTransactionReceipt": receipt(to=to), "eth_getTransactionByHash": {"input": "0x" + call.hex()}}
            with node(lambda method, _: said.get(method)) as url:
                return ac.payment_row(paid, ac.read_chain(url, TRUSTED))

        result = judged(calldata(100))
        self.assertEqual(row(result), ("pass", "payment_claimed"))
        self.assertIn("this very voucher", result.detail if result else "")
        result = judged(calldata(5000), id="0x" + "12" * 32)
        self.assertEqual(row(result), ("pass", "payment_claimed"))
        self.assertIn("the gateway's word", result.detail if result else "")
        inside = calldata(100)
        wrapped = evm.MULTICALL + b"".join(map(evm.word, [32, 1, 32, len(inside)])) + inside + bytes(28)
        self.assertEqual(row(judged(wrapped)), ("pass", "payment_claimed"))
        self.assertEqual(row(judged(calldata(99))), ("fail", "payment_amount_mismatch"))
        for amount in ("", "0x1", "1.5", "-1", "00"):
            self.assertEqual(row(judged(calldata(100), amount=amount)), ("fail", "payment_amount_mismatch"))
        for change in ({"payer": address("99")}, {"asset": address("99")}, {"payTo": address("99")}):
            self.assertEqual(row(judged(calldata(100), **change)), ("fail", "payment_not_settled"))
        self.assertEqual(row(judged(b"")), ("fail", "payment_not_settled"))
        self.assertEqual(row(judged(calldata(100), to=address("99"))), ("inconclusive", "payment_contract_unknown"))

    def test_of_nothing_and_elsewhere(self) -> None:
        free = replace(PAID, claim=CLAIM | {5: "0"}, settlements=[])
        self.assertEqual(self.judged(free)[0], ("pass", "payment_of_nothing"))
        elsewhere = CLAIM | {4: "eip155:1"}
        paid = replace(PAID, claim=elsewhere, settlements=[])
        self.assertEqual(self.judged(paid)[0], ("inconclusive", "payment_other_network"))

    def test_anchored(self) -> None:
        time = "0x" + evm.word(1_700_000_000).hex()
        self.assertEqual(self.judged(eth_call=time)[1], ("pass", "anchored"))
        self.assertEqual(self.judged(eth_call="0x" + bytes(32).hex())[1], ("fail", "anchor_not_on_chain"))
        self.assertEqual(self.judged(eth_call="0x")[1], ("fail", "anchor_not_on_chain"))
        pending = {k: v for k, v in ANCHOR.items() if k != "transaction"}
        self.assertEqual(self.judged(replace(PAID, anchors=[pending]), eth_call="0x")[1], ("inconclusive", "anchor_pending"))
        unsigned = {k: v for k, v in ANCHOR.items() if k != "signature"}
        for change, code in (({"network": "eip155:1"}, "anchor_other_network"), ({"contract": address("ee")}, "anchor_contract_unknown")):
            paid = replace(PAID, anchors=[unsigned | change])
            self.assertEqual(self.judged(paid, eth_call=time)[1], ("inconclusive", code))
        named = replace(PAID, anchors=[], anchor_supplement=True)
        self.assertEqual(self.judged(named)[1], ("inconclusive", "anchor_unknown"))
        untrue = replace(PAID, anchors=[ANCHOR, ANCHOR | {"proof": []}])
        self.assertEqual(self.judged(untrue, eth_call=time)[1], ("fail", "anchor_proof_invalid"))

    def test_nodes_that_lie(self) -> None:
        big = b'"' + b"x" * (ac.MAX_ANSWER + 1) + b'"'
        answers: list[Any] = [
            b"", b"<html>", b"[]", b"{}", b"[" * 100_000, big, (500, b"{}"), (429, b"{}"), (302, b""),
            b'{"jsonrpc":"2.0","id":2,"result":"0x1"}', b'{"id":1,"result":"0x1","error":{}}', 5, "0x", "latest", {}, [],
            [{}] * (ac.MAX_LOGS + 1), {"transactionHash": "0x" + "00" * 32}, receipt(status="0x2"), receipt(status=1),
            receipt(blockNumber="0x" + "f" * 14), receipt(logs=None), receipt({}), receipt(to="0x12"),
            receipt(settled() | {"topics": ["0x12"]}), receipt(settled() | {"data": "0x123"}), receipt(settled() | {"logIndex": 1}),
        ]  # fmt: skip
        for said in answers:
            with self.subTest(str(said)[:60]):
                found = self.judged(eth_getTransactionReceipt=said, eth_call=said)
                self.assertEqual(found[0], ("inconclusive", "chain_unavailable"))
                self.assertNotEqual(found[1][0], "pass")
        error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}'
        self.assertEqual(self.judged(eth_getTransactionReceipt=error, eth_call=error), (("inconclusive", "chain_rpc_error"),) * 2)

    def test_what_sends_for_ever_ends(self) -> None:
        class Slow:
            def read1(self, _: int) -> bytes:
                return b"x"

        with mock.patch.object(ac.time, "monotonic", side_effect=[5.0, 9.0, 11.0]), self.assertRaises(ValueError):
            ac.read_within(Slow(), 10.0)
        with self.assertRaises(ValueError):
            ac.read_within(io.BufferedReader(io.BytesIO(bytes(ac.MAX_ANSWER + 1))), float("inf"))  # type: ignore[arg-type]

    def test_which_chain(self) -> None:
        with node(lambda *_: hex(CHAIN_ID)) as url:
            for contracts in ({}, {"eip155:1": TRUSTED[NETWORK]}, {NETWORK: {}}, {NETWORK: {"paymentBatcher": address("ba")}}):
                with self.assertRaises(ac.ChainUnknown):
                    ac.read_chain(url, contracts)
            self.assertEqual(ac.read_chain(url, TRUSTED).network, NETWORK)
        for url in ("file:///etc/hostname", "ftp://127.0.0.1/", "127.0.0.1:8545", "", "http://[::1/"):
            with self.assertRaises(ac.ChainUnknown):
                ac.read_chain(url, TRUSTED)
        for url in ("http://127.0.0.1:1/", "http:///", "http://127.0.0.1:port/"):
            with self.assertRaises(ac.ChainFault, msg=url):
                ac.read_chain(url, TRUSTED)

    def test_what_is_no_http(self) -> None:
        for said in (b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"):
            with socket.create_server(("127.0.0.1", 0)) as server:

                def answer(server: socket.socket = server, said: bytes = said) -> None:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(said)

                answering = threading.Thread(target=answer)
                answering.start()
                with self.assertRaises(ac.ChainFault, msg=said):
                    ac.read_chain(f"http://127.0.0.1:{server.getsockname()[1]}/", TRUSTED)
                answering.join()


class Whole(unittest.TestCase):
    """Through `verify`, on a receipt of the published vectors that names a payment."""

    VECTOR: ClassVar[dict[str, Any]] = next(
        v
        for v in json.loads((Path(__file__).parent.parent / "vectors" / "receipts.json").read_text())["vectors"]
        if v["name"] == "accept: paid-chat"
    )

    def verify(self, chain: ac.Chain | None) -> av.Verdict:
        trust = av.parse_trust(self.VECTOR["trust"])
        receipt_ = base64.b64decode(self.VECTOR["receipt"])
        return av.verify(receipt_, trust, av.Policy(), self.VECTOR["now"], chain)

    def test_who_names_a_chain_wants_an_answer(self) -> None:
        self.assertEqual(self.verify(None).status, "verified")

        def away(method: str, params: list[Any]) -> Any:
            raise ac.ChainFault("chain_unavailable", "away")

        # Its payment has an id that no chain could know, so none is searched for it.
        verdict = self.verify(ac.Chain(8453, address("ba"), address("ca"), away))
        self.assertEqual((verdict.status, verdict.code), ("inconclusive", "payment_unsettled"))
        verdict = self.verify(ac.Chain(1, address("ba"), address("ca"), away))
        self.assertEqual((verdict.status, verdict.code), ("inconclusive", "payment_other_network"))

    def test_trust_names_contracts(self) -> None:
        parse: Callable[[Any], av.Trust] = av.parse_trust
        self.assertEqual(parse({"version": 1, "chains": [{"chain": NETWORK}]}).chains, {NETWORK: {}})
        twice = [{"chain": NETWORK, "contracts": {"a": "1"}}, {"chain": NETWORK, "contracts": {"a": "2"}}]
        self.assertEqual(parse({"version": 1, "chains": twice}).chains, {NETWORK: {"a": "1"}})
        for chains in ({}, [{}], [{"chain": 1}], [{"chain": "x", "contracts": []}], [{"chain": "x", "contracts": {"a": 1}}], [{"chain": "x", "more": 1}]):
            with self.assertRaises(av.TrustInvalid, msg=chains):
                parse({"version": 1, "chains": chains})


if __name__ == "__main__":
    unittest.main()
