"""Finds the small changes that can be made to a module, each of which a test should notice.

| kind | example |
|---|---|
| another operator or comparison | `a + b` to `a - b`; `a < b` to `a <= b`, `a >= b`; `and` to `or` |
| another constant | `4` to `5`; `0.5` to `1.0`; `True` to `False`; `-x` to `x` |
| a negated condition | `if a:` to `if not a:` |
| a dropped statement | a call, `x += 1`, `x.a = 1`, `x[i] = 1`, `raise`; in a branch or loop `x = 1`, `return` |
| a dropped call | `abs(x)` to `x` |
| arguments | two swapped, a keyword left out |
| off by one | `x[a:b]` to `x[a:b + 1]`, `range(n)` to `range(n + 1)` |

Text is left alone: docstrings, annotations, other strings, and whatever `raise`, `print` and errors say. So are
decorators, base classes, and what only type checkers read.
"""

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

_OTHER_OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.FloorDiv: [ast.Div],
    ast.Mod: [ast.FloorDiv], ast.Pow: [ast.Mult], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
    ast.And: [ast.Or], ast.Or: [ast.And],
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn], ast.NotIn: [ast.In], ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}  # fmt: skip
_LEFT_ALONE = ("annotation", "returns", "decorator_list", "bases", "exc", "cause", "msg", "ctx")
# Without these calls, what follows gets another type and cannot but fail.
_OTHER_TYPES = ("range", "len", "enumerate", "zip", "iter", "next", "list", "tuple", "set", "dict", "math.prod")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class _Edit(NamedTuple):
    """Puts `new` into a field of `owner`, or into one element of a field that is a list."""

    owner: ast.AST
    field: str
    index: int | None
    new: ast.AST


class _Place(NamedTuple):
    """Where an edit lies: the qualified name of the function or class, and the statement."""

    function: str
    statement: ast.stmt


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
      id: eight hexadecimal digits that depend on path, function, and statement before and after, not on line numbers.
      path: path of the module in the repository.
      line: line of the change.
      function: qualified name of the function or class; empty on the level of the module.
      before: the first line of the statement.
      after: the same line with the change.
    """

    id: str
    path: str
    line: int
    function: str
    before: str
    after: str
    _tree: ast.Module
    _edit: _Edit

    def source(self) -> str:
        """Returns the source of the changed module, without comments."""
        with _applied(self._edit):
            return ast.unparse(ast.fix_missing_locations(self._tree))


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Returns all mutants of a module, in the order of the source.

    Args:
      path: path of the module in the repository.
      source: its source code.
    """
    tree = ast.parse(source)
    found, same = [], Counter()
    for place, edit in _edits(tree, _Place("", tree.body[0])):
        before = _first_line(place.statement)
        with _applied(edit):
            after = _first_line(edit.new if isinstance(edit.new, ast.stmt) else place.statement)
        if before == after:
            continue
        key = "\0".join((path, place.function, before, after))
        same[key] += 1
        digest = hashlib.sha256(f"{key}\0{same[key]}".encode()).hexdigest()[:8]
        found.append(Mutant(digest, path, edit.new.lineno, place.function, before, after, tree, edit))
    return found


