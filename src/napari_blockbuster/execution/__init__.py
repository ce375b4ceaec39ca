"""Run work for many tiles, in this process or on a dask cluster.

`work` is the interface, `queue` the order and `run` the entry point. `local_run` runs here, `cluster_run` on a cluster with
`dispatch` (the next item), `flights` (items in flight), `worker_pool` and `admission` (workers and their checks).
"""
