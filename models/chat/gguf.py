"""Writes the same weights as a GGUF file (version 3) for llama.cpp: matrices Q8_0, norms float32.

The layout follows the specification in the ggml project (docs/gguf.md). Q8_0 is, for every 32 numbers of a row, one
float16 scale and 32 signed bytes.
"""

import struct

import numpy as np

import network as n

ALIGN = 32
F32, Q8_0 = 0, 8
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
MOSTLY_Q8_0 = 7
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key, kind, value):
    formats = {UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}
    one = lambda k, v: text(v) if k == STRING else struct.pack(formats[k], v)
    if isinstance(kind, tuple):
        inner = kind[1]
        return text(key) + struct.pack("<IIQ", ARRAY, inner, len(value)) + b"".join(one(inner, v) for v in value)
    return text(key) + struct.pack("<I", kind) + one(kind, value)


def q8_0(matrix):
    """Rows of float32 to blocks of 34 bytes."""
    blocks = np.ascontiguousarray(matrix, np.float32).reshape(-1, 32)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.rint(blocks * inverse).astype(np.int8)
    return np.concatenate([scale.astype(np.float16).view(np.uint8), codes.view(np.uint8)], axis=1).tobytes()


def interleaved(matrix, heads):
    """Rows [heads * HEAD, DIM] from "rotate half" order to the order of neighbouring pairs that llama.cpp rotates."""
    return matrix.reshape(heads, 2, n.HEAD // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def tensors(weights):
    """(name, rows [out, in] or vector), in llama.cpp's names."""
    w = {name: weight.astype(np.float32) for name, weight in weights.items()}
    yield "token_embd.weight", w["embed"]
    yield "output_norm.weight", w["norm"]
    for layer in range(n.LAYERS):
        q, k, v = np.split(w[f"{layer}.qkv"].T, [n.HEADS * n.HEAD, (n.HEADS + n.KV_HEADS) * n.HEAD])
        gate, up = np.split(w[f"{layer}.gate_up"].T, 2)
        yield f"blk.{layer}.attn_norm.weight", w[f"{layer}.attention_norm"]
        yield f"blk.{layer}.attn_q.weight", interleaved(q, n.HEADS)
        yield f"blk.{layer}.attn_k.weight", interleaved(k, n.KV_HEADS)
        yield f"blk.{layer}.attn_v.weight", v
        yield f"blk.{layer}.attn_output.weight", w[f"{layer}.out"].T
        yield f"blk.{layer}.ffn_norm.weight", w[f"{layer}.feed_norm"]
        yield f"blk.{layer}.ffn_gate.weight", gate
        yield f"blk.{layer}.ffn_up.weight", up
        yield f"blk.{layer}.ffn_down.weight", w[f"{layer}.down"].T


def metadata(tokenizer, template):
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    added = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in tokenizer["added_tokens"]}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "demo/chat"),
        entry("general.license", STRING, "apache-2.0"),
        entry("general.alignment", UINT32, ALIGN),
        entry("general.file_type", UINT32, MOSTLY_Q8_0),
        entry("general.quantization_version", UINT32, 2),
        entry("llama.context_length", UINT32, n.CONTEXT),
        entry("llama.embedding_length", UINT32, n.DIM),
        entry("llama.block_count", UINT32, n.LAYERS),
        entry("llama.feed_forward_length", UINT32, n.HIDDEN),
        entry("llama.attention.head_count", UINT32, n.HEADS),
        entry("llama.attention.head_count_kv", UINT32, n.KV_HEADS),
        entry("llama.attention.key_length", UINT32, n.HEAD),
        entry("llama.attention.value_length", UINT32, n.HEAD),
        entry("llama.rope.dimension_count", UINT32, n.HEAD),
        entry("llama.rope.freq_base", FLOAT32, n.THETA),
        entry("llama.attention.layer_norm_rms_epsilon", FLOAT32, n.EPSILON),
        entry("llama.vocab_size", UINT32, n.VOCABULARY),
        # "smollm" is llama.cpp's name for: digits one by one, then GPT-2's expression.
        entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "smollm"),
        entry("tokenizer.ggml.tokens", (ARRAY, STRING), vocabulary),
        entry("tokenizer.ggml.token_type", (ARRAY, INT32), [added.get(token, NORMAL) for token in vocabulary]),
        entry("tokenizer.ggml.merges", (ARRAY, STRING), merges),
        entry("tokenizer.ggml.eos_token_id", UINT32, 2),
        entry("tokenizer.ggml.eot_token_id", UINT32, 2),
        entry("tokenizer.ggml.padding_token_id", UINT32, 0),
        entry("tokenizer.ggml.add_bos_token", BOOL, False),
        entry("tokenizer.ggml.add_eos_token", BOOL, False),
        entry("tokenizer.chat_template", STRING, template),
    ]


def written(weights, tokenizer, template):
    """The file's bytes. Refused with ValueError: a row that is not a multiple of 32 long."""
    about, data, place = [], [], 0
    for name, tensor in tensors(weights):
        if tensor.ndim == 2 and tensor.shape[1] % 32:
            raise ValueError(f"{name} has rows of {tensor.shape[1]}, Q8_0 takes multiples of 32")
        raw = q8_0(tensor) if tensor.ndim == 2 else tensor.astype("<f4").tobytes()
        dimensions = tensor.shape[::-1]
        about.append(
            text(name)
            + struct.pack(
                f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, Q8_0 if tensor.ndim == 2 else F32, place
            )
        )
        raw += bytes(-len(raw) % ALIGN)
        data.append(raw)
        place += len(raw)
    fields = metadata(tokenizer, template)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(about), len(fields)) + b"".join(fields) + b"".join(about)
    return head + bytes(-len(head) % ALIGN) + b"".join(data)
