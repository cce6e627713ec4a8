#!/bin/sh
# A probe that gives up.
exit 3
