-- Who a user is at an OpenID Connect provider.
create table outside_identity (
    issuer     text    not null,
    subject    text    not null,                  -- the provider's word for them, for good
    user_id    integer not null references user (id) on delete cascade,
    created_at integer not null,
    primary key (issuer, subject)
) strict, without rowid;
create index outside_identity_by_user on outside_identity (user_id);
