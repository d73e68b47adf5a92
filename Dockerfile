# ipamd and aws-cni side by side; ipamd installs the plugin on the host when the node is ready.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/build

# What the conflist's chain (portmap) and runtimes (loopback) need and AWS's node images do not bring; ipamd copies what the host
# lacks. Not Debian's package: that speaks no CNI 1.1, and is linked with the glibc of Debian instead of none.
FROM golang:1.24-bookworm AS plugins
RUN for plugin in meta/portmap meta/bandwidth meta/tuning main/loopback ipam/host-local; do \
        CGO_ENABLED=0 GOBIN=/plugins go install -trimpath -ldflags='-s -w' \
            "github.com/containernetworking/plugins/plugins/$plugin@v1.9.1" || exit 1; \
    done

FROM debian:bookworm-slim
# EC2 and STS are believed by the system's root certificates; the slim image has none.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/podwire/ipamd /src/target/podwire/aws-cni /app/
COPY --from=plugins /plugins/ /app/plugins/
# For people: kubectl exec -n kube-system ds/aws-node -- podwire status
COPY --from=build /src/target/podwire/podwire /usr/local/bin/
USER 0
ENTRYPOINT ["/app/ipamd"]
