"""Imputers side by side on nine tables, as Markdown: ``python benchmarks/tables.py``.

Cells are hidden from complete tables and filled by every method. ``--results FILE`` keeps what was
measured, one line for each run, so that a second call runs only what is new. ``--quick`` shows that it still runs.
"""

import argparse
import csv
import json
import os
import time
import warnings
from pathlib import Path

import cvae_tutorial as ct  # isort: skip  (before TensorFlow: it keeps start-up notices out)
import numpy as np
import pandas as pd
from palmerpenguins import load_penguins
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm, rankdata
from sklearn import datasets
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from threadpoolctl import threadpool_limits

KEY = ["table", "mechanism", "rate", "seed", "method", "draws"]
SCORES = ["rmse", "crps", "accuracy", "coverage", "outside", "impossible", "cpu", "draw_cpu", "warnings"]
RANKED = ["knn", "ridge", "trees", "copula", "miceforest"]  # and ours
DRAWS = 19  # an exact draw is the least or the largest of twenty in one case of ten: no interpolation


# 1. The tables, and what is hidden of them


def _bunch(name):
    return getattr(datasets, f"load_{name}")(as_frame=True).data


def _iris():
    bunch = datasets.load_iris(as_frame=True)
    return bunch.data.assign(species=bunch.target_names[bunch.target])


def _autompg():
    from mlxtend.data import autompg_data

    names = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin", "name"]
    x, y = autompg_data()
    frame = pd.DataFrame(x, columns=names[: x.shape[1]]).assign(mpg=y).drop(columns="name", errors="ignore")
    return frame.assign(origin=frame["origin"].map({1: "USA", 2: "Europe", 3: "Japan"}))


def _boston():
    from mlxtend.data import boston_housing_data

    names = ["crim", "zn", "indus", "chas", "nox", "rm", "age", "dis", "rad", "tax", "ptratio", "b", "lstat"]
    x, y = boston_housing_data()
    return pd.DataFrame(x, columns=names).assign(medv=y)


def _statsmodels(name):
    import statsmodels.api as sm

    return getattr(sm.datasets, name).load_pandas().data


TABLES = {
    "wine": lambda: _bunch("wine"),
    "breast_cancer": lambda: _bunch("breast_cancer"),
    "star98": lambda: _statsmodels("star98"),
    "penguins": load_penguins,
    "autompg": _autompg,
    "boston": _boston,
    "anes96": lambda: _statsmodels("anes96"),
    "diabetes": lambda: _bunch("diabetes"),
    "iris": _iris,
}


def load(name):
    """Return the table: text columns are categories, all others floats."""
    frame = TABLES[name]().reset_index(drop=True)
    return pd.DataFrame(
        {
            str(c): v.astype(float) if pd.api.types.is_numeric_dtype(v) else v.astype("category")
            for c, v in frame.items()
        }
    )


