-- Service accounts: who asks over REST, and over PKCS #11 with a token for a PIN (docs/decisions/0023). A row whose
-- email, grants, tokens or keys were edited bears no MAC that holds, and counts as not there.

-- disabled: since when it is shut out. generation: counts the times that all that was derived from its tokens and keys
-- was ended at once.
CREATE TABLE accounts (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    email       TEXT NOT NULL UNIQUE,
    created     INTEGER NOT NULL,
    disabled    INTEGER,
    generation  INTEGER NOT NULL,
    mac         BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- project: none for every project. ring: none for all rings.
CREATE TABLE grants (
    id       BLOB PRIMARY KEY CHECK (length(id) = 16),
    account  BLOB NOT NULL REFERENCES accounts (id),
    role     TEXT NOT NULL,
    project  BLOB,
    ring     BLOB,
    created  INTEGER NOT NULL,
    mac      BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_account ON grants (account);

-- Static tokens. digest: SHA-256 of the token, which itself is kept nowhere. expires: never without.
CREATE TABLE tokens (
    id       BLOB PRIMARY KEY CHECK (length(id) = 16),
    account  BLOB NOT NULL REFERENCES accounts (id),
    name     TEXT NOT NULL,
    digest   BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    created  INTEGER NOT NULL,
    expires  INTEGER,
    mac      BLOB NOT NULL,
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;

-- Public keys with which an account's assertions are checked. algorithm: 1 RSA_2048, 2 RSA_4096. generated: 1 where
-- the pair was made by `kms`, which keeps no private half.
CREATE TABLE account_keys (
    id           BLOB PRIMARY KEY CHECK (length(id) = 16),
    account      BLOB NOT NULL REFERENCES accounts (id),
    algorithm    INTEGER NOT NULL,
    public_key   BLOB NOT NULL,
    generated    INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    valid_until  INTEGER,
    revoked      INTEGER,
    mac          BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX account_keys_by_account ON account_keys (account);

-- Assertions that were exchanged for a token, until they end by themselves: each is good once. No MAC: who takes a
-- row away needs the assertion too, which only its account's key signs.
CREATE TABLE assertions (
    digest   BLOB PRIMARY KEY CHECK (length(digest) = 32),
    account  BLOB NOT NULL,
    expires  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX assertions_by_end ON assertions (expires);
CREATE INDEX assertions_by_account ON assertions (account);

-- When a token was last used, to the hour. Decides nothing, so it bears no MAC.
CREATE TABLE token_uses (
    token  BLOB PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
