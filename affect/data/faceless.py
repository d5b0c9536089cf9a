"""Frames without a detected face: their shares by the manifest's counts, and the lines in which commands print them.

Only networks that take video see the crops; commands say nothing about faces where a network does not.
"""

from collections.abc import Sequence

import msgspec

from affect.config import Experiment
from affect.data.manifest import RecordingEntry

NOTEWORTHY_SHARE = 0.05
_LINES = 10


class FacelessShares(msgspec.Struct, frozen=True):
    """Shares of the frames in which the detector found no face, in [0, 1].

    Attributes:
      share: over all frames of the recordings.
      per_recording: by the name of the recording.
    """

    share: float
    per_recording: dict[str, float]

    @classmethod
    def of(cls, entries: Sequence[RecordingEntry]) -> "FacelessShares":
        """Returns the shares of one recording or more, which must be whole: entries as in the manifest."""
        frames, faces = (sum(getattr(entry, name) for entry in entries) for name in ("frames", "faces_found"))
        per_recording = {entry.name: (entry.frames - entry.faces_found) / entry.frames for entry in entries}
        return cls((frames - faces) / frames, per_recording)

    def noteworthy(self) -> dict[str, float]:
        """Returns the recordings' shares above `NOTEWORTHY_SHARE`, largest first; equal ones in their order."""
        shares = sorted(self.per_recording.items(), key=lambda item: -item[1])
        return {name: share for name, share in shares if share > NOTEWORTHY_SHARE}

    def lines(self, of: str) -> list[str]:
        """Returns a line about all frames, beginning with `of`, and one for each of the worst noteworthy recordings."""
        noteworthy = self.noteworthy()
        lines = [f"{of}: no face in {self.share:.1%} of the frames"]
        lines += [f"  {name}: no face in {share:.1%}" for name, share in list(noteworthy.items())[:_LINES]]
        if len(noteworthy) > _LINES:
            lines.append(f"  and {len(noteworthy) - _LINES} more recordings: no face in over {NOTEWORTHY_SHARE:.0%}")
        return lines


def sees(experiment: Experiment) -> bool:
    """Returns whether the network of an experiment takes the face crops."""
    return "video" in experiment.modalities
