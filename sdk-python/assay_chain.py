"""The checks of section 8.1 of `docs/spec/receipt.md`: a receipt's payment and anchor, with a chain and without one.

A check answers a `Result`: `pass`, `fail` or `inconclusive`, the verdict's code, and a sentence. What a chain is asked comes
from one node, which proves nothing of what it answers; every pass says so. `read_chain` alone opens connections.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import assay_evm as evm

# A transaction's receipt with the events of a full batch is some 100 kB; a node that answers more is not believed.
MAX_ANSWER, TIMEOUT_S, MAX_LOGS = 8 << 20, 10, 10_000
# Blocks searched for a settlement that the bundle does not name, and blocks asked for at once: public nodes refuse more.
SEARCH_BLOCKS, CHUNK_BLOCKS = 20_000, 900

SETTLED = evm.topic("PaymentSettled(bytes32,bytes32,address,address,address,uint256,bool,bytes)")
USED, MOVED = evm.topic("AuthorizationUsed(address,bytes32)"), evm.topic("Transfer(address,address,uint256)")
POSTED_AT = evm.selector("postedAt(bytes32)")
SETTLEMENT_TEXTS = (
    "paymentId", "payer", "network", "asset", "amountAtomic", "payTo", "scheme", "transaction", "blockNumber", "contract",
)  # fmt: skip
# The service statement's payment claim (section 4.2), by what a settlement's body calls the same thing.
CLAIM_KEYS = {"payer": 1, "paymentId": 2, "scheme": 3, "network": 4, "amountAtomic": 5, "asset": 6, "payTo": 8}
NODE = "as the asked node says"


class Result(NamedTuple):
    result: str
    code: str
    detail: str


def failed(code: str, detail: str) -> Result:
    return Result("fail", code, detail)


def doubtful(code: str, detail: str) -> Result:
    return Result("inconclusive", code, detail)


class ChainFault(Exception):
    """The node gave no usable answer; `code` is the verdict's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ChainUnknown(ValueError):
    """The chain's address is none, or the trust file names no contracts of that chain: bad use, not bad evidence."""


@dataclass(frozen=True)
class Chain:
    """A chain to be asked: `request(method, params)` gives a JSON-RPC result, the contracts are the trust file's."""

    chain_id: int
    payment_batcher: str
    receipt_anchor: str
    request: Callable[[str, list[Any]], Any]

    @property
    def network(self) -> str:
        return f"eip155:{self.chain_id}"


@dataclass(frozen=True)
class Paid:
    """What of a bundle these checks look at. `claim` is the service statement's payment, `settlements` each supplement's
    `refersTo` and body in order, `checkpoints` size and root of those that the execution's log proofs rely on."""

    execution_digest: bytes
    service_digest: bytes | None
    claim: Mapping[int, str] | None
    settlements: list[tuple[bytes, Mapping[str, Any]]]
    anchors: list[Any]
    anchor_supplement: bool
    log_indexes: list[int]
    checkpoints: list[tuple[int, bytes]]


# --- Without a chain --------------------------------------------------------------------------------------------------


def named(paid: Paid) -> list[tuple[bytes, Mapping[str, Any]]]:
    """The settlements of the form that section 8.1 defines: a body of another form is not interpreted."""
    return [(refers_to, body) for refers_to, body in paid.settlements if "paymentId" in body]


def settlement_fault(paid: Paid) -> Result | None:
    """Section 8.1, Settlement: each supplement settles the payment that the service statement names."""
    for refers_to, body in named(paid):
        texts = [body.get(name) for name in SETTLEMENT_TEXTS]
        if paid.claim is None or refers_to != paid.service_digest or any(type(t) is not str for t in texts):
            return failed("settlement_mismatch", "a settlement is of no payment of this receipt, or lacks a text")
        forms = evm.HASH.match(body["transaction"]) and re.fullmatch(r"0|[1-9][0-9]{0,15}", body["blockNumber"])
        if not forms or not evm.ADDRESS.match(body["contract"].lower()):
            return failed("settlement_mismatch", "a settlement names no transaction, block or contract")
        for name, key in CLAIM_KEYS.items():
            if key in paid.claim and body[name].lower() != paid.claim[key].lower():
                return failed("settlement_mismatch", f"a settlement states another {name} than the service statement")
    return None


