#!/bin/sh
sed -i 's/priority: 100/priority: 90/' "$1"
