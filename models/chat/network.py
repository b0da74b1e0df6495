"""The network: a Llama of a few layers in JAX, exactly as Hugging Face's LlamaForCausalLM computes it.

RMSNorm before each half of a layer, rotary positions in the "rotate half" convention, grouped-query attention, SwiGLU,
and one matrix that both embeds and unembeds. The attention's three matrices are one here, and so are the first two of
the feed-forward half: one product instead of three is what makes it quick, in training and in ONNX alike.
"""

import jax
import jax.numpy as jnp
import numpy as np

CONTEXT = 1024
DIM = 192
HEADS = 6
KV_HEADS = 2
HEAD = 32
LAYERS = 5
HIDDEN = 448
EPSILON = 1e-5
THETA = 10000.0
VOCABULARY = 1280


def initial(seed):
    """Weights by name, float32: normal, narrower where a branch is added to the stream."""
    generator = np.random.Generator(np.random.PCG64(seed))

    def normal(rows, columns, scale=1.0):
        return (generator.normal(0, scale / np.sqrt(rows), (rows, columns))).astype(np.float32)

    weights = {
        "embed": generator.normal(0, 0.02, (VOCABULARY, DIM)).astype(np.float32),
        "norm": np.ones(DIM, np.float32),
    }
    for layer in range(LAYERS):
        weights[f"{layer}.attention_norm"] = np.ones(DIM, np.float32)
        weights[f"{layer}.qkv"] = normal(DIM, (HEADS + 2 * KV_HEADS) * HEAD)
        weights[f"{layer}.out"] = normal(HEADS * HEAD, DIM, 1 / np.sqrt(2 * LAYERS))
        weights[f"{layer}.feed_norm"] = np.ones(DIM, np.float32)
        weights[f"{layer}.gate_up"] = normal(DIM, 2 * HIDDEN)
        weights[f"{layer}.down"] = normal(HIDDEN, DIM, 1 / np.sqrt(2 * LAYERS))
    return weights


def rotations():
    """Cosines and sines float32 [CONTEXT, HEAD], both halves alike, computed in double precision."""
    rates = THETA ** (-np.arange(0, HEAD, 2) / HEAD)
    angles = np.outer(np.arange(CONTEXT), rates)
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def normalise(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def rotate(x, cosine, sine):
    left, right = x[..., : HEAD // 2], x[..., HEAD // 2 :]
    return x * cosine + jnp.concatenate([-right, left], axis=-1) * sine


def hidden(weights, tokens, positions, segments, picked=None):
    """Final hidden states float32 [batch, length, DIM]; a token sees earlier tokens of its own segment alone.

    With int32 picked, places in the flattened batch, [picked, DIM]: the last layer's second half is spared the others.
    """
    batch, length = tokens.shape
    cosines, sines = rotations()
    cosine = jnp.asarray(cosines)[positions][:, :, None, :]
    sine = jnp.asarray(sines)[positions][:, :, None, :]
    order = jnp.arange(length)
    seen = (segments[:, :, None] == segments[:, None, :]) & (order[:, None] >= order[None, :])
    bias = jnp.where(seen, 0.0, -1e9)[:, None, None]
    x = weights["embed"][tokens]
    for layer in range(LAYERS):
        qkv = normalise(x, weights[f"{layer}.attention_norm"]) @ weights[f"{layer}.qkv"]
        qkv = qkv.reshape(batch, length, HEADS + 2 * KV_HEADS, HEAD)
        both = rotate(qkv[:, :, : HEADS + KV_HEADS], cosine, sine)
        q = both[:, :, :HEADS].reshape(batch, length, KV_HEADS, HEADS // KV_HEADS, HEAD)
        k, v = both[:, :, HEADS:], qkv[:, :, HEADS + KV_HEADS :]
        scores = jnp.einsum("btgrd,bsgd->bgrts", q * HEAD**-0.5, k) + bias
        mixed = jnp.einsum("bgrts,bsgd->btgrd", jax.nn.softmax(scores, axis=-1), v)
        mixed = mixed.reshape(batch, length, HEADS * HEAD)
        if picked is not None and layer == LAYERS - 1:
            x, mixed = x.reshape(-1, DIM)[picked], mixed.reshape(-1, HEADS * HEAD)[picked]
        x = x + mixed @ weights[f"{layer}.out"]
        gate_up = normalise(x, weights[f"{layer}.feed_norm"]) @ weights[f"{layer}.gate_up"]
        x = x + (jax.nn.silu(gate_up[..., :HIDDEN]) * gate_up[..., HIDDEN:]) @ weights[f"{layer}.down"]
    return normalise(x, weights["norm"])


def logits(weights, tokens, positions, segments):
    """Logits float32 [batch, length, VOCABULARY]."""
    return hidden(weights, tokens, positions, segments) @ weights["embed"].T
