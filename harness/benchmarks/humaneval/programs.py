"""HumanEval's problems, and the programs that tests and answers make."""

import re
from typing import Any, NamedTuple

from harness.errors import DataError
from harness.files import json_lines

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a completion of a text ends (arXiv 2107.03374, section 2.1)."""
PROMPT = (
    "Complete the Python function below. Reply with one code block that contains the whole function, with the imports "
    "that it needs and without tests.\n\n```python\n{prompt}\n```"
)
"""Of a chat. Our own: the paper's models complete a text."""
FENCED = re.compile(r"```(?:[Pp]ython3?|py)?[ \t]*\r?\n(.*?)(?:\n```|\Z)", re.DOTALL)


class Problem(NamedTuple):
    """`prompt`: the function's head with its docstring. `test`: defines `check(candidate)`."""

    id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str

    def program(self, answer: str) -> str:
        """The problem with an answer in it and its tests. An answer is the function's body, as the paper has it, or
        code with the whole function; in a reply with code blocks, the last block with the function, else the first."""
        code = self._code(answer)
        if re.search(rf"^(?:async )?def {re.escape(self.entry_point)}\b", code, re.MULTILINE):
            before = self.prompt[: self.prompt.rindex(f"def {self.entry_point}")]  # imports, and functions that it uses
            code = f"{before}\n{code}"
        else:
            code = self.prompt + code
        return f"{code}\n{self.test}\ncheck({self.entry_point})"

    def _code(self, answer: str) -> str:
        blocks: list[str] = FENCED.findall(answer)
        whole = [block for block in blocks if f"def {self.entry_point}" in block]
        return whole[-1] if whole else blocks[0] if blocks else answer


def parse_problems(data: bytes, where: str) -> list[Problem]:
    """Problems in HumanEval's format. Raises DataError."""
    problems = [_problem(row, f"{where}, row {i}") for i, row in enumerate(json_lines(data, where), start=1)]
    if not problems:
        raise DataError(f"{where}: no rows; expected HumanEval's problems")
    if len({problem.id for problem in problems}) < len(problems):
        raise DataError(f"{where}: a task_id is repeated; rows are joined by it")
    return problems


def _problem(row: dict[str, Any], where: str) -> Problem:
    names = ("task_id", "prompt", "entry_point", "test", "canonical_solution")
    texts = [row.get(name) for name in names]
    if not all(isinstance(text, str) and text for text in texts):
        raise DataError(f"{where}: expected texts under {', '.join(names)}")
    problem = Problem(*map(str, texts))
    if f"def {problem.entry_point}" not in problem.prompt:
        raise DataError(f"{where}: its prompt has no `def {problem.entry_point}`")
    return problem._replace(id=problem.id.replace("/", "-"))  # a `/` marks turns
