"""Makes tokenizer.json: byte-level BPE, digits one by one, no piece that joins a space to a word.

    python vocabulary.py

The merges are learned with spaces split off, so that a word has the same pieces at the start of a line, after a space
and inside JSON quotes: copying is then the same piece again, which a small model learns soonest. What is written into
the file is the plain pre-tokenizer "digits, then GPT-2's expression" (llama.cpp calls it "smollm"), under which these
merges give the same pieces.

The file belongs to the weights: made again after the generators changed, it numbers other pieces and the weights are
of no use with it. The one here was made before the last changes of the mixture.
"""

import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import dialogue
import network

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tools>", "</tools>", "<tool_call>", "</tool_call>")
HERE = pathlib.Path(__file__).resolve().parent
CONVERSATIONS = 30000


def texts():
    r = random.Random(20261121)
    for _ in range(CONVERSATIONS):
        offered, messages = dialogue.conversation(r)
        yield "".join(text for text, _ in dialogue.written(messages, offered))


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}|\p{L}+| ?[!-/:-@\[-`{-~]+|.|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=network.VOCABULARY,
        special_tokens=list(SPECIAL + TAGS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.add_special_tokens(list(SPECIAL + TAGS))
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    held = json.loads(tokenizer.to_str())
    for token in held["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    (HERE / "tokenizer.json").write_text(json.dumps(held, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
