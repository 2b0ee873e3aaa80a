"""Numbers of any shape: bounded, skewed, counted, or with values that many rows share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from scipy.stats import yeojohnson, yeojohnson_normmax

from ..seeds import uniform
from .base import LOWEST, Likelihood, Parameters, serializable, tensors

_FAR = 1e4  # a score beyond all others
_DECIMALS = 6  # of values that may lie on a grid
_UNIT = math.sqrt(3.0) / math.pi  # scale of the logistic distribution whose standard deviation is 1
_MEAN_AT = 32  # quantiles by which a mean is computed


@serializable
@dataclass(frozen=True)
class Transformed(Likelihood):
    """One column of numbers x = G(u), where u has a logistic distribution and G never falls.

    G is piecewise linear, and takes normal scores to the values of the column. It has learned from the
    observed cells what the column can hold: nothing below the lowest or above the highest value is ever
    drawn, whole numbers stay whole, and a value that many rows share (the zeros of a rainfall, the code
    for "none") has a probability of its own. The parameters (location, scale) are those of u.

    Its density is that of x: the logistic density of u over the slope of G where the column is
    continuous, and a difference of the logistic distribution function, a probability, for steps, for
    shared values, and for the bounds [1]_ [2]_. A value beyond the bounds counts as the nearest of them.

    `from_values` makes one; the parameters below are what it finds.

    Parameters
    ----------
    values, scores : sequence of float
        The corners of G: values in data units, not falling, and their scores, rising.
    low, high : float
        The lowest and the highest value that can be drawn.
    step : float
        Distance of the values, 1 for whole numbers; 0 if the column is continuous.
    min_scale : float
        Smallest scale a network can reach, as a fraction of the column's spread in scores.

    References
    ----------
    .. [1] McCullagh (1980), Regression models for ordinal data.
    .. [2] Hothorn, Möst and Bühlmann (2018), Most likely transformations.

    Examples
    --------
    >>> Transformed.from_values([0, 2, 1, 0, 5, 1]).step
    1.0
    """

    values: Sequence[float]
    scores: Sequence[float]
    low: float
    high: float
    step: float = 0.0
    min_scale: float = 0.01
    one_column: ClassVar[bool] = True
    draws_by_row = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        object.__setattr__(self, "scores", tuple(float(score) for score in self.scores))
        if len(self.values) != len(self.scores) or not self.values:
            raise ValueError(f"every value needs a score, got {len(self.values)} values and {len(self.scores)} scores")
        if not (np.diff(self.scores) > 0).all() or not (np.diff(self.values) >= 0).all():
            raise ValueError("scores must rise, and values must not fall")
        if not (self.low < self.high and self.step >= 0.0 and self.min_scale > 0.0):
            raise ValueError(f"low < high, step >= 0 and min_scale > 0 are needed, got {self!r}")

    @classmethod
    def from_values(
        cls,
        values: ArrayLike,
        min_value: float | None = None,
        max_value: float | None = None,
        min_scale: float = 0.01,
        max_corners: int = 40,
    ) -> Transformed:
        """Learn what a column can hold from its values.

        Parameters
        ----------
        values : array (n,)
            Observed cells, at least two of them different. NaN is left out.
        min_value, max_value : float, optional
            Bounds; by default the lowest and the highest value.
        min_scale : float
            See the class.
        max_corners : int
            Corners of G at most, beside those of shared values.
        """
        x = np.sort(np.asarray(values, float).ravel())
        x = x[~np.isnan(x)]
        found, counts = np.unique(x, return_counts=True)
        if len(found) < 2:
            raise ValueError("a column needs two different values")
        size, spread = abs(x).max(), x[-1] - x[0]
        if not 1e-30 < size < 1e30:
            raise ValueError(f"the values reach up to {size:.2g}, beyond single precision: give them in other units")
        if spread < 1e-6 * size:
            what = f"the values vary by {spread:.3g} around {x[0]:.6g}, too little for single precision"
            raise ValueError(f"{what}: subtract a constant from them")
        low, high = (given if given is not None else end for given, end in ((min_value, x[0]), (max_value, x[-1])))
        for value in (value for value in (x[0], x[-1]) if not low <= value <= high):
            raise ValueError(f"the values go from {low:g} to {high:g}, got {value:g}")
        step = _step_of(found, len(x))
        # On a grid the outermost values begin half a step inside the bounds.
        first, last = low + step / 2, high - step / 2
        inner = np.quantile(x, np.linspace(0, 1, max_corners))
        corners = np.unique(np.r_[first, inner[(inner > first) & (inner < last)], last])
        scores = _power(x, corners)
        rising = np.r_[True, np.diff(scores) > 1e-6]
        values = corners
        return cls(values[rising].tolist(), scores[rising].tolist(), float(low), float(high), step, min_scale)

    @property
    def family(self) -> Any:
        return Transformed

    def join(self, kinds: Sequence[Likelihood]) -> Likelihood:
        return _Joined(kinds)

    @cached_property
    def _corners(self) -> Corners:
        return Corners.of([self])

    def num_parameters(self, num_features: int) -> int:
        return 2 * num_features

    def features(self, x: tf.Tensor, observed: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Return the score of each value, or the middle of its scores; zero where none is observed."""
        low, high, _ = self._corners.scores_of(x)
        middle = tf.where(low == -_FAR, high, tf.where(high == _FAR, low, 0.5 * (low + high)))
        return tf.where(observed, middle, 0.0)

    def constrain(self, raw: tf.Tensor, shift: tf.Tensor, scale: tf.Tensor) -> Parameters:
        loc, spread = tf.split(raw, 2, axis=-1)
        return loc, self._corners.min_scale + tf.nn.softplus(spread)

    def from_outputs(self, outputs: Any) -> Parameters:
        return tuple(tensors(outputs, 2, "a Transformed decoder returns [location, scale] of the score"))

    def log_prob(self, parameters: Parameters, x: tf.Tensor) -> tf.Tensor:
        loc, scale = parameters[0], _UNIT * parameters[1]
        low, high, log_slope = self._corners.scores_of(x)
        is_mass = high > low
        # log [F(high) - F(low)] of the logistic distribution function F, without a difference of two F.
        below, above = (low - loc) / scale, (high - loc) / scale
        width = tf.where(is_mass, (high - low) / scale, 1.0)
        mass = tf.math.log_sigmoid(above) + tf.math.log_sigmoid(-below) + tf.math.log(-tf.math.expm1(-width))
        density = tf.math.log_sigmoid(below) + tf.math.log_sigmoid(-below) - tf.math.log(scale) + log_slope
        return tf.maximum(tf.where(is_mass, mass, density), LOWEST)

    def sample(self, parameters: Parameters, seed: Any) -> tf.Tensor:
        return self._quantile(parameters, uniform(tf.shape(parameters[0]), seed))

    def mean(self, parameters: Parameters) -> tf.Tensor:
        """Mean of each column (..., d), over 32 quantiles."""
        places = [(place + 0.5) / _MEAN_AT for place in range(_MEAN_AT)]
        return tf.add_n([self._quantile(parameters, place) for place in places]) / _MEAN_AT

    def fisher_root(self, parameters: Parameters, tangents: Parameters, x: tf.Tensor) -> tf.Tensor:
        # Of a logistic distribution of unit scale: 1/3 for the location, (3 + pi^2)/9 for the log scale.
        scale = _UNIT * parameters[1]
        of_scale = _UNIT * math.sqrt((3.0 + math.pi**2) / 9.0)
        return tf.stack([tangents[0] / (math.sqrt(3.0) * scale), of_scale * tangents[1] / scale], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return asdict(self)

    def _quantile(self, parameters, place):
        """Return x whose score has the quantile ``place``, in (0, 1)."""
        loc, scale = parameters
        place = tf.clip_by_value(tf.convert_to_tensor(place, loc.dtype), 1e-7, 1.0 - 1e-7)
        return self._corners.value_of(loc + _UNIT * scale * (tf.math.log(place) - tf.math.log1p(-place)))


class _Joined(Transformed):
    """Several `Transformed` columns, which are computed together."""

    kinds: tuple[Transformed, ...]

    def __init__(self, kinds):
        own: Any = self.__dict__  # frozen
        own.update(kinds=tuple(kinds), _corners=Corners.of(kinds))

    def kind(self, j: int) -> Likelihood:
        return self.kinds[j]

    def part(self, parameters: Parameters, j: int) -> tuple[Likelihood, Parameters]:
        return self.kinds[j], tf.nest.map_structure(lambda a: a[..., j : j + 1], parameters)


class Corners(NamedTuple):
    """The corners of G for d columns, arrays (d, K) filled up with infinities, and what else they need (d,).

    Values count from the lowest one, which keeps digits that single precision has not further out.
    """

    values: Any
    scores: Any
    num: Any
    low: Any
    high: Any
    step: Any
    min_scale: Any

    @classmethod
    def of(cls, kinds: Sequence[Transformed]) -> Corners:
        """Collect what some columns have learned."""
        most = max(len(kind.values) for kind in kinds)
        values, scores = np.full((2, len(kinds), most), np.inf, np.float32)
        for j, kind in enumerate(kinds):
            values[j, : len(kind.values)] = np.array(kind.values) - np.float32(kind.low)
            scores[j, : len(kind.scores)] = kind.scores
        rest = np.array([(k.low, k.high, k.step, k.min_scale) for k in kinds], np.float32).T
        return cls(values, scores, np.array([len(kind.values) for kind in kinds], np.int32), *rest)

    @property
    def last_score(self):
        """Score of the last corner (d,)."""
        return self.scores[np.arange(len(self.num)), self.num - 1]

    def scores_of(self, x):
        """Return the lowest and highest score that give ``x`` (..., d), and the log slope of the scores there.

        The two are equal where the column is continuous.
        """
        x = self._on_grid(tf.clip_by_value(x - self.low, 0.0, self.high - self.low))
        low, slope = self._along(self.values, self.scores, x - self.step / 2, "left")
        high, _ = self._along(self.values, self.scores, x + self.step / 2, "right")
        low, high = tf.where(x <= 0.0, -_FAR, low), tf.where(x >= self.high - self.low, _FAR, high)
        return low, high, tf.math.log(tf.clip_by_value(slope, 1e-30, 1e30))

    def value_of(self, score):
        """Return G of ``score`` (..., d)."""
        x, _ = self._along(self.scores, self.values, score, "right")
        most = self.high - self.low
        x = tf.where(score < self.scores[:, 0], 0.0, tf.where(score >= self.last_score, most, x))
        return tf.minimum(self.low + self._on_grid(tf.clip_by_value(x, 0.0, most)), self.high)

    def _on_grid(self, x):
        """Round to distances from the lowest value that the column can hold."""
        if not self.step.any():
            return x
        step = np.where(self.step > 0, self.step, 1.0)
        return tf.where(self.step > 0, step * tf.round(x / step), x)

    def _along(self, a, b, at, side):
        """Go along the corners (a, b) of each column to ``at`` (..., d): b there, and the slope db / da."""
        flat = tf.transpose(tf.reshape(at, (-1, len(self.num))))
        place = tf.searchsorted(tf.constant(a), flat, side)
        right = tf.clip_by_value(place, 1, tf.maximum(self.num[:, None] - 1, 1))
        a0, a1, b0, b1 = (tf.gather(c, i, batch_dims=1) for c in (a, b) for i in (right - 1, right))
        slope = (b1 - b0) / tf.where(a1 > a0, a1 - a0, 1.0)
        there = b0 + (tf.clip_by_value(flat, a0, a1) - a0) * slope
        return tuple(tf.reshape(tf.transpose(c), tf.shape(at)) for c in (there, slope))


def _power(x, at):
    """Scores of ``at`` by the power transform of Yeo and Johnson (2000) that makes ``x`` most normal, standardised."""
    centre = 0.0 if x[0] >= 0 else np.median(x)
    size = np.mean(np.abs(x - centre))
    u, at = (x - centre) / size, (at - centre) / size
    power = float(np.clip(yeojohnson_normmax(u), -4.0, 4.0))
    scores = yeojohnson(u, power)
    return (yeojohnson(at, power) - scores.mean()) / scores.std()


def _step_of(found, n):
    """Find the grid that sorted different values ``found`` of ``n`` cells lie on: 1 for whole numbers; 0 for none."""
    if (found == np.round(found)).all():
        return 1.0
    if len(found) > 0.9 * n:  # too few values come twice to speak of a grid
        return 0.0
    for decimals in range(1, _DECIMALS):
        if np.allclose(found, np.round(found, decimals), rtol=0, atol=1e-9 * max(1.0, abs(found).max())):
            return 10.0**-decimals
    return 0.0
