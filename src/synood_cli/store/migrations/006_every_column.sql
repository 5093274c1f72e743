delete from digest_cache;
alter table digest_cache add column ctime_ns integer not null default 0;    -- which nobody but the kernel can set
