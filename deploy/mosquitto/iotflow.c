/* What Mosquitto does for IoTFlow: docs/adr/0038-mqtt-bridge.md tells why it is so.
 *
 * A device logs in with its number as user name and client id, and an API key as password. Whether
 * the key is good is asked of the server, by HTTP, for every connection. A device publishes to its
 * own topics alone, as often as its limit allows, and each message is given the key
 * it came under and the time it came at, which no device can write itself. Whoever is called
 * "bridge…" and has the bridge's password may do everything.
 *
 * The broker has one thread, so nothing here is locked, and everybody waits for the server's answer
 * with the one who connects: for a second at most, and then for nobody until another second is over.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>

#define STAMP "iotflow"
#define KICK "iotflow/kick"
#define BRIDGE "bridge"
#define ID_DIGITS 18
#define KEY_MAX 128
#define PASSWORD_MIN 16
#define ANSWER_MAX 8192
#define PATIENCE_MS 1000L

/* What a device publishes to, and what it is sent, below devices/N/. */
static const char *const says[] = {"telemetry", "commands/get", "commands/answer", NULL};
static const char *const hears[] = {"config", "errors", "commands", NULL};

struct device {
	long long id;
	long long key;     /* by which it logged in last; it has one connection */
	time_t expires;    /* when that key does; 0 for never */
	long long last_ms; /* the time that its last message was given */
	long long full_us; /* when all that its limit allows is there again */
};

struct answer {
	char text[ANSWER_MAX];
	size_t size;
};

static mosquitto_plugin_id_t *self;
static void *devices; /* of all that logged in since the broker began, by id: tsearch(3) */
static CURL *curl;
static char *url, *host, *password;
static long long window_us = 2000000, amount = 100;
static bool is_heard;     /* a bridge has subscribed: what devices say will not be lost */
static time_t away_until; /* the server did not answer */

/* --- Devices --------------------------------------------------------------------------------- */
static int by_id(const void *one, const void *other)
{
	long long a = ((const struct device *)one)->id, b = ((const struct device *)other)->id;

	return (a > b) - (a < b);
}

/* The number of a device's user name; 0 for any other text. */
static long long number(const char *text)
{
	size_t digits = text ? strspn(text, "0123456789") : 0;

	if(digits == 0 || digits > ID_DIGITS || text[digits] != '\0' || text[0] == '0') return 0;
	return atoll(text);
}

static struct device *known(long long id)
{
	struct device wanted = {.id = id}, **found = tfind(&wanted, &devices, by_id);

	return found ? *found : NULL;
}

static struct device *remembered(long long id)
{
	struct device *device = known(id);

	if(device) return device;
	device = mosquitto_calloc(1, sizeof(*device));
	if(!device) return NULL;
	device->id = id;
	if(!tsearch(device, &devices, by_id)){
		mosquitto_free(device);
		return NULL;
	}
	return device;
}

static long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static bool has_expired(const struct device *device)
{
	return device->expires && device->expires <= time(NULL);
}

/* Whether the limit has room for one more message: a token bucket, as on HTTP. */
static bool spend(struct device *device, long long now)
{
	long long full = device->full_us > now ? device->full_us : now;

	full += window_us / amount;
	if(full - now > window_us) return false;
	device->full_us = full;
	return true;
}

/* --- Asking the server ------------------------------------------------------------------------- */
static size_t take(char *data, size_t size, size_t count, void *to)
{
	struct answer *answer = to;

	size *= count;
	if(answer->size + size >= ANSWER_MAX) return 0; /* which ends the transfer */
	memcpy(answer->text + answer->size, data, size);
	answer->size += size;
	answer->text[answer->size] = '\0';
	return size;
}

static struct curl_slist *header(struct curl_slist *list, const char *name, const char *value)
{
	char line[512];

	if(!value || snprintf(line, sizeof(line), "%s: %s", name, value) >= (int)sizeof(line)) return list;
	return curl_slist_append(list, line);
}

/* The status of GET url under this key, 0 where nobody answered. */
static long ask(const char *key, const char *address, struct answer *answer)
{
	struct curl_slist *headers = NULL;
	char reason[CURL_ERROR_SIZE] = "";
	long status = 0;

	headers = header(headers, "X-API-Key", key);
	headers = header(headers, "X-Forwarded-For", address);
	headers = header(headers, "X-Forwarded-Proto", "https");
	headers = header(headers, "Host", host);
	curl_easy_reset(curl); /* connections stay open */
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, PATIENCE_MS);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
	if(curl_easy_perform(curl) == CURLE_OK){
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	}else{
		mosquitto_log_printf(MOSQ_LOG_WARNING, "iotflow: %s: %s", url, reason);
	}
	curl_slist_free_all(headers);
	return status;
}

