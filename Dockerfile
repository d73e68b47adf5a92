# ipamd and aws-cni side by side; ipamd installs the plugin on the host when the node is ready.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/build

FROM debian:bookworm-slim
COPY --from=build /src/target/podwire/ipamd /src/target/podwire/aws-cni /app/
# For people: kubectl exec -n kube-system ds/aws-node -- podwire status
COPY --from=build /src/target/podwire/podwire /usr/local/bin/
USER 0
ENTRYPOINT ["/app/ipamd"]
