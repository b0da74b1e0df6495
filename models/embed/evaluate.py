"""Measures model.onnx on held-out meanings and writes held-out.json.

    python evaluate.py

For each kind: 500 held-out pairs with distinct meanings. For every first text, all 500 second texts are ranked; "first"
counts how often its own stands at the top, "within ten" how often among ten. Words in common, the baseline, is the
cosine of word counts weighted by rarity (TF-IDF over the same texts). For topics it counts whether the nearest second
text is of the same topic.
"""

import json
import pathlib
import random
import re

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

import network
import sentences
import train

HERE = pathlib.Path(__file__).resolve().parent
PAIRS = 500
# Sentences no generator wrote: what is to be expected of ordinary text.
FREE = (
    ("My bicycle has a flat tire", "How to repair a puncture on your bike"),
    ("I forgot the password of my account", "Reset your login in three steps"),
    ("Which doctor treats a broken bone?", "The hospital has a surgeon for fractures"),
    ("The stock market fell sharply", "Investors lost a lot of money today"),
    ("Will it rain tomorrow?", "The forecast says heavy showers and wind"),
    ("We want to rent a flat near the sea", "Apartments on the coast, by the month"),
    ("Our team won the final", "The players celebrated their victory in the stadium"),
    ("The laptop screen stays dark", "What to do when your computer shows no picture"),
    ("Where can I park my car?", "Garages and spaces for vehicles in the centre"),
    ("How long do I boil an egg?", "Kitchen basics: cooking times"),
    ("The violin concert was sold out", "No tickets left for the orchestra"),
    ("My tomatoes do not grow", "Watering and feeding vegetable plants"),
    ("The court found him guilty", "The jury returned its verdict"),
    ("When does my parcel arrive?", "Track a shipment with its number"),
    ("She teaches children to read", "A lesson in the primary school"),
    ("Send back the shoes that do not fit", "Returns: how to give back an order"),
)
SAMPLES = 12


def embedded(model, tokenizer, texts):
    encodings = tokenizer.encode_batch(texts)
    longest = min(network.CONTEXT, max(len(e.ids) for e in encodings))
    tokens, mask = train.filled(tokenizer, texts, longest)
    return model.run(None, {"input_ids": tokens.astype(np.int64), "attention_mask": mask.astype(np.int64)})[0]


def counted(texts):
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    place = {word: i for i, word in enumerate(sorted({w for ws in words for w in ws}))}
    table = np.zeros((len(texts), len(place)))
    for row, ws in enumerate(words):
        for word in ws:
            table[row, place[word]] += 1
    table *= np.log(len(texts) / (table > 0).sum(axis=0))
    return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)


def held_pairs(kind):
    r = random.Random(f"7 {kind}")
    found, seen = [], set()
    while len(found) < PAIRS:
        pair = sentences.pair(r, "fact" if kind == "question to fact" else kind, True)
        # A question names the relation and the person, not the value: its answer is one fact alone.
        key = pair[0][:3] if pair[0][0] == "fact" else pair[0]
        if key in seen and (kind != "action" or len(seen) == len(sentences.ACTIONS) * len(sentences.THINGS)):
            continue
        if kind == "action" and pair[0] in seen:
            continue
        if kind == "question to fact":
            pair = (pair[0], sentences.surface(r, pair[0], True), sentences.surface(r, pair[0], False))
        elif kind == "fact":
            pair = (pair[0], sentences.surface(r, pair[0], False), sentences.surface(r, pair[0], False))
            if pair[1].lower().rstrip(".") == pair[2].lower().rstrip("."):
                continue
        seen.add(key)
        found.append(pair)
        if kind == "action" and len(found) >= 120:
            break
    return found


def measured(kind, pairs, first, second):
    scores = first @ second.T
    order = np.argsort(-scores, axis=1)
    if kind == "topic":
        topics = np.array([meant[1] for meant, _, _ in pairs])
        return {"same topic first": round(float((topics[order[:, 0]] == topics).mean()), 4)}
    rank = (order == np.arange(len(pairs))[:, None]).argmax(axis=1)
    return {"first": round(float((rank == 0).mean()), 4), "within ten": round(float((rank < 10).mean()), 4)}


def main():
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    model = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    report, samples = {}, []
    for kind in ("action", "fact", "question to fact", "topic"):
        pairs = held_pairs(kind)
        first, second = [a for _, a, _ in pairs], [b for _, _, b in pairs]
        words = counted(first + second)
        report[kind] = {
            "pairs": len(pairs),
            "model": measured(kind, pairs, embedded(model, tokenizer, first), embedded(model, tokenizer, second)),
            "words in common": measured(kind, pairs, words[: len(pairs)], words[len(pairs) :]),
        }
        print(kind, json.dumps(report[kind]), flush=True)
        samples += [{"kind": kind, "query": a, "match": b} for _, a, b in pairs[:SAMPLES]]
    first, second = [a for a, _ in FREE], [b for _, b in FREE]
    words = counted(first + second)
    free = [(("free", i), a, b) for i, (a, b) in enumerate(FREE)]
    report["sentences no generator wrote"] = {
        "pairs": len(FREE),
        "model": measured("free", free, embedded(model, tokenizer, first), embedded(model, tokenizer, second)),
        "words in common": measured("free", free, words[: len(FREE)], words[len(FREE) :]),
    }
    print("free", json.dumps(report["sentences no generator wrote"]))
    lines = ",\n".join("  " + json.dumps(sample) for sample in samples)
    measures = ",\n".join(f"  {json.dumps(kind)}: {json.dumps(value)}" for kind, value in report.items())
    (HERE / "held-out.json").write_text(f'{{\n"accuracy": {{\n{measures}\n}},\n"pairs": [\n{lines}\n]\n}}\n')


if __name__ == "__main__":
    main()
