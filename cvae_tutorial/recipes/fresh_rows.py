"""Training rows without end, for distributions that can be sampled."""

from __future__ import annotations

import keras
import numpy as np


class FreshRows(keras.utils.PyDataset):
    """Batches of a distribution that can be sampled without end: new rows in every epoch.

    Parameters
    ----------
    distribution : object
        With ``sample(num_samples, seed)``, such as a `GaussianMixture`.
    num_rows, batch_size : int
        Rows per epoch and per batch.
    seed : int
    """

    def __init__(self, distribution, num_rows, batch_size, seed=0):
        super().__init__()
        self.distribution, self.num_rows, self.batch_size = distribution, num_rows, batch_size
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return self.num_rows // self.batch_size

    def __getitem__(self, index):
        return (self.rows[index * self.batch_size : (index + 1) * self.batch_size],)

    def on_epoch_end(self):
        """Draw the rows of the next epoch."""
        self.rows = self.distribution.sample(self.num_rows, seed=self.generator).astype("float32")
