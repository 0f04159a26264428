"""The files that keep an image's environment; test_shell_scripts compares them with a script's."""

from sandboxfile import environment, inherit, scripts

PROFILE, PLAIN = "profile.d/99-image-env.sh", "environment"


def test_exports_are_quoted_and_sorted_and_the_plain_file_has_what_it_can_hold() -> None:
    found = environment.files(
        {"B": "it's", "PATH": "/bin", "A_LINES": "one\ntwo", "SAID": '"x"', "EMPTY": "", "A": "ž"}
    )
    assert found == {
        PROFILE: (
            "export A='ž'\n"
            "export A_LINES='one\ntwo'\n"
            "export B='it'\\''s'\n"
            "export EMPTY=''\n"
            "export PATH='/bin'\n"
            "export SAID='\"x\"'\n"
        ).encode(),
        PLAIN: "A=ž\nB=it's\nPATH=/bin\n".encode(),
    }


def test_what_each_session_has_of_its_own_is_left_out() -> None:
    own = {"HOME": "/root", "TERM": "dumb", "SF_E12": "an argument", "SOURCE_DATE_EPOCH": "0"}
    found = environment.files({**own, "BAD-NAME": "x", "1BAD": "x", "HOMES": "kept"})
    assert found[PLAIN].decode() == f"HOMES=kept\nPATH={environment.PATH}\n"


def test_what_bash_forbids_to_set_is_in_the_plain_file_alone() -> None:
    found = environment.files({"UID": "7", "PATH": "/bin"})
    assert found == {PROFILE: b"export PATH='/bin'\n", PLAIN: b"PATH=/bin\nUID=7\n"}


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    assert b"export A='\xff'" in environment.files({"A": "\udcff"})[PROFILE]


def test_what_each_session_has_for_itself_is_left_out_of_files_and_of_what_is_inherited() -> None:
    assert {*scripts.LEFT_OUT.split("|")} >= inherit.SESSION
    assert environment.files(dict.fromkeys(inherit.SESSION, "x")) == environment.files({})
