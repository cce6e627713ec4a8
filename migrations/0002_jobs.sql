-- The durable queue and its results. A job's row is the truth; the progress pipe is only news.

-- What a person asked for, and where it stands.
create table job (
    id            text    primary key,            -- UUIDv7: sorts by time
    user_id       integer not null references user (id) on delete cascade,
    state         text    not null default 'queued'
                          check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
    priority      integer not null default 0,     -- higher goes first, within one user
    cost          real    not null default 1,     -- expected device-seconds, what fairness counts
    settings      text    not null check (json_valid(settings)),  -- atelier_app::studio::Settings
    idem_key      text,                           -- a client's Idempotency-Key: the same key is the same job
    attempt       integer not null default 0,
    max_attempts  integer not null default 3,
    fence         integer not null default 0,     -- grows with each claim; a stale worker's writes match no row
    owner         text,                           -- the worker that has it
    lease_until   integer,                        -- its claim ends here unless the heartbeat moves it
    cancel        integer not null default 0,     -- the owner of the job asked for a stop
    phase         text,
    step          integer not null default 0,
    error         text,                           -- words for its owner
    created_at    integer not null,
    started_at    integer,                        -- of the last attempt
    finished_at   integer,
    unique (user_id, idem_key)
) strict;
create index job_queued  on job (user_id, priority desc, id) where state = 'queued';
create index job_running on job (lease_until) where state = 'running';
create index job_by_user on job (user_id, id desc);
create index job_finished on job (finished_at desc) where finished_at is not null;

-- How much each user has had of the devices: the smallest virtual time goes next.
create table share (
    user_id integer primary key references user (id) on delete cascade,
    vtime   real not null default 0,              -- device-seconds divided by weight
    weight  real not null default 1 check (weight > 0)
) strict;

-- A result. The file lies under its hash; one job has at most one image, whatever crashed in between.
create table image (
    id              text    primary key,          -- UUIDv7
    job_id          text    not null unique references job (id) on delete cascade,
    user_id         integer not null references user (id) on delete cascade,
    sha256          text    not null,             -- of the PNG, hex: img/ab/abcd….png
    bytes           integer not null,
    width           integer not null,
    height          integer not null,
    dominant_colour text    not null,             -- '#rrggbb'
    prompt          text    not null,
    settings        text    not null check (json_valid(settings)),  -- atelier_app::studio::Settings
    facts           text    not null check (json_valid(facts)),     -- gallery::Facts: scheduler, device, dtype, fallback_reason, timings, step_s, notes
    created_at      integer not null
) strict;
create index image_by_user on image (user_id, id desc);
create index image_by_hash on image (sha256);

-- What happened to devices and workers, for the admin page.
create table device_event (
    id         integer primary key,
    at         integer not null,
    kind       text    not null,                  -- 'probe', 'worker_started', 'worker_died', …
    device     text    not null,
    message    text    not null,
    report     text    check (report is null or json_valid(report))  -- atelier_app::admin::DevicesReport for kind 'probe'
) strict;
