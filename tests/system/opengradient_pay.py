"""Pays with OpenGradient's SDK and its x402 client, unchanged, and prints what they got.

Usage: opengradient_pay.py URL KEY UNAPPROVED; BASE_MAINNET_RPC names the chain, which has the number 8453. Both keys own OPG,
and Permit2 may take none of it yet. The operator binds OpenGradient's name gpt-5-mini to a model with a price in OPG.
"""

import asyncio
import json
import sys
from types import SimpleNamespace

import opengradient as og
from eth_account import Account
from opengradient.client.llm import LLM
from opengradient.client.opg_token import ensure_opg_approval
from x402 import x402Client
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client

URL, KEY, UNAPPROVED = sys.argv[1:4]
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
MODEL = og.TEE_LLM.GPT_5_MINI
# This version has no name for it any more, and still reads what comes back for it.
INDIVIDUAL = SimpleNamespace(value="individual")
BODY = {"model": "gpt-5-mini", "messages": QUESTION, "max_tokens": 32, "temperature": 0.0}


def headers_of(response) -> dict:
    """What an answer says of itself; the SDK keeps only a part of it."""
    names = {
        "receiptId": "assay-receipt-id",
        "grant": "assay-grant",
        "payment": "payment-response",
        "transaction": "x-settlement-tx-hash",
        "blob": "x-settlement-walrus-blob-id",
    }
    return {name: response.headers.get(header) for name, header in names.items()}


async def main() -> dict:
    approved = ensure_opg_approval(Account.from_key(KEY), min_allowance=1.0, approve_amount=5.0)
    again = ensure_opg_approval(Account.from_key(KEY), min_allowance=1.0)

    llm = LLM.from_url(private_key=KEY, llm_server_url=URL)
    paid = []

    async def watch(response) -> None:
        paid.append(headers_of(response))

    client = llm._tee.get().http_client
    client.event_hooks["response"].append(watch)
    answers = {}
    for mode in (og.x402SettlementMode.PRIVATE, og.x402SettlementMode.BATCH_HASHED, INDIVIDUAL):
        chat = await llm.chat(model=MODEL, messages=QUESTION, max_tokens=32, x402_settlement_mode=mode)
        answers[mode.value] = {
            "text": chat.chat_output["content"],
            "transaction": chat.data_settlement_transaction_hash,
            "blob": chat.data_settlement_blob_id,
            **paid[-1],
        }
    chunks = [chunk async for chunk in await llm.chat(model=MODEL, messages=QUESTION, max_tokens=32, stream=True)]
    streamed = {
        "text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
        "finals": sum(chunk.is_final for chunk in chunks),
        **paid[-1],
    }
    completion = await llm.completion(model=MODEL, prompt="17 + 25 =", max_tokens=8)
    completed = {"text": completion.completion_output, **paid[-1]}
    async with client.stream("POST", f"{URL}/v1/chat/completions", json={**BODY, "stream": True}) as response:
        raw = {"text": (await response.aread()).decode(), **paid[-1]}
    await llm.close()

    # The same library with exact alone.
    only = x402Client()
    register_exact_evm_client(only, EthAccountSigner(Account.from_key(KEY)), networks=["eip155:8453"])
    async with x402HttpxClient(only) as http:
        response = await http.post(f"{URL}/v1/chat/completions", json=BODY)
        exact = {"text": response.json()["choices"][0]["message"]["content"], **headers_of(response)}

    poor = LLM.from_url(private_key=UNAPPROVED, llm_server_url=URL)
    try:
        await poor.chat(model=MODEL, messages=QUESTION, max_tokens=8)
        refused = None
    except RuntimeError as error:
        refused = str(error)
    await poor.close()
    return {
        "allowance": [str(approved.allowance_before), str(approved.allowance_after), str(again.allowance_before)],
        "approvals": [approved.tx_hash, again.tx_hash],
        "answers": answers,
        "streamed": streamed,
        "completion": completed,
        "raw": raw,
        "exact": exact,
        "refused": refused,
    }


print(json.dumps(asyncio.run(main())))
