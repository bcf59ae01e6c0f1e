"""Lists that settings write as Python expressions, such as "[(512, 10, 5)] + [(512, 3, 2)] * 4"; nothing is run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from wavconformer.errors import CheckpointError

LONGEST = 1000  # characters of an expression, and items of a repeated list


def evaluated(path: Path, name: str, text: str) -> list[Any]:
    """The list that the setting `name` of the file `path` stands for: numbers, tuples and lists, added or repeated.

    Raises CheckpointError for anything else, and for an empty list.
    """
    if len(text) > LONGEST:
        raise CheckpointError(f"{path}: the setting {name} is longer than any list of layers: {text[:40]} …")
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{path}: the setting {name} is no plain list: {text}") from error
    if not isinstance(value, list) or not value:
        raise CheckpointError(f"{path}: the setting {name} is no plain list: {text}")
    return value


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return left + right
        if (
            isinstance(node.op, ast.Mult)
            and isinstance(left, list)
            and type(right) is int
            and len(left) * right < LONGEST
        ):
            return left * right
    raise ValueError(f"{type(node).__name__} is not allowed here")
