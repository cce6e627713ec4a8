#!/bin/sh
# A probe that dies of a fault in the driver.
echo 'illegal thing' >&2
kill -SEGV $$
