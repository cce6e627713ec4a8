-- What administrators choose while the server runs, so that it is still chosen after a restart.
-- One row a choice; a choice that was never made has none.
create table setting (
    name       text    primary key,               -- 'default_model': the model of requests that name none
    value      text    not null,
    changed_at integer not null
) strict, without rowid;