def anchor_fault(paid: Paid, anchor: Any) -> Result | None:
    """Section 8.1, Anchor: one anchor, before any chain is asked."""
    if not evm.is_anchor(anchor):
        return doubtful("anchor_unknown", "an anchor is of a kind that is not known here")
    entry, leaf, claim = anchor["entry"], anchor["leaf"], paid.claim or {}
    payment, amount = claim.get(2, "0x" + "0" * 64), claim.get(5, "0")
    if leaf["executionDigest"] != paid.execution_digest or leaf["serviceDigest"] != paid.service_digest:
        return failed("anchor_leaf_mismatch", "the anchored leaf is of another statement")
    if "0x" + leaf["paymentId"].hex() != payment.lower() or leaf["amountAtomic"] != amount:
        return failed("anchor_leaf_mismatch", "the anchored leaf names another payment or amount")
    if paid.log_indexes and leaf["logIndex"] not in paid.log_indexes:
        return failed("anchor_leaf_mismatch", "the anchored leaf names another place in the log")
    if entry["leafCount"] == 0 or evm.proof_root(leaf, anchor["proof"]) != entry["root"]:
        return failed("anchor_proof_invalid", "the proof does not lead from the leaf to the entry's root")
    if any(size == entry["logSize"] and root != entry["logRoot"] for size, root in paid.checkpoints):
        return failed("anchor_log_conflict", "the entry gives the log another root than a checkpoint of the bundle")
    digest = evm.entry_hash(anchor["network"], anchor["contract"], entry)
    if "signature" in anchor and evm.recover_address(digest, anchor["signature"]) != entry["submitter"]:
        return failed("anchor_signature_invalid", "the entry is not signed by its submitter")
    return None


# --- With a chain -----------------------------------------------------------------------------------------------------


class Log(NamedTuple):
    address: str
    topics: list[str]
    data: bytes
    transaction: str
    index: int


def hexadecimal(value: Any, size: int | None = None) -> bytes:
    """The bytes of a JSON-RPC data value. Raises ChainFault."""
    if type(value) is not str or not re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", value) or size not in (None, len(value) // 2 - 1):
        raise ChainFault("chain_unavailable", "the node answered something else than bytes")
    return bytes.fromhex(value[2:])


def quantity(value: Any) -> int:
    """The number of a JSON-RPC quantity. Raises ChainFault."""
    if type(value) is not str or not re.fullmatch(r"0x[0-9a-fA-F]{1,13}", value):
        raise ChainFault("chain_unavailable", "the node answered something else than a number")
    return int(value, 16)


def parse_logs(value: Any) -> list[Log]:
    if type(value) is not list or len(value) > MAX_LOGS or any(type(v) is not dict or type(v.get("topics")) is not list for v in value):
        raise ChainFault("chain_unavailable", "the node answered something else than logs")
    return [
        Log(
            "0x" + hexadecimal(v.get("address"), 20).hex(),
            ["0x" + hexadecimal(t, 32).hex() for t in v["topics"][:5]],
            hexadecimal(v.get("data")),
            "0x" + hexadecimal(v.get("transactionHash"), 32).hex(),
            quantity(v.get("logIndex")),
        )
        for v in value
    ]


def receipt_of(chain: Chain, transaction: str) -> Mapping[str, Any] | None:
    """`ok`, `to`, `block` and `logs` of a mined transaction; None when the chain does not have it. Raises ChainFault."""
    answer = chain.request("eth_getTransactionReceipt", [transaction])
    if answer is None:
        return None
    if type(answer) is not dict or "0x" + hexadecimal(answer.get("transactionHash"), 32).hex() != transaction:
        raise ChainFault("chain_unavailable", "the node answered with another transaction")
    status, to = quantity(answer.get("status")), answer.get("to")
    if status not in (0, 1):
        raise ChainFault("chain_unavailable", "the node answered something else than a status")
    return {
        "ok": status == 1,
        "to": None if to is None else "0x" + hexadecimal(to, 20).hex(),
        "block": quantity(answer.get("blockNumber")),
        "logs": sorted(parse_logs(answer.get("logs")), key=lambda log: log.index),
    }


def calldata_of(chain: Chain, transaction: str) -> bytes:
    sent = chain.request("eth_getTransactionByHash", [transaction])
    return hexadecimal(sent.get("input") if type(sent) is dict else None)


class Settled(NamedTuple):
    """The event `PaymentSettled`."""

    payment_id: str
    receipt: str
    payer: str
    token: str
    pay_to: str
    amount: int
    ok: bool


