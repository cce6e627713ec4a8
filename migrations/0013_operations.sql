-- What administrators do to the queue and to models while the server runs.

-- A place that an administrator gave: so many jobs still start before this one, whosever they are.
-- Without one, a job's turn comes by fairness alone.
alter table job add column place integer;
create index job_placed on job (place) where state = 'queued' and place is not null;

-- Models that are not for everybody: the least role that may see and use each. The queue's own
-- choices are rows of `setting`: while there is one named 'queue_paused', nothing new starts; while
-- there is one named 'queue_closed', nothing new comes in. Their value is who said so.
create table model_access (
    model text primary key,                       -- its name; it need not be on disk now
    role  text not null check (role in ('member', 'admin'))
) strict, without rowid;
