"""Makes mutants of a solution: the same text with one small thing wrong.

Misconceptions are mistakes that somebody is known to make. Mutants are made without any thought: each place of the
syntax tree where one of the rules below fits gives one. A check that lets a mutant live has not looked there.

What is not mutated: docstrings and types; the words of errors (the checks demand the names in them); where tensors are
made (``device=``, branches for GPUs: there is but one device to be tested on), ``encoding=`` and ``strict=``, which make
a difference only on other systems or for other bugs.
"""

import ast
import builtins
import re
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mutant:
    """One wrong variant of a solution."""

    id: str  # the function, its line as it was, and as it is now
    rule: str  # the name of the rule that made it
    line: int
    text: str = field(repr=False)  # the whole mutated file


_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.BitXor: "|",
    ast.LShift: ">>",
    ast.RShift: "<<",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_TWINS = (
    ("mean", "sum"),
    ("amax", "amin"),
    ("max", "min"),
    ("argmax", "argmin"),
    ("tril", "triu"),
    ("train", "eval"),
    ("any", "all"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("new_zeros", "new_ones"),
    ("sqrt", "rsqrt"),
    ("floor", "ceil"),
    ("softmax", "log_softmax"),
    ("add_", "sub_"),
    ("mul_", "div_"),
    ("addcmul_", "addcdiv_"),
    ("sin", "cos"),
    ("no_grad", "enable_grad"),
    ("var", "std"),
    ("cumsum", "cumprod"),
    ("float64", "float32"),
    ("int64", "int32"),
)
_TWIN = {one: other for pair in _TWINS for one, other in (pair, pair[::-1])}
_DROPPED_METHODS = frozenset(
    [
        "detach",
        "clone",
        "contiguous",
        "to",
        "float",
        "double",
        "type_as",
        "long",
        "squeeze",
        "unsqueeze",
        "flatten",
        "transpose",
        "abs",
        "sqrt",
        "exp",
        "log",
        "square",
        "clamp",
        "sum",
        "mean",
        "masked_fill",
        "softmax",
        "log_softmax",
        "requires_grad_",
        "eval",
        "train",
        "view",
        "reshape",
        "expand",
        "tril",
        "triu",
        "cumsum",
        "flip",
        "roll",
        "rsqrt",
        "nan_to_num",
        "copy",
        "strip",
        "lower",
        "repeat_interleave",
    ]
)
_IN_PLACE_METHODS = frozenset(
    [
        "clamp",
        "masked_fill",
        "add",
        "mul",
        "sub",
        "div",
        "abs",
        "exp",
        "sqrt",
        "tril",
        "triu",
        "neg",
        "log",
        "square",
        "tanh",
    ]
)
_IN_PLACE: dict[type[ast.operator], str] = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_"}
_KEPT_DECORATORS = ("property", "staticmethod", "classmethod", "dataclass", "overload", "setter", "contextmanager")
_KEPT_KEYWORDS = ("device", "encoding", "strict", "prefix", "suffix", "default_factory", "metaclass", "label")
# Functions whose arguments come in either order, or are names.
_EITHER_ORDER = frozenset(
    ["min", "max", "promote_types", "transpose", "swapaxes", "isinstance", "issubclass", "getattr"]
)
_EITHER_ORDER |= frozenset(["hasattr", "setattr", "field", "print"])
_ERRORS = {"ValueError": "RuntimeError", "TypeError": "ValueError", "KeyError": "ValueError"}


def mutants_of(solution: str) -> list[Mutant]:
    """Every mutant of a solution's text, in the order of its lines; none is the same program as another."""
    found: list[Mutant] = []
    seen = {ast.dump(ast.parse(solution))}
    counts: Counter[str] = Counter()
    for place in sorted(_Places(solution).found, key=lambda place: (place.start, place.end)):
        text = solution[: place.start] + place.new + solution[place.end :]
        try:
            tree = ast.dump(ast.parse(text))
            compile(text, "mutant", "exec")
        except SyntaxError:
            continue
        if tree in seen:
            continue
        seen.add(tree)
        first, last = solution.rfind("\n", 0, place.start) + 1, solution.find("\n", place.end)
        old, new = solution[first:last], solution[first : place.start] + place.new + solution[place.end : last]
        name = f"{place.function}: {_one_line(old)} => {_one_line(new)}"
        counts[name] += 1
        if counts[name] > 1:
            name += f" #{counts[name]}"
        found.append(Mutant(name, place.rule, solution.count("\n", 0, place.start) + 1, text))
    return found


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@dataclass(frozen=True)
class _Place:
    """A piece of the text and what is put there."""

    start: int
    end: int
    new: str
    rule: str
    function: str


class _Places(ast.NodeVisitor):
    """Goes through a syntax tree and notes where which rule fits."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: list[_Place] = []
        # The parser counts columns in bytes.
        self._lines = [0]
        for line in text.encode().split(b"\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._bytes = text.encode()
        self._scope: list[str] = []
        self._bound: list[set[str]] = []  # names with a value in each function around
        self._tensors: list[set[str]] = []  # its arguments that are tensors
        tree = ast.parse(text)
        self._modules = {
            (name.asname or name.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        self.visit(tree)

    # What the rules are written with.

    def _offset(self, line: int, column: int) -> int:
        return len(self._bytes[: self._lines[line - 1] + column].decode())

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword | ast.arg)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _source(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self.text[start:end]

    def _atom(self, node: ast.expr) -> str:
        """An expression's text, in the parentheses that it stood in where it needs some."""
        source = self._source(node)
        return source if isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript) else f"({source})"

    def _note(self, rule: str, node: ast.AST, new: str) -> None:
        self._note_span(rule, self._span(node), new)

    def _note_span(self, rule: str, span: tuple[int, int], new: str) -> None:
        self.found.append(_Place(*span, new, rule, ".".join(self._scope) or "module"))

    def _between(self, left: ast.AST, right: ast.AST) -> tuple[int, int]:
        """The operator between two operands, without the parentheses around either."""
        start, end = self._span(left)[1], self._span(right)[0]
        while self.text[start] in ") \t\n":
            start += 1
        while self.text[end - 1] in "( \t\n":
            end -= 1
        return start, end

    # Statements.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope.append(node.name)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self._bound.append({argument.arg for argument in arguments})
        self._tensors.append(
            {each.arg for each in arguments if each.annotation and "Tensor" in ast.unparse(each.annotation)}
        )
        for decorator in node.decorator_list:
            if not any(kept in ast.unparse(decorator) for kept in _KEPT_DECORATORS):
                start, end = self._span(decorator)
                self._note_span("decorator", (start - 1, end), "")
            self.visit(decorator)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._bound.pop()
        self._tensors.pop()
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        for part in [*node.decorator_list, *node.body]:
            self.visit(part)
        self._scope.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target)
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        (target, *_) = node.targets
        again = isinstance(target, ast.Name) and self._bound and target.id in self._bound[-1]
        stored = isinstance(target, ast.Subscript) or (
            isinstance(target, ast.Attribute) and self._scope and self._scope[-1] != "__init__"
        )
        if again or stored:
            self._note("statement", node, "pass")
        self._bind(target)
        if isinstance(target, ast.Subscript):
            self.visit(target.slice)
        self.visit(node.value)

    def _bind(self, target: ast.AST) -> None:
        if self._bound:
            self._bound[-1].update(each.id for each in ast.walk(target) if isinstance(each, ast.Name))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._note("statement", node, "pass")
        if type(node.op) in _ARITHMETIC:
            start, end = self._between(node.target, node.value)
            self._note_span("arithmetic", (start, end), f"{_ARITHMETIC[type(node.op)]}=")
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if not isinstance(node.value, ast.Yield | ast.YieldFrom):
            self._note("statement", node, "pass")
        self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        if isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name) and node.exc.func.id in _ERRORS:
            self._note("error", node.exc.func, _ERRORS[node.exc.func.id])

    def visit_Break(self, node: ast.Break) -> None:
        self._note("statement", node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._note("statement", node, "pass")

    def visit_If(self, node: ast.If) -> None:
        condition = ast.unparse(node.test)
        if condition == "TYPE_CHECKING" or "'cuda'" in condition:
            return
        self._note("condition", node.test, "False")
        if not isinstance(node.body[0], ast.Raise):
            self._note("condition", node.test, "True")
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is None:
                self._note("context", item.context_expr, "__import__('contextlib').nullcontext()")
            else:
                self._bind(item.optional_vars)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None: ...

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None: ...

    # Expressions.

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...  # positions inside are not reliable before 3.12

    def visit_BinOp(self, node: ast.BinOp) -> None:
        operator = type(node.op)
        strings = any(isinstance(each, ast.Constant | ast.JoinedStr) and _is_text(each) for each in ast.walk(node))
        left, right = self._source(node.left), self._source(node.right)
        if operator is ast.MatMult:
            self._note("operands", node, f"(({right}) @ ({left}))")
        elif operator in _ARITHMETIC and not strings:
            self._note("arithmetic", node, f"(({left}) {_ARITHMETIC[operator]} ({right}))")
        tensor = isinstance(node.left, ast.Name) and self._tensors and node.left.id in self._tensors[-1]
        if tensor and operator in _IN_PLACE:
            self._note("in place", node, f"{left}.{_IN_PLACE[operator]}({right})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(operator) in _COMPARISONS:
                self._note_span("comparison", self._between(left, right), _COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        sources = [self._source(value) for value in node.values]
        word = " or " if isinstance(node.op, ast.And) else " and "
        self._note("boolean", node, "(" + word.join(f"({source})" for source in sources) + ")")
        kept = " and " if isinstance(node.op, ast.And) else " or "
        for index in range(len(sources)):
            rest = [source for other, source in enumerate(sources) if other != index]
            self._note("boolean", node, "(" + kept.join(f"({source})" for source in rest) + ")")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if not isinstance(node.operand, ast.Constant):
            self._note("operator", node, f"({self._source(node.operand)})")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._note("condition", node, f"({self._source(node.body)})")
        self._note("condition", node, f"({self._source(node.orelse)})")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._note("condition", condition, "True")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._note("constant", node, str(not value))
        elif isinstance(value, int):
            self._note("constant", node, str(value + 1))
        elif isinstance(value, float):
            self._note("constant", node, repr(2 * value) if value else "1.0")
        elif isinstance(value, str):
            self._note("constant", node, "''" if value else "'_'")

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, ast.Constant | ast.UnaryOp):
                self._note("off by one", bound, f"({self._source(bound)}) + 1")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        end = self._span(node)[1]
        if node.attr in _TWIN:
            self._note_span("twin", (end - len(node.attr), end), _TWIN[node.attr])
        if node.attr in ("mT", "T"):
            self._note("method", node, self._atom(node.value))
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _TWIN and (hasattr(builtins, node.id) or node.id in self._modules):
            self._note("twin", node, _TWIN[node.id])

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("float", "TypeVar", "compile") and node.args and isinstance(node.args[0], ast.Constant):
            return  # float("inf"), a regular expression
        self._arguments(node, name)
        if isinstance(node.func, ast.Attribute):
            self._methods(node, node.func)
        if name == "range" and not isinstance(stop := node.args[0 if len(node.args) == 1 else 1], ast.Constant):
            self._note("off by one", stop, f"({self._source(stop)}) + 1")
        self.visit(node.func)
        for part in [*node.args, *[each.value for each in node.keywords if each.arg not in _KEPT_KEYWORDS]]:
            self.visit(part)

    def _arguments(self, node: ast.Call, name: str) -> None:
        """Arguments swapped, keywords dropped."""
        if name not in _EITHER_ORDER:
            for one, other in list(zip(node.args, node.args[1:], strict=False))[:2]:
                if not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred):
                    span = (self._span(one)[0], self._span(other)[1])
                    self._note_span("arguments", span, f"{self._source(other)}, {self._source(one)}")
        for index, keyword in enumerate(node.keywords):
            if keyword.arg in _KEPT_KEYWORDS or name in ("field", "dataclass"):
                continue
            start, end = self._span(keyword)
            before = [*node.args, *node.keywords[:index]]
            if before:
                start = max(self._span(each)[1] for each in before)
                while self.text[start] == ")":  # of an argument in parentheses
                    start += 1
            else:
                while self.text[end] in ", ":
                    end += 1
            self._note_span("keyword", (start, end), "")

    def _methods(self, node: ast.Call, function: ast.Attribute) -> None:
        """A method of a tensor left out, or the one that works in place taken."""
        receiver = function.value
        if isinstance(receiver, ast.Name) and (receiver.id in self._modules or receiver.id == "self"):
            return
        if function.attr in _DROPPED_METHODS and "device" not in "".join(map(ast.unparse, node.args)):
            self._note("method", node, self._atom(receiver))
        tensor = isinstance(receiver, ast.Name) and self._tensors and receiver.id in self._tensors[-1]
        if tensor and function.attr in _IN_PLACE_METHODS:
            end = self._span(function)[1]
            self._note_span("in place", (end, end), "_")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
