"""A corpus folder to its recordings, whatever the layout: recognises it, and asks the layout's own module."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from affect import storage
from affect.errors import UserError
from affect.media.tables import decode_text
from tfrecords_tools.corpora import avec2016, recola, table, tzirakis
from tfrecords_tools.corpora.recording import Corpus, CorpusListing
from tfrecords_tools.corpora.split import Split, read_split
from tfrecords_tools.synthetic import MARKER

LAYOUTS = ("avec2016", "recola", "tzirakis", "table")
_BY_FOLDERS = {"avec2016": avec2016, "recola": recola, "tzirakis": tzirakis}
_DEFAULT_SPLIT = {"recola": "avec2016", "tzirakis": "authors"}
# RECOLA's own release has six raters and no gold standard.
_DEFAULT_GOLD_STANDARD = {"recola": "avec"}
_HAS_SINGLE_RATINGS = ("avec2016", "recola")


@dataclass(frozen=True)
class FoundCorpus:
    """A corpus before anything is decoded.

    Attributes:
      layout: of `LAYOUTS`.
      root: the folder that all paths are relative to.
      synthetic: whether our own generator made it.
      split: the name of the split, where the layout needs one; else empty.
      gold_standard: "shipped", or how it is computed from single ratings: "avec" or "mean".
      found: recordings, missing pieces, remarks.
    """

    layout: str
    root: str
    synthetic: bool
    split: str
    gold_standard: str
    found: CorpusListing


def find_corpus(corpus_dir: str, layout: str = "auto", split: str = "", gold_standard: str = "") -> FoundCorpus:
    """Finds the recordings.

    Args:
      corpus_dir: the folder, or a table of recordings (.csv); here, on an object store or a web server.
      layout: of `LAYOUTS`, or "auto".
      split: see `read_split`; empty for the layout's own.
      gold_standard: "avec" or "mean" of the single ratings; empty for the layout's own.

    Raises:
      UserError: no such folder, an unknown or ambiguous layout, options that the layout does not have.
    """
    root, table_name = _root(corpus_dir)
    corpus = Corpus(root)
    if layout == "auto":
        layout = "table" if table_name else _recognise(corpus)
    if table_name and layout != "table":
        raise UserError(f"{corpus_dir}: a .csv is for --layout=table")
    if split and layout not in _DEFAULT_SPLIT:
        raise UserError(f"--split={split}: layout {layout} brings its own partitions")
    if gold_standard and layout not in _HAS_SINGLE_RATINGS:
        raise UserError(f"--gold_standard={gold_standard}: layout {layout} has a gold standard and no single ratings")
    gold_standard = gold_standard or _DEFAULT_GOLD_STANDARD.get(layout, "shipped")
    chosen = read_split(split or _DEFAULT_SPLIT[layout]) if layout in _DEFAULT_SPLIT else Split("", {})
    if layout == "table":
        table_name = table_name or _only_table(corpus)
        found = table.find_recordings(corpus, storage.join(root, table_name), _read_table(corpus, table_name))
    elif layout == "avec2016":
        found = avec2016.find_recordings(corpus, gold_standard)
    elif layout == "recola":
        found = recola.find_recordings(corpus, chosen, gold_standard)
    else:
        found = tzirakis.find_recordings(corpus, chosen)
    if layout != "table":
        found.remarks.extend(_misspelt_folders(corpus, found))
    return FoundCorpus(layout, root, corpus.has(MARKER), chosen.name, gold_standard, found)


def _misspelt_folders(corpus: Corpus, found: CorpusListing) -> Iterator[str]:
    """For every folder that pieces are missing from and that is not there at all: one with nearly that name."""
    there = [name.rstrip("/") for name in corpus.top_level() if name.endswith("/")] if found.missing else []
    wanted = {piece.split("/", 1)[0] for pieces in found.missing.values() for piece in pieces if "/" in piece}
    for folder in sorted(wanted - set(there)):
        for similar in difflib.get_close_matches(folder, there, n=1):
            yield f"there is no folder {folder}; should {similar} be called so?"


def _root(corpus_dir: str) -> tuple[str, str]:
    """The folder, and the table's name where one was given."""
    if corpus_dir.lower().endswith(".csv"):
        folder, slash, name = corpus_dir.rpartition("/")
        return folder or slash or ".", name
    if not storage.is_remote(corpus_dir) and not Path(corpus_dir).is_dir():
        raise UserError(f"corpus folder {corpus_dir} does not exist")
    return corpus_dir, ""


def _recognise(corpus: Corpus) -> str:
    fitting = [name for name, module in _BY_FOLDERS.items() if module.recognises(corpus)]
    if not fitting and _tables(corpus):
        return "table"
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{corpus.root}: looks like {' and '.join(fitting)} at once; choose with --layout")
    below = _recognised_below(corpus)
    hint = f"; did you mean {storage.join(corpus.root, below)}?" if below else ""
    held = corpus.top_level()
    raise UserError(
        f"{corpus.root}: none of the layouts {', '.join(LAYOUTS)} ({len(corpus.files)} files: "
        f"{', '.join(held[:8])}{', ...' if len(held) > 8 else ''}){hint}"
    )


def _recognised_below(corpus: Corpus) -> str:
    """A folder one level down that would be recognised."""
    for folder in (name.rstrip("/") for name in corpus.top_level() if name.endswith("/")):
        inner = Corpus(storage.join(corpus.root, folder))
        if any(module.recognises(inner) for module in _BY_FOLDERS.values()):
            return folder
    return ""


def _tables(corpus: Corpus) -> list[str]:
    names = sorted(name for name in corpus.files if "/" not in name and name.lower().endswith(".csv"))
    return [name for name in names if table.recognises(_read_table(corpus, name))]


def _only_table(corpus: Corpus) -> str:
    tables = _tables(corpus)
    if len(tables) != 1:
        raise UserError(
            f"{corpus.root}: {', '.join(tables) or 'no .csv'} in it {'are tables' if tables else 'is a table'} of "
            "recordings; give the one to use as --corpus_dir=DIR/NAME.csv"
        )
    return tables[0]


def _read_table(corpus: Corpus, name: str) -> str:
    path = storage.join(corpus.root, name)
    if not storage.exists(path):
        raise UserError(f"{path}: no such file")
    return decode_text(storage.read_bytes(path), path)
