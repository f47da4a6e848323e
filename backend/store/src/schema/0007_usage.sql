-- When each key version was available: one row for each span of time, kept for good (docs/decisions/0028). The triggers
-- see every change, whichever code or process makes it. A version is available while its material is held and it may be
-- used: active, and its key's deletion not scheduled. Wrapping keys and lone public keys are no versions that count.
CREATE TABLE spans (
    key      BLOB NOT NULL,
    number   INTEGER NOT NULL,
    project  BLOB,
    since    INTEGER NOT NULL,
    until    INTEGER
) STRICT;
CREATE INDEX spans_open ON spans (key, number) WHERE until IS NULL;
CREATE INDEX spans_by_end ON spans (until);

CREATE TRIGGER versions_usage_insert AFTER INSERT ON versions
WHEN NEW.state = 1 AND NEW.wrapped IS NOT NULL AND NEW.withheld IS NULL
BEGIN
    INSERT INTO spans (key, number, project, since)
    SELECT NEW.key, NEW.number, rings.project, unixepoch() FROM keys JOIN rings ON rings.id = keys.ring
    WHERE keys.id = NEW.key AND keys.kind IS NULL;
END;

CREATE TRIGGER versions_usage_begin AFTER UPDATE ON versions
WHEN NEW.state = 1 AND NEW.wrapped IS NOT NULL AND NEW.withheld IS NULL
    AND NOT EXISTS (SELECT 1 FROM spans WHERE key = NEW.key AND number = NEW.number AND until IS NULL)
BEGIN
    INSERT INTO spans (key, number, project, since)
    SELECT NEW.key, NEW.number, rings.project, unixepoch() FROM keys JOIN rings ON rings.id = keys.ring
    WHERE keys.id = NEW.key AND keys.kind IS NULL;
END;

CREATE TRIGGER versions_usage_end AFTER UPDATE ON versions
WHEN NOT (NEW.state = 1 AND NEW.wrapped IS NOT NULL AND NEW.withheld IS NULL)
BEGIN
    UPDATE spans SET until = unixepoch() WHERE key = NEW.key AND number = NEW.number AND until IS NULL;
END;

CREATE TRIGGER versions_usage_delete AFTER DELETE ON versions
BEGIN
    UPDATE spans SET until = unixepoch() WHERE key = OLD.key AND number = OLD.number AND until IS NULL;
END;

-- What was there before: as far as is known, since it was made.
INSERT INTO spans (key, number, project, since)
SELECT versions.key, versions.number, rings.project, versions.created
FROM versions JOIN keys ON keys.id = versions.key JOIN rings ON rings.id = keys.ring
WHERE versions.state = 1 AND versions.wrapped IS NOT NULL AND versions.withheld IS NULL AND keys.kind IS NULL;
