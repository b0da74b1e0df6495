"""Checks that what is shipped computes the same thing everywhere, and prints the largest differences of logits.

    python check.py weights.npz

Compares onnxruntime with JAX, one call with token by token, a left-padded batch with single rows, and the chat template
with the text that training used.
"""

import pathlib
import random
import sys

import numpy as np
import onnxruntime

import dialogue
import export
import network as n
import template

HERE = pathlib.Path(__file__).resolve().parent


def session(threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(HERE / "model.onnx", options, providers=["CPUExecutionProvider"])


def empty(batch):
    return {
        f"past_key_values.{i}.{part}": np.zeros((batch, n.KV_HEADS, 0, n.HEAD), np.float32)
        for i in range(n.LAYERS)
        for part in ("key", "value")
    }


def run(model, ids, mask=None, positions=None, past=None):
    """Logits and the new past of int64 [batch, new] after a past."""
    ids = np.asarray(ids, np.int64)
    past = past or empty(len(ids))
    before = next(iter(past.values())).shape[2]
    if mask is None:
        mask = np.ones((len(ids), before + ids.shape[1]), np.int64)
    if positions is None:
        positions = np.tile(np.arange(before, before + ids.shape[1]), (len(ids), 1))
    out = model.run(
        None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions.astype(np.int64), **past}
    )
    return out[0], dict(zip(past, out[1:]))


def main():
    import jax.numpy as jnp

    with np.load(sys.argv[1]) as file:
        weights = {
            name: w.astype(np.float32) for name, w in export.rounded({name: file[name] for name in file.files}).items()
        }
    model = session()
    r = np.random.Generator(np.random.PCG64(7))
    ids = r.integers(0, n.VOCABULARY, (2, 300))
    reference = np.asarray(
        n.logits(
            {k: jnp.asarray(w) for k, w in weights.items()},
            ids,
            np.tile(np.arange(300), (2, 1)),
            np.zeros((2, 300), np.int32),
        )
    )
    whole, _ = run(model, ids)
    print("onnxruntime and JAX", np.abs(whole - reference).max())
    past, steps = None, []
    for start, stop in [(0, 100), (100, 160), *((i, i + 1) for i in range(160, 300))]:
        out, past = run(model, ids[:, start:stop], past=past)
        steps.append(out)
    print("whole and in chunks, then token by token", np.abs(whole - np.concatenate(steps, axis=1)).max())
    lengths = [300, 211, 77, 5]
    padded, mask, positions = np.zeros((4, 300), np.int64), np.zeros((4, 300), np.int64), np.zeros((4, 300), np.int64)
    for row, length in enumerate(lengths):
        padded[row, -length:], mask[row, -length:], positions[row, -length:] = ids[0, :length], 1, np.arange(length)
    together, past = run(model, padded, mask, positions)
    print(
        "left-padded batch of 4 and single",
        max(
            np.abs(together[row, -length:] - run(model, ids[:1, :length])[0][0]).max()
            for row, length in enumerate(lengths)
        ),
    )
    following = np.array([[5], [6], [7], [8]])
    after, _ = run(
        model, following, np.concatenate([mask, np.ones((4, 1), np.int64)], axis=1), np.array(lengths)[:, None], past
    )
    alone = [
        run(model, following[row : row + 1], past=run(model, ids[:1, :length])[1])[0]
        for row, length in enumerate(lengths)
    ]
    print("and the step after it", max(np.abs(after[row] - alone[row][0]).max() for row in range(4)))
    far, _ = run(model, r.integers(0, n.VOCABULARY, (1, n.CONTEXT)))
    print("all positions", np.isfinite(far).all())
    d = random.Random(3)
    for _ in range(2000):
        offered, messages = dialogue.conversation(d)
        asked = messages[: d.randint(1, len(messages))]
        if template.render(asked, offered, True) != "".join(text for text, _ in dialogue.written(asked, offered, True)):
            raise SystemExit("the template writes another text than training")
    print("template and training text: 2000 alike")


if __name__ == "__main__":
    main()
