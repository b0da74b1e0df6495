"""Writes the benchmark models beside this file: tiny-mlp.onnx, wide-20ms.onnx and identity-image.onnx.

    /tmp/digits/bin/python make.py      # the environment of models/digits/requirements.txt

They measure what surrounds a model, so their weights mean nothing. Those come from PCG64's raw 64-bit stream, which
numpy keeps stable between versions, by integer arithmetic and one rounding: every machine writes the same bytes.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20261121
CHANNELS = 64
# Enough blocks for about 20 ms on one core of the machine named in README.md.
BLOCKS = 29


def uniform(seed, shape, reach):
    """float32 of `shape`, uniform in [-reach, reach)."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32).reshape(shape) * np.float32(reach)


def save(name, nodes, inputs, outputs, weights):
    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side] for side in (inputs, outputs)]
    initializers = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, name, *values, initializers)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, producer_name="assay", producer_version="1", opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def tiny_mlp():
    """16 to 32 to 8: next to no work, so that a request's own cost shows."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], transB=1),
    ]
    weights = {
        "w1": uniform(SEED, (32, 16), 0.5),
        "b1": uniform(SEED + 1, (32,), 0.1),
        "w2": uniform(SEED + 2, (8, 32), 0.35),
        "b2": uniform(SEED + 3, (8,), 0.1),
    }
    save("tiny-mlp", nodes, [("x", ["batch", 16])], [("y", ["batch", 8])], weights)


def wide_20ms():
    """A residual stack of 3 by 3 convolutions that share one weight, on a small image: much work, little traffic."""
    nodes = [helper.make_node("Conv", ["image", "stem", "stem.bias"], ["x0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    for block in range(BLOCKS):
        nodes += [
            helper.make_node("Conv", [f"x{block}", "shared"], [f"c{block}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{block}"], [f"r{block}"]),
            helper.make_node("Mul", [f"r{block}", "quarter"], [f"q{block}"]),
            helper.make_node("Add", [f"x{block}", f"q{block}"], [f"x{block + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{BLOCKS}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "head", "head.bias"], ["scores"], transB=1),
    ]
    weights = {
        "stem": uniform(SEED + 4, (CHANNELS, 3, 3, 3), 0.3),
        "stem.bias": uniform(SEED + 5, (CHANNELS,), 0.1),
        "shared": uniform(SEED + 6, (CHANNELS, CHANNELS, 3, 3), 0.07),
        "quarter": np.array(0.25, np.float32),
        "head": uniform(SEED + 7, (10, CHANNELS), 0.2),
        "head.bias": uniform(SEED + 8, (10,), 0.1),
    }
    save("wide-20ms", nodes, [("image", ["batch", 3, 32, 32])], [("scores", ["batch", 10])], weights)


def identity_image():
    """Hands 600 kB per image straight back: nothing but traffic."""
    shape = ["batch", 3, 224, 224]
    save("identity-image", [helper.make_node("Identity", ["image"], ["same"])], [("image", shape)], [("same", shape)], {})


if __name__ == "__main__":
    tiny_mlp()
    wide_20ms()
    identity_image()
