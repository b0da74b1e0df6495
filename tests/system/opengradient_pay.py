"""Pays with OpenGradient's SDK and its x402 client, unchanged, and prints what they got.

Usage: opengradient_pay.py URL KEY; BASE_MAINNET_RPC names the chain, which has the number 8453.
The operator binds OpenGradient's name gpt-5-mini to a priced model.
"""

import asyncio
import json
import sys

import opengradient as og
from eth_account import Account
from opengradient.client.llm import LLM
from opengradient.client.opg_token import ensure_opg_approval

URL, KEY = sys.argv[1:3]
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


async def main() -> dict:
    approved = ensure_opg_approval(Account.from_key(KEY), min_allowance=1.0, approve_amount=5.0)
    again = ensure_opg_approval(Account.from_key(KEY), min_allowance=1.0)
    llm = LLM.from_url(private_key=KEY, llm_server_url=URL)
    model = og.TEE_LLM.GPT_5_MINI
    answers = {}
    for mode in (og.x402SettlementMode.PRIVATE, og.x402SettlementMode.BATCH_HASHED, og.x402SettlementMode.INDIVIDUAL_FULL):
        chat = await llm.chat(model=model, messages=QUESTION, max_tokens=32, x402_settlement_mode=mode)
        answers[mode.value] = {
            "text": chat.chat_output["content"],
            "transaction": chat.data_settlement_transaction_hash,
            "blob": chat.data_settlement_blob_id,
        }
    chunks = [chunk async for chunk in await llm.chat(model=model, messages=QUESTION, max_tokens=32, stream=True)]
    completion = await llm.completion(model=model, prompt="17 + 25 =", max_tokens=8)
    await llm.close()
    poor = LLM.from_url(private_key="0x" + "22" * 32, llm_server_url=URL)
    try:
        await poor.chat(model=model, messages=QUESTION, max_tokens=8)
        refused = None
    except RuntimeError as error:
        refused = str(error)
    await poor.close()
    return {
        "allowance": [approved.allowance_before, approved.allowance_after, again.allowance_before],
        "approvalTx": [approved.tx_hash, again.tx_hash],
        "answers": answers,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
        "completion": completion.completion_output,
        "refused": refused,
    }


print(json.dumps(asyncio.run(main())))
