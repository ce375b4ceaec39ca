"""Check the options of a function against its parameters, before a worker runs it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

from napari_blockbuster.models.suggestions import did_you_mean

__all__ = ["check_options", "signature_in", "signature_of"]


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """Return the parameters of a function, or None if it does not say (functions written in C)."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def signature_in(tree: ast.Module, name: str) -> Signature | None:
    """Return the parameters of a function that a file defines, or None if it is not defined at the top level.

    The file is not run, so default values are not those of the function.
    """
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    # A decorator may change the parameters.
    if not found or found[-1].decorator_list:
        return None
    arguments = found[-1].args
    places = arguments.posonlyargs + arguments.args
    n_required = len(places) - len(arguments.defaults)
    parameters = [
        Parameter(
            argument.arg,
            Parameter.POSITIONAL_ONLY if i < len(arguments.posonlyargs) else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if i < n_required else None,
        )
        for i, argument in enumerate(places)
    ]
    if arguments.vararg:
        parameters.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(
            Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=Parameter.empty if default is None else None)
        )
    if arguments.kwarg:
        parameters.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return Signature(parameters)


def check_options(name: str, signature: Signature | None, options: Mapping[str, Any]) -> None:
    """Refuse options that a function does not take, and a function that needs more than its options.

    Parameters
    ----------
    name : str
        Name of the function, for the message.
    signature : inspect.Signature or None
        None: not known, so nothing is checked.
    options : mapping
        Keyword arguments that follow the pixels.

    Raises
    ------
    ValueError
        The message names the argument and the parameters of the function.
    """
    if signature is None:
        return
    parameters = list(signature.parameters.values())
    known = [p.name for p in parameters[1:] if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
    for option in options:
        if option not in known and not takes_any:
            listing = f"Its options: {', '.join(known)}." if known else "It has no options."
            raise ValueError(f"The function {name!r} has no option {option!r}{did_you_mean(option, known)}. {listing}")
    try:
        signature.bind(None, **options)
    except TypeError as error:
        raise ValueError(
            f"The function {name!r} cannot be called with the pixels of a tile and its options: {error}."
        ) from None
