create table artifacts (
    id integer primary key,
    name text not null unique,           -- kind@version, as on the command line
    kind text not null,                  -- selection, captions, synthetic, features, head, eval, scores
    version integer not null,
    stage text not null,                 -- the command or step that made it
    status text not null check (status in ('unfinished', 'complete')),
    identity text not null,              -- hash of stage, settings, input digests, model revisions, seed
    digest text,                         -- hash of the content, set when complete
    settings text not null,              -- JSON
    seed integer not null,
    tool_version text not null,
    items_done integer not null default 0,
    items_failed integer not null default 0,
    notes text not null default '{}',    -- JSON: what the stage found out, e.g. the boundary
    created_at text not null,
    finished_at text,
    seconds real not null default 0,     -- time worked, over all interrupted runs
    asked integer not null,              -- rises with every time it was asked for: the newest of its kind is the default
    unique (kind, version)
);
create index artifacts_identity on artifacts (identity);
create table versions (
    kind text primary key,
    newest integer not null              -- the last number given to an artifact of this kind
);
create table lineage (
    artifact_id integer not null references artifacts (id) on delete cascade,
    role text not null,
    input_id integer not null references artifacts (id),
    primary key (artifact_id, role, input_id)
);
create table artifact_models (
    artifact_id integer not null references artifacts (id) on delete cascade,
    role text not null,                  -- clip, captioner, inpainter, classifier
    adapter text not null,
    name text not null,
    pretrained text,
    revision text,
    primary key (artifact_id, role)
);
create table files (
    artifact_id integer not null references artifacts (id) on delete cascade,
    path text not null,                  -- relative to artifacts/NAME/
    bytes integer not null,
    sha256 text not null,
    primary key (artifact_id, path)
);
create table failures (
    id integer primary key,
    artifact_id integer not null references artifacts (id) on delete cascade,
    item text not null,
    reason text not null,
    created_at text not null
);
create table images (
    id integer primary key,
    sha256 text not null,
    root text not null,
    name text not null,                  -- path below root; a blob where it is not valid UTF-8
    class_name text not null,
    width integer not null,
    height integer not null,
    bytes integer not null,
    format text not null,
    unique (sha256, root, name)
);
create table selected_images (
    artifact_id integer not null references artifacts (id) on delete cascade,
    image_id integer not null references images (id),
    class_name text not null,
    rank integer not null,               -- 1 = the most complex of its class
    complexity real not null,            -- bytes per pixel
    complexity_bytes integer not null,
    measured text not null,              -- file, or jpeg95 where the file is no JPEG
    primary key (artifact_id, image_id)
);
create table prompts (
    artifact_id integer not null references artifacts (id) on delete cascade,
    image_id integer not null references images (id),
    raw_answer text not null,
    elements text not null,              -- JSON array
    prompt text not null,
    tokens integer not null,             -- of CLIP's text encoder, begin and end included
    model text not null,
    revision text,
    seconds real not null,
    primary key (artifact_id, image_id)
);
create table synthetic_images (
    artifact_id integer not null references artifacts (id) on delete cascade,
    image_id integer not null references images (id),
    path text not null,                  -- relative to artifacts/NAME/
    sha256 text not null,
    bytes integer not null,
    width integer not null,
    height integer not null,
    format text not null,
    quality integer,                     -- JPEG quality of the InD image, whose tables are used
    prompt text not null,                -- as the diffusion text encoder read it
    seed integer not null,
    kept_iteration integer not null,
    score real not null,                 -- of the kept iterate; higher = more InD
    boundary real not null,
    seconds real not null,
    primary key (artifact_id, image_id)
);
create table iterations (
    artifact_id integer not null references artifacts (id) on delete cascade,
    image_id integer not null references images (id),
    iteration integer not null,
    score real not null,
    loss real not null,
    gradient_norm real,                  -- null where no gradient was taken
    top1 integer not null,
    top1_name text,
    top1_probability real not null,
    kept integer not null,
    primary key (artifact_id, image_id, iteration)
);
create table embedded (
    artifact_id integer not null references artifacts (id) on delete cascade,
    position integer not null,           -- row in the feature shards, in order
    item text not null,                  -- image name below root, or the prompt
    class_name text not null default '',
    primary key (artifact_id, position)
);
create table labels (
    artifact_id integer not null references artifacts (id) on delete cascade,
    position integer not null,           -- InD labels first, then the negative labels, as in the head
    text text not null,
    role text not null,                  -- ind or negative
    part_of_speech text,                 -- noun or adj, of a negative label
    similarity real,                     -- percentile of the cosine similarity to the InD labels
    tuned integer not null default 0,
    primary key (artifact_id, position)
);
create table assignments (
    artifact_id integer not null references artifacts (id) on delete cascade,
    image_id integer not null references images (id),
    label text not null,                 -- the negative label nearest to the synthetic image
    similarity real not null,
    primary key (artifact_id, image_id)
);
create table training_steps (
    artifact_id integer not null references artifacts (id) on delete cascade,
    step integer not null,
    epoch integer not null,
    loss real not null,
    primary key (artifact_id, step)
);
create table metrics (
    artifact_id integer not null references artifacts (id) on delete cascade,
    method text not null,
    head text not null,
    dataset text not null,               -- an OOD set, or average
    auroc real not null, auroc_low real, auroc_high real,
    fpr95 real not null, fpr95_low real, fpr95_high real,
    fpr95_positive text not null,        -- convention: ind or ood is the positive class
    fpr95_other real not null,           -- under the other convention
    aupr_in real not null,
    aupr_out real not null,
    ind_accuracy real,
    ind_images integer not null,
    ood_images integer not null,
    primary key (artifact_id, method, head, dataset)
);
create table scores (
    artifact_id integer not null references artifacts (id) on delete cascade,
    method text not null default '',
    head text not null default '',
    dataset text not null default '',
    position integer not null,
    item text not null,
    score real,
    decision text,                       -- ind or ood
    predicted_class text,
    nearest_negative text,
    nearest_similarity real,
    primary key (artifact_id, dataset, method, head, position)
);
create table digest_cache (
    path text primary key,
    bytes integer not null,
    mtime_ns integer not null,
    sha256 text not null
);

