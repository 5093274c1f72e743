alter table embedded add column sha256 text;    -- of the very bytes that an image was embedded from
