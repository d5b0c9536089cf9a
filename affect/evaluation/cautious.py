"""A post-processing chain whose every step has raised the CCC of recordings that it was not fitted on.

The paper's chain (`affect.evaluation.postprocess.fit`) is fitted and judged on the same development recordings. If
these are few or short, it can raise every development score and lower every test score. Here each development
recording is left out in turn: the values of the steps are fitted on the others and applied to it. The pooled CCC of the
left-out predictions decides which steps are kept (cross-validation; Stone, 1974).

A choice of steps qualifies if it beats each smaller choice from the same steps, including no steps at all, by more than
one standard error of the difference (the one-standard-error rule; Breiman et al., 1984). The standard error is that of
the jackknife over recordings, because the frames of one recording are not independent. Of the choices that qualify, the
one with the highest CCC is taken, and its values are fitted on all development recordings. With fewer than 3
recordings no step is kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from affect.evaluation.chain import LeaveOneOut, PostProcessing, Statistics
from affect.evaluation.moments import Moments
from affect.evaluation.postprocess import DevelopmentSet

MIN_RECORDINGS = 3
_ROUNDING = 1e-9


class DimensionFit(NamedTuple):
    """What is fitted on the development set for one dimension; see the functions of this module."""

    paper: PostProcessing
    cautious: PostProcessing
    leave_one_out: LeaveOneOut | None


def fit_dimension(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], frame_rate: float, statistics: Statistics = "partition"
) -> DimensionFit:
    """Returns `postprocess.fit`, `fit_cautious` and `leave_one_out` of one dimension; filters the signals only once."""
    fits = _Fits(DevelopmentSet(gold, predicted, frame_rate, statistics))
    everything = fits.everything
    return DimensionFit(fits.development.fit(everything), fits.cautious(everything), fits.leave_one_out())


def fit_cautious(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], frame_rate: float, statistics: Statistics = "partition"
) -> PostProcessing:
    """Fits the chain of those steps that raise the CCC of recordings that they were not fitted on.

    Args:
      gold: one [frames] array per recording of the development set, one dimension.
      predicted: arrays of the same shapes.
      frame_rate: frame rate of both, in Hz.
      statistics: see `affect.evaluation.postprocess.fit`.

    Returns:
      The chain; one that changes nothing if there are fewer than 3 recordings.

    Raises:
      ValueError: there are no recordings, the two lists do not match, or a value is not finite.
    """
    fits = _Fits(DevelopmentSet(gold, predicted, frame_rate, statistics))
    return fits.cautious(fits.everything)


def leave_one_out(
    gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], frame_rate: float, statistics: Statistics = "partition"
) -> LeaveOneOut | None:
    """Estimates the pooled CCC on unseen recordings: without a chain, with the paper's, and with the cautious one.

    Each recording is post-processed by chains that were fitted on the others; for the cautious chain this includes the
    choice of its steps, which is made without the recording (nested cross-validation). Arguments and errors as in
    `fit_cautious`.

    Returns:
      The pooled CCCs; None if there are fewer than 3 recordings. With exactly 3, the cautious chain is fitted on 2 at a
      time and keeps no step, so its estimate equals the raw CCC.
    """
    return _Fits(DevelopmentSet(gold, predicted, frame_rate, statistics)).leave_one_out()


class _Fits:
    """Chains fitted on selections of the development recordings; each selection is fitted once."""

    def __init__(self, development: DevelopmentSet):
        self.development = development
        self.everything = tuple(range(len(development)))
        self._choices: dict[tuple[int, ...], dict[tuple[str, ...], PostProcessing]] = {}

    def cautious(self, recordings: tuple[int, ...]) -> PostProcessing:
        """Chooses the steps and fits their values on some of the recordings."""
        choices = self._every_choice(recordings)
        if len(recordings) < MIN_RECORDINGS:
            return choices[()]
        left_out = [self._left_out(recordings, steps) for steps in choices]
        return choices[_best_choice(list(choices), Moments.side_by_side(left_out))]

    def leave_one_out(self) -> LeaveOneOut | None:
        if len(self.everything) < MIN_RECORDINGS:
            return None
        paper, cautious = [], []
        for held_out in self.everything:
            others = _without(self.everything, held_out)
            paper.append(self.development.moments(self.development.fit(others), [held_out]))
            cautious.append(self.development.moments(self.cautious(others), [held_out]))
        raw = self.development.moments(self._every_choice(self.everything)[()], self.everything)
        return LeaveOneOut(*(moments.ccc().item() for moments in (raw, *map(Moments.stacked, (paper, cautious)))))

    def _left_out(self, recordings: tuple[int, ...], steps: tuple[str, ...]) -> Moments:
        """Returns the moments of each recording after these steps, fitted on the other recordings."""
        return Moments.stacked(
            [
                self.development.moments(self._every_choice(_without(recordings, held_out))[steps], [held_out])
                for held_out in recordings
            ]
        )

    def _every_choice(self, recordings: tuple[int, ...]) -> dict[tuple[str, ...], PostProcessing]:
        if recordings not in self._choices:
            self._choices[recordings] = self.development.fit_every_choice(recordings)
        return self._choices[recordings]


def _best_choice(choices: list[tuple[str, ...]], left_out: Moments) -> tuple[str, ...]:
    """Returns the qualifying choice with the highest CCC; `left_out` has one column per choice."""
    cccs = left_out.ccc()
    recordings = tuple(range(len(left_out.frames)))
    jackknife = np.stack([left_out.rows(_without(recordings, index)).ccc() for index in recordings])

    def worth_it(larger: int, smaller: int) -> bool:
        differences = jackknife[:, larger] - jackknife[:, smaller]
        standard_error = np.sqrt((len(recordings) - 1) * np.var(differences))
        return cccs[larger] - cccs[smaller] > standard_error + _ROUNDING

    qualifying = [
        larger
        for larger, steps in enumerate(choices)
        if all(worth_it(larger, smaller) for smaller, fewer in enumerate(choices) if set(fewer) < set(steps))
    ]
    return choices[max(qualifying, key=lambda index: cccs[index])]


def _without(recordings: tuple[int, ...], held_out: int) -> tuple[int, ...]:
    return tuple(index for index in recordings if index != held_out)
