"""Finds the recordings of a corpus in any layout: recognises the layout and asks its module for the recordings."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from affect import storage
from affect.errors import UserError
from tfrecords_tools.corpora import avec2016, recola, table, tzirakis
from tfrecords_tools.corpora.layout import CorpusFolder, Layout, LayoutOptions
from tfrecords_tools.corpora.recording import CorpusListing, partition_remarks
from tfrecords_tools.corpora.split import Split, read_split
from tfrecords_tools.synthetic import MARKER

# Every layout; a new one is a module with the names in `Layout`, and a line here.
LAYOUTS: dict[str, Layout] = {
    "avec2016": avec2016,
    "recola": recola,
    "tzirakis": tzirakis,
    "table": table,
}
_MAX_NAMES_IN_ERROR = 8


@dataclass(frozen=True)
class Corpus:
    """A corpus whose files are known, before anything is decoded.

    Attributes:
      layout: one of `LAYOUTS`.
      root: the folder that all paths are relative to.
      synthetic: whether `tfrecords_tools.synthetic` wrote it.
      split: name of the split; empty if the layout needs none.
      gold_standard: "shipped", or how individual ratings are combined: "avec" or "mean".
      listing: its recordings, missing files, and remarks.
    """

    layout: str
    root: str
    synthetic: bool
    split: str
    gold_standard: str
    listing: CorpusListing


def find_corpus(corpus_dir: str, layout: str = "auto", split: str = "", gold_standard: str = "") -> Corpus:
    """Finds the recordings of a corpus.

    Args:
      corpus_dir: the folder, or a table of recordings (.csv); on disk, on an object store or on a web server.
      layout: one of `LAYOUTS`, or "auto".
      split: see `read_split`; empty for the layout's default.
      gold_standard: one of the layout's `GOLD_STANDARDS`; empty for the layout's default.

    Raises:
      UserError: the folder does not exist, its layout is unknown or ambiguous, or the layout does not have an option.
    """
    folder = _open_folder(corpus_dir)
    name = _recognise(folder) if layout == "auto" else layout
    chosen = LAYOUTS[name]
    if folder.table and not chosen.LISTED_IN_TABLE:
        raise UserError(f"{corpus_dir}: layout {name} needs a folder; a .csv is for --layout=table")
    options = _check_options(name, chosen, split, gold_standard)
    listing = chosen.find_recordings(folder, options)
    if not chosen.LISTED_IN_TABLE:
        listing.remarks.extend(_misspelt_folders(folder, listing))
    listing.remarks.extend(partition_remarks(listing.recordings))
    return Corpus(name, folder.root, folder.has(MARKER), options.split.name, options.gold_standard, listing)


def _open_folder(corpus_dir: str) -> CorpusFolder:
    if corpus_dir.lower().endswith(".csv"):
        root, slash, table_name = corpus_dir.rpartition("/")
        return CorpusFolder(root or slash or ".", table_name)
    if not storage.is_remote(corpus_dir) and not Path(corpus_dir).is_dir():
        raise UserError(f"corpus folder {corpus_dir} does not exist")
    return CorpusFolder(corpus_dir)


def _check_options(name: str, layout: Layout, split: str, gold_standard: str) -> LayoutOptions:
    if split and not layout.DEFAULT_SPLIT:
        raise UserError(f"--split={split}: layout {name} defines its own partitions; leave --split out")
    if gold_standard and gold_standard not in layout.GOLD_STANDARDS:
        if layout.GOLD_STANDARDS == ("shipped",):
            available = "has a gold standard and no individual ratings; leave --gold_standard out"
        else:
            available = f"needs one of {', '.join(layout.GOLD_STANDARDS)}"
        raise UserError(f"--gold_standard={gold_standard}: layout {name} {available}")
    return LayoutOptions(
        split=read_split(split or layout.DEFAULT_SPLIT) if layout.DEFAULT_SPLIT else Split("", {}),
        gold_standard=gold_standard or layout.GOLD_STANDARDS[0],
    )


def _recognise(folder: CorpusFolder) -> str:
    """Returns the name of the folder's layout; a table in it counts only if no other layout fits."""
    fitting = [] if folder.table else _recognised_by(folder, listed_in_table=False)
    fitting = fitting or _recognised_by(folder, listed_in_table=True)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{folder.root}: matches the layouts {' and '.join(fitting)}; choose one with --layout")
    below = _recognised_below(folder)
    hint = f"; did you mean {storage.join(folder.root, below)}?" if below else ""
    contents = folder.top_level()
    shown = ", ".join(contents[:_MAX_NAMES_IN_ERROR]) + (", ..." if len(contents) > _MAX_NAMES_IN_ERROR else "")
    raise UserError(
        f"{folder.root}: matches none of the layouts {', '.join(LAYOUTS)} ({len(folder.files)} files: {shown}){hint}"
    )


def _recognised_by(folder: CorpusFolder, listed_in_table: bool) -> list[str]:
    """Returns the layouts, of the given kind, that recognise the folder."""
    candidates = {name: layout for name, layout in LAYOUTS.items() if layout.LISTED_IN_TABLE == listed_in_table}
    return [name for name, layout in candidates.items() if layout.recognises(folder)]


def _recognised_below(folder: CorpusFolder) -> str:
    """Returns a folder one level down that has a layout, or an empty name."""
    for name in (name.rstrip("/") for name in folder.top_level() if name.endswith("/")):
        if _recognised_by(CorpusFolder(storage.join(folder.root, name)), listed_in_table=False):
            return name
    return ""


def _misspelt_folders(folder: CorpusFolder, listing: CorpusListing) -> Iterator[str]:
    """Yields a remark for each folder that was expected and does not exist, if a folder has a similar name."""
    existing = [name.rstrip("/") for name in folder.top_level() if name.endswith("/")] if listing.missing else []
    wanted = {file.split("/", 1)[0] for files in listing.missing.values() for file in files if "/" in file}
    for absent in sorted(wanted - set(existing)):
        for similar in difflib.get_close_matches(absent, existing, n=1):
            yield f"folder {absent} does not exist; is {similar} a misspelling of it?"
