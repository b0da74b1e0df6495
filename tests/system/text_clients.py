"""Speaks to a gateway with OpenAI's Python client and OpenGradient's SDK, unchanged, and prints what they understood.

Usage: text_clients.py URL MODEL EMBEDDING_MODEL
MODEL answers chat; OpenGradient's names for models (gpt-5-mini) must be bound to it by the caller.
"""

import asyncio
import json
import sys

import openai
import opengradient as og
from opengradient.client.llm import LLM

URL, MODEL, EMBEDDING_MODEL = sys.argv[1:4]
# A key of no value: nothing is paid here. OpenGradient's client only wants to be given one.
KEY = "0x" + "11" * 32
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 24}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def with_openai() -> dict:
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-none", max_retries=0)
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=32)
    plain = raw.parse()
    pieces, usage, reasons = [], None, []
    for chunk in client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    ):
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
        usage = chunk.usage or usage
    shaped = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=64,
        seed=7,
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA, "strict": True}},
    )
    asked_for_tool = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    called = client.chat.completions.create(**asked_for_tool)
    streamed_call = ["", ""]
    for chunk in client.chat.completions.create(**asked_for_tool, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            streamed_call[0] += call.function.name or ""
            streamed_call[1] += call.function.arguments or ""
    legacy = client.completions.create(model=MODEL, prompt="17 + 25 =", max_tokens=8, temperature=0)
    response = client.responses.create(model=MODEL, input="What is 17 + 25?", temperature=0, max_output_tokens=32)
    events = [event.type for event in client.responses.create(model=MODEL, input="Hello", max_output_tokens=16, stream=True)]
    vectors = client.embeddings.create(model=EMBEDDING_MODEL, input=["a receipt", "a signed record"])
    numbers = client.embeddings.create(model=EMBEDDING_MODEL, input=["a receipt"], encoding_format="float")
    refused = {}
    for name, arguments in {
        "unknown_model": {"model": "nobody/none"},
        "unsupported": {"model": MODEL, "reasoning_effort": "high"},
        "invalid": {"model": MODEL, "temperature": 3},
    }.items():
        try:
            client.chat.completions.create(messages=QUESTION, **arguments)
            refused[name] = None
        except openai.APIStatusError as error:
            refused[name] = {"status": error.status_code, "code": error.code, "type": error.type, "param": error.param}
    return {
        "receiptId": raw.headers["assay-receipt-id"],
        "grant": raw.headers["assay-grant"],
        "id": plain.id,
        "text": plain.choices[0].message.content,
        "finish": plain.choices[0].finish_reason,
        "usage": plain.usage.model_dump(exclude_none=True),
        "streamed": "".join(pieces),
        "streamUsage": usage.model_dump(exclude_none=True) if usage else None,
        "streamFinish": reasons,
        "json": shaped.choices[0].message.content,
        "tool": [call.function.model_dump() for call in called.choices[0].message.tool_calls or []],
        "toolFinish": called.choices[0].finish_reason,
        "streamedTool": streamed_call,
        "completion": legacy.choices[0].text,
        "response": response.output_text,
        "responseStatus": response.status,
        "events": events,
        "vectors": [len(item.embedding) for item in vectors.data],
        "sameVector": max(abs(a - b) for a, b in zip(vectors.data[0].embedding, numbers.data[0].embedding)) < 1e-6,
        "models": [model.id for model in client.models.list()],
        "refused": refused,
    }


async def with_opengradient() -> dict:
    llm = LLM.from_url(private_key=KEY, llm_server_url=URL)
    model = og.TEE_LLM.GPT_5_MINI
    chat = await llm.chat(model=model, messages=QUESTION, max_tokens=32)
    tools = await llm.chat(
        model=model, messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[TOOL], max_tokens=64
    )
    shaped = await llm.chat(
        model=model,
        messages=QUESTION,
        max_tokens=64,
        response_format=og.ResponseFormat(type="json_schema", json_schema={"name": "sum", "schema": SCHEMA}),
    )
    chunks = [chunk async for chunk in await llm.chat(model=model, messages=QUESTION, max_tokens=32, stream=True)]
    wrapped = [
        chunk
        async for chunk in await llm.chat(
            model=model,
            messages=[{"role": "user", "content": "What is the weather in Paris?"}],
            tools=[TOOL],
            max_tokens=64,
            stream=True,
        )
    ]
    completion = await llm.completion(model=model, prompt="17 + 25 =", max_tokens=8)
    try:
        await llm.chat(model="openai/none-such", messages=QUESTION)
        unknown = None
    except RuntimeError as error:
        unknown = str(error)
    await llm.close()
    return {
        "chat": chat.chat_output,
        "finish": chat.finish_reason,
        "usage": chat.usage,
        "toolFinish": tools.finish_reason,
        "toolCalls": tools.chat_output.get("tool_calls") or [],
        "json": shaped.chat_output["content"],
        "streamed": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
        "finals": sum(1 for c in chunks if c.is_final),
        "finalUsage": chunks[-1].usage is not None,
        "wrapped": len(wrapped),
        "wrappedFinish": wrapped[-1].choices[0].finish_reason,
        "completion": completion.completion_output,
        "unknown": unknown,
    }


async def with_langchain() -> dict:
    from opengradient.agents.og_langchain import OpenGradientChatModel

    model = OpenGradientChatModel(
        client=LLM.from_url(private_key=KEY, llm_server_url=URL), model_cid=og.TEE_LLM.GPT_5_MINI, max_tokens=32
    )
    answer = await model.ainvoke("What is 17 + 25?")
    streamed = "".join([str(piece.content) async for piece in model.astream("What is 17 + 25?")])
    bound = await model.bind_tools([TOOL]).ainvoke("What is the weather in Paris?")
    return {"text": answer.content, "streamed": streamed, "toolCalls": len(bound.tool_calls)}


print(
    json.dumps(
        {
            "openai": with_openai(),
            "opengradient": asyncio.run(with_opengradient()),
            "langchain": asyncio.run(with_langchain()),
        }
    )
)
