-- How many blocks of initialisation vectors a key has used, by a print of its value: copies of a key, and session
-- keys, count as what they are (docs/decisions/0018). Takes the place of `vectors`, whose counts move over.
-- No MAC: who edits it gains nothing but a repetition that 2^32 random vectors make likely anyway.
CREATE TABLE vector_blocks (
    print   BLOB PRIMARY KEY,
    blocks  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
