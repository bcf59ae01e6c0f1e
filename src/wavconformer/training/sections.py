"""Typed sections of a settings file: plain values in, frozen dataclasses out, errors by dotted name.

Every section is a keyword-only frozen dataclass; the annotations say which types are wanted, and `limited` which
values. Understood are bool, int, float, str, `X | None`, Literal, tuples, dictionaries of anything, and sections.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union

from wavconformer.errors import ConfigError

SomeSection = TypeVar("SomeSection", bound="Section")


def limited(default: Any, *, least: float | None = None, above: float | None = None, most: float | None = None) -> Any:
    """A field with that default whose numbers, those in a tuple too, have limits; None passes."""
    return field(default=default, metadata={"least": least, "above": above, "most": most})


@dataclass(frozen=True, kw_only=True)
class Section:
    """Part of a recipe; made by hand or read from plain values. Values outside their limits are a ConfigError."""

    def __post_init__(self) -> None:
        for one in fields(self):
            _check_limits(one.name, getattr(self, one.name), one.metadata)


def read_section(section: type[SomeSection], content: Any, at: str = "") -> SomeSection:
    """The section of that type with the values of a mapping; what is missing has its default.

    at: dotted name of the section, empty at the root.

    Raises ConfigError for an unknown key or a wrong type, by the key's dotted name.
    """
    if content is None:  # a heading with nothing under it
        content = {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{at or 'The recipe'} must be a section of settings, not {content!r}.")
    wanted = typing.get_type_hints(section)
    limits = {one.name: one.metadata for one in fields(section)}
    values = {}
    for key, value in content.items():
        if key not in limits:
            raise ConfigError(_unknown(section, str(key), at))
        name = _joined(at, key)
        values[key] = _converted(value, wanted[key], name)
        _check_limits(name, values[key], limits[key])
    return section(**values)


def plain(value: Any) -> Any:
    """A section, or a value in one, as YAML and JSON have it: dictionaries, lists and scalars."""
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(inner) for inner in value]
    return value


def set_dotted(content: dict[str, Any], name: str, value: Any) -> None:
    """Puts a value into nested dictionaries under its dotted name; inner ones are made where they are missing."""
    *sections, key = name.split(".")
    inner = content
    for depth, part in enumerate(sections, 1):
        if inner.get(part) is None:
            inner[part] = {}
        inner = inner[part]
        if not isinstance(inner, dict):
            raise ConfigError(f"{name} can't be set: {'.'.join(sections[:depth])} is no section, but {inner!r}.")
    inner[key] = value


def _joined(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)


def _unknown(section: type[Section], key: str, at: str) -> str:
    """What to say of a key that the section doesn't have, with the nearest of its keys, or of all in it."""
    names = [one.name for one in fields(section)]
    near = [_joined(at, name) for name in difflib.get_close_matches(key, names, n=1)]
    if not near:  # right name, wrong place
        near = [name for name in _names(section, at) if name.rpartition(".")[2] == key][:1]
    known = ", ".join(_joined(at, name) for name in names)
    advice = f"Did you mean {near[0]}?" if near else f"There are {known}."
    return f"{_joined(at, key)} is no setting. {advice}"


def _names(section: type[Section], at: str) -> Iterable[str]:
    for name, kind in typing.get_type_hints(section).items():
        yield _joined(at, name)
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _names(kind, _joined(at, name))


def _converted(value: Any, kind: Any, name: str) -> Any:
    """The value as the annotation wants it; ConfigError where it is of another type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in inner:
            return None
        (kind,) = (one for one in inner if one is not types.NoneType)
        return _converted(value, kind, name)
    if origin is Literal:
        if value not in inner or isinstance(value, bool):
            near = difflib.get_close_matches(str(value), [str(one) for one in inner], n=1)
            advice = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name} must be one of {', '.join(map(str, inner))}, not {value!r}.{advice}")
        return value
    if origin is tuple:
        return _tuple(value, inner, name)
    if origin is dict or kind is dict:
        if value is None:  # a heading with nothing under it
            return {}
        if not isinstance(value, Mapping):
            raise _wrong(name, "a section of settings", value)
        return dict(value)
    if isinstance(kind, type) and issubclass(kind, Section):
        return read_section(kind, value, name)
    return _scalar(value, kind, name)


def _tuple(value: Any, inner: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if inner[-1] is Ellipsis:
        if not isinstance(value, (list, tuple)):  # a lone value is a list of one
            value = [value]
        return tuple(_converted(one, inner[0], f"{name}[{number}]") for number, one in enumerate(value))
    if not isinstance(value, (list, tuple)) or len(value) != len(inner):
        raise _wrong(name, f"a list of {len(inner)} values", value)
    return tuple(_converted(one, kind, f"{name}[{n}]") for n, (one, kind) in enumerate(zip(value, inner, strict=True)))


def _scalar(value: Any, kind: type, name: str) -> Any:
    if kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):  # YAML 1.1 reads 3e-4, without a point, as text
            try:
                return float(value)
            except ValueError:
                pass
        raise _wrong(name, "a number", value)
    if kind is int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str):  # 4e5, again
            try:
                number = float(value)
            except ValueError:
                raise _wrong(name, "a whole number", value) from None
            if number.is_integer():
                return int(number)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, "a whole number", value)
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise _wrong(name, "true or false", value)
        return value
    if kind is str:
        if value is not None and not isinstance(value, str):  # yes, no, 012 and 1:30 aren't text to YAML
            raise ConfigError(f"{name} must be text, not {_shown(value)}: put it in quotes.")
        if value is None:
            raise _wrong(name, "text", value)
        return value
    raise TypeError(f"{name}: sections can't hold {kind}.")


def _wrong(name: str, wanted: str, value: Any) -> ConfigError:
    return ConfigError(f"{name} must be {wanted}, not {_shown(value)}.")


def _shown(value: Any) -> str:
    """A value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return repr(value)


def _check_limits(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None or not limits:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if not number == number or number in (float("inf"), float("-inf")):
            raise ConfigError(f"{name} is {number}: give a finite number.")
        if limits["least"] is not None and number < limits["least"]:
            raise ConfigError(f"{name} is {number}, but must be at least {limits['least']:g}.")
        if limits["above"] is not None and number <= limits["above"]:
            raise ConfigError(f"{name} is {number}, but must be more than {limits['above']:g}.")
        if limits["most"] is not None and number > limits["most"]:
            raise ConfigError(f"{name} is {number}, but must be at most {limits['most']:g}.")
