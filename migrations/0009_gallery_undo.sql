-- Deleting a collection can be undone: what was in it is written down until its time in the trash is over.
create table collection_deleted (
    id         text    primary key,
    user_id    integer not null references user (id) on delete cascade,
    name       text    not null,
    shared     integer not null check (shared in (0, 1)),
    created_at integer not null,
    images     text    not null check (json_valid(images)),  -- numbers of images
    deleted_at integer not null
) strict;
create index collection_deleted_by_user on collection_deleted (user_id, deleted_at);
create index collection_deleted_by_time on collection_deleted (deleted_at);

-- How much a user has brought in from elsewhere: there is a limit to it.
create index image_imported on image (user_id, bytes) where imported_from is not null;
