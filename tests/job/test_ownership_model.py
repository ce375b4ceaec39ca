"""All interleavings of two drivers of one job, in a small model: one tile, one result, one record.

Driver A owns the job and has run its model. It may be stopped before any of its steps. B takes the job over: it replaces the
job by one with another model, or resumes it. A continues whenever it likes. A step is one call to the file system, or one look
at it. The order of the steps is that of the code: once as it was when jobs had neither lives nor owners, and once as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

Disk = dict[str, str]
Step = Callable[[Disk], "str | None"]
"""A call. It returns None, or how the driver goes on: "again" from its first step, or a word with which it ends."""


# --------------------------------------------------------------------------------------------------------------- calls
def write(path: str, value: str) -> Step:
    """Write a file. Missing folders are made, as the library for arrays does."""
    return lambda disk: disk.update({path: value})


def delete(path: str) -> Step:
    """Delete a file, or a folder (which ends with a slash) and all that it holds."""

    def step(disk: Disk) -> None:
        for name in [name for name in disk if name == path or (path.endswith("/") and name.startswith(path))]:
            del disk[name]

    return step


def into(folder: str, step: Step) -> Step:
    """Do a step that fails without a folder: a rename from or into it, or a look whether it is there."""
    return lambda disk: step(disk) if folder in disk else "taken over"


def owned(owner: str, step: Step) -> Sequence[Step]:
    """Check, and then do a step that is a rename from or into the private folder of its owner."""
    return into(f"{owner}.own/", lambda disk: None if disk.get("lock", owner) == owner else "taken over"), into(
        f"{owner}.own/", step
    )


def look(owner: str) -> Step:
    return lambda disk: None if disk["lock"] == owner else "taken over"


def nothing(disk: Disk) -> None:
    return None


def merge(stage: str) -> Step:
    """The result is made of what is on disk now: who made the labels, and who made the marker with their number."""
    return lambda disk: disk.update(merged=disk.get(f"{stage}labels", "-") + disk.get(f"{stage}marker", "-"))


def unless(is_so: Callable[[Disk], bool], step: Step) -> Step:
    return lambda disk: None if is_so(disk) else step(disk)


# ------------------------------------------------------------------------------------------------------- before: no owner
def segments_before(me: str) -> list[Step]:
    tile = [write("stage/labels", me), write("stage/marker", me), look(me)]
    return [*tile, merge("stage/"), *writes_before(me)]


def writes_before(me: str) -> list[Step]:
    return [write("output", me), write("record", me), delete("stage/")]


def accepts_before() -> list[Step]:
    return [delete("stage/marker"), write("stage/labels", "A"), write("stage/marker", "A")]


def replaces_before() -> list[Step]:
    return [write("lock", "B"), delete("record"), delete("stage/"), *segments_before("B")]


# ------------------------------------------------------------------------------------------------------------ now: an owner
def segments(me: str, stage: str) -> list[Step]:
    return [
        # The arrays' library would make the folder again, the look and the marker do not.
        into(stage, nothing),
        write(f"{stage}labels", me),
        into(stage, write(f"{stage}marker", me)),
        *owned(me, nothing),
        into(stage, merge(stage)),
        *writes(me, stage),
    ]


def writes(me: str, stage: str) -> list[Step]:
    part = f"part {me}/"
    return [
        *owned(me, write("note", me)),
        write(part, ""),
        # The labels are placed by a rename out of the part.
        owned(me, nothing)[0],
        into(part, write("output", me)),
        *owned(me, write("record", me)),
        *owned(me, delete("note")),
        *owned(me, delete(stage)),
        *owned(me, delete("lock")),
    ]


def accepts(stage: str) -> list[Step]:
    move = [delete(f"{stage}marker"), write(f"{stage}labels", "A"), write(f"{stage}marker", "A")]
    return [step for each in move for step in owned("A", each)]


def takes_over() -> list[Step]:
    return [
        write("lock", "B"),
        write("B.own/", ""),
        delete("A.own/"),
        # A may have taken this lock away instead of its own, until its folder was gone.
        lambda disk: None if disk.get("lock") == "B" else "again",
        lambda disk: delete(f"part {disk['note']}/")(disk) if "note" in disk else None,
    ]


def replaces() -> list[Step]:
    cleared = [delete("settings"), delete("life 1/"), delete("record"), delete("note")]
    return [*takes_over(), write("life 2/", ""), *cleared, write("settings", "2"), *segments("B", "life 2/")]


def resumes() -> list[Step]:
    """Resume the same life: a complete result needs nothing, and a staged tile is not segmented again."""
    is_staged: Step = lambda disk: None if "life 1/marker" in disk else disk.update(sends="tile")  # noqa: E731
    first: list[Step] = [lambda disk: "complete" if disk.get("record") == "A" else None]
    tile = [unless(lambda disk: "sends" not in disk, write(f"life 1/{name}", "B")) for name in ("labels", "marker")]
    return [*takes_over(), *first, is_staged, *tile, into("life 1/", merge("life 1/")), *writes("B", "life 1/")]


# --------------------------------------------------------------------------------------------------------- exploration
def outcomes(
    a: Sequence[Step], b: Sequence[Step], start: Disk, claim: int = 0, waits: int = -1
) -> Iterator[tuple[Disk, str, str]]:
    """Yield the disk and how both drivers ended, for every interleaving.

    B does not take its step `waits` while A is alive and before its step `claim`: A holds the claim on the tile until then.
    """
    todo = [(start, 0, 0, "", "")]
    seen = set()
    while todo:
        disk, i, j, a_end, b_end = state = todo.pop()
        if (key := (tuple(sorted(disk.items())), *state[1:])) in seen:
            continue
        seen.add(key)
        if a_end and b_end:
            yield disk, a_end, b_end
        if not a_end:
            now = dict(disk)
            end = a[i](now) or ("done" if i + 1 == len(a) else "")
            todo.append((now, i + 1, j, end, b_end))
        if not b_end and not (j == waits and not a_end and i < claim):
            now = dict(disk)
            end = b[j](now) or ("done" if j + 1 == len(b) else "")
            todo.append((now, i, *((0, a_end, "") if end == "again" else (j + 1, a_end, end))))


def faults(ends: Iterator[tuple[Disk, str, str]]) -> set[str]:
    """What goes wrong in some interleaving."""
    found = set()
    for disk, _, b_end in ends:
        if b_end == "complete":
            found |= set() if (disk.get("output"), disk.get("record")) == ("A", "A") else {"damaged result"}
        elif b_end == "done":
            if disk["merged"] not in ("AA", "BB"):
                found.add("labels and marker of two runs")
            if "settings" in disk and disk["settings"] == "2" and disk["merged"] != "BB":
                found.add("labels of the run that was replaced")
            if (disk.get("output"), disk.get("record")) != ("B", "B"):
                found.add("output and record of two runs")
        else:
            found.add(f"B ends: {b_end}")
    return found


LIFE = {"lock": "A", "A.own/": "", "settings": "1", "life 1/": ""}
TILE = {"life 1/labels": "B", "life 1/marker": "B"}


def test_the_order_before_lives_and_owners_has_the_faults_that_were_seen() -> None:
    start = {"lock": "A", "settings": "2"}
    replaced = faults(outcomes(segments_before("A"), replaces_before(), start))
    assert {
        "labels and marker of two runs",
        "labels of the run that was replaced",
        "output and record of two runs",
    } <= replaced
    written = faults(outcomes(writes_before("A"), replaces_before(), start))
    assert {"labels and marker of two runs", "output and record of two runs"} <= written
    assert "labels and marker of two runs" in faults(outcomes(accepts_before(), replaces_before(), start))


def test_a_replaced_run_changes_nothing_of_the_present_one() -> None:
    for a in (segments("A", "life 1/"), writes("A", "life 1/"), accepts("life 1/")):
        assert faults(outcomes(a, replaces(), LIFE)) == set()


def test_a_resumed_run_is_not_changed_by_the_one_before() -> None:
    claimed = {"claim": 3, "waits": len(takes_over()) + 1}
    assert faults(outcomes(segments("A", "life 1/"), resumes(), LIFE, **claimed)) == set()
    assert faults(outcomes(writes("A", "life 1/"), resumes(), {**LIFE, **TILE})) == set()


@pytest.mark.parametrize("missing", ["check", "private folder", "life", "part"])
def test_no_part_of_the_protocol_can_be_left_out(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one of them the model finds a fault, so that it would find it in the code's order as well."""
    b = replaces()
    a = segments("A", "life 1/")
    if missing == "private folder":
        b = [step for n, step in enumerate(b) if n != 2]
    elif missing == "check":
        # A makes its private folder late, after B has looked for it.
        a = [write("A.own/", ""), *(step for n, step in enumerate(owned("A", write("record", "A"))) if n)]
        b = [*b, nothing]
    elif missing == "life":
        b = [*takes_over(), delete("life 1/"), write("life 1/", ""), delete("record"), *segments("B", "life 1/")]
    else:
        b = [step for n, step in enumerate(b) if n != 4]
    start = {**LIFE, "settings": "2"} if missing == "life" else LIFE
    assert faults(outcomes(a, b, start))
