-- Everything a home keeps. A table whose rows decide about keys has a column `mac`: HMAC-SHA-256 over all its other
-- columns (docs/decisions/0005), so an edited row is refused. Times are seconds since 1970.

-- The home itself: one row. Its id binds the service keys to this database.
CREATE TABLE home (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    id   BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;

-- The backend's own keys, wrapped by the HSM under the home's id and their purpose; they need no MAC.
CREATE TABLE service_keys (
    purpose  TEXT PRIMARY KEY,
    master   INTEGER NOT NULL,
    wrapped  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The next number of each kind. A number is given once, whatever happens to what bore it.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    next  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, next) VALUES ('slot', 0), ('object', 1);

CREATE TABLE rings (
    slot     INTEGER PRIMARY KEY,
    id       BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    label    TEXT NOT NULL UNIQUE,
    policy   INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    mac      BLOB NOT NULL
) STRICT;

CREATE TABLE principals (
    ring        BLOB NOT NULL REFERENCES rings (id),
    name        TEXT NOT NULL,
    standing    INTEGER NOT NULL,
    pin_hash    TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    mac         BLOB NOT NULL,
    PRIMARY KEY (ring, name)
) STRICT, WITHOUT ROWID;

-- A key of the KMS: what its versions share.
CREATE TABLE keys (
    id         BLOB PRIMARY KEY CHECK (length(id) = 16),
    ring       BLOB NOT NULL REFERENCES rings (id),
    label      BLOB NOT NULL,
    algorithm  TEXT NOT NULL,
    created    INTEGER NOT NULL,
    mac        BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_ring ON keys (ring, created);

-- A version of a key: the material, and whether it may be used. Both halves of a pair belong to one version; the
-- material is the private half's. state: 1 active, 2 disabled, 3 to be destroyed at destroy_at, 4 destroyed.
-- protection: 1 opened in the backend, 2 used inside the HSM alone.
CREATE TABLE versions (
    key         BLOB NOT NULL REFERENCES keys (id),
    number      INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    destroy_at  INTEGER,
    protection  INTEGER NOT NULL,
    master      INTEGER,
    wrapped     BLOB,
    created     INTEGER NOT NULL,
    mac         BLOB NOT NULL,
    PRIMARY KEY (key, number),
    CHECK ((master IS NULL) = (wrapped IS NULL))
) STRICT, WITHOUT ROWID;

-- What applications see. Certificates and data objects belong to no key. The columns that are searched repeat values
-- of `attributes`, which holds all of them (postcard). An object with destroy_at has been destroyed by itself while
-- its key has not (the public half of a pair), and can be restored until then.
CREATE TABLE objects (
    id          INTEGER PRIMARY KEY,
    ring        BLOB NOT NULL REFERENCES rings (id),
    key         BLOB,
    version     INTEGER,
    class       INTEGER,
    key_type    INTEGER,
    label       BLOB,
    ckid        BLOB,
    attributes  BLOB NOT NULL,
    created     INTEGER NOT NULL,
    destroy_at  INTEGER,
    mac         BLOB NOT NULL,
    FOREIGN KEY (key, version) REFERENCES versions (key, number),
    CHECK ((key IS NULL) = (version IS NULL))
) STRICT;
CREATE INDEX objects_by_ring ON objects (ring);
CREATE INDEX objects_by_label ON objects (ring, label);
CREATE INDEX objects_by_ckid ON objects (ring, ckid);
CREATE INDEX objects_by_class ON objects (ring, class);
CREATE INDEX objects_by_version ON objects (key, version);

-- Requests that made something, so that a request repeated after a broken connection makes nothing twice.
CREATE TABLE requests (
    ring    BLOB NOT NULL,
    id      BLOB NOT NULL,
    first   INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    made    INTEGER NOT NULL,
    PRIMARY KEY (ring, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (made);
