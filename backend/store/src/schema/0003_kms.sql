-- The key management service: what its API knows of rings, keys and versions beyond what PKCS #11 asks. A new column
-- without a value leaves the MAC of its row as it was (docs/decisions/0005).

-- Projects: the API's tenants. A ring without one belongs to the first, the oldest.
CREATE TABLE projects (
    id       BLOB PRIMARY KEY CHECK (length(id) = 16),
    name     TEXT NOT NULL,
    created  INTEGER NOT NULL,
    mac      BLOB NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE rings ADD COLUMN project BLOB;
ALTER TABLE rings ADD COLUMN display_name TEXT;
ALTER TABLE rings ADD COLUMN description TEXT;

-- kind: none for keys, 2 for wrapping keys. rest: the algorithm by the API's name, for keys that have one. access: none
-- for PUBLIC, 2 for SNA. purpose: 1 symmetric, 2 asymmetric, for wrapping keys. deletion_at: when the key goes for
-- good; while it is set no version can be used. rotation_days and rotate_at: automatic rotation. tags: JSON.
ALTER TABLE keys ADD COLUMN kind INTEGER;
ALTER TABLE keys ADD COLUMN rest TEXT;
ALTER TABLE keys ADD COLUMN display_name TEXT;
ALTER TABLE keys ADD COLUMN description TEXT;
ALTER TABLE keys ADD COLUMN import_only INTEGER;
ALTER TABLE keys ADD COLUMN access INTEGER;
ALTER TABLE keys ADD COLUMN purpose INTEGER;
ALTER TABLE keys ADD COLUMN expires_at INTEGER;
ALTER TABLE keys ADD COLUMN deletion_at INTEGER;
ALTER TABLE keys ADD COLUMN rotation_days INTEGER;
ALTER TABLE keys ADD COLUMN rotate_at INTEGER;
ALTER TABLE keys ADD COLUMN tags TEXT;
CREATE INDEX keys_to_delete ON keys (deletion_at) WHERE deletion_at IS NOT NULL;
CREATE INDEX keys_to_rotate ON keys (rotate_at) WHERE rotate_at IS NOT NULL;
CREATE INDEX keys_to_expire ON keys (expires_at) WHERE expires_at IS NOT NULL;

-- disabled: 1 for a version that was disabled when its destruction was scheduled. withheld: 1 while its key's deletion is
-- scheduled, so that who loads an object need not look at the key.
ALTER TABLE versions ADD COLUMN disabled INTEGER;
ALTER TABLE versions ADD COLUMN withheld INTEGER;
CREATE INDEX versions_to_destroy ON versions (destroy_at) WHERE destroy_at IS NOT NULL AND state = 3;

-- What an idempotency key made (an extension of the API), for a day.
CREATE TABLE repeats (
    project  BLOB NOT NULL,
    id       BLOB NOT NULL,
    made     BLOB NOT NULL,
    asked    BLOB NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX repeats_by_age ON repeats (at);
CREATE INDEX objects_to_destroy ON objects (destroy_at) WHERE destroy_at IS NOT NULL;
