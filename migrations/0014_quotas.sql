-- How much of the devices each user had, day by day, how fast the devices were, and how much of them each
-- user may have. Days are counted from 1970 in UTC. All of it stays when images are deleted: what was used
-- was used.

create table usage (
    user_id        integer not null references user (id) on delete cascade,
    day            integer not null,
    device_seconds real    not null default 0,
    images         integer not null default 0,
    primary key (user_id, day)
) strict, without rowid;
create index usage_by_day on usage (day);

-- What users had who were removed since: nobody's any more, and still part of the whole.
create table usage_left (
    day            integer primary key,
    device_seconds real    not null,
    images         integer not null
) strict;
create trigger usage_stays before delete on user begin
    insert into usage_left (day, device_seconds, images)
        select day, device_seconds, images from usage where user_id = old.id
        on conflict (day) do update set
            device_seconds = device_seconds + excluded.device_seconds,
            images = images + excluded.images;
end;

-- The finished images of a model on a device: their work, in steps × megapixels (a step without guidance runs
-- the UNet once in place of twice and counts half), and the seconds that the denoising of it took.
create table speed (
    day         integer not null,
    model       text    not null,
    device      text    not null,                 -- 'cpu', 'cuda:0'
    images      integer not null,
    work        real    not null,
    denoising_s real    not null,
    primary key (day, model, device)
) strict, without rowid;

-- Limits of one user, in the place of those that everybody has (setting 'quota').
create table quota (
    user_id integer primary key references user (id) on delete cascade,
    limits  text    not null check (json_valid(limits))   -- atelier_app::account::QuotaLimits
) strict;

-- Space of images and of the trash by user, from the index alone.
create index image_space on image (user_id, trashed_at, bytes);

-- What is known of the time before.
insert into usage (user_id, day, device_seconds, images)
    select user_id, created_at / 86400000, sum(coalesce(json_extract(facts, '$.timings.total_s'), 0.0)), count(*)
      from image where imported_from is null group by 1, 2;
-- Only images whose steps are those that were asked for: no second-order scheduler, no start from an image.
insert into speed (day, model, device, images, work, denoising_s)
    select created_at / 86400000, json_extract(settings, '$.model'), json_extract(facts, '$.device'), count(*),
           sum(json_extract(settings, '$.num_inference_steps') * width * height / 1e6
               * case when json_extract(settings, '$.guidance_scale') > 1 then 1.0 else 0.5 end),
           sum(json_extract(facts, '$.timings.denoising_s'))
      from image
     where imported_from is null
       and json_extract(settings, '$.model') is not null and json_extract(facts, '$.device') is not null
       and json_extract(settings, '$.strength') is null
       and json_extract(settings, '$.refiner_strength') is null
       and json_extract(facts, '$.timings.denoising_s') > 0
       and lower(coalesce(json_extract(facts, '$.scheduler'), '')) not like '%heun%'
       and lower(coalesce(json_extract(facts, '$.scheduler'), '')) not like '%dpm2%'
       and lower(coalesce(json_extract(facts, '$.scheduler'), '')) not like '%sde%'
     group by 1, 2, 3;
