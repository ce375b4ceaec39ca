"""Connected components of a graph that is given as pairs."""

from __future__ import annotations

import numpy as np

__all__ = ["connected_components"]


def connected_components(n: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the component of each of n nodes, from 0, and the number of components.

    Parameters
    ----------
    n : int
    low, high : numpy.ndarray
        The two nodes of each edge.
    """
    from scipy import sparse

    graph = sparse.coo_array((np.ones(len(low), bool), (low, high)), shape=(n, n))
    n_components, component = sparse.csgraph.connected_components(graph, directed=False)
    return np.asarray(component), int(n_components)
