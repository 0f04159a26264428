"""The tables of the local service's store, and their version."""

_FIRST = (
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
)
_LAYERS = (
    "ALTER TABLE build ADD COLUMN sandbox_user TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE build ADD COLUMN sandbox_workdir TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE scope(id TEXT NOT NULL)",  # in every key of a layer: another store has others
    "INSERT INTO scope VALUES (lower(hex(randomblob(16))))",
    """CREATE TABLE layer(
        key TEXT PRIMARY KEY, image TEXT, user TEXT NOT NULL, workdir TEXT, env TEXT NOT NULL,
        used INTEGER NOT NULL)""",
    "CREATE INDEX layer_used ON layer(used)",
    """CREATE TABLE layer_use(
        template TEXT NOT NULL, layer TEXT NOT NULL, PRIMARY KEY (template, layer))""",
    "CREATE INDEX layer_use_layer ON layer_use(layer)",
)

_STATES = (  # every request looks for builds that have to be ended
    "DROP INDEX build_active",
    "CREATE INDEX build_status ON build(status, template)",
)

_READY = (  # which assignments are of ready builds: found without a look at all that went wrong
    "ALTER TABLE assignment ADD COLUMN ready INTEGER NOT NULL DEFAULT 0",
    """UPDATE assignment SET ready = 1
        WHERE build IN (SELECT id FROM build WHERE status = 'ready')""",
    "CREATE INDEX assignment_ready ON assignment(template, tag) WHERE ready = 1",
    """CREATE TRIGGER build_is_ready AFTER UPDATE OF status ON build
        WHEN (NEW.status = 'ready') <> (OLD.status = 'ready')
        BEGIN UPDATE assignment SET ready = (NEW.status = 'ready') WHERE build = NEW.id; END""",
    """CREATE TRIGGER assigned_to_ready AFTER INSERT ON assignment
        WHEN (SELECT status FROM build WHERE id = NEW.build) = 'ready'
        BEGIN UPDATE assignment SET ready = 1 WHERE seq = NEW.seq; END""",
)

_BEGUN = ("ALTER TABLE build ADD COLUMN begun INTEGER",)  # NULL while it waits in line

# Each from the version before it, the first from nothing.
CHANGES = (_FIRST, _LAYERS, _STATES, _READY, _BEGUN)
VERSION = len(CHANGES)  # what is newer is refused
