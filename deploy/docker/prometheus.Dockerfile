# Prometheus, from Debian: the demo needs no registry but that of its base image.  Where there is
# another one, docker.io/prom/prometheus with the same configuration does as well.
ARG DEBIAN_SLIM=docker.io/library/debian:12-slim

# The package brings 200 MB of time zones for its page; the page needs one file of them.
FROM ${DEBIAN_SLIM} AS package
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends prometheus \
 && rm -rf /usr/share/javascript/moment-timezone/data \
           /usr/share/javascript/moment-timezone/*-year-range* \
 && mkdir -p /image/usr/bin /image/usr/share \
 && cp /usr/bin/prometheus /image/usr/bin/ \
 && cp -rL /usr/share/prometheus /image/usr/share/ \
 && install -d -o 65532 -g 65532 -m 0700 /image/data

FROM ${DEBIAN_SLIM}
COPY --from=package /image/ /
COPY deploy/prometheus/*.yml /etc/prometheus/
USER 65532:65532
WORKDIR /data
EXPOSE 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data", \
     "--storage.tsdb.retention.time=1d", "--web.listen-address=0.0.0.0:9090"]
LABEL org.opencontainers.image.title="syncnorm-prometheus" \
      org.opencontainers.image.description="Debian's Prometheus, which scrapes syncnorm's coordinator" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim"
