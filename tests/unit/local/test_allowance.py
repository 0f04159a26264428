"""How much a build may say."""

from sandboxfile.local.allowance import Allowance


def test_a_log_without_end_is_cut_once_and_that_is_said() -> None:
    allowance = Allowance(3 << 20)
    line = "x" * ((1 << 20) - 1)
    assert [allowance.cut(line) for _ in range(3)] == [line] * 3
    assert [allowance.cut(line) for _ in range(3)] == ["(the log is cut at 3 MiB)", None, None]
