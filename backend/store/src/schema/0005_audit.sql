-- The audit log (docs/decisions/0026). `at` is in milliseconds since 1970; body: JSON. mac: over the entry and the mac of
-- the entry before it.
CREATE TABLE audit (
    sequence  INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    project   BLOB,
    body      TEXT NOT NULL,
    mac       BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_project ON audit (project, at);

-- Where the log ends, and (anchor) where what was pruned of it ended. One row, written when the home is first opened.
CREATE TABLE audit_head (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    sequence     INTEGER NOT NULL,
    link         BLOB NOT NULL,
    anchor       INTEGER NOT NULL,
    anchor_link  BLOB NOT NULL,
    mac          BLOB NOT NULL
) STRICT;
