"""Random numbers that belong to rows: what a row draws does not depend on the rows computed beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

_PHILOX = 1
_MAX_GAP = 4  # between two rows: what lies between them is drawn, too, and left out


class RowSeed(NamedTuple):
    """A seed for some rows of a call.

    TensorFlow's generator (Philox) numbers what it draws, and every row reads a stretch of its own.
    So a row's numbers follow from the seed and from the row's number in the call, however the rows
    are cut into blocks.

    Attributes
    ----------
    pair : tensor (2,) of int
        The seed of the call, or what `split` or `fold_in` made of it.
    first, lengths : tensors (k,) of int
        Rows that stand close together are drawn for at once: where each of these k groups begins in the
        call, and how many rows it spans.
    places : tensor (n,) of int
        Where the rows stand among all that is drawn.
    """

    pair: Any
    first: Any
    lengths: Any
    places: Any

    @classmethod
    def of_rows(cls, pair, rows) -> RowSeed:
        """Make the seed for the rows with these numbers (n,), increasing."""
        far = rows[1:] - rows[:-1] > _MAX_GAP
        begins, ends = tf.concat([[True], far], 0), tf.concat([far, [True]], 0)
        first = tf.boolean_mask(rows, begins)
        lengths = tf.boolean_mask(rows, ends) - first + 1
        skipped = first - tf.cumsum(lengths, exclusive=True)
        return cls(
            pair, tf.cast(first, "int64"), lengths, rows - tf.gather(skipped, tf.cumsum(tf.cast(begins, "int32")) - 1)
        )

    def split(self, num: int = 2) -> list[RowSeed]:
        """Make ``num`` independent seeds."""
        return [self._replace(pair=pair) for pair in tf.unstack(tf.random.split(self.pair, num), num=num)]

    def fold_in(self, number) -> RowSeed:
        """Make the seed with this number, such as a step's."""
        return self._replace(pair=tf.random.fold_in(self.pair, number))

    def normal(self, shape):
        """Draw standard normal numbers, ``shape`` of them for each of the n rows."""
        return self._draw(tf.raw_ops.StatelessRandomNormalV2, shape, "float32", 4)

    def uniform(self, shape, dtype="float32"):
        """Draw numbers uniform on [0, 1), ``shape`` of them for each of the n rows."""
        return self._draw(tf.raw_ops.StatelessRandomUniformV2, shape, dtype, 4 if dtype == "float32" else 2)

    def pairs(self):
        """Make a seed for each row (n, 2), for functions that take one pair."""
        words = self._draw(tf.raw_ops.StatelessRandomUniformV2, (2,), "float64", 2)
        return tf.cast(words * 2.0**31, "int32")

    def _draw(self, op, shape, dtype, per_count):
        shape = tf.convert_to_tensor(shape, "int32")
        size = tf.reduce_prod(shape)
        counts = (size + per_count - 1) // per_count  # of the generator, for a row
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=self.pair)

        def draw(group, drawn):
            begin = tf.cast(tf.stack([self.first[group] * tf.cast(counts, "int64"), 0]), "uint64")
            stretch = tf.stack([self.lengths[group], counts * per_count])
            numbers = op(shape=stretch, key=key, counter=counter + begin, alg=_PHILOX, dtype=dtype)
            return group + 1, drawn.write(group, numbers)

        groups = tf.shape(self.lengths)[0]
        drawn = tf.TensorArray(dtype, groups, infer_shape=False, element_shape=(None, None))
        _, drawn = tf.while_loop(lambda group, _: group < groups, draw, (0, drawn), parallel_iterations=1)
        numbers = tf.gather(drawn.concat(), self.places)[:, :size]
        return tf.reshape(numbers, tf.concat([tf.shape(self.places), shape], 0))


def normal(shape, seed):
    """Draw standard normal numbers of ``shape``; ``seed`` is a pair of integers, or a `RowSeed` of the rows."""
    return seed.normal(shape[1:]) if isinstance(seed, RowSeed) else tf.random.stateless_normal(shape, seed)


def uniform(shape, seed):
    """Draw numbers of ``shape`` uniform on [0, 1); ``seed`` as in `normal`."""
    return seed.uniform(shape[1:]) if isinstance(seed, RowSeed) else tf.random.stateless_uniform(shape, seed)


def split(seed, num: int) -> list:
    """Make ``num`` independent seeds of the same kind."""
    return seed.split(num) if isinstance(seed, RowSeed) else tf.unstack(tf.random.split(seed, num), num=num)
