"""Worker processes: what they leave to the other workers and to the parent."""

import os

from tfrecords_tools.run_local import run_local


def environment(name):
    return os.getpid(), os.environ.get(name)


def test_workers_use_one_thread_of_tensorflow_each_and_no_gpu(monkeypatch):
    names = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES"]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    in_workers = list(run_local(environment, names, processes=2))
    assert os.getpid() not in {pid for pid, _ in in_workers}
    assert sorted(value for _, value in in_workers) == ["-1", "1", "1"]
    # One process alone is this one, where other code may need all threads and the GPU.
    assert list(run_local(environment, names, processes=1)) == [(os.getpid(), None)] * 3
