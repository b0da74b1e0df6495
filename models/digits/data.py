"""The data of the digit model: where it comes from and how it is split.

UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998, CC BY 4.0), the 1,797 images that
scikit-learn carries inside its package, so nothing is downloaded.
"""

import numpy as np
from sklearn.datasets import load_digits

# Images of one writer seem to stand near each other (the data set does not name the writers). Cutting its order,
# instead of shuffling it, keeps most of them on one side of the cut, which makes the held-out figure a harder one.
TRAIN_END = 1_197
VALIDATION_END = 1_437


def load():
    """Three pairs (images float32 [n, 8, 8] with ink from 0 to 1, labels int64 [n]): train, validation, held-out.

    Hyper-parameters were chosen on `validation` alone; `held-out` is read by nothing but the final evaluation.
    """
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
    labels = labels.astype(np.int64)
    cuts = [slice(0, TRAIN_END), slice(TRAIN_END, VALIDATION_END), slice(VALIDATION_END, None)]
    return [(images[cut], labels[cut]) for cut in cuts]
