# The service on the CPU: models inside, no account, no download at run time.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY cli cli
COPY export export
COPY fer2013 fer2013
COPY service service
COPY training training
COPY models /opt/models
# Whatever the permissions in the clone: the service's user must read them.
RUN chmod -R a+rX /opt/models
RUN python -m venv /opt/ferserve \
    && /opt/ferserve/bin/pip install --no-cache-dir -c constraints.txt '.[cpu]'

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home ferserve
COPY --from=build /opt/ferserve /opt/ferserve
COPY --from=build /opt/models /opt/models
ENV PATH=/opt/ferserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    FERSERVE_MODELS_DIR=/opt/models \
    FERSERVE_HOST=0.0.0.0 \
    FERSERVE_PORT=8000
USER ferserve
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['FERSERVE_PORT'] + '/readyz', timeout=2)"]
CMD ["ferserve", "serve"]
