-- A job whose device failed it goes down a ladder; what was changed for it stays with it over restarts.

-- The rungs it went down, oldest first: a list of atelier_app::studio::Rung.
alter table job add column rungs text not null default '[]' check (json_valid(rungs));

-- The devices it has left, so that their workers pass it by: a list of names such as "cuda:0".
alter table job add column avoid text not null default '[]' check (json_valid(avoid));
