-- How people come in, and what administrators did. Links hold 256 random bits; only their hashes are here.

-- A link that makes an account. It ends at a time, after so many people, or when it is revoked.
create table invitation (
    id          integer primary key,
    secret_hash text    not null unique,          -- hex SHA-256
    role        text    not null check (role in ('admin', 'member', 'viewer')),
    note        text    not null default '' check (length(note) <= 64),  -- whom it is for
    made_by     integer references user (id) on delete set null,         -- absent: made from the command line
    created_at  integer not null,
    expires_at  integer not null,
    max_uses    integer not null check (max_uses between 1 and 1000),
    uses        integer not null default 0 check (uses <= max_uses),
    revoked_at  integer
) strict;

-- Who asked for an account and was not let in yet. Such a user is disabled too, so that nothing
-- that looks at disabled_at has to know about waiting.
alter table user add column waiting_since integer;

-- Acts of administrators, and their looks into what belongs to others. Append-only: the actor's
-- name stays when the actor goes.
create table audit (
    id       integer primary key,
    at       integer not null,
    actor_id integer,                             -- absent: the command line; no reference, it outlives the user
    actor    text    not null,
    act      text    not null,                    -- 'user.role', 'invitation.make', 'model.fetch', …
    subject  text    not null,                    -- what it was done to: a name
    detail   text    not null                     -- the rest, in words
) strict;
create index audit_by_act on audit (act, id);
create index audit_by_actor on audit (actor, id);
create trigger audit_stays before update on audit begin
    select raise(abort, 'the audit log is append-only');
end;
create trigger audit_is_kept before delete on audit begin
    select raise(abort, 'the audit log is append-only');
end;
