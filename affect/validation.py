"""Checks settings against the types and ranges of their fields, reads JSON strictly, and words the errors.

msgspec reads the constraints from the annotations; its own messages name neither the field nor the wrong value.
"""

import json
import math
import sys
from typing import Any, ClassVar

import msgspec
from msgspec import inspect

from affect.errors import UserError

_TOO_LARGE = 2**31  # sizes and counts become 32-bit integers in TensorFlow
_LONGEST_SHOWN = 100


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all sections of settings: checks every field when an object is made, however it is made.

    msgspec checks types and ranges only of what it decodes; constructors and `msgspec.structs.replace` need this.
    """

    prefix: ClassVar[str] = ""

    def __post_init__(self):
        for field in msgspec.structs.fields(self):
            value = _checked(getattr(self, field.name), field.type, self.prefix + field.name)
            msgspec.structs.force_setattr(self, field.name, value)


def require(holds: bool, name: str, value: Any, wanted: str) -> None:
    """Raises UserError, naming field, value and what is allowed, unless the rule holds."""
    if not holds:
        raise UserError(f"{name} is {shown(value)}; it must be {wanted}")


def shown(value: Any) -> str:
    """Returns a value as an error message shows it: on one line, and shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def json_object(text: str) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
      UserError: not JSON, another value than an object, or a name given twice in one object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for name, value in pairs:
            if name in content:  # Python's decoder would keep the last value without a word
                raise ValueError(f"{shown(name)} is given twice, as {shown(content[name])} and {shown(value)}")
            content[name] = value
        return content

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not a JSON config: {error}") from error
    if not isinstance(content, dict):
        raise UserError("not a config: expected a JSON object of sections")
    return content


def _checked(value: Any, kind: Any, name: str) -> Any:
    """Returns the value as the field's type (a list as a tuple, an int as a float where one is wanted).

    Raises:
      UserError: the value has another type or is out of range; names the field, the value and what is allowed.
    """
    try:
        converted = msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: a lone surrogate
        wanted = _allowed(inspect.type_info(kind), value)
        raise UserError(f"{name} is {shown(value)}; it must be {wanted}") from error
    for number in converted if isinstance(converted, tuple) else (converted,):
        require(not isinstance(number, float) or math.isfinite(number), name, value, "a finite number")
        require(not isinstance(number, int) or number < _TOO_LARGE, name, value, f"below {_TOO_LARGE}")
        require(not isinstance(number, str) or "\0" not in number, name, value, "a string without NUL characters")
    return converted


def _allowed(kind: inspect.Type, value: Any) -> str:
    """Returns what a field must be, in words, for the error that refuses `value`."""
    match kind:
        case inspect.LiteralType(values=choices):
            return f"one of {', '.join(map(str, choices))}"
        case inspect.TupleType(item_types=items):
            return f"{len(items)} integers, each {_range(items[0])}"
        case inspect.VarTupleType(item_type=item):
            return f"one or more integers, each {_range(item)}"
        case inspect.IntType():
            return _range(kind) if type(value) is int else f"an integer, {_range(kind)}"
        case inspect.FloatType():
            if type(value) is int and abs(value) > sys.float_info.max:
                return "a finite number"
            return _range(kind) if type(value) in (int, float) else f"a number, {_range(kind)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a string"
    return "an object of settings"


def _range(kind: Any) -> str:
    """Returns the range of a number, in words: "at least 1", "above 0", "in [0, 1)"."""
    low, high = (kind.gt if kind.ge is None else kind.ge), (kind.lt if kind.le is None else kind.le)
    if high is None:
        return f"above {low:g}" if kind.ge is None else f"at least {low:g}"
    return f"in {'(' if kind.ge is None else '['}{low:g}, {high:.10g}{')' if kind.le is None else ']'}"
