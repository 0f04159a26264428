"""Rows of the local service's tables as the records they hold."""

import json
import sqlite3

from sandboxfile.local.records import LEVELS, Build, Entry, Layer, Reason, Result, Setting
from sandboxfile.model import Resources


def build(row: sqlite3.Row) -> Build:
    reason = Reason(message=row["message"], step=row["step"]) if row["message"] else None
    return Build(
        id=row["id"],
        template=row["template"],
        flow=row["flow"],
        status=row["status"],
        resources=Resources(cpu=row["cpu"], memory=row["memory"]),
        start=row["start"],
        ready=row["ready"],
        created=row["created"],
        updated=row["updated"],
        finished=row["finished"],
        reason=reason,
        result=_result(row) if row["image"] else None,
    )


def _result(row: sqlite3.Row) -> Result:
    return Result(
        image=row["image"],
        setting=_setting(row),
        start=row["start"],
        ready=row["ready"],
        user=row["sandbox_user"],
        workdir=row["sandbox_workdir"],
    )


def _setting(row: sqlite3.Row) -> Setting:
    return Setting(user=row["user"], workdir=row["workdir"], env=json.loads(row["env"]))


def entry(row: sqlite3.Row) -> Entry:
    return Entry(at=row["at"], level=LEVELS[row["level"]], message=row["message"], step=row["step"])


def layer(row: sqlite3.Row) -> Layer:
    return Layer(key=row["key"], image=row["image"], setting=_setting(row))
