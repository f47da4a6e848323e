-- Credentials that a copy of this file does not betray (docs/decisions/0048).

-- What the hash is made over: null, the PIN itself; 1, a MAC of ring, name and PIN under a key that the HSM wraps.
ALTER TABLE principals ADD COLUMN pin_kind INTEGER;

-- Wrong PINs that are not yet forgotten, by ring, by the user of the operating system, and by the name that was given:
-- whether there is a principal of that name or not, so that nobody can tell. uid: -1 none, -2 any of those for which
-- there was no space. name: a MAC of the name; 16 zero bytes for those for which there was no space. last: milliseconds
-- since 1970.
CREATE TABLE login_failures (
    ring      BLOB NOT NULL,
    uid       INTEGER NOT NULL,
    name      BLOB NOT NULL CHECK (length(name) = 16),
    failures  INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    mac       BLOB NOT NULL,
    PRIMARY KEY (ring, uid, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX login_failures_by_age ON login_failures (last);

-- Proofs of context-specific logins that were used, until they end by themselves: each is good once. No MAC, as for
-- assertions: who takes a row away needs the proof too, which lives for half a minute.
CREATE TABLE used_proofs (
    nonce    BLOB PRIMARY KEY CHECK (length(nonce) = 16),
    expires  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_proofs_by_end ON used_proofs (expires);

-- Logins of the key flow, each begun by an assertion, whose refresh tokens have not expired. A refresh token is used
-- once: `current` is the one that may be used (its jti), `previous` the one before it, used at `rotated`. A row that is
-- gone, or that has revoked, refuses all of them.
CREATE TABLE refresh_families (
    id        BLOB PRIMARY KEY CHECK (length(id) = 16),
    account   BLOB NOT NULL,
    current   BLOB NOT NULL CHECK (length(current) = 16),
    previous  BLOB,
    rotated   INTEGER,
    expires   INTEGER NOT NULL,
    revoked   INTEGER,
    mac       BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_families_by_end ON refresh_families (expires);
CREATE INDEX refresh_families_by_account ON refresh_families (account);
