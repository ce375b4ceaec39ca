"""Errors that end a step of a job. Each message says what to do."""

from __future__ import annotations

__all__ = ["ClusterLostError", "JobError", "JobMismatchError", "WorkerDiedError"]


class JobError(RuntimeError):
    """A job that cannot go on as asked; the message says what to do."""


class JobMismatchError(JobError):
    """A job folder holds tiles of a different run."""


class ClusterLostError(JobError):
    """The scheduler is gone, or all its workers are."""


class WorkerDiedError(RuntimeError):
    """A tile whose worker died each time it was tried."""
