#!/bin/sh
# A probe whose driver never answers.
exec sleep 600
