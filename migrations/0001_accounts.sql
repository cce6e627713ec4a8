-- Who may do what. Times are Unix milliseconds everywhere. Secrets are never stored, only their hashes.

-- A person. Names are unique without regard to letter case.
create table user (
    id            integer primary key,
    name          text    not null unique collate nocase check (length(name) between 1 and 64),
    role          text    not null check (role in ('admin', 'member', 'viewer')),
    password_hash text    not null,               -- PHC string, argon2id
    created_at    integer not null,
    last_seen_at  integer,                        -- at most five minutes stale
    disabled_at   integer                         -- sign-in closed since; sessions and tokens die with it
) strict;

-- A signed-in browser. The key is the SHA-256 of the cookie's secret, so a stolen database opens nothing.
create table session (
    id_hash      text    primary key,             -- hex
    public_id    text    not null unique,         -- what lists show and revoking names
    user_id      integer not null references user (id) on delete cascade,
    created_at   integer not null,
    last_seen_at integer not null,
    expires_at   integer not null,                -- absolute; idle expiry is counted from last_seen_at
    address      text    not null,
    user_agent   text    not null
) strict, without rowid;
create index session_by_user on session (user_id);

-- A program's key. 256 random bits need no slow hash.
create table api_token (
    id           integer primary key,
    user_id      integer not null references user (id) on delete cascade,
    name         text    not null check (length(name) between 1 and 64),
    prefix       text    not null,                -- first characters of the secret, to tell tokens apart
    secret_hash  text    not null unique,         -- hex SHA-256
    created_at   integer not null,
    expires_at   integer,
    last_used_at integer,                         -- at most five minutes stale
    revoked_at   integer
) strict;
create index api_token_by_user on api_token (user_id);

-- Wrong passwords, counted per account name and per (name, address): a growing delay, never a lock.
create table sign_in_failure (
    subject    text    primary key,               -- 'name:alice' or 'name:alice address:10.0.0.7'
    failures   integer not null,
    last_at    integer not null
) strict, without rowid;
