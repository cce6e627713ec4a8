-- Images that people send to start from, masks among them, and which jobs use them. The file lies under
-- its hash: upload/ab/abcd…; of one user the same file is there once.
create table upload (
    id         text    primary key,               -- UUIDv7
    user_id    integer not null references user (id) on delete cascade,
    sha256     text    not null,                  -- of the file, hex
    bytes      integer not null,
    width      integer not null,
    height     integer not null,
    format     text    not null check (format in ('png', 'jpeg', 'webp')),
    created_at integer not null,
    used_at    integer not null,                  -- when it was last sent or asked for; unused for a day, it goes
    unique (user_id, sha256)
) strict;
create index upload_by_hash on upload (sha256);

-- An upload lives for as long as a job that is open, or the image of one, is made from it.
create table job_upload (
    job_id    text not null references job (id) on delete cascade,
    upload_id text not null references upload (id) on delete cascade,
    primary key (job_id, upload_id)
) strict, without rowid;
create index job_upload_by_upload on job_upload (upload_id);

-- A hash of everything that decides an image's pixels: settings, weights, version, kind of device.
alter table image add column recipe text;
create index image_by_recipe on image (user_id, recipe);

-- A job that an earlier image answers: done at once, with no image of its own.
alter table job add column from_image text references image (id) on delete set null;
create index job_by_from_image on job (from_image);
