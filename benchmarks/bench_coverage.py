r"""Simulates how often 95 % intervals over few recordings cover the true CCC, for the intervals that eval.py prints.

Recordings are drawn from a population in which speakers differ: in level and range of the gold standard, and in the
correlation, the range and the offset of a system's predictions. Two systems share half of the variance in how easy a
speaker is to predict. The true value is that of 400 000 recordings. Only the moments of each recording are drawn,
because the intervals depend on nothing else.

Rows are methods: "printed" is `affect.evaluation.intervals` (percentiles where a t-interval would end), the others are
alternatives: the plain percentile interval, BCa, and the symmetric studentised bootstrap with the jackknife's variance.
Columns are the pooled CCC, the mean CCC per recording, and the differences of two systems in both; the number in
brackets is the mean width. With 2000 samples, the standard error of a percentage is 0.5.

Example:
  python benchmarks/bench_coverage.py --recordings=9 --samples=2000
"""

from collections.abc import Callable, Sequence

import numpy as np
from absl import flags
from scipy import stats

from affect import cli
from affect.evaluation import intervals

POPULATION = 400_000
METHODS = ("printed", "percentile", "BCa", "studentised")
# Typical correlation of each system with the gold standard, and its spread (in Fisher's z); which share of the
# differences in level between recordings is predicted; deviations of the gold standard's level and of the prediction's
# offset.
SCENARIOS = {
    "arousal-like": {"correlations": (0.75, 0.65), "spread": 0.25, "tracked": 0.5, "level": 0.08, "offset": 0.05},
    "valence-like": {"correlations": (0.5, 0.4), "spread": 0.35, "tracked": 0.2, "level": 0.10, "offset": 0.06},
    "excellent": {"correlations": (0.95, 0.93), "spread": 0.4, "tracked": 0.9, "level": 0.08, "offset": 0.02},
    "weak": {"correlations": (0.2, 0.1), "spread": 0.25, "tracked": 0.0, "level": 0.08, "offset": 0.06},
}
Statistic = Callable[[np.ndarray], np.ndarray]