/* Seconds since 1970 of 2026-11-30T00:00:00.000Z; 0 for null. -1 for what is no such time. */
static time_t moment(const cJSON *value)
{
	struct tm parts = {0};

	if(cJSON_IsNull(value)) return 0;
	if(!cJSON_IsString(value) || !strptime(value->valuestring, "%Y-%m-%dT%H:%M:%S", &parts)) return -1;
	return timegm(&parts);
}

/* Remember what the server says of the key, if it is one of this device. */
static int note(long long id, const char *text)
{
	cJSON *body = cJSON_Parse(text);
	const cJSON *device_id = cJSON_GetObjectItemCaseSensitive(body, "device_id");
	const cJSON *key_id = cJSON_GetObjectItemCaseSensitive(body, "key_id");
	time_t expires = moment(cJSON_GetObjectItemCaseSensitive(body, "expires_at"));
	struct device *device = NULL;
	int result = MOSQ_ERR_AUTH;

	if(!cJSON_IsNumber(device_id) || !cJSON_IsNumber(key_id) || expires < 0){
		mosquitto_log_printf(MOSQ_LOG_ERR, "iotflow: %s does not say whose the key is", url);
		result = MOSQ_ERR_UNKNOWN;
	}else if((long long)device_id->valuedouble == id && (device = remembered(id))){
		device->key = (long long)key_id->valuedouble;
		device->expires = expires;
		result = MOSQ_ERR_SUCCESS;
	}
	cJSON_Delete(body);
	return result;
}

/* MOSQ_ERR_AUTH where the key is refused; any other error just closes the connection. */
static int log_in(long long id, const char *key, const char *address)
{
	struct answer answer = {.size = 0};
	long status;

	if(!key[0] || strlen(key) > KEY_MAX) return MOSQ_ERR_AUTH;
	for(const char *c = key; *c; c++){
		if(!isalnum((unsigned char)*c) && *c != '_' && *c != '-') return MOSQ_ERR_AUTH;
	}
	if(time(NULL) < away_until) return MOSQ_ERR_UNKNOWN;
	status = ask(key, address, &answer);
	if(status == 200) return note(id, answer.text);
	if(status == 401 || status == 403) return MOSQ_ERR_AUTH;
	if(status != 429){
		if(status) mosquitto_log_printf(MOSQ_LOG_WARNING, "iotflow: %s answers %ld", url, status);
		away_until = time(NULL) + 2; /* a whole second at least */
	}
	return MOSQ_ERR_UNKNOWN;
}

/* --- What the broker asks ------------------------------------------------------------------- */
static bool is_bridge(const struct mosquitto *client)
{
	const char *name = mosquitto_client_username(client);

	return name && !strncmp(name, BRIDGE, strlen(BRIDGE));
}

/* In a time that does not tell how much of it is right. */
static bool is_password(const char *given)
{
	size_t length = strlen(password);
	unsigned char differs = 0;

	if(strlen(given) != length) return false;
	for(size_t i = 0; i < length; i++) differs |= (unsigned char)(given[i] ^ password[i]);
	return !differs;
}

static int on_login(int event, void *data, void *user)
{
	struct mosquitto_evt_basic_auth *login = data;
	const char *client_id = mosquitto_client_id(login->client);
	long long id;

	(void)event, (void)user;
	if(!login->username || !login->password || !client_id) return MOSQ_ERR_AUTH;
	/* Whoever takes a client id takes the session under it. */
	if(strcmp(client_id, login->username)) return MOSQ_ERR_AUTH;
	if(is_bridge(login->client)) return is_password(login->password) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
	id = number(login->username);
	if(!id) return MOSQ_ERR_AUTH;
	if(!is_heard) return MOSQ_ERR_UNKNOWN;
	return log_in(id, login->password, mosquitto_client_address(login->client));
}

static bool is_one_of(const char *part, const char *const *parts)
{
	while(*parts && strcmp(part, *parts)) parts++;
	return *parts;
}

static int on_access(int event, void *data, void *user)
{
	struct mosquitto_evt_acl_check *access = data;
	const char *name = mosquitto_client_username(access->client), *part;
	struct device *device;
	char own[32];
	int length;

	(void)event, (void)user;
	if(is_bridge(access->client)){
		is_heard = is_heard || access->access == MOSQ_ACL_SUBSCRIBE;
		return MOSQ_ERR_SUCCESS;
	}
	if(access->access == MOSQ_ACL_UNSUBSCRIBE) return MOSQ_ERR_SUCCESS;
	length = snprintf(own, sizeof(own), "devices/%s/", name ? name : "");
	if(length >= (int)sizeof(own) || strncmp(access->topic, own, (size_t)length)) return MOSQ_ERR_ACL_DENIED;
	part = access->topic + length;
	if(access->access == MOSQ_ACL_WRITE) return is_one_of(part, says) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
	/* One that has not logged in since the broker began is sent nothing before it has. */
	device = known(number(name));
	if(device && has_expired(device)) return MOSQ_ERR_ACL_DENIED;
	return is_one_of(part, hears) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}

