-- The audit log begun anew after it was found broken (docs/decisions/0038). Nothing is removed: what was there is set
-- aside as it was found, whatever is in it.

-- at: milliseconds since 1970. head: as it was found. digest: over the entries that were set aside. after: the new log's
-- first entry is the next after this number. mac: over all of it and the mac of the restart before.
CREATE TABLE audit_restarts (
    number   INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    name     TEXT NOT NULL,
    problem  TEXT NOT NULL,
    head     TEXT,
    entries  INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    after    INTEGER NOT NULL,
    mac      BLOB NOT NULL
) STRICT;

CREATE TABLE audit_set_aside (
    restart   INTEGER NOT NULL REFERENCES audit_restarts (number),
    sequence  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    project   BLOB,
    body      TEXT NOT NULL,
    mac       BLOB NOT NULL,
    PRIMARY KEY (restart, sequence)
) STRICT, WITHOUT ROWID;

-- The mac of the last restart, if there was one: a head without it bears the same MAC as before.
ALTER TABLE audit_head ADD COLUMN restarted BLOB;
