-- What ends sealed session objects (docs/decisions/0050) and what a restore renews (docs/decisions/0051). A new column
-- without a value leaves the MAC of its row as it was (docs/decisions/0005).

-- How often C_InitToken initialised the ring again; none for never.
ALTER TABLE rings ADD COLUMN epoch INTEGER;

-- pin_changes: how often the principal has changed its PIN itself since the last officer's PIN. kept_login: the login
-- that changed it last, whose session objects have not ended; kept_since: from which number of changes on.
ALTER TABLE principals ADD COLUMN pin_changes INTEGER;
ALTER TABLE principals ADD COLUMN kept_login BLOB;
ALTER TABLE principals ADD COLUMN kept_since INTEGER;

-- The restores that made this database: one row for each. at: when, in seconds since 1970; assertions that were signed
-- before are refused. blocks: how many blocks of initialisation vectors each key counts as used because of it.
CREATE TABLE restores (
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    blocks  INTEGER NOT NULL,
    mac     BLOB NOT NULL
) STRICT;
