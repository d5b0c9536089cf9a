"""The post-processing chain as plain loops over the signals, to compare `affect.evaluation.postprocess` with.

Nothing is shared with the library: no moments, no cumulative sums, no filter of scipy.
"""

import itertools

import numpy as np

STEPS = ("median", "centring", "scaling", "shift")
UNCHANGED = {"median": 1, "offset": 0.0, "gain": 1.0, "centre": 0.0, "mean": None, "deviation": None, "shift": 0}


def choices():
    """Every choice of steps, the shift last to change."""
    for shift, median, centring, scaling in itertools.product((False, True), repeat=4):
        kept = {"median": median, "centring": centring, "scaling": scaling, "shift": shift}
        yield tuple(step for step in STEPS if kept[step])


def ccc(gold, predicted):
    """CCC of the concatenated recordings, by the formula in section 3 of the paper."""
    gold, predicted = np.concatenate(gold), np.concatenate(predicted)
    covariance = np.mean((gold - gold.mean()) * (predicted - predicted.mean()))
    return 2 * covariance / (gold.var() + predicted.var() + (gold.mean() - predicted.mean()) ** 2)


def median(signal, window):
    frames, half = len(signal), window // 2
    padded = [signal[min(max(frame, 0), frames - 1)] for frame in range(-half, frames + half)]
    return np.median([padded[frame : frame + window] for frame in range(frames)], axis=1)


def delayed(signal, frames):
    return np.array([signal[max(frame - frames, 0)] for frame in range(len(signal))])


def apply(chain, signal):
    signal = median(signal, chain["median"])
    signal = signal + chain["offset"] if chain["mean"] is None else signal - signal.mean() + chain["mean"]
    if chain["deviation"] is None:
        signal = chain["centre"] + chain["gain"] * (signal - chain["centre"])
    elif signal.min() < signal.max():
        signal = signal.mean() + (signal - signal.mean()) * chain["deviation"] / signal.std()
    return delayed(signal, chain["shift"])


def fit_steps(gold, predicted, frame_rate, steps, statistics="partition"):
    """Fits the values of these steps, one after the other: 0.4-20 s of median filter, shifts of 0-10 s."""
    chain = dict(UNCHANGED)
    if "median" in steps:
        longest = min(int(20 * frame_rate), max(len(signal) for signal in gold))
        windows = [1, *(w for w in range(3, longest + 1) if w % 2 and w >= 0.4 * frame_rate)]
        chain["median"] = best_of(windows, lambda w: ccc(gold, [median(signal, w) for signal in predicted]))
    predicted = [median(signal, chain["median"]) for signal in predicted]
    rest = chain | {"median": 1}
    gold_all, predicted_all = np.concatenate(gold), np.concatenate(predicted)
    if statistics == "recording":
        rest["mean"] = gold_all.mean() if "centring" in steps else None
        rest["deviation"] = gold_all.std() if "scaling" in steps else None
    else:
        rest["offset"] = gold_all.mean() - predicted_all.mean() if "centring" in steps else 0.0
        if "scaling" in steps:
            rest |= {"gain": gold_all.std() / predicted_all.std(), "centre": predicted_all.mean() + rest["offset"]}
    if "shift" in steps:
        scaled = [apply(rest, signal) for signal in predicted]
        shifts = range(int(10 * frame_rate) + 1)
        rest["shift"] = best_of(shifts, lambda s: ccc(gold, [delayed(signal, s) for signal in scaled]))
    return rest | {"median": chain["median"]}


def fit(gold, predicted, frame_rate, statistics="partition"):
    """Keeps the steps with the highest CCC at the end of the chain."""
    chains = [fit_steps(gold, predicted, frame_rate, steps, statistics) for steps in choices()]
    return best_of(chains, lambda chain: ccc(gold, [apply(chain, signal) for signal in predicted]))


def best_of(candidates, score):
    """The first of the best, up to rounding."""
    best, best_score = None, -np.inf
    for candidate in candidates:
        found = score(candidate)
        if found > best_score + 1e-9:
            best, best_score = candidate, found
    return best
