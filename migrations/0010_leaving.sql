-- Users can be removed. Their number is never given to another: an old page, or a line of the audit log, must
-- not mean somebody else.
create table user_number (
    id   integer primary key check (id = 1),
    last integer not null                          -- the largest number that somebody had who is gone
) strict;
insert into user_number (id, last) values (1, 0);
create trigger user_number_stays after delete on user begin
    update user_number set last = max(last, old.id);
end;
