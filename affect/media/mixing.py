"""Mixes channels to mono, and measures over a whole recording whether they cancel each other.

The mix is the mean of all channels. If one microphone of two is wired the wrong way round, that mean is nearly silent,
although each channel is fine. Only sums over the samples are kept, so memory does not grow with the recording.
"""

from dataclasses import dataclass, field

import numpy as np

_CANCELLED = 10 ** (-20 / 10)  # power of the mix over the mean power of the channels
_PAIR_CANCELLED = -0.5  # twice the covariance over the sum of the powers; the mix of such a pair loses 6 dB


@dataclass
class _Moments:
    """Sums over samples: their number, [channels], and the products of any two channels, [channels, channels]."""

    count: int
    sums: np.ndarray
    products: np.ndarray

    def covariance(self) -> np.ndarray:
        means = self.sums / self.count
        return self.products / self.count - np.outer(means, means)


@dataclass
class Mixer:
    """Mixes blocks of a recording to mono.

    Attributes:
      channels: by the number of channels of a block, the one channel (from 0) that is used instead of the mean.
    """

    channels: dict[int, int] = field(default_factory=dict)
    _moments: dict[int, _Moments] = field(default_factory=dict)

    def reset(self) -> None:
        """Forgets the blocks so far."""
        self._moments.clear()

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Returns float32 [samples] from float32 [samples, channels]."""
        count = block.shape[1]
        if count == 1 or count in self.channels:
            return block[:, self.channels.get(count, 0)]
        exact = block.astype(np.float64)
        moments = self._moments.setdefault(count, _Moments(0, np.zeros(count), np.zeros((count, count))))
        moments.count += len(exact)
        moments.sums += np.ones(len(exact)) @ exact  # ten times faster than `sum` over so few columns
        moments.products += exact.T @ exact
        return (block @ np.ones(count, np.float32)) / np.float32(count)

    def cancelling(self) -> tuple[dict[int, int], list[str]]:
        """Judges the blocks that were mixed so far.

        Returns:
          What `channels` should have been: the loudest channel where the mean loses more than 20 dB against the
          channels. And remarks: which channels cancel each other, wholly or in part.
        """
        channels, remarks = {}, []
        for count, moments in self._moments.items():
            covariance = moments.covariance()
            powers = covariance.diagonal()
            if not moments.count or not powers.max() > 0:
                continue
            pair_sums = powers[:, None] + powers
            shares = np.divide(2 * covariance, pair_sums, out=np.zeros_like(covariance), where=pair_sums > 0)
            first, second = np.unravel_index(int(shares.argmin()), shares.shape)
            power = covariance.sum() / count**2 / powers.mean()
            correlation = covariance[first, second] / max(np.sqrt(powers[first] * powers[second]), 1e-30)
            pair = f"channels {first + 1} and {second + 1}"
            if power < _CANCELLED:
                channels[count] = int(powers.argmax())
                remarks.append(
                    f"the {count} channels cancel each other ({pair} have a correlation of {correlation:.2f}; one is "
                    f"probably inverted); only channel {channels[count] + 1}, the loudest, was used"
                )
            elif shares[first, second] < _PAIR_CANCELLED:
                remarks.append(
                    f"{pair} partly cancel each other in the mix (correlation {correlation:.2f}); one is probably "
                    "inverted"
                )
        return channels, remarks
