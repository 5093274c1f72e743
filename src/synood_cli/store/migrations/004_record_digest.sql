alter table artifacts add column question text;    -- JSON, of which identity is the SHA-256; null where an older synood began it
alter table artifacts add column record text;      -- hash of what the database says of a complete artifact beside its content