def topic_address(topic: str) -> str:
    return "0x" + topic[-40:]


def settled_event(log: Log, batcher: str) -> Settled | None:
    if log.address != batcher or len(log.topics) != 4 or log.topics[0] != SETTLED:
        return None
    try:
        data = evm.Calldata(log.data)
        places = data.address(0), data.address(32), data.uint(64)
        data.string(data.uint(128))
        flag = data.uint(96)
    except ValueError:
        return None
    return Settled(log.topics[1], log.topics[2], topic_address(log.topics[3]), *places, flag == 1) if flag in (0, 1) else None


def search(chain: Chain, payment_id: str) -> str | None:
    """The latest transaction of the batcher that settled a payment. Raises ChainFault."""
    if not evm.HASH.match(payment_id):
        return None
    head = quantity(chain.request("eth_blockNumber", []))
    oldest = max(0, head - SEARCH_BLOCKS)
    for to in range(head, oldest - 1, -CHUNK_BLOCKS):
        asked = {"address": chain.payment_batcher, "topics": [SETTLED, payment_id]}
        blocks = {"fromBlock": hex(max(oldest, to - CHUNK_BLOCKS + 1)), "toBlock": hex(to)}
        for log in reversed(parse_logs(chain.request("eth_getLogs", [asked | blocks]))):
            event = settled_event(log, chain.payment_batcher)
            if event and event.ok and event.payment_id == payment_id:
                return log.transaction
    return None


def is_transfer(log: Log, claim: Mapping[int, str]) -> bool:
    """Whether a log of the asset moves the claimed amount from the payer to the recipient."""
    return (
        log.address == claim[6].lower()
        and len(log.topics) == 3
        and log.topics[0] == MOVED
        and topic_address(log.topics[1]) == claim[1].lower()
        and topic_address(log.topics[2]) == claim.get(8, topic_address(log.topics[2])).lower()
        and len(log.data) == 32
        and evm.is_amount(claim[5])
        and int.from_bytes(log.data, "big") == int(claim[5])
    )


def authorization_moved(chain: Chain, claim: Mapping[int, str], logs: list[Log]) -> bool | None:
    """Whether the token's next log, once the payment's own authorization was used, is its transfer (EIP-3009); None when
    it was not used."""
    mine = [log for log in logs if log.address == claim[6].lower()]
    found = None
    for used, moved in zip_longest(mine, mine[1:]):
        if len(used.topics) == 3 and used.topics[0] == USED and topic_address(used.topics[1]) == claim[1].lower():
            made = evm.nonce_payment_id(chain.chain_id, used.address, topic_address(used.topics[1]), bytes.fromhex(used.topics[2][2:]))
            if "0x" + made.hex() == claim[2].lower():
                found = found or (moved is not None and is_transfer(moved, claim))
    return found


def judge_moved(chain: Chain, claim: Mapping[int, str], receipt: Mapping[str, Any], service_digest: bytes, transaction: str) -> Result:
    """Section 8.1, Settlement, on a chain: `exact` and `upto`."""
    logs: list[Log] = receipt["logs"]
    places = [(i, e) for i, log in enumerate(logs) if (e := settled_event(log, chain.payment_batcher))]
    events = [e for _, e in places if e.payment_id == claim[2].lower()]
    event = next((e for e in events if e.ok), None)
    if event:
        compared = (
            ("payer", claim[1], event.payer),
            ("asset", claim[6], event.token),
            ("amount", claim[5], str(event.amount)),
            ("pay_to", claim.get(8, event.pay_to), event.pay_to),
            ("receipt", "0x" + service_digest.hex(), event.receipt),
        )
        for what, stated, found in compared:
            if stated.lower() != found:
                return failed(f"payment_{what}_mismatch", f"the chain has another {what.replace('_', ' ')} of the payment: {found}")
        end = next(i for i, e in places if e is event)
        start = max((i for i, _ in places if i < end), default=-1) + 1
        if not any(is_transfer(log, claim) for log in logs[start:end]):
            return failed("payment_not_settled", f"the batcher says so in {transaction}, and the token did not move")
        return Result("pass", "payment_settled", f"in {transaction}, block {receipt['block']}, for this receipt, {NODE}")
    authorized = authorization_moved(chain, claim, logs)
    own_nonce = authorized is True
    moved = any(is_transfer(log, claim) for log in logs)
    if not own_nonce and moved and receipt["to"] in evm.PERMIT_CALLS:
        made = evm.permit_payment_id(chain.chain_id, receipt["to"], calldata_of(chain, transaction))
        own_nonce = made is not None and "0x" + made.hex() == claim[2].lower()
    if own_nonce:
        return Result("pass", "payment_settled", f"in {transaction}, block {receipt['block']}, by somebody else, {NODE}")
    if moved and not events and authorized is None:
        return doubtful("payment_unlinked", f"the amount moved in {transaction}, and nothing says by which payment")
    return failed("payment_not_settled", f"{transaction} does not move the payment")


