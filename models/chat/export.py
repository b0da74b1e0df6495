"""Writes what is shipped from trained weights: model.onnx, chat.gguf and the configuration files.

    python export.py weights.npz

Weights are rounded to float16 once and stored so; a Cast brings each back to float32 when the model is loaded, which
onnxruntime does once and not at every step.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import gguf
import network as n
import template

HERE = pathlib.Path(__file__).resolve().parent
END, PAD = 2, 0
GROUP = n.HEADS // n.KV_HEADS


def rounded(weights):
    """float16 copies; the norms stay float32, they are small."""
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
        """x / sqrt(mean(x²) + ε) · weight, in the form that onnxruntime fuses into one kernel."""
        square = self.node("Pow", [x, "two"])
        mean = self.node("ReduceMean", [square], axes=[-1], keepdims=1)
        root = self.node("Sqrt", [self.node("Add", [mean, "epsilon"])])
        return self.node("Mul", [self.node("Div", [x, root]), weight])


def graph(weights):
    """The decoder: input_ids, attention_mask, position_ids and past keys and values to logits and present ones."""
    g = Graph()
    integer = lambda name, values: g.constant(name, np.array(values, np.int64))
    g.constant("two", np.float32(2)), g.constant("epsilon", np.float32(n.EPSILON))
    g.constant("seen", np.float32(0)), g.constant("unseen", np.float32(-1e9))
    integer("zero", 0), integer("one", 1), integer("axis.1", [1]), integer("axis.12", [1, 2])
    (
        integer("split.qk", [n.HEADS, n.KV_HEADS]),
        integer("split.qkv", [n.HEADS + n.KV_HEADS, n.KV_HEADS]),
        integer("split.feed", [n.HIDDEN, n.HIDDEN]),
    )
    (
        integer("shape.heads", [0, 0, n.HEADS + 2 * n.KV_HEADS, n.HEAD]),
        integer("shape.groups", [0, n.KV_HEADS, -1, n.HEAD]),
    )
    integer("shape.queries", [0, n.HEADS, -1, n.HEAD]), integer("shape.joined", [0, 0, n.HEADS * n.HEAD])
    cosines, sines = n.rotations()
    # Attention divides by sqrt(HEAD); each of query and key brings half of that with its rotation, at no cost.
    g.constant("cosines", cosines * np.float32(n.HEAD**-0.25)), g.constant("sines", sines * np.float32(n.HEAD**-0.25))
    # x @ turn is (-right half, left half): the rotation's second term as one small product, exact in float32.
    turn = np.zeros((n.HEAD, n.HEAD), np.float32)
    half = n.HEAD // 2
    turn[np.arange(half) + half, np.arange(half)] = -1
    turn[np.arange(half), np.arange(half) + half] = 1
    g.constant("turn", turn)

    # What every layer shares: the rotations of these positions and who sees whom. A query at place i of this call
    # stands at place i + past of the whole, and the mask is repeated for the query heads of one group.
    cosine = g.node("Unsqueeze", [g.node("Gather", ["cosines", "position_ids"], axis=0), "axis.1"])
    sine = g.node("Unsqueeze", [g.node("Gather", ["sines", "position_ids"], axis=0), "axis.1"])
    total = g.node("Gather", [g.node("Shape", ["attention_mask"]), "one"], axis=0)
    new = g.node("Gather", [g.node("Shape", ["input_ids"]), "one"], axis=0)
    past = g.node("Sub", [total, new])
    columns = g.node("Range", ["zero", total, "one"])
    rows = g.node("Unsqueeze", [g.node("Range", [past, total, "one"]), "axis.1"])
    causal = g.node("LessOrEqual", [columns, rows])
    present = g.node("Unsqueeze", [g.node("Cast", ["attention_mask"], to=TensorProto.BOOL), "axis.12"])
    once = g.node("Where", [g.node("And", [causal, present]), "seen", "unseen"])
    mask = g.node("Concat", [once] * GROUP, axis=2)

    embed = g.weight("embed", weights["embed"])
    x = g.node("Gather", [embed, "input_ids"], axis=0)
    for layer in range(n.LAYERS):
        normal = g.norm(x, g.weight(f"{layer}.attention_norm", weights[f"{layer}.attention_norm"]))
        joined = g.node("MatMul", [normal, g.weight(f"{layer}.qkv", weights[f"{layer}.qkv"])])
        heads = g.node("Transpose", [g.node("Reshape", [joined, "shape.heads"])], perm=[0, 2, 1, 3])
        qk, v = f"{layer}.qk", f"{layer}.v"
        g.node("Split", [heads, "split.qkv"], [qk, v], axis=1)
        rotated = g.node("Add", [g.node("Mul", [qk, cosine]), g.node("Mul", [g.node("MatMul", [qk, "turn"]), sine])])
        q, k = f"{layer}.q", f"{layer}.k"
        g.node("Split", [rotated, "split.qk"], [q, k], axis=1)
        keys = g.node("Concat", [f"past_key_values.{layer}.key", k], [f"present.{layer}.key"], axis=2)
        values = g.node("Concat", [f"past_key_values.{layer}.value", v], [f"present.{layer}.value"], axis=2)
        grouped = g.node("Reshape", [q, "shape.groups"])
        scores = g.node("Add", [g.node("MatMul", [grouped, g.node("Transpose", [keys], perm=[0, 1, 3, 2])]), mask])
        mixed = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), values])
        back = g.node("Transpose", [g.node("Reshape", [mixed, "shape.queries"])], perm=[0, 2, 1, 3])
        out = g.node(
            "MatMul", [g.node("Reshape", [back, "shape.joined"]), g.weight(f"{layer}.out", weights[f"{layer}.out"])]
        )
        x = g.node("Add", [x, out])
        normal = g.norm(x, g.weight(f"{layer}.feed_norm", weights[f"{layer}.feed_norm"]))
        both = g.node("MatMul", [normal, g.weight(f"{layer}.gate_up", weights[f"{layer}.gate_up"])])
        gate, up = f"{layer}.gate", f"{layer}.up"
        g.node("Split", [both, "split.feed"], [gate, up], axis=-1)
        opened = g.node("Mul", [g.node("Mul", [gate, g.node("Sigmoid", [gate])]), up])
        x = g.node("Add", [x, g.node("MatMul", [opened, g.weight(f"{layer}.down", weights[f"{layer}.down"])])])
    last = g.norm(x, g.weight("norm", weights["norm"]))
    g.node("MatMul", [last, g.node("Transpose", [embed], perm=[1, 0])], ["logits"])

    value = helper.make_tensor_value_info
    kept = lambda name, length: value(name, TensorProto.FLOAT, ["batch", n.KV_HEADS, length, n.HEAD])
    inputs = [
        value(name, TensorProto.INT64, ["batch", length])
        for name, length in (("input_ids", "sequence"), ("attention_mask", "total"), ("position_ids", "sequence"))
    ]
    outputs = [value("logits", TensorProto.FLOAT, ["batch", "sequence", n.VOCABULARY])]
    for layer in range(n.LAYERS):
        for part in ("key", "value"):
            inputs.append(kept(f"past_key_values.{layer}.{part}", "past"))
            outputs.append(kept(f"present.{layer}.{part}", "total"))
    model = helper.make_model(
        helper.make_graph(g.nodes, "chat", inputs, outputs, g.initializers),
        producer_name="assay",
        producer_version="1",
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def configurations():
    """The files beside the model, by name, as Hugging Face lays them out."""
    return {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": n.VOCABULARY,
            "hidden_size": n.DIM,
            "intermediate_size": n.HIDDEN,
            "num_hidden_layers": n.LAYERS,
            "num_attention_heads": n.HEADS,
            "num_key_value_heads": n.KV_HEADS,
            "head_dim": n.HEAD,
            "max_position_embeddings": n.CONTEXT,
            "hidden_act": "silu",
            "rms_norm_eps": n.EPSILON,
            "rope_theta": n.THETA,
            "rope_scaling": None,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": END,
            "pad_token_id": PAD,
            "torch_dtype": "float32",
        },
        "generation_config.json": {"do_sample": False, "eos_token_id": [END, PAD], "pad_token_id": PAD},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": n.CONTEXT,
            "add_bos_token": False,
            "add_eos_token": False,
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "clean_up_tokenization_spaces": False,
            "chat_template": template.SOURCE,
        },
    }


def main():
    with np.load(sys.argv[1]) as file:
        weights = rounded({name: file[name] for name in file.files})
    (HERE / "model.onnx").write_bytes(graph(weights).SerializeToString(deterministic=True))
    for name, content in configurations().items():
        (HERE / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    tokenizer = json.loads((HERE / "tokenizer.json").read_text())
    (HERE / "chat.gguf").write_bytes(gguf.written(weights, tokenizer, template.SOURCE))
    for name in ("model.onnx", "chat.gguf", "tokenizer.json"):
        print(name, (HERE / name).stat().st_size)


if __name__ == "__main__":
    main()