def draw(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Draws mutants without replacement; an edit of the code changes only few of those that are drawn."""
    order = {mutant.id: hashlib.sha256(f"{seed} {mutant.id}".encode()).digest() for mutant in mutants}
    return sorted(mutants, key=lambda mutant: order[mutant.id])[:count]


@contextmanager
def _applied(edit: _Edit) -> Iterator[None]:
    held = getattr(edit.owner, edit.field)
    if edit.index is None:
        setattr(edit.owner, edit.field, edit.new)
        yield
        setattr(edit.owner, edit.field, held)
    else:
        old, held[edit.index] = held[edit.index], edit.new
        yield
        held[edit.index] = old


def _first_line(statement: ast.stmt) -> str:
    """Returns a statement in normal form, of a compound statement only the line before its body."""
    if hasattr(statement, "body"):
        statement = copy.copy(statement)
        statement.body = [ast.Pass()]
        if hasattr(statement, "orelse"):
            statement.orelse = []
        if hasattr(statement, "decorator_list"):
            statement.decorator_list = []
    return ast.unparse(ast.fix_missing_locations(statement)).splitlines()[0]


def _edits(node: ast.AST, place: _Place) -> Iterator[tuple[_Place, _Edit]]:
    """Yields all edits below a node."""
    for name, value in ast.iter_fields(node):
        if name in _LEFT_ALONE:
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            of_class = isinstance(node, ast.ClassDef) and name == "keywords"
            if not isinstance(child, ast.AST) or _is_text(child) or of_class:
                continue
            here = place._replace(statement=child) if isinstance(child, ast.stmt) else place
            new_nodes = [*_replacements(child), *_off_by_one(node, name, child), *_negated(node, name, child)]
            if name in ("body", "orelse", "finalbody") and _can_be_dropped(node, child):
                new_nodes.append(ast.Pass())
            for new in new_nodes:
                yield here, _Edit(node, name, index, ast.copy_location(new, child))
            if isinstance(child, _SCOPES):
                here = here._replace(function=f"{place.function}.{child.name}".lstrip("."))
            yield from _edits(child, here)


def _is_text(node: ast.AST) -> bool:
    """Whether a node and all below it are text, imports, or code for type checkers."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.endswith("Error")
    return False


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what may stand in the place of an expression."""
    match node:
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                for other in _OTHER_OPERATORS[type(operator)]:
                    yield _with(node, ops=[*operators[:index], other(), *operators[index + 1 :]])
        case ast.BinOp(op=operator, left=left, right=right):
            if not any(isinstance(side, ast.JoinedStr) or _is_string(side) for side in (left, right)):
                for other in _OTHER_OPERATORS.get(type(operator), []):
                    yield _with(node, op=other())
        case ast.BoolOp(op=operator) | ast.AugAssign(op=operator):
            for other in _OTHER_OPERATORS.get(type(operator), []):
                yield _with(node, op=other())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield _with(node, value=not value)
        case ast.Constant(value=int(value)):
            yield _with(node, value=value + 1)
        case ast.Constant(value=float(value)):
            yield _with(node, value=2.0 * value or 1.0)
        case ast.Call(args=arguments, keywords=keywords):
            starred = any(isinstance(argument, ast.Starred) for argument in arguments)
            if len(arguments) == 1 and not keywords and not starred and ast.unparse(node.func) not in _OTHER_TYPES:
                yield arguments[0]
            if not starred:
                for i in range(len(arguments) - 1):
                    swapped = [*arguments[:i], arguments[i + 1], arguments[i], *arguments[i + 2 :]]
                    yield _with(node, args=swapped)
            for keyword in keywords:
                if keyword.arg is not None:
                    yield _with(node, keywords=[other for other in keywords if other is not keyword])


def _off_by_one(owner: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST]:
    """Yields a bound of a slice or a range plus 1; bounds that are constants are changed as all constants are."""
    match owner:
        case ast.Slice():
            is_bound = field in ("lower", "upper")
        case ast.Call(func=ast.Name(id="range")):
            is_bound = field == "args"
        case _:
            is_bound = False
    if is_bound and not any(isinstance(part, ast.Constant) for part in (node, getattr(node, "operand", None))):
        yield ast.BinOp(node, ast.Add(), ast.Constant(1))


def _negated(owner: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST]:
    """Yields the negation of a condition; comparisons and `not` are changed by `_replacements`."""
    if field in ("test", "ifs") and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)


def _can_be_dropped(owner: ast.AST, node: ast.AST) -> bool:
    """Whether a statement can be left out without an error about an unknown name."""
    match node:
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue() | ast.Break() | ast.AugAssign():
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return True
        case ast.Assign(targets=[ast.Name()]) if isinstance(owner, ast.If | ast.For | ast.While):
            return True
        case ast.Return():
            return isinstance(owner, ast.If | ast.For | ast.While)
    return False


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _with(node: ast.AST, **fields) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
