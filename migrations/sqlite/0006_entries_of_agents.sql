-- Entries that an agent asks for in the name of its workloads. A deleted entry stays on record: its certificates name it.

ALTER TABLE entries ADD COLUMN parent_id TEXT;
-- Told to workloads, which choose by it.
ALTER TABLE entries ADD COLUMN hint TEXT NOT NULL DEFAULT '' CHECK (length(CAST(hint AS BLOB)) <= 1024);
ALTER TABLE entries ADD COLUMN deleted_at_ms INTEGER;
-- Index of the last leaf that made or changed it; of those made before this column, NULL until they change.
ALTER TABLE entries ADD COLUMN changed_by INTEGER CHECK (changed_by IS NOT NULL OR parent_id IS NULL);

-- What an agent is served, and since when that is so: a deletion counts too.
CREATE INDEX entries_by_parent ON entries (parent_id, deleted_at_ms) WHERE parent_id IS NOT NULL AND deleted_at_ms IS NULL;
CREATE INDEX entries_by_change ON entries (parent_id, changed_by) WHERE parent_id IS NOT NULL;

-- Whether an identity is suspended, of which there may be an entry for each host.
CREATE INDEX entries_suspended ON entries (spiffe_id) WHERE suspended_at_ms IS NOT NULL AND deleted_at_ms IS NULL;

CREATE TRIGGER entries_keep_their_parent BEFORE UPDATE OF parent_id ON entries
BEGIN SELECT RAISE(ABORT, 'an entry keeps its parent'); END;
CREATE TRIGGER entries_are_deleted_once BEFORE UPDATE ON entries WHEN OLD.deleted_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a deleted entry stays as it is'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries stay on record'); END;
