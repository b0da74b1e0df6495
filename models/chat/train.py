"""Trains the chat model on conversations written by the generators beside this file, and writes the weights.

    python3 -m venv /tmp/chat-venv && /tmp/chat-venv/bin/pip install -r requirements.txt
    export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_ARENA_MAX=1
    /tmp/chat-venv/bin/python train.py --out /tmp/chat-weights   # weights.npz, a checkpoint every 100 steps
    /tmp/chat-venv/bin/python export.py /tmp/chat-weights/weights.npz

The three variables keep glibc from giving every step's memory back to the kernel, which halves the time of a step.
Matrices are trained with Muon (momentum made orthogonal), the embedding and the norms with Adam. The rate is level and
falls to zero over the last part. Only what the assistant says is learned.
"""

import argparse
import pathlib
import pickle
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import dialogue
import network

SEED = 20261121
STEPS = 4000
WARM = 100
FALLING = 0.6  # Share of the steps in which the rate falls.
MATRIX_RATE = 0.02
OTHER_RATE = 0.004
MOMENTUM = 0.95
DECAY = 0.02
EVERY = 100
# Rows, their length, and how many learned tokens a batch holds at most. Short conversations fill the first kind, those
# with tools the second; every sixteenth step the third takes the second's place, for the far positions.
SHORT, MIDDLE, LONG = (12, 160, 960), (3, 448, 640), (1, 1024, 640)
LONG_EVERY = 16
HERE = pathlib.Path(__file__).resolve().parent


