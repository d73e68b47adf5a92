# ipamd and aws-cni side by side; ipamd installs the plugin on the host when the node is ready.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/build

FROM debian:bookworm-slim
COPY --from=build /src/target/podwire/ipamd /src/target/podwire/aws-cni /app/
USER 0
ENTRYPOINT ["/app/ipamd"]
