"""Detached runs: a driver process next to the cluster outlives the process that starts it."""

from .follower import follow, stop
from .launch import detach

__all__ = ["detach", "follow", "stop"]
