-- Credentials that a copy of this file does not betray (docs/decisions/0048).

-- What the hash is made over: null, the PIN itself; 1, a MAC of ring, name and PIN under a key that the HSM wraps.
ALTER TABLE principals ADD COLUMN pin_kind INTEGER;
