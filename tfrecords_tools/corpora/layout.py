"""What a layout module offers, and what it works with: the files of a corpus folder, and the user's options.

A layout module, such as `avec2016`, knows how one release of a corpus lies on disk. A new layout is one new module with
the names in `Layout`, and one line in `layouts.LAYOUTS`.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from affect import storage
from tfrecords_tools.corpora.recording import CorpusListing
from tfrecords_tools.corpora.split import Split


class CorpusFolder:
    """The files of a corpus folder, on this machine or elsewhere; they are listed once, when first needed.

    Attributes:
      root: the folder.
      table: name of the table of recordings in it, if the user gave that instead of the folder; otherwise empty.
    """

    def __init__(self, root: str, table: str = ""):
        self.root = root
        self.table = table
        self._files: frozenset[str] | None = None

    @property
    def files(self) -> frozenset[str]:
        """All files, relative to the folder."""
        if self._files is None:
            self._files = storage.list_files(self.root)
        return self._files

    def has(self, relative: str) -> bool:
        """Returns whether the file exists, without listing the folder for it: a web server cannot list one."""
        return relative in self._files if self._files is not None else storage.exists(storage.join(self.root, relative))

    def pick(self, folder: str, stem: str, suffixes: tuple[str, ...]) -> str | None:
        """Returns the file of that name with the first suffix that exists, in lower or upper case."""
        candidates = (f"{folder}/{stem}{form}" for suffix in suffixes for form in (suffix, suffix.upper()))
        return next((candidate for candidate in candidates if candidate in self.files), None)

    def stems(self, folder: str) -> set[str]:
        """Returns the names, without suffix, of the files directly in a folder."""
        paths = (PurePosixPath(name) for name in self.files if name.startswith(f"{folder}/"))
        return {path.stem for path in paths if path.parent == PurePosixPath(folder)}

    def top_level(self) -> list[str]:
        """Returns the names of the files and folders directly in the root; folders end in a slash."""
        return sorted({name.split("/", 1)[0] + ("/" if "/" in name else "") for name in self.files})


@dataclass(frozen=True)
class LayoutOptions:
    """The user's options, checked against what the layout offers.

    Attributes:
      split: partition of each subject; empty if the layout has no `DEFAULT_SPLIT`.
      gold_standard: one of the layout's `GOLD_STANDARDS`.
    """

    split: Split
    gold_standard: str


class Layout(Protocol):
    """The module-level names of a layout module.

    Attributes:
      DEFAULT_SPLIT: the split (see `read_split`) that is used without --split; empty if the corpus itself says which
        partition a recording belongs to, so that --split is refused.
      GOLD_STANDARDS: where labels can come from, the default first: "shipped" is the corpus' own gold standard; "avec"
        and "mean" combine individual ratings (see `labels.from_individual_ratings`).
      LISTED_IN_TABLE: whether a table (.csv) in the corpus folder lists the recordings. If not, they are found by the
        names of folders and files, and a misspelt folder is pointed out.
    """

    DEFAULT_SPLIT: str
    GOLD_STANDARDS: tuple[str, ...]
    LISTED_IN_TABLE: bool

    def recognises(self, folder: CorpusFolder) -> bool:
        """Returns whether the folder has this layout."""
        ...

    def find_recordings(self, folder: CorpusFolder, options: LayoutOptions) -> CorpusListing:
        """Lists the recordings, in an order that does not depend on the machine.

        Raises:
          UserError: the folder contains no recordings in this layout.
        """
        ...
