# The manager by default, as an ordinary user; the agent by `fabricmgr agent`, as root and in the host's network.
# BASE is any Debian 12. `make image` makes one on the spot and needs no registry.
ARG BASE=debian:12-slim

FROM ${BASE} AS dependencies
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1
# Where a site's own certificate authority signs its package index: the file, lent to the build.
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends ca-certificates gcc libc6-dev musl-tools python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# By themselves: they stay while only our own code changes.
COPY requirements.lock .
RUN python3 -m venv /opt/fabricmgr \
 && /opt/fabricmgr/bin/pip install -q --require-hashes --only-binary :all: -r requirements.lock

FROM dependencies AS build
COPY pyproject.toml hatch_build.py README.md ./
COPY fabricmgr fabricmgr
COPY migrations migrations
COPY redfish_schemas redfish_schemas
COPY cni cni
RUN /opt/fabricmgr/bin/hatchling build -t wheel -d /dist \
 && /opt/fabricmgr/bin/pip install -q --no-deps --no-index /dist/*.whl \
 && find /opt/fabricmgr -name fabricmgr-cni -path '*/_data/cni/*' -perm -u+x | grep -q . \
 && /opt/fabricmgr/bin/pip uninstall -q -y hatchling editables

FROM ${BASE} AS system
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 968 --create-home --home-dir /var/lib/fabricmgr --shell /usr/sbin/nologin fabricmgr

FROM system
COPY --from=build /opt/fabricmgr /opt/fabricmgr
ENV PATH=/opt/fabricmgr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
USER fabricmgr
WORKDIR /var/lib/fabricmgr
VOLUME /var/lib/fabricmgr
EXPOSE 8443
STOPSIGNAL SIGTERM
ENTRYPOINT ["fabricmgr"]
CMD ["serve", "--data-dir", "/var/lib/fabricmgr/data", "--listen", "0.0.0.0:8443"]