-- Views: the common questions.
create view failed_items as
    select a.name as artifact, a.stage, f.item, f.reason, f.created_at
    from failures f join artifacts a on a.id = f.artifact_id order by f.id;
create view artifact_lineage as
    select a.name as artifact, l.role, i.name as input, a.stage, a.status, a.finished_at
    from lineage l join artifacts a on a.id = l.artifact_id join artifacts i on i.id = l.input_id;
create view boundary_trajectories as
    select a.name as artifact, m.name as image, m.class_name, t.iteration, t.score,
    t.score - s.boundary as distance_to_boundary, t.loss, t.gradient_norm, t.top1_name,
    t.top1_probability, t.kept
    from iterations t
    join synthetic_images s on s.artifact_id = t.artifact_id and s.image_id = t.image_id
    join artifacts a on a.id = t.artifact_id join images m on m.id = t.image_id
    order by a.id, m.class_name, m.name, t.iteration;
create view mean_trajectories as
    select artifact, iteration, count(*) as images, avg(score) as score,
    avg(abs(distance_to_boundary)) as mean_absolute_distance
    from boundary_trajectories group by artifact, iteration;
create view label_counts as
    select a.name as head, l.role, l.part_of_speech, count(*) as labels, sum(l.tuned) as tuned
    from labels l join artifacts a on a.id = l.artifact_id
    group by a.id, l.role, l.part_of_speech;
create view assigned_labels as
    select a.name as head, s.label, count(*) as images, avg(s.similarity) as mean_similarity
    from assignments s join artifacts a on a.id = s.artifact_id
    group by a.id, s.label order by a.id, images desc;
create view prompts_by_image as
    select a.name as artifact, m.class_name, m.name as image, p.prompt, p.tokens, p.elements, p.raw_answer, p.model
    from prompts p join artifacts a on a.id = p.artifact_id join images m on m.id = p.image_id;
