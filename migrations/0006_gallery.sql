-- What makes a history of a hundred thousand images one that can be searched, sorted and tidied up.
-- Every index below belongs to one query of the gallery; each of them answers from the index alone.

-- What many images have in common: facets are counted over these few rows, not over the images.
create table look (
    id        integer primary key,
    model     text    not null,
    width     integer not null,
    height    integer not null,
    scheduler text    not null,                   -- the one that ran
    device    text    not null,                   -- 'cpu', 'cuda', 'imported', …
    unique (model, width, height, scheduler, device)
) strict;

-- The order of the gallery, and what a page's cursor is: a later image has a larger number. (A rowid would
-- not do: VACUUM, and with it a backup, may deal them anew.)
alter table image add column number integer;
alter table image add column look_id integer references look (id);
alter table image add column favourite integer not null default 0 check (favourite in (0, 1));
alter table image add column rating integer not null default 0 check (rating between 0 and 5);  -- 0: none
-- In the trash since; swept when the time that administrators set is over.
alter table image add column trashed_at integer;
-- Made elsewhere and brought here: by which program. Never measured on our devices.
alter table image add column imported_from text;
-- As text, because seeds use all 64 bits.
alter table image add column seed text generated always as (settings -> '$.seed') virtual;
-- The month it was made in, in UTC, e.g. 202611.
alter table image add column month integer
    generated always as (cast(strftime('%Y%m', created_at / 1000, 'unixepoch') as integer)) virtual;
-- The file that an image started from: the hash of its parent, if that was an image too.
alter table image add column init_sha256 text
    generated always as (json_extract(settings, '$.init_image.sha256')) virtual;

-- Words of prompts. The owner is a word too, so that a common word of everybody's costs nobody anything.
create virtual table image_text using fts5 (
    owner, prompt, negative_prompt,
    content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

insert into look (model, width, height, scheduler, device)
    select distinct coalesce(json_extract(settings, '$.model'), ''), width, height,
           coalesce(json_extract(facts, '$.scheduler'), ''),
           substr(coalesce(json_extract(facts, '$.device'), ''), 1,
                  instr(coalesce(json_extract(facts, '$.device'), '') || ':', ':') - 1)
      from image;
update image set
    number = (select count(*) from image older where older.id <= image.id),
    look_id = (select look.id from look
                where look.model = coalesce(json_extract(settings, '$.model'), '')
                  and look.width = image.width and look.height = image.height
                  and look.scheduler = coalesce(json_extract(facts, '$.scheduler'), '')
                  and look.device = substr(coalesce(json_extract(facts, '$.device'), ''), 1,
                      instr(coalesce(json_extract(facts, '$.device'), '') || ':', ':') - 1));
insert into image_text (rowid, owner, prompt, negative_prompt)
    select number, 'u' || user_id, prompt, coalesce(json_extract(settings, '$.negative_prompt'), '') from image;

create unique index image_by_number on image (number);
create index image_shown on image (user_id, number desc, look_id, favourite, rating, month)
    where trashed_at is null;
create index image_counted on image (user_id, look_id, favourite, rating, month)
    where trashed_at is null;
create index image_by_month on image (user_id, month, look_id, favourite, rating)
    where trashed_at is null;
create index image_by_seed on image (user_id, seed, number desc) where trashed_at is null;
create index image_by_parent on image (user_id, init_sha256) where init_sha256 is not null;
create index image_in_trash on image (user_id, trashed_at desc, number desc) where trashed_at is not null;
create index image_to_sweep on image (trashed_at) where trashed_at is not null;

-- Whoever inserts an image need not know any of this.
create trigger image_enters after insert on image begin
    insert or ignore into look (model, width, height, scheduler, device) values (
        coalesce(json_extract(new.settings, '$.model'), ''), new.width, new.height,
        coalesce(json_extract(new.facts, '$.scheduler'), ''),
        substr(coalesce(json_extract(new.facts, '$.device'), ''), 1,
               instr(coalesce(json_extract(new.facts, '$.device'), '') || ':', ':') - 1));
    update image set
        number = coalesce((select max(number) from image), 0) + 1,
        look_id = (select look.id from look
                    where look.model = coalesce(json_extract(new.settings, '$.model'), '')
                      and look.width = new.width and look.height = new.height
                      and look.scheduler = coalesce(json_extract(new.facts, '$.scheduler'), '')
                      and look.device = substr(coalesce(json_extract(new.facts, '$.device'), ''), 1,
                          instr(coalesce(json_extract(new.facts, '$.device'), '') || ':', ':') - 1))
     where id = new.id;
    insert into image_text (rowid, owner, prompt, negative_prompt)
        select number, 'u' || user_id, prompt, coalesce(json_extract(settings, '$.negative_prompt'), '')
          from image where id = new.id;
end;
create trigger image_leaves after delete on image begin
    delete from image_text where rowid = old.number;
end;
create trigger image_changes_hands after update of user_id on image begin
    delete from image_text where rowid = old.number;
    insert into image_text (rowid, owner, prompt, negative_prompt) values (
        new.number, 'u' || new.user_id, new.prompt, coalesce(json_extract(new.settings, '$.negative_prompt'), ''));
end;

-- Images put together under a name. A shared one can be looked at by everybody who can sign in, and be
-- changed by its owner only. It holds its owner's images: what is shared is one's own.
create table collection (
    id         text    primary key,               -- UUIDv7
    user_id    integer not null references user (id) on delete cascade,
    name       text    not null collate nocase check (length(name) between 1 and 100),
    shared     integer not null default 0 check (shared in (0, 1)),
    created_at integer not null,
    unique (user_id, name)
) strict;
create index collection_shared on collection (shared) where shared = 1;

create table collection_image (
    collection_id text    not null references collection (id) on delete cascade,
    image_number  integer not null references image (number) on delete cascade,
    added_at      integer not null,
    primary key (collection_id, image_number)
) strict, without rowid;
create index collection_image_by_image on collection_image (image_number);
-- An image that changes hands leaves the collections of whoever had it.
create trigger image_leaves_collections after update of user_id on image begin
    delete from collection_image where image_number = new.number;
end;