def hide(full, mechanism, rate, seed):
    """Return which of the known cells to hide, (n, d).

    ``mcar``: each with probability ``rate``. ``mar``: every second column, chosen at random, keeps all its
    cells. Holes in another depend on one of these: the odds grow e-fold with half a standard deviation of its
    normal score, at ``rate`` holes on average.
    """
    rng = np.random.default_rng([seed, 1])
    n, d = full.shape
    probability = np.full((n, d), rate)
    if mechanism == "mar":
        numbers = _numbers(full)
        order = rng.permutation(d)
        complete, holed = order[: d // 2], order[d // 2 :]
        probability[:, complete] = 0
        for j in holed:
            driver = numbers.iloc[:, rng.choice(complete)]
            score = 2 * rng.choice([-1, 1]) * np.nan_to_num(_normal_scores(driver.to_numpy(float)))
            shift = brentq(lambda b, s=score: expit(b + s).mean() - rate, -50, 50)
            probability[:, j] = expit(shift + score)
    return (rng.random((n, d)) < probability) & full.notna().to_numpy()


def _numbers(frame):
    return frame.apply(lambda c: c if c.dtype.kind == "f" else c.cat.codes.where(c.notna()).astype(float))


def _normal_scores(x):
    known = ~np.isnan(x)
    out = np.full(len(x), np.nan)
    out[known] = norm.ppf((rankdata(x[known]) - 0.5) / known.sum())
    return out


# 2. The methods. Each gets the frame with holes and returns a frame without (`point`), or m of them (`draws`).


class Coded:
    """Categories as indicators and columns of unit scale, for methods that know numbers alone.

    The first category has no indicator: with all of them each would follow from the others, and chained
    equations would return what they started from.
    """

    def __init__(self, holes):
        self.holes = holes
        parts = {}
        for name, column in holes.items():
            if column.dtype.kind == "f":
                parts[name, 0] = column
            else:
                for k in range(1, len(column.cat.categories)):
                    parts[name, k] = (column.cat.codes == k).astype(float).where(column.notna())
        self.table = pd.DataFrame(parts)
        self.loc, self.scale = self.table.mean(), self.table.std().replace(0, 1).fillna(1)
        self.scaled = ((self.table - self.loc) / self.scale).to_numpy()

    def decode(self, filled):
        table = pd.DataFrame(filled, columns=self.table.columns) * self.scale + self.loc
        out = {}
        for name, column in self.holes.items():
            part = table[name].to_numpy() if name in table else np.empty((len(table), 0))
            if column.dtype.kind == "f":
                out[name] = column.fillna(pd.Series(part[:, 0]))
            else:
                part = np.column_stack([1 - part.sum(1), part]).argmax(1)
                out[name] = column.fillna(pd.Series(pd.Categorical.from_codes(part, dtype=column.dtype)))
        return pd.DataFrame(out)


class Sklearn:
    """An imputer of scikit-learn; ``posterior(seed)`` is one that draws, if there is one."""

    def __init__(self, imputer, posterior=None):
        self.imputer, self.posterior = imputer, posterior

    def point(self, holes):
        self.coded = Coded(holes)
        return self.coded.decode(self.imputer.fit_transform(self.coded.scaled))

    def draws(self, m):
        if self.posterior is None:
            return None
        return [self.coded.decode(self.posterior(i).fit_transform(self.coded.scaled)) for i in range(m)]


class Copula:
    """Gaussian copula: normal scores of every column, their covariance by EM, quantiles back."""

    def __init__(self, seed, steps=50):
        self.rng, self.steps = np.random.default_rng(seed), steps

    def point(self, holes):
        self.coded = Coded(holes)
        self.z = np.apply_along_axis(_normal_scores, 0, self.coded.scaled)
        d = self.z.shape[1]
        self.patterns, self.row = np.unique(np.isnan(self.z), axis=0, return_inverse=True)
        self.cov = np.eye(d)
        for _ in range(self.steps):
            filled, extra = self._conditional()
            before, self.cov = self.cov, (filled.T @ filled + extra) / len(filled) + 1e-3 * np.eye(d)
            if abs(self.cov - before).max() < 1e-3:
                break
        return self.coded.decode(np.mean([self._draw() for _ in range(100)], axis=0))

    def draws(self, m):
        return [self.coded.decode(self._draw()) for _ in range(m)]

    def _conditional(self, draw=False):
        filled, extra = self.z.copy(), np.zeros_like(self.cov)
        for i, hidden in enumerate(self.patterns):
            rows, seen = np.flatnonzero(self.row.ravel() == i), ~hidden
            if not hidden.any():
                continue
            gain = np.linalg.solve(self.cov[np.ix_(seen, seen)], self.cov[np.ix_(seen, hidden)])
            rest = self.cov[np.ix_(hidden, hidden)] - self.cov[np.ix_(hidden, seen)] @ gain
            filled[np.ix_(rows, hidden)] = self.z[np.ix_(rows, seen)] @ gain
            extra[np.ix_(hidden, hidden)] += len(rows) * rest
            if draw:
                root = np.linalg.cholesky(rest + 1e-6 * np.eye(len(rest)))
                filled[np.ix_(rows, hidden)] += self.rng.normal(size=(len(rows), len(rest))) @ root.T
        return filled, extra

    def _draw(self):
        filled = norm.cdf(self._conditional(draw=True)[0])
        for j, column in enumerate(self.coded.scaled.T):
            hole, known = np.isnan(column), np.sort(column[~np.isnan(column)])
            levels = (np.arange(len(known)) + 0.5) / len(known)
            numbers = np.interp(filled[:, j], levels, known)
            if len(np.unique(known)) < 0.5 * len(known):  # ties: values that were seen, none between
                numbers = known[np.minimum((filled[:, j] * len(known)).astype(int), len(known) - 1)]
            filled[:, j] = np.where(hole, numbers, column)
        return filled


class Miceforest:
    """LightGBM by chained equations; a cell gets the observed value of a row with a close prediction."""

    def __init__(self, seed, draws, iterations=3):
        self.seed, self.m, self.iterations = seed, draws, iterations

    def point(self, holes):
        import miceforest

        self.filled = []
        for i in range(self.m):  # one by one: a kernel of all tables keeps every model of every column
            kernel = miceforest.ImputationKernel(
                holes, num_datasets=1, save_all_iterations_data=False, random_state=1000 * self.seed + i
            )
            kernel.mice(self.iterations, num_threads=1)
            self.filled.append(kernel.complete_data())
        return _centre(self.filled)

    def draws(self, m):
        return self.filled[:m]


class Ours:
    def __init__(self, **settings):
        self.imputer = ct.VAEImputer(**settings).set_output(transform="pandas")

    def point(self, holes):
        self.holes = holes
        return self.imputer.fit_transform(holes)

    def draws(self, m):
        return self.imputer.sample_imputations(self.holes, m)


def _centre(tables):
    """Mean of the numbers, most frequent category."""
    out = {}
    for name, column in tables[0].items():
        if column.dtype.kind == "f":
            out[name] = np.mean([t[name] for t in tables], axis=0)
        else:
            out[name] = pd.concat([t[name] for t in tables], axis=1).mode(axis=1)[0].astype(column.dtype)
    return pd.DataFrame(out)


def methods(seed, draws, quick, ours, settings):
    rounds, trees = (2, 10) if quick else (5, 50)

    def iterative(estimator=None, s=seed, **more):
        return IterativeImputer(estimator, max_iter=10 if estimator is None else rounds, random_state=s, **more)

    return {
        "mean": lambda: Sklearn(SimpleImputer()),
        "knn": lambda: Sklearn(KNNImputer(n_neighbors=5)),
        "ridge": lambda: Sklearn(iterative(), lambda i: iterative(None, 1000 * seed + i, sample_posterior=True)),
        "trees": lambda: Sklearn(iterative(ExtraTreesRegressor(trees, random_state=seed))),
        "copula": lambda: Copula(seed),
        "miceforest": lambda: Miceforest(seed, draws, 1 if quick else 3),
        ours: lambda: Ours(**{"random_state": seed} | ({"max_iter": 100} if quick else {}) | settings),
    }


# 3. Scores


def run(method, full, hidden, draws, seed):
    """Fill the hidden cells; return the scores and what was warned of."""
    holes = full.mask(hidden)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        began = cpu()
        point = method.point(holes)
        middle = cpu()
        drawn = method.draws(draws)
        end = cpu()
    said = sorted({f"{item.category.__name__}: {item.message}" for item in caught})
    score = dict.fromkeys(SCORES, np.nan)
    score |= {"cpu": middle - began, "draw_cpu": end - middle if drawn else np.nan, "warnings": len(said)}
    rng = np.random.default_rng([seed, 2])
    square, crps, right, inside, outside, wrong = [], [], [], [], [], []
    for j, (name, column) in enumerate(full.items()):
        at = hidden[:, j]
        if not at.any():
            continue
        truth, guess = column[at], point.loc[at, name]
        if column.dtype.kind != "f":
            right.append(truth.astype(object).to_numpy() == guess.astype(object).to_numpy())
            continue
        sd, seen, truth = column.std() or 1.0, holes[name].dropna().to_numpy(), truth.to_numpy()
        square.append(((guess.to_numpy(float) - truth) / sd) ** 2)
        if drawn is None:
            crps.append(abs(guess.to_numpy(float) - truth) / sd)  # what the CRPS of a point is
            continue
        x = np.stack([table.loc[at, name].to_numpy(float) for table in drawn])  # (m, cells)
        m = len(x)
        spread = abs(x[:, None] - x[None]).sum((0, 1)) / (2 * m * max(m - 1, 1))
        crps.append((abs(x - truth).mean(0) - spread) / sd)
        below, ties = (x < truth).sum(0), (x == truth).sum(0)
        rank = below + rng.integers(ties + 1)  # 0 to m, uniform for exact draws
        tail = round(0.05 * (m + 1))
        inside.append((rank >= tail) & (rank <= m - tail))
        low, high = seen.min(), seen.max()
        slack = 1e-6 * (high - low)
        outside.append(((x < low - slack) | (x > high + slack)).ravel())
        wrong.append(impossible(x, seen).ravel())
    for key, cells in zip(
        ("rmse", "crps", "accuracy", "coverage", "outside", "impossible"),
        (square, crps, right, inside, outside, wrong),
        strict=True,
    ):
        if cells:
            mean = np.concatenate(cells).mean()
            score[key] = np.sqrt(mean) if key == "rmse" else mean
    return score, said


def impossible(x, seen):
    """Which values a column with the observed cells ``seen`` cannot hold, by what shows without knowing more."""
    values = np.unique(seen)
    slack = 1e-6 * (values[-1] - values[0])
    if len(values) <= 2:  # flags
        return abs(x[..., None] - values).min(-1) > slack
    bad = (x < -slack) if values[0] >= 0 else np.zeros(x.shape, bool)
    if (values == np.rint(values)).all():
        bad |= abs(x - np.rint(x)) > 1e-6
    return bad


def cpu():
    """Seconds of all threads of this process, and of the processes that it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


# 4. Results


def read(path):
    if path is None or not path.exists():
        return {}
    with path.open() as file:
        return {tuple(row[k] for k in KEY): row for row in csv.DictReader(file)}


def write(path, results):
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".part")
    with new.open("w", newline="") as file:
        out = csv.DictWriter(file, KEY + SCORES + ["said"])
        out.writeheader()
        out.writerows(results.values())
    new.replace(path)


def markdown(frame, digits):
    print("\n| " + " | ".join([frame.index.name or "", *map(str, frame.columns)]) + " |")
    print("|---|" + "---:|" * frame.shape[1])
    for label, row in frame.iterrows():
        cells = ["" if pd.isna(v) else f"{v:.{digits}f}" for v in row]
        print("| " + " | ".join([str(label), *cells]) + " |", flush=True)


def report(frame, ours):
    """Print a table for every score, and ranks."""
    order = [m for m in ["mean", *RANKED] if m in set(frame["method"])]
    order += sorted(set(frame["method"]) - set(order))
    for mechanism, part in frame.groupby("mechanism"):
        print(f"\n## {mechanism.upper()}, seeds {', '.join(sorted(part['seed'].astype(str).unique()))}")
        for score in SCORES:
            means = part.pivot_table(index="table", columns="method", values=score, aggfunc="mean")
            if len(means):
                print(f"\n{score}")
                means = means.reindex([t for t in TABLES if t in means.index])
                markdown(means.reindex(columns=[m for m in order if m in means]), 1 if "cpu" in score else 3)
    lines = {}
    ranked = frame[frame["method"].isin([*RANKED, *ours])]
    for score, sign in (("rmse", 1), ("crps", 1), ("accuracy", -1)):
        for method in ours or [None]:
            rest = ranked[ranked["method"].isin([*RANKED, method])].copy()
            rest["rank"] = (sign * rest[score]).groupby([rest[k] for k in KEY[:4]]).rank()
            for name, rank in rest.groupby("method")["rank"].mean().items():
                if name == method or method == (ours or [None])[0]:
                    lines.setdefault(name, {})[f"rank {score}"] = rank
        if score != "accuracy":
            means = ranked.pivot_table(index=KEY[:2], columns="method", values=score, aggfunc="mean")
            for name in means:
                over = means[name] / means[[m for m in means if m in RANKED or m == name]].min(axis=1)
                lines.setdefault(name, {})[f"worst {score} / best"] = over.max()
    times = frame.pivot_table(index=KEY[:2], columns="method", values="cpu", aggfunc="mean")
    if "trees" in times:
        for name in times:
            lines.setdefault(name, {})["cpu / trees', median"] = (times[name] / times["trees"]).median()
    print(f"\n## Average ranks among {', '.join(RANKED)} and one of {', '.join(ours)}")
    markdown(pd.DataFrame(lines).T.reindex([m for m in order if m in lines]), 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--methods", nargs="+", help="default: all that are installed")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--mechanism", nargs="+", choices=["mcar", "mar"], default=["mcar"])
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--results", type=Path, help="CSV to read and to add to")
    parser.add_argument("--rerun", nargs="+", default=[], help="methods to measure again though they are in the file")
    parser.add_argument("--ours", default="ours", help="name under which VAEImputer is entered")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON: settings of VAEImputer")
    parser.add_argument("--report", action="store_true", help="run nothing, print what the file holds")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    threadpool_limits(1, "blas")  # on matrices this small threads wait for one another, and that counts as CPU time
    results = read(args.results)
    if args.quick:
        args.tables, args.draws = ["iris"], 19
    for table in [] if args.report else args.tables:
        try:
            full = load(table)
        except ImportError as error:
            print(f"{table}: left out, {error}")
            continue
        for mechanism in args.mechanism:
            for seed in args.seeds:
                hidden = hide(full, mechanism, args.rate, seed)
                for name, make in methods(seed, args.draws, args.quick, args.ours, args.settings).items():
                    key = tuple(map(str, (table, mechanism, args.rate, seed, name, args.draws)))
                    if args.methods and name not in args.methods or key in results and name not in args.rerun:
                        continue
                    try:
                        score, said = run(make(), full, hidden, args.draws, seed)
                    except ImportError as error:
                        print(f"{name}: left out, {error}")
                        continue
                    shown = {k: f"{v:.4g}" for k, v in score.items() if not np.isnan(v)}
                    print(*key[:5], *(f"{k} {v}" for k, v in shown.items()), flush=True)
                    results = read(args.results) | results  # another run may have added to it
                    results[key] = dict(zip(KEY, key, strict=True)) | shown | {"said": " // ".join(said)[:1000]}
                    write(args.results, results)
    if not results:
        return
    frame = pd.DataFrame(list(results.values()))
    frame = frame.reindex(columns=KEY + SCORES + ["said"])
    frame[SCORES] = frame[SCORES].apply(pd.to_numeric)
    named = [m for m in frame["method"].unique() if m not in ("mean", *RANKED)]
    report(frame, named)


if __name__ == "__main__":
    main()
