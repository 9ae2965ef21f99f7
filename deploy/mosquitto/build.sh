#!/bin/sh
# Compile Mosquitto's plugin: build.sh iotflow.so
# Wants a C compiler, mosquitto-dev, libmosquitto-dev, libcurl4-openssl-dev and libcjson-dev.
set -eu
exec cc -std=gnu11 -O2 -fPIC -shared -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wall -Wextra -Werror \
	-o "$1" "$(dirname "$0")/iotflow.c" -lcurl -lcjson
