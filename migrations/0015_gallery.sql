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

-- Words are looked for as they are typed, so mostly by how they begin: with an index of beginnings that takes
-- a tenth of the time.
drop table image_text;
create virtual table image_text using fts5 (
    owner, prompt, negative_prompt,
    content = '', contentless_delete = 1, prefix = '1 2 3', tokenize = 'unicode61 remove_diacritics 2'
);
insert into image_text (rowid, owner, prompt, negative_prompt)
    select number, 'u' || user_id, prompt, coalesce(json_extract(settings, '$.negative_prompt'), '') from image;
