"""Checks settings against the types and ranges of their fields, and words the errors.

msgspec reads the constraints from the annotations; its own messages name neither the field nor the wrong value.
"""

import math
from typing import Any, ClassVar

import msgspec
from msgspec import inspect

from affect.errors import UserError


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
        raise UserError(f"{name} is {value!r}; it must be {wanted}")


def _checked(value: Any, kind: Any, name: str) -> Any:
    """Returns the value as the field's type (a list as a tuple, an int as a float where one is wanted).

    Raises:
      UserError: the value has another type or is out of range; names the field, the value and what is allowed.
    """
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{name} is {value!r}; it must be {_allowed(inspect.type_info(kind), value)}") from error
    require(not isinstance(converted, float) or math.isfinite(converted), name, value, "a finite number")
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
