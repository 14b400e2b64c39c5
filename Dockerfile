# The image that serves the versions in models/. docs/deployment.md says how to build and run it.
#
# Pin the base by its digest in your own builds: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# requirements-serve.txt serves graphs; requirements-operate.txt adds PostgreSQL, Redis, tokens and traces;
# requirements.txt serves and packs every artifact.
ARG REQUIREMENTS=requirements-serve.txt
WORKDIR /srv/retort
COPY ${REQUIREMENTS} requirements.txt
# Each file is checked against its hash. Modules are compiled here, because the server may not write.
RUN python -m venv --without-pip .venv && \
    python -m pip --python .venv/bin/python --disable-pip-version-check --no-input --quiet install \
        --only-binary :all: --require-hashes --requirement requirements.txt

FROM ${PYTHON_IMAGE}
WORKDIR /srv/retort
ENV PATH=/srv/retort/.venv/bin:$PATH \
    HOME=/tmp \
    PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /srv/retort/.venv .venv
COPY . .
# /var/lib/retort is for a volume with the files of jobs (RETORT_JOBS_DIR).
RUN python -m compileall -q app && install --directory --owner=10001 --group=10001 /var/lib/retort
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
# The `web:` line of Procfile. It takes the place of its process, so that SIGTERM reaches the server.
CMD ["python", "-m", "app.start", "gunicorn", "--config", "python:app.gunicorn_conf", "wsgi:app"]
