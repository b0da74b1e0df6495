"""Writes samples/<name>.png: for each digit the first held-out image that the model reads correctly, 224 by 224.

    /tmp/digits/bin/python samples.py

The picture is the 8 by 8 original made larger (bilinear), white on black, as somebody would hand it in; the
preprocessing document brings it down again. The first image of each digit is taken; only where the model misreads
it does the next one stand in, since these files show how to use the model, not how good it is (card.md has that).
"""

import pathlib
import struct
import zlib

import numpy as np
import onnxruntime

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZE = 176
BORDER = 24


def enlarge(image):
    """uint8 [8, 8] of 0 to 16 to uint8 [224, 224] of 0 to 255, with an empty border."""
    padded = np.pad(image.astype(np.float64), 1)
    place = np.clip((np.arange(SIZE) + 0.5) * 8 / SIZE + 0.5, 0, 9)
    low = np.minimum(place.astype(np.int64), 8)
    part = place - low
    rows = padded[low] * (1 - part)[:, None] + padded[low + 1] * part[:, None]
    large = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return np.pad(np.rint(large * 255 / 16).astype(np.uint8), BORDER)


def png(pixels):
    """An 8-bit greyscale PNG file of uint8 [height, width]."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main():
    here = pathlib.Path(__file__).resolve().parent
    images = np.load(here / "samples" / "held-out-images.npy")
    labels = np.load(here / "samples" / "held-out-labels.npy")
    session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["label"], {"image": images.astype(np.float32)[:, None] / 16})[0]
    for digit, name in enumerate(NAMES):
        chosen = int(np.flatnonzero((labels == digit) & (found == digit))[0])
        first = int(np.flatnonzero(labels == digit)[0])
        (here / "samples" / f"{name}.png").write_bytes(png(enlarge(images[chosen])))
        print(name, f"held-out image {chosen}" + ("" if chosen == first else f" (the first, {first}, is misread)"))


if __name__ == "__main__":
    main()
