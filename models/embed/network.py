"""The encoder in JAX: two Transformer layers that see both ways, the mean over the text's tokens, length one."""

import jax
import jax.numpy as jnp
import numpy as np

CONTEXT = 256
DIM = 96
HEADS = 4
HEAD = DIM // HEADS
LAYERS = 2
HIDDEN = 256
VOCABULARY = 1792
EPSILON = 1e-5


def initial(seed):
    """Weights by name, float32."""
    generator = np.random.Generator(np.random.PCG64(seed))

    def normal(rows, columns):
        return generator.normal(0, 1 / np.sqrt(rows), (rows, columns)).astype(np.float32)

    weights = {
        "embed": generator.normal(0, 0.5, (VOCABULARY, DIM)).astype(np.float32),
        "norm": np.ones(DIM, np.float32),
    }
    for layer in range(LAYERS):
        weights[f"{layer}.attention_norm"] = np.ones(DIM, np.float32)
        weights[f"{layer}.qkv"] = normal(DIM, 3 * DIM)
        weights[f"{layer}.out"] = normal(DIM, DIM) * np.float32(0.5)
        weights[f"{layer}.feed_norm"] = np.ones(DIM, np.float32)
        weights[f"{layer}.up"] = normal(DIM, HIDDEN)
        weights[f"{layer}.down"] = normal(HIDDEN, DIM) * np.float32(0.5)
    return weights


def places():
    """Sines and cosines float32 [CONTEXT, DIM], added to the embeddings: no position has to be learned."""
    rates = 10000.0 ** (-np.arange(0, DIM, 2) / DIM)
    angles = np.outer(np.arange(CONTEXT), rates)
    return (0.3 * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).astype(np.float32)


def normalise(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def encode(weights, tokens, mask):
    """Unit vectors float32 [batch, DIM] of int32 [batch, length]; mask is 1 where the text is, 0 where it is filled up."""
    batch, length = tokens.shape
    x = weights["embed"][tokens] + jnp.asarray(places())[:length]
    bias = jnp.where(mask > 0, 0.0, -1e9)[:, None, None, :]
    for layer in range(LAYERS):
        qkv = normalise(x, weights[f"{layer}.attention_norm"]) @ weights[f"{layer}.qkv"]
        q, k, v = jnp.moveaxis(qkv.reshape(batch, length, 3, HEADS, HEAD), 2, 0)
        scores = jnp.einsum("bthd,bshd->bhts", q, k) * HEAD**-0.5 + bias
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1), v).reshape(batch, length, DIM)
        x = x + mixed @ weights[f"{layer}.out"]
        x = (
            x
            + jax.nn.relu(normalise(x, weights[f"{layer}.feed_norm"]) @ weights[f"{layer}.up"])
            @ weights[f"{layer}.down"]
        )
    x = normalise(x, weights["norm"]) * mask[..., None]
    mean = x.sum(axis=1) / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return mean / jnp.sqrt((mean * mean).sum(axis=-1, keepdims=True) + 1e-12)