def judge_claimed(chain: Chain, claim: Mapping[int, str], receipt: Mapping[str, Any], transaction: str) -> Result:
    """Section 8.1, Settlement, on a chain: a voucher's charge."""
    if receipt["to"] != evm.CHANNELS:
        return doubtful("payment_contract_unknown", "the claim went through a contract that is not trusted here")
    parties = (claim[1].lower(), claim[6].lower())
    claims = [
        c
        for c in evm.channel_claims(calldata_of(chain, transaction))
        if (c.config[0], c.config[4]) == parties and c.config[2] == claim.get(8, c.config[2]).lower()
    ]
    if not claims:
        return failed("payment_not_settled", f"{transaction} claims from no channel of this payer")
    enough = next((c for c in claims if evm.is_amount(claim[5]) and c.total >= int(claim[5])), None)
    if enough is None:
        return failed("payment_amount_mismatch", "less was claimed from the channel than was charged")
    ids = {evm.voucher_payment_id(chain.chain_id, evm.channel_id(chain.chain_id, c.config), c.ceiling, c.signature) for c in claims}
    own = claim[2].lower() in {"0x" + made.hex() for made in ids}
    whose = "by this very voucher" if own else "with others; that this charge is in the sum is the gateway's word"
    return Result("pass", "payment_claimed", f"{enough.total} in all in {transaction}, block {receipt['block']}, {whose}, {NODE}")


def judge_transaction(chain: Chain, paid: Paid, claim: Mapping[int, str], transaction: str) -> Result:
    receipt = receipt_of(chain, transaction)
    if receipt is None:
        return failed("payment_not_on_chain", f"the chain has no transaction {transaction}")
    if not receipt["ok"]:
        return failed("payment_reverted", f"{transaction} reverted")
    if claim[3] == "batch-settlement":
        result = judge_claimed(chain, claim, receipt, transaction)
    else:
        result = judge_moved(chain, claim, receipt, paid.service_digest or b"", transaction)
    if result.result != "pass":
        return result
    above = max(0, quantity(chain.request("eth_blockNumber", [])) - receipt["block"])
    return result._replace(detail=f"{result.detail}; blocks above it: {above}")


def settle_on_chain(chain: Chain, paid: Paid, claim: Mapping[int, str]) -> Result:
    if claim[4] != chain.network:
        return doubtful("payment_other_network", f"the payment is on {claim[4][:40]} and not on {chain.network}")
    if claim[5] == "0":
        return Result("pass", "payment_of_nothing", "nothing was charged")
    settlements = named(paid)
    stated = settlements[-1][1]["transaction"] if settlements else None
    result = judge_transaction(chain, paid, claim, stated) if stated else None
    if (result is None or result.result != "pass") and claim[3] != "batch-settlement":
        found = search(chain, claim[2].lower())
        if found is not None and found != stated:
            result = judge_transaction(chain, paid, claim, found)
    return result or doubtful("payment_unsettled", "no settlement of this payment was found on the chain")


def anchor_on_chain(chain: Chain, anchor: Mapping[str, Any]) -> Result:
    if anchor["network"] != chain.network:
        return doubtful("anchor_other_network", f"the anchor is on {anchor['network']} and not on {chain.network}")
    if anchor["contract"] != chain.receipt_anchor:
        return doubtful("anchor_contract_unknown", "the anchor is in a contract that is not trusted here")
    digest = evm.entry_hash(anchor["network"], anchor["contract"], anchor["entry"])
    call = {"to": chain.receipt_anchor, "data": "0x" + (POSTED_AT + digest).hex()}
    answer = hexadecimal(chain.request("eth_call", [call, "latest"]))
    if len(answer) not in (0, 32):
        raise ChainFault("chain_unavailable", "the node answered something else than a time")
    if posted := int.from_bytes(answer, "big"):
        who = f"posted by {anchor['entry']['submitter']} at {posted} s"
        return Result("pass", "anchored", f"{who}, {NODE}")
    if "transaction" not in anchor:
        return doubtful("anchor_pending", "the batch was made and is not on the chain yet")
    return failed("anchor_not_on_chain", "the chain does not have the entry")


