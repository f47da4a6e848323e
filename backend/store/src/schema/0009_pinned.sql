-- A database that somebody else writes (docs/decisions/0046 and 0047). Spans of usage are written by the program from
-- here on: triggers are switched off.
DROP TRIGGER versions_usage_insert;
DROP TRIGGER versions_usage_begin;
DROP TRIGGER versions_usage_end;
DROP TRIGGER versions_usage_delete;

-- begun: 1 since this home has an audit log. mac: over the whole row; a home that no later program has opened has none.
ALTER TABLE home ADD COLUMN begun INTEGER;
ALTER TABLE home ADD COLUMN mac BLOB;

-- state: the digest of the rows of all other tables, sealed. counter: how often the number in the HSM's token had grown.
ALTER TABLE audit_head ADD COLUMN state BLOB;
ALTER TABLE audit_head ADD COLUMN counter INTEGER;
