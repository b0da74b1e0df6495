"""Makes tokenizer.json: lower case, then byte-level BPE with GPT-2's expression, words with their space.

python vocabulary.py
"""

import json
import pathlib
import random

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import network
import sentences

SPECIAL = ("<|pad|>",)
HERE = pathlib.Path(__file__).resolve().parent


def texts():
    r = random.Random(20261121)
    for i in range(60000):
        _, first, second = sentences.pair(r, sentences.KINDS[i % 3], False)
        yield first
        yield second


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=network.VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    (HERE / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=1) + "\n"
    )
    print(tokenizer.get_vocab_size(), "tokens")


if __name__ == "__main__":
    main()
