"""The tables of the local service's store, and their version."""

VERSION = 1  # what is newer is refused, what is older is brought forward in `store`

TABLES = (
    """CREATE TABLE template(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        public INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL, updated INTEGER NOT NULL, builds INTEGER NOT NULL DEFAULT 0)""",
    "CREATE TABLE alias(alias TEXT PRIMARY KEY, template TEXT NOT NULL)",
    "CREATE INDEX alias_template ON alias(template)",
    """CREATE TABLE build(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, template TEXT NOT NULL,
        flow TEXT NOT NULL, status TEXT NOT NULL, cpu INTEGER NOT NULL, memory INTEGER NOT NULL,
        start TEXT NOT NULL, ready TEXT NOT NULL, created INTEGER NOT NULL,
        updated INTEGER NOT NULL, finished INTEGER, owner TEXT, message TEXT, step TEXT,
        image TEXT, user TEXT, workdir TEXT, env TEXT)""",
    "CREATE INDEX build_template ON build(template)",
    "CREATE INDEX build_active ON build(status) WHERE status IN ('waiting', 'building')",
    """CREATE TABLE assignment(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, template TEXT NOT NULL, tag TEXT NOT NULL,
        build TEXT NOT NULL, created INTEGER NOT NULL)""",
    "CREATE INDEX assignment_tag ON assignment(template, tag)",
    "CREATE INDEX assignment_build ON assignment(build)",
    """CREATE TABLE entry(
        seq INTEGER PRIMARY KEY, build TEXT NOT NULL, at INTEGER NOT NULL,
        level INTEGER NOT NULL, step TEXT, message TEXT NOT NULL)""",
    "CREATE INDEX entry_build ON entry(build)",
    f"PRAGMA user_version = {VERSION}",
)
