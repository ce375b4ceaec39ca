"""Filter expressions over the columns of a table: ``area > 50 and sphericity < 0.6``. No Qt."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["ExpressionError", "evaluate", "ranges_of"]

COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Mod: operator.mod,
}
MIRRORED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Eq: ast.Eq}
FUNCTIONS = {"abs": np.abs, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "isnan": np.isnan}
EXAMPLE = "area > 50 and sphericity < 0.6"


class ExpressionError(ValueError):
    """An expression cannot be used. The message says why, in a sentence."""


def evaluate(text: str, columns: Mapping[str, Any]) -> np.ndarray:
    """Return which rows an expression selects.

    Parameters
    ----------
    text : str
        Comparisons of columns and numbers, joined by ``and``, ``or`` and ``not``. Names of columns are written as they are,
        also if they have spaces or minus signs, or in backquotes. Comparisons with missing values are false.
    columns : mapping of str to array_like
        Columns of equal length.

    Returns
    -------
    numpy.ndarray of bool

    Raises
    ------
    ExpressionError
    """
    tree, names = _parse(text, list(columns))
    with np.errstate(all="ignore"):
        try:
            found = _Evaluation(columns, names).value(tree)
        except (TypeError, np.exceptions.DTypePromotionError) as error:
            raise ExpressionError(f"Numbers and texts cannot be compared: {text}") from error
    found = np.asarray(found)
    if found.dtype != bool:
        raise ExpressionError(f"{text!r} is no condition. Compare it with a number, for example: {EXAMPLE}")
    n = len(next(iter(columns.values()))) if columns else 0
    return np.broadcast_to(found, n) if found.ndim == 0 else found


def ranges_of(text: str, columns: Sequence[str]) -> dict[str, tuple[float | None, float | None]] | None:
    """Return an expression as one inclusive range per column, or None if it is more than ranges.

    ``area > 50 and area <= 900`` is ``{"area": (nextafter(50), 900)}``.

    Raises
    ------
    ExpressionError
        If it cannot be read.
    """
    tree, names = _parse(text, columns)
    found: dict[str, tuple[float | None, float | None]] = {}
    for term in _terms(tree):
        limits = _limits(term, names)
        if limits is None:
            return None
        for name, low, high in limits:
            old_low, old_high = found.get(name, (None, None))
            low = old_low if low is None else low if old_low is None else max(low, old_low)
            high = old_high if high is None else high if old_high is None else min(high, old_high)
            found[name] = low, high
    return found


# ------------------------------------------------------------------------------------------------------------- parsing
def _parse(text: str, columns: Sequence[str]) -> tuple[ast.expr, dict[str, str]]:
    """Return the tree of an expression, and the column of each placeholder in it."""
    names: dict[str, str] = {}

    def placeholder(name: str) -> str:
        key = f"_column_{len(names)}_"
        names[key] = name
        return key

    def quoted(match: re.Match[str]) -> str:
        name = match[1]
        if name not in columns:
            raise _unknown(name, columns)
        return placeholder(name)

    plain = re.sub(r"`([^`]*)`", quoted, text)
    # Longest first: "mean_intensity-0" before "mean_intensity".
    special = sorted((name for name in columns if not name.isidentifier() or name in FUNCTIONS), key=len, reverse=True)
    for name in special:
        plain = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", lambda _, name=name: placeholder(name), plain)
    plain = re.sub(r"\b(AND|OR|NOT)\b", lambda match: match[1].lower(), plain)
    plain = plain.replace("&&", " and ").replace("||", " or ").replace("≤", "<=").replace("≥", ">=")
    # A single "=" is what people write for a comparison.
    plain = re.sub(r"(?<![<>=!])=(?!=)", "==", plain)
    try:
        return ast.parse(plain.strip(), mode="eval").body, names
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"{text!r} cannot be read. Write it like: {EXAMPLE}") from None


def _unknown(name: str, columns: Sequence[str]) -> ExpressionError:
    close = difflib.get_close_matches(name, columns, 1)
    hint = f'Did you mean "{close[0]}"?' if close else f"The columns are: {', '.join(columns)}."
    return ExpressionError(f'There is no column "{name}". {hint}')


class _Evaluation:
    """Evaluates a tree. Only columns, numbers, texts, comparisons, arithmetic and a few functions are known."""

    def __init__(self, columns: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._columns, self._names = columns, names

    def value(self, node: ast.expr) -> Any:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise ExpressionError(f"{ast.unparse(node)!r} cannot be used in a filter. Write it like: {EXAMPLE}")
        return method(node)

    def _constant(self, node: ast.Constant) -> Any:
        if not isinstance(node.value, bool | int | float | str):
            raise ExpressionError(f"{ast.unparse(node)!r} is no number and no text.")
        return node.value

    def _name(self, node: ast.Name) -> Any:
        name = self._names.get(node.id, node.id)
        if name not in self._columns:
            if name.lower() in ("true", "false"):
                return name.lower() == "true"
            raise _unknown(name, list(self._columns))
        return np.asarray(self._columns[name])

    def _compare(self, node: ast.Compare) -> Any:
        if any(type(compare) not in COMPARE for compare in node.ops):
            raise ExpressionError(f"{self._text(node)!r}: use one of the comparisons <, <=, >, >=, == and !=.")
        values = [self.value(part) for part in (node.left, *node.comparators)]
        result: Any = True
        for compare, left, right in zip(node.ops, values, values[1:], strict=False):
            result = np.logical_and(result, COMPARE[type(compare)](left, right))
        return result

    def _boolop(self, node: ast.BoolOp) -> Any:
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        result = self._condition(node.values[0])
        for part in node.values[1:]:
            result = join(result, self._condition(part))
        return result

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not | ast.Invert):
            return np.logical_not(self._condition(node.operand))
        value = self.value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value

    def _binop(self, node: ast.BinOp) -> Any:
        if isinstance(node.op, ast.BitAnd | ast.BitOr):
            join = np.logical_and if isinstance(node.op, ast.BitAnd) else np.logical_or
            return join(self._condition(node.left), self._condition(node.right))
        if type(node.op) not in ARITHMETIC:
            raise ExpressionError(f"{ast.unparse(node)!r} cannot be used in a filter.")
        left, right = (np.asarray(self.value(part), float) for part in (node.left, node.right))
        return ARITHMETIC[type(node.op)](left, right)

    def _call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or len(node.args) != 1 or node.keywords:
            known = ", ".join(FUNCTIONS)
            raise ExpressionError(f"{ast.unparse(node)!r} cannot be used in a filter. Functions are: {known}.")
        return FUNCTIONS[name](np.asarray(self.value(node.args[0]), float))

    def _condition(self, node: ast.expr) -> Any:
        value = np.asarray(self.value(node))
        if value.dtype != bool:
            raise ExpressionError(f"{self._text(node)!r} is no condition. Compare it with a number: {EXAMPLE}")
        return value

    def _text(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        for key, name in self._names.items():
            text = text.replace(key, name)
        return text


# -------------------------------------------------------------------------------------------------------------- ranges
def _terms(node: ast.expr) -> list[ast.expr]:
    """Return the conditions that are joined by "and"."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [term for value in node.values for term in _terms(value)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _limits(node: ast.expr, names: Mapping[str, str]) -> list[tuple[str, float | None, float | None]] | None:
    """Return the limits that a comparison sets: column, smallest and largest value; None if it is something else."""
    if not isinstance(node, ast.Compare):
        return None
    parts = [node.left, *node.comparators]
    found = []
    for compare, left, right in zip(node.ops, parts, parts[1:], strict=False):
        kind = type(compare)
        if isinstance(right, ast.Name):
            left, right, kind = right, left, MIRRORED.get(kind)  # type: ignore[assignment]
        number = _number(right)
        if not isinstance(left, ast.Name) or number is None or kind not in MIRRORED:
            return None
        name = names.get(left.id, left.id)
        low = number if kind in (ast.GtE, ast.Eq) else float(np.nextafter(number, np.inf)) if kind is ast.Gt else None
        high = number if kind in (ast.LtE, ast.Eq) else float(np.nextafter(number, -np.inf)) if kind is ast.Lt else None
        found.append((name, low, high))
    return found


def _number(node: ast.expr) -> float | None:
    sign = 1.0
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign, node = (-sign if isinstance(node.op, ast.USub) else sign), node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return sign * node.value
    return None
