"""Errors that end a step of a job. Each message says what to do."""

from __future__ import annotations

import re

__all__ = [
    "ClusterLostError",
    "JobError",
    "JobLockedError",
    "JobMismatchError",
    "TakenOverError",
    "WorkerDiedError",
    "one_line",
]


class JobError(RuntimeError):
    """A job that cannot continue as requested. The message says what to do."""


class JobMismatchError(JobError):
    """A job folder holds tiles of a different run."""


class JobLockedError(JobError):
    """Another process works on this job."""


class TakenOverError(JobLockedError):
    """Another process took the job over while this one was asleep. This one has changed nothing since."""


class ClusterLostError(JobError):
    """The scheduler is gone, or all its workers are."""


class WorkerDiedError(RuntimeError):
    """A tile whose worker died each time it was tried."""


def one_line(error: BaseException) -> str:
    """A message a shell user can act on, without line breaks."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    text = re.sub(r":\s*\n\s*", ": ", text)
    return re.sub(r"\s*\n\s*", "; ", text)
