"""Process clusters are started, checked and stopped; in-process ones are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from napari_blockbuster import make_local_cluster
from napari_blockbuster.execution.cluster import check_client, connect


@pytest.fixture
def in_process_clients():
    """In-process clients of every kind: by default protocol, over tcp, and made from an address."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None)
    clients = [
        Client(processes=False, n_workers=1, set_as_default=False, dashboard_address=None),
        Client(cluster, set_as_default=False),
        Client(cluster.scheduler_address, set_as_default=False),
    ]
    yield clients
    for client in clients:
        client.close()
    cluster.close()


def test_every_in_process_client_is_refused(in_process_clients) -> None:
    for client in in_process_clients:
        with pytest.raises(RuntimeError, match=r"in-process worker \(processes=False\).*make_local_cluster"):
            check_client(client)
    with pytest.raises(RuntimeError, match="in-process worker"):
        connect(in_process_clients[1].scheduler.address)


def test_a_local_cluster_is_made_of_processes_with_one_thread() -> None:
    client, cluster = make_local_cluster(n_workers=2, memory_limit="1 GiB")
    with cluster, client:
        pids = client.run(os.getpid)
        assert len(set(pids.values()) | {os.getpid()}) == 3
        assert set(client.nthreads().values()) == {1}
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert {w["memory_limit"] for w in workers} == {2**30}
        check_client(client)
        import distributed

        with pytest.raises(ValueError, match="No client"):
            distributed.default_client()
    cluster.close()
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_a_script_needs_no_main_guard_and_a_killed_driver_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent(
            """
            import os
            from napari_blockbuster import make_local_cluster
            client, cluster = make_local_cluster(n_workers=2)
            print(cluster.pid, *client.run(os.getpid).values(), flush=True)
            os.kill(os.getpid(), 9)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    pids = [int(p) for p in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=15)
    assert not alive


def test_no_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match="no CUDA GPU is visible"):
        make_local_cluster(use_gpu=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match="n_workers is 3, but 2 GPUs take 2 workers"):
        make_local_cluster(use_gpu=True, n_workers=3, workers_per_gpu=1)


def test_each_gpu_worker_sees_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    client, cluster = make_local_cluster(use_gpu=True, workers_per_gpu=1)
    with cluster, client:
        assert sorted(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["GPU-a", "GPU-b"]


def test_a_wrong_address_and_a_wrong_number_are_sentences() -> None:
    with pytest.raises(ConnectionError, match=r"no dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        connect("tcp://127.0.0.1:1", timeout=1)
    with pytest.raises(ValueError, match="n_workers is 0"):
        make_local_cluster(n_workers=0)
