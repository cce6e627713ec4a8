-- Links by which anybody may look at one image, without an account. The link's secret is kept as a hash:
-- it is shown once. Whoever made it can end it; with its image, its maker or its time it ends by itself.
create table share_link (
    id            text    primary key,            -- UUIDv7: what revoking names
    secret_hash   text    not null unique,        -- hex SHA-256
    user_id       integer not null references user (id) on delete cascade,
    image_number  integer not null references image (number) on delete cascade,
    with_settings integer not null default 0 check (with_settings in (0, 1)),  -- prompt and numbers are shown too
    created_at    integer not null,
    expires_at    integer not null
) strict;
create index share_link_by_image on share_link (image_number);
create index share_link_by_user on share_link (user_id);
