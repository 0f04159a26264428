from sandboxfile import counts


def test_one_is_no_plural() -> None:
    assert [counts.of(number, "base") for number in range(3)] == ["0 bases", "1 base", "2 bases"]
    assert counts.among(1, 1, "base") == "1 of 1 base"
    assert counts.among(1, 3, "base") == "1 of 3 bases"
