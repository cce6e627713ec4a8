-- Keys with bounds, a way back for whoever forgot a password, and a second step at sign-in.

-- What a token opens: words of atelier_app::account::Scope, with a space between. Tokens made before
-- there were scopes keep what they could do.
alter table api_token add column scopes text not null default 'generate read manage';

-- A link by which somebody chooses a new password. One a user; the latest counts.
create table password_reset (
    user_id     integer primary key references user (id) on delete cascade,
    secret_hash text    not null unique,          -- hex SHA-256
    created_at  integer not null,
    expires_at  integer not null
) strict;

-- The second step of sign-in (RFC 6238). The secret must be known here to check codes: it is the one
-- secret that is stored as it is, and it opens nothing without the password.
create table two_step (
    user_id      integer primary key references user (id) on delete cascade,
    secret       text    not null,                -- hex, 20 bytes
    confirmed_at integer,                         -- absent while it is being set up
    last_step    integer not null default 0       -- the time step of the latest code taken; older ones are refused
) strict;

-- For whoever lost the device. Each works once.
create table recovery_code (
    code_hash text    primary key,                -- hex SHA-256 of 80 random bits
    user_id   integer not null references user (id) on delete cascade,
    used_at   integer
) strict, without rowid;
create index recovery_code_by_user on recovery_code (user_id);

-- Whoever gave the right password and owes the code.
create table sign_in_step (
    id_hash    text    primary key,               -- hex SHA-256 of the cookie's secret
    user_id    integer not null references user (id) on delete cascade,
    expires_at integer not null
) strict, without rowid;
create index sign_in_step_by_user on sign_in_step (user_id);
