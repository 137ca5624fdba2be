"""Mutants: one changed expression or statement of a module. Text for people, types and log lines aren't changed."""

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "sum": "mean",
    "mean": "sum",
    "amax": "amin",
    "amin": "amax",
    "argmax": "argmin",
    "tril": "triu",
    "zeros": "ones",
    "zeros_like": "ones_like",
}
"""Functions and methods that are easily confused. `sum` only as a method."""
LOGS = {"_log", "warnings", "advance"}
"""What is called on these only informs people."""
SELF_CHECKS = {"strict", "use_cache", "use_reentrant"}
"""Keywords that check the program itself (`zip`), or choose between two ways to the same numbers."""
COMMUTATIVE = {"min", "max", "maximum", "minimum"}


class Mutant(NamedTuple):
    """A changed module. `place`: the function that holds the change; `before`, `after`: its statement's first line."""

    path: Path
    line: int
    place: str
    before: str
    after: str
    kind: str
    source: str

    @property
    def key(self) -> str:
        """Stays the same while other parts of the module change."""
        parts = (self.path.as_posix(), self.place, self.before, self.after)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def mutants(root: Path, path: Path) -> Iterator[Mutant]:
    """All mutants of a module at `path` under `root`."""
    text = (root / path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    seen = set()
    for place, statement, node in _nodes(tree):
        for kind, change in _changes(node):
            before, line = _shown(statement), node.lineno
            undo = change()
            after = _shown(statement) if kind != "dropped statement" else "(dropped)"
            mutant = Mutant(path, line, place, before, after, kind, ast.unparse(ast.fix_missing_locations(tree)))
            undo()
            if mutant.key not in seen and after != before:
                seen.add(mutant.key)
                yield mutant


def _shown(statement: ast.stmt) -> str:
    """A statement without the statements in it."""
    bare = copy.copy(statement)
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        if isinstance(getattr(bare, field, None), list):
            setattr(bare, field, [ast.Pass()] if field == "body" else [])
    if isinstance(bare, ast.FunctionDef | ast.ClassDef):
        bare.decorator_list = []
    return " ".join(ast.unparse(bare).split())[:400]


def _nodes(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, Any]]:
    """(place, statement, node) of every node that may be changed."""

    def statements(body: list[ast.stmt], place: str) -> Iterator[tuple[str, ast.stmt, Any]]:
        for statement in body:
            if _informs(statement):
                continue
            inside = place
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                inside = f"{place}.{statement.name}".lstrip(".")
            yield inside, statement, statement
            for node in _expressions(statement):
                yield inside, statement, node
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(statement, field, None) or [], inside)
            for block in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]:
                yield from statements(block.body, inside)

    yield from statements(tree.body, "")


def _informs(statement: ast.stmt) -> bool:
    """Whether a statement is only for people or type checkers."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Raise | ast.Assert | ast.Pass):
        return True
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
        return True
    if isinstance(statement, ast.Assign) and "__all__" in ast.unparse(statement.targets[0]):
        return True
    if not isinstance(statement, ast.Expr):
        return False
    if isinstance(statement.value, ast.Constant):
        return True  # a docstring
    call = statement.value
    return isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[0] in LOGS


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself, without annotations, decorators, texts and names of errors."""
    skipped = {"body", "orelse", "finalbody", "handlers", "cases", "annotation", "returns", "decorator_list", "bases"}

    def walk(node: ast.AST) -> Iterator[ast.expr]:
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in SELF_CHECKS):
            return
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[0] in LOGS or name.endswith("Error") or name in ("cast", "TypeVar", "getLogger"):
                return
        if isinstance(node, ast.expr):
            yield node
        for field, value in ast.iter_fields(node):
            if field in skipped and (isinstance(node, ast.stmt | ast.arg) or field == "annotation"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child)

    yield from walk(statement)


Undo = Callable[[], None]
Change = Callable[[], Undo]


def _changes(node: Any) -> Iterator[tuple[str, Change]]:
    """The changes of one node, each applied in place by its function, which returns the function that undoes it."""
    if isinstance(node, ast.stmt):
        yield from _of_statement(node)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield "comparison", _setting(node, "ops", [COMPARISONS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text_or_type(node):
        yield "arithmetic", _setting(node, "op", OPERATORS[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "and/or", _setting(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "negation", _becoming(node, node.operand)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.IfExp):
        yield "condition", _setting(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Slice):
        for bound in ("lower", "upper"):
            if (value := getattr(node, bound)) is not None:
                yield "slice", _setting(node, bound, ast.BinOp(value, ast.Add(), ast.Constant(1)))


def _of_statement(node: ast.stmt) -> Iterator[tuple[str, Change]]:
    if isinstance(node, ast.If | ast.While):
        yield "condition", _setting(node, "test", ast.UnaryOp(ast.Not(), node.test))
    dropped = isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    if dropped:
        yield "dropped statement", _becoming(node, ast.Pass())


def _of_constant(node: ast.Constant) -> Iterator[tuple[str, Change]]:
    if isinstance(node.value, bool):
        yield "constant", _setting(node, "value", not node.value)
    elif isinstance(node.value, int | float):
        # One of the two, whichever: the other is rarely noticed by other tests.
        up = node.value <= 0 or (node.lineno + node.col_offset) % 2
        yield "constant", _setting(node, "value", node.value + (1 if up else -1))


def _of_call(node: ast.Call) -> Iterator[tuple[str, Change]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "detach" and isinstance(node.func, ast.Attribute):
        yield "detach", _becoming(node, node.func.value)
    if name in NAMES and not (name == "sum" and isinstance(node.func, ast.Name)):
        yield "function", _setting(node.func, "attr" if isinstance(node.func, ast.Attribute) else "id", NAMES[name])
    plain = not any(isinstance(x, ast.Starred) for x in node.args)
    if plain and len(node.args) >= 2 and name not in {"isinstance", "zip"} | COMMUTATIVE:
        literal = sum(isinstance(x, ast.Constant) for x in node.args[:2])  # one of two: mostly an error at once
        if literal != 1 and ast.unparse(node.args[0]) != ast.unparse(node.args[1]):
            yield "swapped arguments", _setting(node, "args", [node.args[1], node.args[0], *node.args[2:]])


def _is_text_or_type(node: ast.BinOp) -> bool:
    """Whether an operation joins texts, or makes a type (`float | None`)."""
    sides = (node.left, node.right)
    return any(
        isinstance(x, ast.JoinedStr) or (isinstance(x, ast.Constant) and isinstance(x.value, str | None)) for x in sides
    )


def _setting(node: ast.AST, field: str, value: Any) -> Change:
    def change() -> Undo:
        old = getattr(node, field)
        setattr(node, field, value)
        return lambda: setattr(node, field, old)

    return change


def _becoming(node: ast.AST, other: ast.AST) -> Change:
    """The node turns into another one, whatever holds it."""

    def change() -> Undo:
        old_class, old = node.__class__, dict(node.__dict__)
        node.__class__ = other.__class__
        node.__dict__.clear()
        node.__dict__.update(other.__dict__)

        def undo() -> None:
            node.__class__ = old_class
            node.__dict__.clear()
            node.__dict__.update(old)

        return undo

    return change
