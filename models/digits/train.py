"""Trains the digit model and writes model.onnx and the held-out set beside this file.

    python3 -m venv /tmp/digits && /tmp/digits/bin/pip install -r requirements.txt
    /tmp/digits/bin/python train.py            # the released model
    /tmp/digits/bin/python train.py --validate # trains on the training part alone and prints validation accuracy

One thread and fixed seeds: the same machine writes the same bytes every time.
"""

import os

# Before numpy loads its matrix library: one thread and one kernel family, so that sums keep their order.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import augment
import data
import network

SEED = 20261121
EPOCHS = 120
BATCH = 64
RATE = 2e-3
DECAY = 1e-3
SMOOTHING = 0.05
DROP = 0.3
PLAIN = 0.25  # Share of each batch shown as it is, without augmentation.


def train(images, labels, report=None):
    """Weights by name after EPOCHS passes over float32 [n, 8, 8] and int64 [n]."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    weights, moments, step = network.initial(generator), {}, 0
    fine = augment.upscale(images)
    steps = EPOCHS * (len(images) // BATCH)
    for epoch in range(EPOCHS):
        order = generator.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            batch = augment.augment(fine[rows], generator)
            plain = generator.random(BATCH) < PLAIN
            batch[plain] = images[rows][plain]
            drop = (generator.random((BATCH, network.CHANNELS[2] * 16)) >= DROP).astype(np.float32) / (1 - DROP)
            logits, kept = network.forward(weights, batch, drop.astype(np.float32))
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            wanted = np.full((BATCH, 10), SMOOTHING / 10, np.float32)
            wanted[np.arange(BATCH), labels[rows]] += 1 - SMOOTHING
            gradient = (shifted / shifted.sum(axis=1, keepdims=True) - wanted) / BATCH
            step += 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            network.adam(weights, network.backward(weights, gradient.astype(np.float32), kept), moments, step, rate, DECAY)
        if report is not None and (epoch + 1) % 20 == 0:
            report(epoch + 1, weights)
    return weights


def accuracy(weights, images, labels):
    return float((network.forward(weights, images)[0].argmax(axis=1) == labels).mean())


def graph(weights):
    """The ONNX model: image float32 [batch, 1, 8, 8] to logits, probabilities and label."""
    nodes = [
        # Ink below nothing or above full does not exist; a caller's overshoot is cut here rather than trusted.
        helper.make_node("Clip", ["image", "zero", "one"], ["ink"]),
        conv("ink", "conv1", "a"),
        helper.make_node("Relu", ["a"], ["a.relu"]),
        conv("a.relu", "conv2", "b"),
        helper.make_node("Relu", ["b"], ["b.relu"]),
        helper.make_node("MaxPool", ["b.relu"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("pooled", "conv3", "c"),
        helper.make_node("Relu", ["c"], ["c.relu"]),
        helper.make_node("Flatten", ["c.relu"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "dense1.weight", "dense1.bias"], ["d"], transB=1),
        helper.make_node("Relu", ["d"], ["d.relu"]),
        helper.make_node("Gemm", ["d.relu", "dense2.weight", "dense2.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    value = helper.make_tensor_value_info
    initializers = [numpy_helper.from_array(weights[name], name) for name in sorted(weights)]
    initializers += [numpy_helper.from_array(np.float32(number), name) for name, number in (("zero", 0), ("one", 1))]
    body = helper.make_graph(
        nodes,
        "digits",
        [value("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [
            value("logits", TensorProto.FLOAT, ["batch", 10]),
            value("probabilities", TensorProto.FLOAT, ["batch", 10]),
            value("label", TensorProto.INT64, ["batch"]),
        ],
        initializers,
    )
    model = helper.make_model(
        body, producer_name="assay", producer_version="1", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def conv(source, name, target):
    return helper.make_node(
        "Conv", [source, f"{name}.weight", f"{name}.bias"], [target], kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )


def main():
    here = pathlib.Path(__file__).resolve().parent
    (train_x, train_y), (valid_x, valid_y), (held_x, held_y) = data.load()
    if "--validate" in sys.argv:
        train(train_x, train_y, lambda epoch, w: print(epoch, f"validation {accuracy(w, valid_x, valid_y):.4f}", flush=True))
        return
    # With every choice made on the validation part, the released weights learn from that part too.
    weights = train(np.concatenate([train_x, valid_x]), np.concatenate([train_y, valid_y]))
    (here / "model.onnx").write_bytes(graph(weights).SerializeToString(deterministic=True))
    np.save(here / "samples" / "held-out-images.npy", np.rint(held_x * 16).astype(np.uint8))
    np.save(here / "samples" / "held-out-labels.npy", held_y.astype(np.uint8))


if __name__ == "__main__":
    main()
