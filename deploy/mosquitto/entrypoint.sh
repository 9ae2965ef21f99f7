#!/bin/sh
# Fill in the configuration, by the variables that the application has too, and run the broker.
set -eu
umask 077
: "${MQTT_URL:?is to be mqtt://bridge:PASSWORD@mosquitto:1883}" "${ASKS:?names whom to ask for keys}"

login=${MQTT_URL#*://}
login=${login%@*}
printf '%s\n' "${login#*:}" > /tmp/bridge-password
host=${ALLOWED_HOSTS:-localhost}

export port=1883 address=0.0.0.0 plugin=/usr/local/lib/iotflow-mosquitto.so data=/var/lib/mosquitto \
	url="$ASKS" host="${host%%,*}" rate="${RATE_DEVICE_MESSAGES:-100/2s}" password_file=/tmp/bridge-password
envsubst < /etc/iotflow/mosquitto.conf > /tmp/mosquitto.conf
if [ -e /tls/fullchain.pem ]; then
	cat >> /tmp/mosquitto.conf <<-'END'
		listener 8883
		use_username_as_clientid true
		certfile /tls/fullchain.pem
		keyfile /tls/privkey.pem
	END
fi
exec mosquitto -c /tmp/mosquitto.conf
