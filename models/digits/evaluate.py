"""Prints the committed model's accuracy on the committed held-out images, with the confusion matrix.

    /tmp/digits/bin/python evaluate.py
"""

import pathlib

import numpy as np
import onnxruntime

here = pathlib.Path(__file__).resolve().parent
images = np.load(here / "samples" / "held-out-images.npy").astype(np.float32)[:, None] / 16
labels = np.load(here / "samples" / "held-out-labels.npy").astype(np.int64)
session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
found = session.run(["label"], {"image": images})[0]
confusion = np.zeros((10, 10), np.int64)
np.add.at(confusion, (labels, found), 1)
right = int((found == labels).sum())
print(f"held-out: {right} of {len(labels)} right, {100 * right / len(labels):.2f} %")
print("rows are the written digit, columns the answer")
print("    " + "".join(f"{digit:4d}" for digit in range(10)))
for digit, row in enumerate(confusion):
    print(f"{digit:4d}" + "".join(f"{count:4d}" for count in row))