/* A bridge says that keys of a device have ended: it has to log in again. */
static void kick(const struct mosquitto_evt_message *message)
{
	char name[ID_DIGITS + 1];

	if(strcmp(message->topic, KICK) || message->payloadlen > ID_DIGITS) return;
	memcpy(name, message->payload, message->payloadlen);
	name[message->payloadlen] = '\0';
	if(number(name)) mosquitto_kick_client_by_username(name, false);
}

static int on_message(int event, void *data, void *user)
{
	struct mosquitto_evt_message *message = data;
	struct device *device;
	long long now = now_us();
	char stamp[64];

	(void)event, (void)user;
	if(is_bridge(message->client)){
		if(message->payload) kick(message);
		return MOSQ_ERR_SUCCESS;
	}
	device = known(number(mosquitto_client_username(message->client)));
	if(!device) return MOSQ_ERR_ACL_DENIED;
	/* Disconnected, and not just refused: what is not acknowledged is sent again. */
	if(has_expired(device) || !spend(device, now)){
		mosquitto_log_printf(MOSQ_LOG_NOTICE, "iotflow: device %lld %s", device->id,
				has_expired(device) ? "has a key that expired" : "is over its limit");
		return MOSQ_ERR_ADMINISTRATIVE_ACTION;
	}
	device->last_ms = now / 1000 > device->last_ms ? now / 1000 : device->last_ms + 1;
	snprintf(stamp, sizeof(stamp), "%lld %lld", device->key, device->last_ms);
	mosquitto_property_free_all(&message->properties); /* whatever the device says */
	message->retain = false;
	return mosquitto_property_add_string_pair(&message->properties, MQTT_PROP_USER_PROPERTY, STAMP, stamp);
}

/* --- Beginning and end ---------------------------------------------------------------------- */
/* The first line of a file, or NULL. */
static char *line_of(const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;

	if(!file) return NULL;
	if(getline(&line, &size, file) > 0) line[strcspn(line, "\r\n")] = '\0';
	fclose(file);
	return line;
}

static void read_option(const char *name, const char *value)
{
	long long seconds = 0, messages = 0;

	if(!strcmp(name, "url")) url = strdup(value);
	else if(!strcmp(name, "host")) host = strdup(value);
	else if(!strcmp(name, "bridge_password_file")) password = line_of(value);
	else if(!strcmp(name, "rate")){
		if(sscanf(value, "%lld/%llds", &messages, &seconds) != 2) messages = 0;
		amount = messages;
		window_us = seconds * 1000000;
	}else mosquitto_log_printf(MOSQ_LOG_WARNING, "iotflow: no such option: %s %s", name, value);
}

int mosquitto_plugin_version(int count, const int *supported)
{
	for(int i = 0; i < count; i++){
		if(supported[i] == MOSQ_PLUGIN_VERSION) return MOSQ_PLUGIN_VERSION;
	}
	return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **user, struct mosquitto_opt *options, int count)
{
	(void)user;
	self = id;
	for(int i = 0; i < count; i++) read_option(options[i].key, options[i].value);
	if(!url || amount < 1 || window_us < amount){
		mosquitto_log_printf(MOSQ_LOG_ERR, "iotflow: plugin_opt_url and a rate as 100/2s are wanted");
		return MOSQ_ERR_INVAL;
	}
	if(!password || strlen(password) < PASSWORD_MIN){
		mosquitto_log_printf(MOSQ_LOG_ERR, "iotflow: plugin_opt_bridge_password_file has no %d characters", PASSWORD_MIN);
		return MOSQ_ERR_INVAL;
	}
	if(curl_global_init(CURL_GLOBAL_DEFAULT) || !(curl = curl_easy_init())) return MOSQ_ERR_NOMEM;
	if(mosquitto_callback_register(self, MOSQ_EVT_BASIC_AUTH, on_login, NULL, NULL)) return MOSQ_ERR_UNKNOWN;
	if(mosquitto_callback_register(self, MOSQ_EVT_ACL_CHECK, on_access, NULL, NULL)) return MOSQ_ERR_UNKNOWN;
	return mosquitto_callback_register(self, MOSQ_EVT_MESSAGE, on_message, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *user, struct mosquitto_opt *options, int count)
{
	(void)user, (void)options, (void)count;
	mosquitto_callback_unregister(self, MOSQ_EVT_MESSAGE, on_message, NULL);
	mosquitto_callback_unregister(self, MOSQ_EVT_ACL_CHECK, on_access, NULL);
	mosquitto_callback_unregister(self, MOSQ_EVT_BASIC_AUTH, on_login, NULL);
	tdestroy(devices, mosquitto_free);
	curl_easy_cleanup(curl);
	curl_global_cleanup();
	free(url), free(host), free(password);
	return MOSQ_ERR_SUCCESS;
}
