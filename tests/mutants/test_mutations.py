"""Mutants: which changes are made, that text is left alone, and that identifiers outlive edits elsewhere."""

import pytest

from tests.mutants.__main__ import change, explained
from tests.mutants.mutations import draw, mutants_of


def changes(source):
    return {(mutant.before, mutant.after) for mutant in mutants_of("module.py", source)}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("x = a + b", {"x = a - b"}),
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a and b", {"x = a or b"}),
        ("x = a in b", {"x = a not in b"}),
        ("x = 4", {"x = 5"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = 0.0", {"x = 1.0"}),
        ("x = -a", {"x = a"}),
        ("x = not a", {"x = a"}),
        ("x = False", {"x = True"}),
        ("x = abs(a)", {"x = a"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = f(a=b)", {"x = f()"}),
        ("x = a[b:c]", {"x = a[b + 1:c]", "x = a[b:c + 1]"}),
        ("x = range(a)", {"x = range(a + 1)"}),
        ("x = b if a else c", {"x = b if not a else c"}),
        ("x = [b for b in c if b]", {"x = [b for b in c if not b]"}),
        ("x += a", {"x -= a", "pass"}),
        ("x.a = b", {"pass"}),
        ("f(a, b)", {"f(b, a)", "pass"}),
        ("raise ValueError(f'{1 + 2}', 3)", {"pass"}),
        ("if a:\n    return", {"if not a:", "pass"}),
        ("while a:\n    continue", {"while not a:", "pass"}),
    ],
)
def test_the_changes_of_a_statement(statement, expected):
    assert {after for _, after in changes(statement)} == expected


def test_text_annotations_and_code_for_type_checkers_are_left_alone():
    assert not changes(
        '"""Docstring."""\n'
        "from typing import Annotated, TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    X = 1\n"
        "@decorated(1)\n"
        "class C(Base[2], frozen=True):\n"
        '    """Docstring."""\n'
        "    a: Annotated[int, 3] = 'text'\n"
        "    def f(self, b: Annotated[int, 4]) -> Annotated[int, 5]:\n"
        "        print(6, b)\n"
        "        error = UserError(f'{b + 7}')\n"
        "        return 'a' + f'{8}'\n"
    )


def test_a_mutant_runs_with_its_change_and_nothing_else():
    for mutant in mutants_of("module.py", "def f(a, b=2):\n    # a comment\n    return 3 * a + b\n"):
        names = {}
        exec(mutant.source(), names)
        assert (mutant.function, mutant.line) == ("f", 1 if mutant.before.startswith("def") else 3)
        expected = {
            "def f(a, b=3):": 33,
            "return 3 * a - b": 28,
            "return 3 / a + b": 2.3,
            "return 4 * a + b": 42,
        }
        assert names["f"](10) == pytest.approx(expected[mutant.after])


def test_identifiers_do_not_depend_on_lines_and_formatting_but_on_function_and_statement():
    def ids(source):
        return [mutant.id for mutant in mutants_of("module.py", source)]

    source = "def f(a):\n    return a + 1\n"
    assert ids(source) == ids("import os\n\n\ndef f(a):\n    # reason\n    return (a +\n            1)\n")
    assert not set(ids(source)) & set(ids(source.replace("f(", "g(")))
    assert not set(ids(source)) & set(ids(source.replace("1", "2")))
    assert len(set(ids("x = a + 1\nx = a + 1\n"))) == 4  # the same statement twice


def test_an_edit_elsewhere_changes_few_of_the_drawn_mutants():
    source = "\n".join(f"x{k} = a + {k}" for k in range(300))
    before = draw(mutants_of("module.py", source), 50, seed=1)
    after = draw(mutants_of("module.py", source.replace("x7 = a + 7", "x7 = b * 7")), 50, seed=1)
    assert len({mutant.id for mutant in before}) == 50
    assert len({mutant.id for mutant in before} & {mutant.id for mutant in after}) >= 48
    assert draw(mutants_of("module.py", source), 50, seed=2) != before


def test_the_table_shows_where_two_long_statements_differ():
    same = "f(" + "a" * 60 + ", "
    end = ", " + "b" * 60 + ")"
    assert change(f"{same}1{end}", f"{same}20{end}") == (
        f"... {'a' * 38}, 1, {'b' * 38} ...",
        f"... {'a' * 38}, 20, {'b' * 38} ...",
    )
    assert change("x = a", "pass") == ("x = a", "pass")


def test_explanations_are_the_rows_whose_first_column_is_an_identifier():
    page = "| id | why |\n|---|---|\n| `0a1b2c3d` | equal |\n| `make` | no |\ntext `11111111`\n"
    assert explained(page) == {"0a1b2c3d"}
