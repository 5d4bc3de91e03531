"""How blocks become steps, and which answers pass."""

from pathlib import Path

import pytest

from tests.docs.tutorial import Step, is_answered, steps

PAGE = """\
# Page

```console
$ cat > file <<END
> one
> END
$ cat file \\
  file
one
one
$ true
```

<!-- not run: it needs a cluster -->
```console
$ kubectl
```

```console
  output alone
```

```sh
export A=1
echo $A
```

The answer is `1`, at once.
"""


def test_commands_go_on_and_answers_end_at_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    assert steps(tmp_path / "page.md") == [
        Step(4, "cat > file <<END\none\nEND", ""),
        Step(7, "cat file \\\n  file", "one\none"),
        Step(11, "true", ""),
        Step(24, "export A=1\necho $A", "… 1 …"),
    ]


def test_block_is_run_when_the_comment_gives_no_reason(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE.replace("it needs a cluster", ""), encoding="utf-8")
    assert "kubectl" in [step.command for step in steps(tmp_path / "page.md")]


@pytest.mark.parametrize(
    ("shown", "said", "passes"),
    [
        ("82 of 100 calls", " 82 of\n100   calls \n", True),
        ("82 of 100 calls", "83 of 100 calls", False),
        ("82 of 100 calls", "82 of 100 calls today", False),
        ("82 of … calls\n…", "82 of 100 calls\nand more", True),
        (" Day   Calls\n ─────\n Sun   3", "  Day     Calls \n ─────────── \n  Sun     3  ", True),
        ("…", "", True),
    ],
)
def test_answer_passes_when_it_says_the_same(shown: str, said: str, passes: bool) -> None:
    assert is_answered(shown, said) is passes
