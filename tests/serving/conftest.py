"""Fixtures of the tests of serving."""

import pytest

from tests.helpers.commands import made_once
from tests.helpers.gauge import write_gauge


@pytest.fixture(scope="session")
def gauges(tmp_path_factory, worker_id):
    """Folder of the exported models `audio`, `video` and `audiovisual` of `tests.helpers.gauge`."""

    def make(path):
        for modality in ("audio", "video", "audiovisual"):
            write_gauge(path / modality, modality)

    return made_once(tmp_path_factory, worker_id, "gauges", make)
