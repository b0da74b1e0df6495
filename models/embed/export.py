"""Writes model.onnx and the configuration from trained weights.

    python export.py weights.npz

Weights are stored as float16 and cast to float32 when the model is loaded.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import network as n

HERE = pathlib.Path(__file__).resolve().parent


def rounded(weights):
    """float16 copies of the matrices; the norms stay float32, they are small."""
    return {name: (w.astype(np.float16) if w.ndim == 2 else w.astype(np.float32)) for name, w in weights.items()}


class Graph:
    def __init__(self):
        self.nodes, self.initializers, self.count = [], [], 0

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator, inputs, outputs=None, **attributes):
        if outputs is None:
            self.count += 1
            outputs = [f"{operator.lower()}.{self.count}"]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def weight(self, name, array):
        if array.dtype == np.float16:
            return self.node("Cast", [self.constant(name + ".f16", array)], [name], to=TensorProto.FLOAT)
        return self.constant(name, array)

    def norm(self, x, weight):
        square = self.node("Pow", [x, "two"])
        root = self.node(
            "Sqrt", [self.node("Add", [self.node("ReduceMean", [square], axes=[-1], keepdims=1), "epsilon"])]
        )
        return self.node("Mul", [self.node("Div", [x, root]), weight])


def graph(weights):
    """input_ids and attention_mask int64 [batch, sequence] to sentence_embedding float32 [batch, DIM]."""
    g = Graph()
    (
        g.constant("two", np.float32(2)),
        g.constant("epsilon", np.float32(n.EPSILON)),
        g.constant("tiny", np.float32(1e-12)),
    )
    g.constant("seen", np.float32(0)), g.constant("unseen", np.float32(-1e9)), g.constant("unit", np.float32(1))
    g.constant("scale", np.float32(n.HEAD**-0.5)), g.constant("places", n.places())
    integer = lambda name, values: g.constant(name, np.array(values, np.int64))
    integer("axis.0", [0]), integer("axis.1", [1]), integer("axis.2", [2]), integer("axis.12", [1, 2])
    (
        integer("shape.heads", [0, 0, 3 * n.HEADS, n.HEAD]),
        integer("shape.joined", [0, 0, n.DIM]),
        integer("split", [n.HEADS] * 3),
    )
    # More than CONTEXT tokens get no more places than that, and the addition below refuses them.
    length = g.node("Gather", [g.node("Shape", ["input_ids"]), "axis.1"], axis=0)
    place = g.node("Slice", ["places", "axis.0", length, "axis.0"])
    present = g.node("Unsqueeze", [g.node("Cast", ["attention_mask"], to=TensorProto.BOOL), "axis.12"])
    bias = g.node("Where", [present, "seen", "unseen"])
    x = g.node("Add", [g.node("Gather", [g.weight("embed", weights["embed"]), "input_ids"], axis=0), place])
    for layer in range(n.LAYERS):
        weight = lambda name: g.weight(f"{layer}.{name}", weights[f"{layer}.{name}"])
        joined = g.node("MatMul", [g.norm(x, weight("attention_norm")), weight("qkv")])
        heads = g.node("Transpose", [g.node("Reshape", [joined, "shape.heads"])], perm=[0, 2, 1, 3])
        q, k, v = f"{layer}.q", f"{layer}.k", f"{layer}.v"
        g.node("Split", [heads, "split"], [q, k, v], axis=1)
        scores = g.node("MatMul", [g.node("Mul", [q, "scale"]), g.node("Transpose", [k], perm=[0, 1, 3, 2])])
        mixed = g.node("MatMul", [g.node("Softmax", [g.node("Add", [scores, bias])], axis=-1), v])
        back = g.node("Reshape", [g.node("Transpose", [mixed], perm=[0, 2, 1, 3]), "shape.joined"])
        x = g.node("Add", [x, g.node("MatMul", [back, weight("out")])])
        opened = g.node("Relu", [g.node("MatMul", [g.norm(x, weight("feed_norm")), weight("up")])])
        x = g.node("Add", [x, g.node("MatMul", [opened, weight("down")])])
    mask = g.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    kept = g.node("Mul", [g.norm(x, g.weight("norm", weights["norm"])), g.node("Unsqueeze", [mask, "axis.2"])])
    # A text of no tokens has no mean: it is divided by one and stays zero, then has length zero, not NaN.
    count = g.node("Max", [g.node("ReduceSum", [mask, "axis.1"], keepdims=1), "unit"])
    mean = g.node("Div", [g.node("ReduceSum", [kept, "axis.1"], keepdims=0), count])
    square = g.node("ReduceSum", [g.node("Mul", [mean, mean]), "axis.1"], keepdims=1)
    g.node("Div", [mean, g.node("Sqrt", [g.node("Add", [square, "tiny"])])], ["sentence_embedding"])
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")]
    model = helper.make_model(
        helper.make_graph(
            g.nodes, "embed", inputs, [value("sentence_embedding", TensorProto.FLOAT, ["batch", n.DIM])], g.initializers
        ),
        producer_name="assay",
        producer_version="1",
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


CONFIGURATIONS = {
    "config.json": {
        "model_type": "assay-embed",
        "vocab_size": n.VOCABULARY,
        "hidden_size": n.DIM,
        "intermediate_size": n.HIDDEN,
        "num_hidden_layers": n.LAYERS,
        "num_attention_heads": n.HEADS,
        "max_position_embeddings": n.CONTEXT,
        "pad_token_id": 0,
    },
    "tokenizer_config.json": {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n.CONTEXT,
        "add_bos_token": False,
        "add_eos_token": False,
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
    },
}


def main():
    with np.load(sys.argv[1]) as file:
        weights = rounded({name: file[name] for name in file.files})
    (HERE / "model.onnx").write_bytes(graph(weights).SerializeToString(deterministic=True))
    for name, content in CONFIGURATIONS.items():
        (HERE / name).write_text(json.dumps(content, indent=2) + "\n")
    print("model.onnx", (HERE / "model.onnx").stat().st_size)


if __name__ == "__main__":
    main()
