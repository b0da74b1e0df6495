"""Trains the encoder on pairs written by sentences.py and writes weights.npz.

    python3 -m venv /tmp/embed-venv && /tmp/embed-venv/bin/pip install -r requirements.txt
    /tmp/embed-venv/bin/python vocabulary.py                 # tokenizer.json
    /tmp/embed-venv/bin/python train.py /tmp/weights.npz     # some minutes on two cores
    /tmp/embed-venv/bin/python export.py /tmp/weights.npz    # model.onnx and the configuration
    /tmp/embed-venv/bin/python evaluate.py                   # held-out.json

Contrastive: of all second texts of a batch, the first text must lie nearest to its own. Texts of the batch with the
same meaning (for topics: of the same topic) are no mistakes and are left out of the comparison.
"""

import pathlib
import random
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import network
import sentences

SEED = 20261121
STEPS = 500
BATCH = 192
LENGTH = 16
LONG = 160  # Every eighth step: longer texts, fewer of them.
LONG_BATCH = 32
RATE = 2e-3
TEMPERATURE = 0.06
HERE = pathlib.Path(__file__).resolve().parent


def filled(tokenizer, texts, length):
    """Tokens and mask int32 [texts, length]; what is longer is cut."""
    tokens, mask = np.zeros((len(texts), length), np.int32), np.zeros((len(texts), length), np.float32)
    for row, encoding in enumerate(tokenizer.encode_batch(texts)):
        ids = encoding.ids[:length]
        tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
    return tokens, mask


def group(meant):
    return meant[:2] if meant[0] == "topic" else meant


def batch(r, tokenizer, size, length):
    pairs = []
    while len(pairs) < size:
        kind = r.choices(sentences.KINDS, (45, 40, 15))[0]
        pairs.append(sentences.pair(r, kind, False))
        # A near miss beside it: the same action on another thing, the same person with another fact.
        if kind == "action" and r.random() < 0.5 and len(pairs) < size:
            meant = pairs[-1][0]
            near = (
                ("action", meant[1], r.randrange(len(sentences.THINGS)))
                if r.random() < 0.5
                else ("action", r.randrange(len(sentences.ACTIONS)), meant[2])
            )
            if near != meant and not sentences.held_out(near):
                pairs.append((near, sentences.surface(r, near), sentences.surface(r, near)))
    groups = [group(meant) for meant, _, _ in pairs]
    # A question about a fact leaves its value out, so any fact of that relation and person answers it.
    loose = [(g[:3] if g[0] == "fact" else g) for g in groups]
    same = np.array([[a == b for b in loose] for a in loose]) & ~np.eye(size, dtype=bool)
    return (
        *filled(tokenizer, [first for _, first, _ in pairs], length),
        *filled(tokenizer, [second for _, _, second in pairs], length),
        same,
    )


def loss(weights, first, first_mask, second, second_mask, same):
    a, b = network.encode(weights, first, first_mask), network.encode(weights, second, second_mask)
    scores = jnp.where(same, -1e9, a @ b.T / TEMPERATURE)
    place = jnp.arange(len(scores))
    one = lambda s: -jax.nn.log_softmax(s, axis=1)[place, place].mean()
    return (one(scores) + one(scores.T)) / 2


@jax.jit
def step(weights, state, rate, count, *data):
    value, gradients = jax.value_and_grad(loss)(weights, *data)
    new, kept = {}, {}
    for name, weight in weights.items():
        mean = 0.9 * state[name][0] + 0.1 * gradients[name]
        square = 0.99 * state[name][1] + 0.01 * gradients[name] ** 2
        kept[name] = (mean, square)
        update = (mean / (1 - 0.9**count)) / (jnp.sqrt(square / (1 - 0.99**count)) + 1e-8)
        new[name] = weight - rate * (update + (0.02 * weight if weight.ndim == 2 else 0))
    return new, kept, value


def main():
    r = random.Random(SEED)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    weights = network.initial(SEED)
    state = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    started, losses = time.time(), []
    for count in range(1, steps + 1):
        data = batch(r, tokenizer, LONG_BATCH, LONG) if count % 8 == 0 else batch(r, tokenizer, BATCH, LENGTH)
        rate = RATE * min(1, count / 100) * (0.5 + 0.5 * np.cos(np.pi * count / steps))
        weights, state, value = step(weights, state, np.float32(rate), np.float32(count), *data)
        losses.append(float(value))
        if count % 100 == 0:
            print(f"step {count} loss {np.mean(losses[-100:]):.4f} seconds {time.time() - started:.0f}", flush=True)
    np.savez(sys.argv[1], **{name: np.asarray(w) for name, w in weights.items()})


if __name__ == "__main__":
    main()