# --- Rows -------------------------------------------------------------------------------------------------------------


def asking(ask: Callable[[], Result]) -> Result:
    try:
        return ask()
    except ChainFault as fault:
        return doubtful(fault.code, str(fault))
    except ValueError:
        return doubtful("check_broke", "what the receipt states cannot be asked of a chain")


def payment_row(paid: Paid, chain: Chain | None) -> Result | None:
    """The row `payment`; None when nothing of the kind is stated."""
    claim = paid.claim
    if fault := settlement_fault(paid):
        return fault
    if claim is None:
        return None
    if chain is None:
        return doubtful("payment_unchecked", "no chain was asked whether the payment was settled")
    return asking(lambda: settle_on_chain(chain, paid, claim))


def anchor_row(paid: Paid, chain: Chain | None, blobs: Iterable[bytes] = ()) -> Result | None:
    """The row `anchor`: the first fault of all anchors, else the first open one; None when nothing is stated."""
    if not paid.anchors and not paid.anchor_supplement:
        return None
    if not paid.anchors:
        return doubtful("anchor_unknown" if chain else "anchor_unchecked", "an anchor is named and not carried")
    results = []
    for anchor in paid.anchors:
        fault = anchor_fault(paid, anchor)
        if fault is None and (why := next((why for blob in blobs if (why := evm.blob_fault(anchor, blob))), "")):
            fault = failed("anchor_blob_invalid", why)
        if fault is None and chain is None:
            signed = "its submitter signed the entry" if "signature" in anchor else "nobody's signature is on it"
            fault = doubtful("anchor_unchecked", f"the receipt is under the entry's root and {signed}; no chain was asked for it")
        results.append(fault or asking(lambda anchor=anchor: anchor_on_chain(chain, anchor)))  # type: ignore[arg-type, misc]
    return min(results, key=lambda r: ("fail", "inconclusive", "pass").index(r.result))


# --- JSON-RPC over HTTP -----------------------------------------------------------------------------------------------


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """What was asked of one node is not asked of another."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def read_within(response: Any, until: float) -> bytes:
    """A body of at most MAX_ANSWER bytes. A node that sends slowly for ever ends at `until`, as one that sends nothing does."""
    encoded = bytearray()
    while part := response.read1(1 << 16):
        encoded += part
        if len(encoded) > MAX_ANSWER or time.monotonic() > until:
            raise ValueError("too much, or too slow")
    return bytes(encoded)


def read_chain(url: str, contracts: Mapping[str, Mapping[str, str]]) -> Chain:
    """The chain at an http(s) address, with the contracts that the trust file names for its number. Raises ChainFault and
    ChainUnknown."""
    try:
        scheme = urllib.parse.urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise ChainUnknown("the chain's address is not http or https")
    opener = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))

    def request(method: str, params: list[Any]) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        asked = urllib.request.Request(url, body, {"content-type": "application/json", "accept": "application/json"})
        try:
            with opener.open(asked, timeout=TIMEOUT_S) as response:
                answer = json.loads(read_within(response, time.monotonic() + TIMEOUT_S))
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as cause:
            raise ChainFault("chain_unavailable", f"the chain's node gave no usable answer to {method}") from cause
        if type(answer) is not dict or answer.get("id") != 1 or ("result" in answer) == ("error" in answer):
            raise ChainFault("chain_unavailable", f"the chain's node gave no usable answer to {method}")
        if "error" in answer:
            raise ChainFault("chain_rpc_error", f"the chain's node refused {method}")
        return answer["result"]

    chain_id = quantity(request("eth_chainId", []))
    named = contracts.get(f"eip155:{chain_id}", {})
    batcher, anchor = (named.get(name, "").lower() for name in ("paymentBatcher", "receiptAnchor"))
    if not evm.ADDRESS.match(batcher) or not evm.ADDRESS.match(anchor):
        raise ChainUnknown(f"the trust file names no paymentBatcher and receiptAnchor of eip155:{chain_id}")
    return Chain(chain_id, batcher, anchor, request)