def draw_sums(scenario: dict, recordings: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draws recordings; returns the sums of moments (`intervals.moment_sums`, 1 frame each) for each of two systems."""
    level = rng.normal(0.0, scenario["level"], recordings)
    deviation = 0.15 * np.exp(rng.normal(0.0, 0.35, recordings))
    easiness, systems = rng.normal(size=recordings), []
    for correlation in scenario["correlations"]:
        own = np.sqrt(0.5) * (easiness + rng.normal(size=recordings))
        r = np.tanh(np.arctanh(correlation) + scenario["spread"] * own)
        predicted_deviation = 0.75 * deviation * np.exp(rng.normal(0.0, 0.3, recordings))
        mean = scenario["tracked"] * level + rng.normal(0.0, scenario["offset"], recordings)
        products = (
            deviation**2 + level**2, predicted_deviation**2 + mean**2,
            r * deviation * predicted_deviation + level * mean,
        )  # fmt: skip
        systems.append(np.stack([np.ones(recordings), level, mean, *products], axis=-1))
    return systems


def statistics_of(systems: list[np.ndarray]) -> dict[str, Statistic]:
    """Returns the four statistics as functions of drawn recordings, [..., recordings] to [...]."""
    first, second = systems
    own_first, own_second = intervals.ccc_of_sums(first), intervals.ccc_of_sums(second)

    def pooled(drawn: np.ndarray, sums: np.ndarray) -> np.ndarray:
        return intervals.ccc_of_sums(sums[drawn].sum(axis=-2))

    return {
        "pooled": lambda drawn: pooled(drawn, first),
        "per recording": lambda drawn: own_first[drawn].mean(axis=-1),
        "difference, pooled": lambda drawn: pooled(drawn, first) - pooled(drawn, second),
        "difference, per recording": lambda drawn: (own_first - own_second)[drawn].mean(axis=-1),
    }


def interval(method: str, statistic: Statistic, recordings: int, resamples: int, seed: int) -> tuple[float, float]:
    """Returns the 95 % interval of a statistic by one of `METHODS`."""
    if method == "printed":
        found = intervals.interval_over_recordings(statistic, recordings, 2.0, resamples)
        return found if found is not None else (-np.inf, np.inf)
    rng = np.random.default_rng(seed)
    if method == "studentised":
        return _studentised(statistic, rng.integers(0, recordings, (resamples, recordings)))
    result = stats.bootstrap(
        (np.arange(recordings),), lambda drawn, axis: statistic(np.moveaxis(drawn, axis, -1)), method=method,
        n_resamples=resamples, random_state=rng,
    )  # fmt: skip
    return result.confidence_interval.low, result.confidence_interval.high


def _studentised(statistic: Statistic, drawn: np.ndarray) -> tuple[float, float]:
    everything = np.arange(drawn.shape[1])
    value, error = statistic(everything), _jackknife_error(statistic, everything)
    errors = _jackknife_error(statistic, drawn)
    usable = errors > 1e-9  # a sample that repeats a single recording has no error
    ratios = np.abs(statistic(drawn[usable]) - value) / errors[usable]
    return tuple(value + error * np.quantile(ratios, 0.95) * np.array([-1.0, 1.0]))


def _jackknife_error(statistic: Statistic, drawn: np.ndarray) -> np.ndarray:
    count = drawn.shape[-1]
    without = np.stack([statistic(np.delete(drawn, one, axis=-1)) for one in range(count)], axis=-1)
    return np.sqrt((count - 1) * without.var(axis=-1))


def coverage(name: str, recordings: int, samples: int, resamples: int, methods: Sequence[str] = METHODS) -> dict:
    """Simulates samples of recordings of one of `SCENARIOS`.

    Returns:
      By method and statistic, the share of intervals that cover the true value and their mean width.
    """
    scenario, rng = SCENARIOS[name], np.random.default_rng(list(name.encode()))  # different samples in every scenario
    everything = np.arange(POPULATION)
    truth = {name: float(one(everything)) for name, one in statistics_of(draw_sums(scenario, POPULATION, rng)).items()}
    results = {method: {name: [] for name in truth} for method in methods}
    for seed in range(samples):
        for name, statistic in statistics_of(draw_sums(scenario, recordings, rng)).items():
            for method in methods:
                low, high = interval(method, statistic, recordings, resamples, seed)
                results[method][name].append((low <= truth[name] <= high, high - low))
    return {method: {name: np.mean(one, axis=0) for name, one in row.items()} for method, row in results.items()}


def define_flags() -> None:
    """Declares the flags of this command."""
    flags.DEFINE_integer("recordings", 9, "Recordings per sample.", lower_bound=2)
    flags.DEFINE_integer("samples", 1000, "Number of simulated samples.", lower_bound=1)
    flags.DEFINE_integer("resamples", 1000, "Bootstrap resamples per sample; eval.py takes 10 000.", lower_bound=100)
    flags.DEFINE_list("methods", list(METHODS), f"Any of {', '.join(METHODS)}.")
    flags.DEFINE_list("scenarios", list(SCENARIOS), f"Any of {', '.join(SCENARIOS)}.")


def main() -> None:
    """Prints the coverage for each of the scenarios."""
    args = flags.FLAGS
    for name in args.scenarios:
        table = coverage(name, args.recordings, args.samples, args.resamples, args.methods)
        print(f"{name}, {args.recordings} recordings: % of 95 % intervals that cover the true value (mean width)")
        for method, row in table.items():
            print(f"  {method:<12}" + "".join(f"{100 * hit:22.1f} ({width:.3f})" for hit, width in row.values()))
    print(f"  {'columns:':<12}" + "".join(f"{column:>30}" for column in table[args.methods[0]]))


if __name__ == "__main__":
    cli.run(main, define_flags)
