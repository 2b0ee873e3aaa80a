"""Draws of a conditional (`ConditionalDraws`), and what is wrong with them (`diagnose`). ArviZ is called here alone."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .evidence import Evidence, column_index, column_label
from .loop import MAX_STEPS
from .samplers.auto import Auto
from .samplers.base import LEAST_STATES, Sampler, Weighted

if TYPE_CHECKING:
    import pandas as pd
    from xarray import DataTree


MOST_UNSURE = 0.4  # standard error of log p(x_o) beyond which a few populations decide alone


class SamplingWarning(UserWarning):
    """Chains that have not mixed, weights that have degenerated, a method that is biased here."""


class Finding(NamedTuple):
    """Something that is wrong with some draws.

    Attributes
    ----------
    kind : str
        ``"far"``, ``"not_arrived"``, ``"stuck"``, ``"populations"``, ``"weights"``, ``"not_mixed"``,
        ``"one_pass"`` or ``"biased"``.
    rows : tuple of int
        The rows of the table that it concerns.
    message : str
        What is wrong, and what to do about it.
    """

    kind: str
    rows: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class ConditionalDraws:
    """Draws of p(x_m | x_o), with what is needed to judge them.

    Attributes
    ----------
    values : ndarray (s, d), or (n, s, d) for a table
        Complete rows in data units, categories as codes; observed columns as given, to the bit.
    evidence : Evidence
        What was observed.
    method : Sampler or Auto
        The method and its settings, those left to their default filled in.
    acceptance : ndarray (n,)
        Mean Metropolis acceptance probability; for pseudo-Gibbs what it would have been; NaN for
        methods without that test.
    encoder_calls, decoder_calls : int
        Rows sent through each network by the steps and the final decoding. What starts the chains
        is not counted.
    chains : ndarray (n, C, t, d) or None
        Kept states of the C chains (methods that run chains).
    log_weights : ndarray (n, m) or None
        Unnormalised log importance weights of the pool that was resampled (weighted methods).
    arrived : ndarray of bool (n,)
        Whether a method that goes on until it is ready became so by itself.
    model_range : ndarray (2, d)
        Lowest and highest value of each column among some joint draws of the model; NaN for categories.
    seconds : float
        Wall time.
    parts : tuple of (rows, ConditionalDraws)
        Of the default method, ``"auto"``: the rows that each method drew, and its draws of these.
    """

    values: np.ndarray
    evidence: Evidence
    method: Sampler | Auto
    acceptance: np.ndarray
    encoder_calls: int
    decoder_calls: int
    chains: np.ndarray | None = field(repr=False)
    log_weights: np.ndarray | None = field(repr=False)
    arrived: np.ndarray
    model_range: np.ndarray
    seconds: float
    likelihood: Any = field(repr=False)
    parts: tuple[tuple[np.ndarray, ConditionalDraws], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        rows = "" if self.evidence.single else f"{len(self.evidence.values)} rows x "
        return (
            f"ConditionalDraws({rows}{self.values.shape[-2]} draws x {self.values.shape[-1]} columns, "
            f"{self.method}, {self.seconds:.2f} s)"
        )

    @property
    def _rows(self) -> np.ndarray:
        return self.values[None] if self.evidence.single else self.values

    def column(self, column) -> np.ndarray:
        """Draws of one column, by index or name: (s,) or (n, s). Categories stay codes."""
        return self.values[..., column_index(column, self.values.shape[-1], self.evidence.names)]

    def to_frame(self) -> pd.DataFrame:
        """Draws as a pandas DataFrame in the user's units and category names, one line per draw.

        Index: ``draw``, or ``row`` and ``draw`` for a table.
        """
        import pandas as pd

        rows = self._rows
        n, s, d = rows.shape
        names = self.evidence.names or range(d)
        flat = rows.reshape(n * s, d)
        columns = {name: self.likelihood.kind(j).decode(flat[:, j]) for j, name in enumerate(names)}
        index = pd.MultiIndex.from_product([range(n), range(s)], names=["row", "draw"])
        frame = pd.DataFrame(columns, index=index)
        return frame.droplevel("row") if self.evidence.single else frame

    @property
    def methods(self) -> np.ndarray:
        """Name of the method that drew each row (n,)."""
        names = np.full(len(self._rows), type(self.method).__name__, object)
        for rows, part in self.parts:
            names[rows] = type(part.method).__name__
        return names

    def take(self, rows: np.ndarray) -> ConditionalDraws:
        """Draws of these rows, as a table; what was counted stays that of all."""
        chains, log_weights = (None if a is None else a[rows] for a in (self.chains, self.log_weights))
        return replace(
            self,
            values=self._rows[rows],
            evidence=self.evidence.take(rows),
            acceptance=self.acceptance[rows],
            arrived=self.arrived[rows],
            chains=chains,
            log_weights=log_weights,
            parts=(),
        )

    def _of_parts(self, name):
        """Merge a property of the parts, row by row."""
        found = [getattr(part, name) for _, part in self.parts]
        out = np.full((len(self._rows), *found[0].shape[1:]), np.nan)
        for (rows, _), of_part in zip(self.parts, found, strict=True):
            out[rows] = of_part
        return out

    @cached_property
    def importance_ess(self) -> np.ndarray:
        """Effective size (sum w)² / sum w² of the weighted pool, per row (n,); NaN for chains."""
        if self.parts:
            return self._of_parts("importance_ess")
        if self.log_weights is None or self.chains is not None:
            return np.full(len(self._rows), np.nan)
        weights = np.exp(self.log_weights - self.log_weights.max(axis=1, keepdims=True), dtype=float)
        return weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)

    @cached_property
    def pareto_k(self) -> np.ndarray:
        """Shape of the weights' tail, per row (n,): above 0.7 the weights have failed; NaN for chains."""
        if self.parts:
            return self._of_parts("pareto_k")
        return self._pareto_k(range(len(self._rows)))

    @cached_property
    def r_hat(self) -> np.ndarray:
        """Rank-normalised split R-hat of each missing column (n, d).

        NaN elsewhere, without chains, and with fewer than four states a chain.
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization.
        """
        if self.parts:
            return self._of_parts("r_hat")
        return self._of_chains("rhat", range(len(self._rows)), 4)

    @cached_property
    def ess_bulk(self) -> np.ndarray:
        """Bulk effective size of the kept states of each missing column (n, d).

        NaN elsewhere, without chains, and with fewer than 20 states a chain: so few say nothing of how
        they depend on one another.
        """
        if self.parts:
            return self._of_parts("ess_bulk")
        return self._of_chains("ess", range(len(self._rows)), LEAST_STATES)

    @cached_property
    def population_ess(self) -> np.ndarray:
        """Effective size of the members of all populations, for each missing column (n, d).

        How far the means of R independent populations of N members scatter, against as many
        independent draws: N R / (N Var(means) / Var(within)). NaN for other methods.
        """
        if self.parts:
            return self._of_parts("population_ess")
        return self._spread(np.arange(len(self._rows)))[0]

    def _spread(self, rows):
        """`population_ess` of some rows, and how likely so much scatter is among independent draws (r, d)."""
        ess = np.full((len(rows), self.values.shape[-1]), np.nan)
        if self.chains is None or self.log_weights is None or self.chains.shape[1] < 2:
            return ess, ess
        from scipy.stats import chi2

        chains = self.chains[rows]
        _, count, size, _ = chains.shape
        between, within = chains.mean(2).var(1, ddof=1), chains.var(2).mean(1)
        missing = ~self.evidence.observed[rows] & (within > 0)
        inflation = size * between[missing] / within[missing]
        ess[missing] = count * size / np.maximum(inflation, 1e-9)
        chance = np.full(ess.shape, np.nan)
        chance[missing] = chi2.sf((count - 1) * inflation, count - 1)
        return ess, chance

    @property
    def log_evidence(self) -> np.ndarray:
        """Estimate of log p(x_o), per row (n,), of methods that weigh what they draw; NaN for chains."""
        return self._of_parts("log_evidence") if self.parts else self._evidence()[0]

    @property
    def log_evidence_error(self) -> np.ndarray:
        """Standard error of `log_evidence` (n,), as far as the weights know."""
        return self._of_parts("log_evidence_error") if self.parts else self._evidence()[1]

    def _evidence(self):
        if self.log_weights is None:
            return np.full((2, len(self._rows)), np.nan)
        best = self.log_weights.max(axis=1, keepdims=True)
        weights = np.exp(self.log_weights - best, dtype=float)
        if self.chains is not None:  # one estimate for each population, held by its members
            weights = weights[:, :: weights.shape[1] // self.chains.shape[1]]
        mean, count = weights.mean(axis=1), weights.shape[1]
        error = weights.std(axis=1, ddof=1) / (mean * np.sqrt(count)) if count > 1 else np.full(len(mean), np.nan)
        return best[:, 0] + np.log(mean), error

    def _repeated_share(self):
        """Share of the weights on prior proposals that are drawn more than twice on average (n,)."""
        assert self.log_weights is not None and isinstance(self.method, Weighted)
        weights = np.exp(self.log_weights - self.log_weights.max(axis=1, keepdims=True), dtype=float)
        weights /= weights.sum(axis=1, keepdims=True)
        weights = weights[:, self.method.from_prior(weights.shape[1])]
        return np.where(weights > 2.0 / self.values.shape[-2], weights, 0.0).sum(axis=1)

    def _pareto_k(self, rows):
        if self.log_weights is None or self.chains is not None:
            return np.full(len(rows), np.nan)
        return np.array([pareto_k(self.log_weights[row].astype(float)) for row in rows])

    def _of_chains(self, name, rows, least):
        out = np.full((len(rows), self.values.shape[-1]), np.nan)
        if self.chains is None or self.chains.shape[2] < least:
            return out
        statistic = getattr(_arviz(), name)
        for i, row in enumerate(rows):
            for j in np.flatnonzero(~self.evidence.observed[row]):
                chains = self.chains[row, :, :, j].astype(float)
                # A column that no chain ever moved has no within-chain variance.
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")  # of chains that stand still
                    if np.ptp(chains) > 0:
                        out[i, j] = float(statistic(chains))
        return out

    def summary(self) -> pd.DataFrame:
        """One line per missing column (of each row): moments, quantiles and diagnostics.

        Returns
        -------
        pandas.DataFrame
            mean, sd, 5%, 50% and 95% quantiles (not for categories); ``acceptance``; ``r_hat``
            (rank-normalised, split) and ``ess_bulk`` of chains; ``importance_ess`` and ``pareto_k``
            of weighted methods; ``population_ess`` of populations; the row's ``method``.
            ``attrs`` holds method, encoder and decoder calls, and seconds.
        """
        import pandas as pd

        rows, names = self._rows, self.evidence.names or range(self.values.shape[-1])
        lines, index = [], []
        for i, j in np.argwhere(~self.evidence.observed):
            draws = rows[i, :, j]
            moments = [np.nan] * 5
            if self.likelihood.kind(j).has_mean:
                moments = [
                    draws.mean(),
                    draws.std(ddof=1) if len(draws) > 1 else np.nan,
                    *np.quantile(draws, [0.05, 0.5, 0.95]),
                ]
            lines.append(
                [
                    *moments,
                    self.acceptance[i],
                    self.r_hat[i, j],
                    self.ess_bulk[i, j],
                    self.importance_ess[i],
                    self.pareto_k[i],
                    self.population_ess[i, j],
                    self.methods[i],
                ]
            )
            index.append((i, names[j]))
        columns = ["mean", "sd", "5%", "50%", "95%", "acceptance", "r_hat", "ess_bulk", "importance_ess", "pareto_k"]
        columns += ["population_ess", "method"]
        frame = pd.DataFrame(lines, columns=columns, index=pd.MultiIndex.from_tuples(index, names=["row", "column"]))
        frame = frame.droplevel("row") if self.evidence.single else frame
        frame.attrs = {**self._costs, "seconds": self.seconds}
        return frame

    @property
    def _costs(self):
        return {"method": repr(self.method), "encoder_calls": self.encoder_calls, "decoder_calls": self.decoder_calls}

    def to_arviz(self) -> DataTree:
        """Return the draws as an ArviZ ``DataTree``: one variable per column that is missing somewhere.

        Dimensions are (chain, draw), with a third, ``row``, for a table. Weighted draws are
        independent given the pool and form one chain.
        """
        import arviz_base

        chains = self._rows[:, None] if self.chains is None else self.chains
        names = self.evidence.names or range(chains.shape[-1])
        posterior = {}
        for j, name in enumerate(names):
            if not self.evidence.observed[:, j].all():
                name = name if isinstance(name, str) else f"x{name}"
                if name in ("chain", "draw", "row") or "/" in name:
                    raise ValueError(f"a DataTree cannot hold a column called {name!r}: rename it")
                posterior[name] = chains[0, ..., j] if self.evidence.single else np.moveaxis(chains[..., j], 0, -1)
        dims = None if self.evidence.single else {name: ["row"] for name in posterior}
        return arviz_base.from_dict(
            {"posterior": posterior}, dims=dims, attrs={"posterior": self._costs}, check_conventions=False
        )


def _arviz():
    """ArviZ's statistics of arrays; importing them takes a moment that most calls need not spend."""
    import arviz_stats.base

    return arviz_stats.base.array_stats  # pyright: ignore[reportPrivateImportUsage]


def pareto_k(log_weights: np.ndarray) -> float:
    """Shape of the tail of importance weights (m,), from their logarithms.

    Above 0.7 the weights have failed: infinity if a few of them, or too few, leave nothing to fit.
    Minus infinity if they are bounded, NaN if one of them is no number.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
    """
    if not np.isfinite(log_weights).all():
        return math.nan
    if np.ptp(log_weights) < 1e-6:  # equal weights have no tail
        return -math.inf
    tail = int(min(len(log_weights) / 5, 3 * len(log_weights) ** 0.5))  # as ArviZ cuts it
    if tail < 6:
        return math.inf
    weights = np.exp(np.sort(log_weights)[-tail - 1 :] - log_weights.max())
    if weights[1] == 1.0:
        return -math.inf
    if weights[int(tail / 4 + 0.5)] - weights[0] < 1e-100:  # ArviZ divides by it, and finds nothing wrong
        return math.inf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # `diagnose` says more
        k = _arviz().psislw(-log_weights)[1]
    return float(np.nan_to_num(k, nan=math.inf, posinf=math.inf, neginf=-math.inf))


def diagnose(draws: ConditionalDraws, max_rows: int | None = None) -> list[Finding]:
    """Say what is wrong with some draws: an empty list if nothing was found.

    No diagnostic sees a mode that no chain, particle or member has met.

    Parameters
    ----------
    draws : ConditionalDraws
    max_rows : int, optional
        Look at about so many rows, evenly spread. All by default.

    Returns
    -------
    list of Finding
    """
    found = []
    for rows, part in draws.parts or ((np.arange(len(draws.evidence.values)), draws),):
        for finding in _findings(part, np.flatnonzero(~part.evidence.observed.all(axis=1)), max_rows):
            found.append(finding._replace(rows=tuple(rows[list(finding.rows)].tolist())))
    return found


def _findings(draws, open_rows, max_rows):
    """Say what is wrong with these rows, which have holes and were drawn by one method."""
    if not len(open_rows):
        return []
    rows = open_rows[:: max(1, len(open_rows) // (max_rows or len(open_rows)))]
    found: list[Finding] = []

    def find(kind, which, message):
        found.append(Finding(kind, tuple(np.asarray(which).tolist()), message))

    if (far := _far_cell(draws, open_rows)) is not None:
        # Weights say nothing there: a density that rounds to zero everywhere makes them equal.
        row, column = far
        low, high = draws.model_range[:, column]
        find(
            "far",
            [row],
            (
                f"{column_label(column, draws.evidence.names)} is {draws.evidence.values[row, column]:.6g}, far "
                f"outside what the model draws ({low:.4g} to {high:.4g}): the conditional there is no more than "
                "the networks' extrapolation. Check the value and its unit"
            ),
        )
    if not draws.arrived[open_rows].all():
        find(
            "not_arrived",
            open_rows[~draws.arrived[open_rows]],
            (
                f"some rows have not reached the posterior in {MAX_STEPS} steps, or their members hardly move there: "
                "the evidence may contradict the model, or num_moves and num_chains are too small"
            ),
        )
    acceptance = draws.acceptance[rows]
    populations = draws.chains is not None and draws.log_weights is not None
    if populations and (low := np.nanmin(acceptance, initial=1.0)) < 0.02:
        find(
            "stuck",
            rows[acceptance < 0.02],
            (f"hardly any move is accepted ({low:.1%}): draws repeat few latents. Raise num_chains or num_moves"),
        )
    if populations:
        num_samples, missing = draws.values.shape[-2], ~draws.evidence.observed[rows]
        ess, chance = draws._spread(rows)
        # One in a thousand rows of independent draws scatters so much that it is flagged.
        apart = (ess < 0.25 * num_samples) & (chance < 1e-3 / np.maximum(1, missing.sum(1, keepdims=True)))
        unsure = draws.log_evidence_error[rows] > MOST_UNSURE
        bad = apart.any(axis=1) | unsure
        if bad.any():
            least = np.nanmin(np.where(apart, ess, np.inf))
            what = f"effective size {least:.0f}" if apart.any() else ""
            if unsure.any():
                spread = np.nanmax(draws.log_evidence_error[rows])
                what += " and " * bool(what) + f"log p(x_o) known to ±{spread:.2g} only"
            find(
                "populations",
                rows[bad],
                f"independent populations disagree ({what}): modes may have been lost. Raise num_chains or num_moves",
            )
    elif draws.log_weights is not None:
        size, num_samples = draws.importance_ess[rows], draws.values.shape[-2]
        # A heavy tail does little harm to a pool that has far more to give than was drawn from it.
        bad = ~(size > 2 * num_samples)
        k = draws._pareto_k(rows[bad])
        bad[bad] = ~(k < 0.7) | ~(size[bad] > 0.25 * num_samples)
        if bad.any():
            find(
                "weights",
                rows[bad],
                (
                    f"the importance weights have degenerated (Pareto-k {np.nanmax(k):.2f}, effective size "
                    f"{np.nanmin(size):.0f}): draws repeat few latents. Use "
                    "method='auto', raise oversampling, or check that the evidence is plausible"
                ),
            )
    r_hat = np.nan_to_num(draws._of_chains("rhat", rows, 4), nan=1.0, posinf=np.inf).max(axis=1)
    if (r_hat > 1.1).any():
        find(
            "not_mixed",
            rows[r_hat > 1.1],
            (
                f"the chains have not mixed (R-hat {r_hat.max():.2f}): they still show where they started. "
                "Use method='auto', or raise warmup and thin"
            ),
        )
    if not draws.method.exact:
        if np.isnan(acceptance).all():
            find(
                "one_pass",
                rows,
                (
                    "one pass is not a sampler of the conditional: it returns decoder means of completions "
                    "that were drawn without the evidence. Use method='auto'"
                ),
            )
        elif (low := np.nanmin(acceptance)) < 0.9:
            find(
                "biased",
                rows[acceptance < 0.9],
                (
                    f"a Metropolis test would reject {1 - low:.0%} of the moves, so the draws are biased: "
                    "the encoder is not the posterior here. Use method='auto'"
                ),
            )
    return found


def _far_cell(draws, rows):
    """Find the number (row, column) farthest outside the model's draws, if it is out by more than their range."""
    low, high = draws.model_range
    values = np.where(draws.evidence.observed[rows], draws.evidence.values[rows], np.nan)
    out = np.maximum(low - values, values - high) / np.where(high > low, high - low, np.inf)
    out = np.where(np.isnan(out), -np.inf, out)
    row, column = np.unravel_index(out.argmax(), out.shape)
    return (int(rows[row]), int(column)) if out[row, column] > 1.0 else None
