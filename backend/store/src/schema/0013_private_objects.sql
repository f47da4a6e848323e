-- Whether an object is private, so that a search of a caller who must not see private objects does not read their rows
-- (docs/decisions/0053). private: 1 for private objects, 0 for public ones, none in rows that are older than this column
-- and were not written since; `kms` fills it in, because it is under the row's MAC.
ALTER TABLE objects ADD COLUMN private INTEGER;
CREATE INDEX objects_public ON objects (ring) WHERE private IS NOT 1;
CREATE INDEX objects_unmarked ON objects (id) WHERE private IS NULL;
