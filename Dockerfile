# The application: web server by default, `python manage.py worker` for background work.

FROM python:3.11-slim-bookworm AS packages
COPY requirements.txt requirements-tracing.txt ./
# 1 for an image that can send traces.
ARG TRACING
RUN set -- -r requirements.txt ${TRACING:+-r requirements-tracing.txt} \
 && pip wheel --no-cache-dir --wheel-dir /wheels "$@" \
 && pip install --no-cache-dir --no-index --find-links /wheels --prefix /packages "$@"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/iotflow --create-home iotflow
COPY --from=packages /packages /usr/local
WORKDIR /app
COPY manage.py requirements.txt ./
COPY iotflow iotflow
COPY accounts accounts
COPY devices devices
COPY telemetry telemetry
COPY events events
COPY samples samples
COPY deploy/healthcheck.py deploy/healthcheck.py
RUN python -m compileall -q .

# One process where nothing else is said: stores that are embedded belong to one process.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LOG_FORMAT=json \
    VAR_DIR=/var/lib/iotflow \
    GRANIAN_WORKERS=1 \
    GRANIAN_BLOCKING_THREADS=64 \
    GRANIAN_RESPAWN_FAILED_WORKERS=true \
    GRANIAN_WORKERS_KILL_TIMEOUT=25 \
    GRANIAN_HTTP=1 \
    GRANIAN_HTTP1_HEADER_READ_TIMEOUT=30000 \
    GRANIAN_HTTP1_BUFFER_SIZE=65536
USER iotflow
VOLUME /var/lib/iotflow
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "deploy/healthcheck.py", "live"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "iotflow.wsgi:application"]
