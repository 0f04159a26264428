"""What is kept of a command's output."""

from sandboxfile.engines.box import Tail


def test_only_the_end_of_an_output_without_end_is_kept() -> None:
    tail = Tail(8)
    assert tail.text == ""
    for _ in range(1000):
        tail.add(b"0123")
    tail.add("€end".encode())
    assert tail.text == "23€end"
    assert len(tail._pieces) == 2
