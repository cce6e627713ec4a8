-- What people keep for the studio, so that a second browser has it too.

-- Settings under a name: how an image is made with one model, not what it shows.
create table preset (
    id         text    primary key,               -- UUIDv7
    user_id    integer not null references user (id) on delete cascade,
    model      text    not null,                  -- by name; it may be gone from this server
    name       text    not null collate nocase check (length(name) between 1 and 60),
    settings   text    not null check (json_valid(settings)),  -- atelier_app::studio::GenerationForm
    created_at integer not null,
    unique (user_id, model, name)
) strict;

-- Pieces of prompts under a name; {prompt} stands for what is typed.
create table style (
    id              text    primary key,          -- UUIDv7
    user_id         integer not null references user (id) on delete cascade,
    name            text    not null collate nocase check (length(name) between 1 and 60),
    prompt          text    not null,
    negative_prompt text    not null,
    created_at      integer not null,
    unique (user_id, name)
) strict;
