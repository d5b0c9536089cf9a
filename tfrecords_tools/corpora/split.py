"""Which RECOLA subject belongs to which partition: AVEC 2016's split, the authors' split, or a user's own."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from affect.config import PARTITIONS
from affect.errors import UserError
from affect.media.tables import read_rows, read_text

# AVEC 2016 (Valstar et al.), and the 46 subjects of the authors' own experiments.
_SUBJECTS = {
    "avec2016": {
        "train": (16, 21, 23, 25, 37, 39, 41, 46, 56),
        "dev": (19, 26, 28, 30, 34, 42, 45, 64, 65),
        "test": (13, 20, 32, 38, 47, 49, 53, 59, 63),
    },
    "authors": {
        "train": (15, 16, 17, 18, 21, 23, 25, 37, 39, 41, 46, 50, 51, 55, 56, 60),
        "dev": (14, 19, 24, 26, 28, 30, 34, 40, 42, 43, 44, 45, 52, 64, 65),
        "test": (13, 20, 22, 32, 38, 47, 48, 49, 53, 54, 57, 58, 59, 62, 63),
    },
}
NAMED_SPLITS = tuple(_SUBJECTS)


@dataclass(frozen=True)
class Split:
    """Partition by subject ("P16"); `name` goes into the manifest."""

    name: str
    partitions: dict[str, str]


def read_split(choice: str) -> Split:
    """Returns a named split, or reads one from a CSV with the header `subject,partition`.

    Raises:
      UserError: the file is unreadable, has other columns or an unknown partition, or lists a subject twice.
    """
    if choice in _SUBJECTS:
        return Split(choice, {f"P{n}": name for name, numbers in _SUBJECTS[choice].items() for n in numbers})
    if not choice.lower().endswith(".csv"):
        raise UserError(
            f"--split={choice}: must be one of {', '.join(NAMED_SPLITS)}, or a .csv with the header subject,partition"
        )
    path = Path(choice)
    rows = read_rows(read_text(path), str(path), quotes=False)
    _, header = next(rows, (1, []))
    if [cell.lower() for cell in header] != ["subject", "partition"]:
        raise UserError(f"{path}: expected the header subject,partition, got {','.join(header)}")
    partitions: dict[str, str] = {}
    for line, cells in rows:
        if len(cells) != 2 or not re.fullmatch(r"P?\d+", cells[0]) or cells[1] not in PARTITIONS:
            raise UserError(
                f"{path}, line {line}: expected a subject (P16) and one of {', '.join(PARTITIONS)}, got "
                f"{','.join(cells)!r}"
            )
        subject = f"P{int(cells[0].lstrip('P'))}"
        if subject in partitions:
            raise UserError(f"{path}, line {line}: subject {subject} is listed twice")
        partitions[subject] = cells[1]
    if not partitions:
        raise UserError(f"{path}: lists no subjects")
    # Named by its content, so that the same split has the same name in any file.
    return Split(f"csv {hashlib.sha256(repr(sorted(partitions.items())).encode()).hexdigest()[:12]}", partitions)
