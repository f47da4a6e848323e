-- Values of objects that are no keys, wrapped by the HSM under the object's own name: data objects. A row without one
-- bears the same MAC as before (docs/decisions/0005).
ALTER TABLE objects ADD COLUMN master INTEGER;
ALTER TABLE objects ADD COLUMN wrapped BLOB;

-- How many initialisation vectors a key version may have used already, counted in blocks that a daemon takes ahead.
-- No MAC: who edits it gains nothing but a repetition that 2^32 random vectors make likely anyway.
CREATE TABLE vectors (
    key     BLOB NOT NULL,
    number  INTEGER NOT NULL,
    taken   INTEGER NOT NULL,
    PRIMARY KEY (key, number)
) STRICT, WITHOUT ROWID;
