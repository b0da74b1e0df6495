"""Random drawings from real ones: rotated, sheared, scaled, shifted, with thinner and thicker strokes."""

import numpy as np

FINE = 32  # The dataset's own drawings were 32 by 32 before it counted ink in 4 by 4 blocks.
BLOCK = FINE // 8


def upscale(images):
    """float32 [n, 8, 8] to [n, 32, 32], bilinear between block centres, edges repeated."""
    centre = np.clip((np.arange(FINE) + 0.5) / BLOCK - 0.5, 0, 7)
    low = np.minimum(centre.astype(np.int64), 6)
    part = (centre - low).astype(np.float32)
    rows = images[:, low] * (1 - part)[None, :, None] + images[:, low + 1] * part[None, :, None]
    return rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part


def augment(fine, generator):
    """float32 [n, 32, 32] to float32 [n, 8, 8], each drawing moved and redrawn at random."""
    count = len(fine)
    angle = generator.uniform(-0.25, 0.25, count)
    shear = generator.uniform(-0.25, 0.25, count)
    scale = generator.uniform(0.85, 1.2, (2, count))
    shift = generator.uniform(-2.5, 2.5, (2, count))
    axis = np.arange(FINE) - (FINE - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.cos(angle), np.sin(angle)
    along = lambda value: value[:, None, None]
    from_x = along(cos * scale[0]) * x + along((sin + shear) * scale[0]) * y + along(shift[0]) + (FINE - 1) / 2
    from_y = along(-sin * scale[1]) * x + along(cos * scale[1]) * y + along(shift[1]) + (FINE - 1) / 2
    moved = sample(fine, from_x, from_y)

    # A drawing's stroke is sharper than an upscaled one, thinner with a pen and thicker with a finger.
    cut = along(generator.uniform(0.0, 0.55, count))
    moved = np.clip((moved - cut) / np.maximum(0.15, 0.75 - cut), 0, 1)
    thick = generator.random(count) < 0.25
    padded = np.pad(moved, ((0, 0), (1, 1), (1, 1)))
    grown = np.max([padded[:, i : i + FINE, j : j + FINE] for i in range(3) for j in range(3)], axis=0)
    moved = np.where(along(thick), grown, moved)

    small = moved.reshape(count, 8, BLOCK, 8, BLOCK).mean(axis=(2, 4))
    peak = np.maximum(small.max(axis=(1, 2), keepdims=True), 1e-3)
    noise = generator.normal(0, 0.03, small.shape)
    return np.clip(small / peak + noise, 0, 1).astype(np.float32)


def sample(fine, x, y):
    """Bilinear reading of [n, 32, 32] at points [n, 32, 32]; outside is empty."""
    padded = np.pad(fine, ((0, 0), (1, 1), (1, 1)))
    x, y = np.clip(x + 1, 0, FINE + 0.999), np.clip(y + 1, 0, FINE + 0.999)
    left, top = x.astype(np.int64), y.astype(np.int64)
    dx, dy = x - left, y - top
    row = np.arange(len(fine))[:, None, None]
    upper = padded[row, top, left] * (1 - dx) + padded[row, top, left + 1] * dx
    lower = padded[row, top + 1, left] * (1 - dx) + padded[row, top + 1, left + 1] * dx
    return upper * (1 - dy) + lower * dy
