"""A small convolutional network in numpy: forward, backward, Adam."""

import numpy as np

CHANNELS = (16, 32, 32)
HIDDEN = 64


def initial(generator):
    """He-initialised weights by name, float32."""

    def normal(shape, fan_in):
        return generator.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)

    first, second, third = CHANNELS
    return {
        "conv1.weight": normal((first, 1, 3, 3), 9),
        "conv1.bias": np.zeros(first, np.float32),
        "conv2.weight": normal((second, first, 3, 3), 9 * first),
        "conv2.bias": np.zeros(second, np.float32),
        "conv3.weight": normal((third, second, 3, 3), 9 * second),
        "conv3.bias": np.zeros(third, np.float32),
        "dense1.weight": normal((HIDDEN, third * 16), third * 16),
        "dense1.bias": np.zeros(HIDDEN, np.float32),
        "dense2.weight": normal((10, HIDDEN), HIDDEN),
        "dense2.bias": np.zeros(10, np.float32),
    }


def columns(x):
    """[n, c, h, w] to [n * h * w, c * 9], the 3 by 3 neighbourhoods with zero padding."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)


def convolve(x, weight, bias):
    n, _, h, w = x.shape
    seen = columns(x)
    out = seen @ weight.reshape(len(weight), -1).T + bias
    return out.reshape(n, h, w, -1).transpose(0, 3, 1, 2), seen


def convolve_back(gradient, seen, weight, shape):
    n, c, h, w = shape
    flat = gradient.transpose(0, 2, 3, 1).reshape(-1, len(weight))
    patches = (flat @ weight.reshape(len(weight), -1)).reshape(n, h, w, c, 3, 3)
    padded = np.zeros((n, c, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            padded[:, :, i : i + h, j : j + w] += patches[..., i, j].transpose(0, 3, 1, 2)
    return (flat.T @ seen).reshape(weight.shape), flat.sum(axis=0), padded[:, :, 1:-1, 1:-1]


def forward(p, images, drop=None):
    """Logits float32 [n, 10] of float32 [n, 8, 8], and what the backward pass needs."""
    x = images[:, None]
    a, seen_a = convolve(x, p["conv1.weight"], p["conv1.bias"])
    ra = np.maximum(a, 0)
    b, seen_b = convolve(ra, p["conv2.weight"], p["conv2.bias"])
    rb = np.maximum(b, 0)
    blocks = rb.reshape(len(x), -1, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(len(x), -1, 4, 4, 4)
    pick = blocks.argmax(axis=-1)
    pooled = blocks.max(axis=-1)
    c, seen_c = convolve(pooled, p["conv3.weight"], p["conv3.bias"])
    rc = np.maximum(c, 0)
    flat = rc.reshape(len(x), -1)
    if drop is not None:
        flat = flat * drop
    d = flat @ p["dense1.weight"].T + p["dense1.bias"]
    rd = np.maximum(d, 0)
    logits = rd @ p["dense2.weight"].T + p["dense2.bias"]
    return logits, (x, ra, seen_a, rb, seen_b, pick, pooled, rc, seen_c, flat, rd, drop)


def backward(p, gradient, kept):
    """Gradients by name from the gradient of the logits."""
    x, ra, seen_a, rb, seen_b, pick, pooled, rc, seen_c, flat, rd, drop = kept
    g = {"dense2.weight": gradient.T @ rd, "dense2.bias": gradient.sum(axis=0)}
    up = (gradient @ p["dense2.weight"]) * (rd > 0)
    g["dense1.weight"], g["dense1.bias"] = up.T @ flat, up.sum(axis=0)
    up = up @ p["dense1.weight"]
    if drop is not None:
        up = up * drop
    up = up.reshape(rc.shape) * (rc > 0)
    g["conv3.weight"], g["conv3.bias"], up = convolve_back(up, seen_c, p["conv3.weight"], pooled.shape)
    spread = np.zeros((*pick.shape, 4), np.float32)
    np.put_along_axis(spread, pick[..., None], up[..., None], axis=-1)
    n, c = rb.shape[:2]
    up = spread.reshape(n, c, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(rb.shape) * (rb > 0)
    g["conv2.weight"], g["conv2.bias"], up = convolve_back(up, seen_b, p["conv2.weight"], ra.shape)
    up = up * (ra > 0)
    g["conv1.weight"], g["conv1.bias"], _ = convolve_back(up, seen_a, p["conv1.weight"], x.shape)
    return g


def adam(p, g, moments, step, rate, decay):
    """One Adam step with decoupled weight decay, in place."""
    for name in p:
        first, second = moments.setdefault(name, [np.zeros_like(p[name]), np.zeros_like(p[name])])
        first += (1 - 0.9) * (g[name] - first)
        second += (1 - 0.999) * (g[name] ** 2 - second)
        update = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        p[name] -= (rate * (update + (decay * p[name] if name.endswith("weight") else 0))).astype(np.float32)