class Packer:
    """Fills rows with whole conversations, each its own segment, from a generator seeded once."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.waiting = {"short": [], "middle": [], "long": []}

    def encoded(self, offered, messages):
        pieces = dialogue.written(messages, offered)
        tokens, learned = [], []
        for piece, (_, learn) in zip(self.tokenizer.encode_batch_fast([text for text, _ in pieces]), pieces):
            tokens += piece.ids
            learned += [learn] * len(piece.ids)
        return tokens, learned

    def more(self, kind):
        if kind == "long":
            self.put("long", self.encoded(*dialogue.long_conversation(self.r)))
            return
        tokens, learned = self.encoded(*dialogue.conversation(self.r))
        self.put(
            "short" if len(tokens) <= SHORT[1] + 1 else "middle" if len(tokens) <= MIDDLE[1] + 1 else "long",
            (tokens, learned),
        )

    def put(self, kind, item):
        if len(item[0]) <= LONG[1] + 1 and len(self.waiting[kind]) < 400:
            self.waiting[kind].append(item)

    def batch(self, kind, shape):
        rows, length, most = shape
        tokens = np.zeros((rows, length), np.int32)
        targets = np.zeros((rows, length), np.int32)
        wanted = np.zeros((rows, length), bool)
        positions = np.zeros((rows, length), np.int32)
        segments = np.zeros((rows, length), np.int32)
        waiting = self.waiting[kind]
        for row in range(rows):
            filled, segment = 0, 0
            while True:
                while len(waiting) < 48:
                    self.more(kind)
                # A conversation of n tokens takes n - 1 places: the last token is only predicted. The first of a row is
                # the one that waits longest, the others are the longest that fit.
                fitting = [i for i, (ids, _) in enumerate(waiting) if len(ids) - 1 <= length - filled]
                if not fitting:
                    break
                ids, learned = waiting.pop(max(fitting, key=lambda i: len(waiting[i][0])) if filled else 0)
                segment += 1
                n = len(ids) - 1
                part = slice(filled, filled + n)
                tokens[row, part], targets[row, part] = ids[:-1], ids[1:]
                wanted[row, part], positions[row, part], segments[row, part] = learned[1:], np.arange(n), segment
                filled += n
        places = np.flatnonzero(wanted.ravel())[:most]
        picked = np.zeros(most, np.int32)
        picked[: len(places)] = places
        weight = np.zeros(most, np.float32)
        weight[: len(places)] = 1
        return tokens, positions, segments, picked, targets.ravel()[picked], weight


def summed_loss(weights, batch):
    tokens, positions, segments, picked, targets, weight = batch
    hidden = network.hidden(weights, tokens, positions, segments, picked)
    scores = jax.nn.log_softmax(hidden @ weights["embed"].T)
    return -(jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0] * weight).sum()


def loss(weights, first, second):
    return (summed_loss(weights, first) + summed_loss(weights, second)) / (first[5].sum() + second[5].sum())


def orthogonal(matrix):
    """Five steps of the quintic Newton-Schulz iteration towards the nearest matrix with orthonormal rows."""
    wide = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if wide else matrix
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if wide else x


def parts(name):
    """Where a joined matrix is split, so that each of its matrices is made orthogonal by itself."""
    if name.endswith("qkv"):
        return [network.HEADS * network.HEAD, (network.HEADS + network.KV_HEADS) * network.HEAD]
    return [network.HIDDEN] if name.endswith("gate_up") else []


@jax.jit
def step(weights, state, first, second, rate, count):
    value, gradients = jax.value_and_grad(loss)(weights, first, second)
    new, kept = {}, {}
    for name, weight in weights.items():
        gradient = gradients[name]
        if weight.ndim == 2 and name != "embed":
            momentum = MOMENTUM * state[name][0] + gradient
            kept[name] = (momentum,)
            pieces = jnp.split(gradient + MOMENTUM * momentum, parts(name), axis=1)
            update = jnp.concatenate([orthogonal(p) * max(1.0, p.shape[1] / p.shape[0]) ** 0.5 for p in pieces], axis=1)
            new[name] = weight * (1 - rate * MATRIX_RATE * DECAY) - rate * MATRIX_RATE * update
        else:
            mean = 0.9 * state[name][0] + 0.1 * gradient
            square = 0.98 * state[name][1] + 0.02 * gradient * gradient
            kept[name] = (mean, square)
            corrected = (mean / (1 - 0.9**count)) / (jnp.sqrt(square / (1 - 0.98**count)) + 1e-8)
            new[name] = weight - rate * OTHER_RATE * corrected
    return new, kept, value


def rate_at(count, done):
    """The rate's share at a step, where done is the share of the run that is over."""
    return max(0.0, min(1.0, count / WARM, (1 - done) / FALLING))


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=pathlib.Path, required=True)
    asked.add_argument("--steps", type=int, default=STEPS)
    asked.add_argument("--resume", type=pathlib.Path)
    asked.add_argument(
        "--minutes", type=float, help="ends after this time instead of after --steps, with the rate at zero"
    )
    asked.add_argument(
        "--rate", type=float, default=1.0, help="share of the usual rates, for going on from weights that are done"
    )
    asked.add_argument("--seed", type=int, default=SEED)
    arguments = asked.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = network.initial(arguments.seed)
    state = {n: (np.zeros_like(w),) * (1 if w.ndim == 2 and n != "embed" else 2) for n, w in weights.items()}
    average, count = dict(weights), 0
    if arguments.resume:
        with open(arguments.resume, "rb") as file:
            weights, state, average, count = pickle.load(file)
    packer = Packer(arguments.seed + count)
    started, seen, losses = time.time(), 0, []
    done = count / arguments.steps if arguments.minutes is None else 0.0
    while done < 1:
        count += 1
        first = packer.batch("short", SHORT)
        second = packer.batch("long", LONG) if count % LONG_EVERY == 0 else packer.batch("middle", MIDDLE)
        weights, state, value = step(
            weights, state, first, second, np.float32(arguments.rate * rate_at(count, done)), np.float32(count)
        )
        losses.append(float(value))
        done = (
            count / arguments.steps if arguments.minutes is None else (time.time() - started) / 60 / arguments.minutes
        )
        seen += first[0].size + second[0].size
        if count % 10 == 0:
            # A mean over about the last 300 steps: what an early look at a level rate should use.
            average = {n: 0.967 * np.asarray(average[n]) + 0.033 * np.asarray(w) for n, w in weights.items()}
        if count % 50 == 0:
            print(
                f"step {count} loss {np.mean(losses[-50:]):.4f} done {done:.2f} tokens/s {seen / (time.time() - started):.0f} seconds {time.time() - started:.0f}",
                flush=True,
            )
        if count % EVERY == 0 or done >= 1:
            plain = {n: np.asarray(w) for n, w in weights.items()}
            with open(arguments.out / "state.pickle", "wb") as file:
                pickle.dump(
                    (plain, {n: tuple(np.asarray(x) for x in s) for n, s in state.items()}, average, count), file
                )
            np.savez(arguments.out / "average.npz", **average)
            np.savez(arguments.out / "weights.npz", **plain)


if __name__ == "__main__":
    main()
