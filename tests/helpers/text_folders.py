"""Folders of small text files: write one, and compare all that is in one."""


def content_of(folder):
    """Contents of all files below a folder by relative path, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_folder(path, **files):
    """Writes a folder of text files."""
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
