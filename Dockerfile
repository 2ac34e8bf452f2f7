# The service's images: cpu (the default), gpu and train. docs/deployment.md has commands and sizes.
#
# An index, proxy or certificate authority of one's own, none of which stays in an image:
#   docker build --secret id=pip.conf,src=pip.conf --secret id=ca.pem,src=ca.pem .
# where pip.conf says `cert = /run/secrets/ca.pem` if it needs the second. An index without
# credentials can also be a build argument: --build-arg PIP_INDEX_URL=…
#
# The base has Python 3.11 or newer with venv and, for useradd, Debian's passwd.
ARG BASE_IMAGE=python:3.12-slim-bookworm
# Of the stage `site` only.
ARG NODE_IMAGE=node:20-bookworm-slim

FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL=
WORKDIR /src
# pip stays here: only /opt/ferserve goes on.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/ferserve
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY models models
COPY export export
COPY service service
COPY training training
# Whatever the permissions in the clone: the service's user must read them.
RUN chmod -R a+rX models

FROM build AS build-cpu
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    /opt/pip/bin/pip --python /opt/ferserve/bin/python install \
    --no-cache-dir --disable-pip-version-check -c constraints.txt '.[cpu]'

FROM ${BASE_IMAGE} AS runtime
RUN groupadd --gid 10001 ferserve \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home \
    --home-dir /nonexistent --shell /usr/sbin/nologin ferserve
ENV PATH=/opt/ferserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FERSERVE_MODELS_DIR=/opt/models \
    FERSERVE_HOST=0.0.0.0 \
    FERSERVE_PORT=8000
COPY --from=build /src/models /opt/models
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s CMD \
    ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['FERSERVE_PORT']), timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
CMD ["ferserve", "serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ferserve" \
      org.opencontainers.image.description="Facial-expression recognition, served in batches by FastAPI and ONNX Runtime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS cpu
COPY --from=build-cpu /opt/ferserve /opt/ferserve

FROM build AS build-gpu
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    /opt/pip/bin/pip --python /opt/ferserve/bin/python install \
    --no-cache-dir --disable-pip-version-check -c constraints.txt '.[gpu]'

FROM runtime AS gpu
# The container toolkit adds the driver; CUDA and cuDNN come from PyPI.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    FERSERVE_PROVIDER=cuda
COPY --from=build-gpu /opt/ferserve /opt/ferserve

FROM build AS build-train
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    /opt/pip/bin/pip --python /opt/ferserve/bin/python install \
    --no-cache-dir --disable-pip-version-check -c constraints.txt '.[cpu,train,export]'

FROM runtime AS train
USER 0
RUN install --directory --owner=10001 --group=10001 /runs
USER 10001:10001
# The only place it writes to: runs, and the pretrained weights that Keras downloads.
VOLUME /runs
ENV KERAS_HOME=/runs/keras \
    MPLCONFIGDIR=/runs/matplotlib
HEALTHCHECK NONE
COPY --from=build-train /opt/ferserve /opt/ferserve
CMD ["ferserve", "train", "--help"]

FROM ${NODE_IMAGE} AS build-site
WORKDIR /src/web
COPY web ./
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc npm install
COPY models /src/models
COPY LICENSE NOTICE /src/
COPY service/ferserve/web /src/service/ferserve/web
RUN npm run build

# The demo page as a static site: docker build --target site --output site .
FROM scratch AS site
COPY --from=build-site /src/site /

# Last, and so what `docker build .` makes.
FROM cpu AS default
