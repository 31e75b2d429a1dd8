# The agent's image: one static program in an empty root.
#
#   docker build -t pre-oom-killer .                              builds it from source
#   docker build --platform linux/arm64 -t pre-oom-killer .       the same for arm64, cross-compiled: untested
#   docker build --target hog -t hog .                            what tests/cluster fills memory with (tests/standin/src/bin/hog.rs)
#   docker build --target desk -o DIR .                           the program with what only people at a desk need, into DIR
#   docker build --build-arg ORIGIN=local -f Dockerfile DIR       from DIR/pre-oom-killer (or DIR/hog), a static program that was built
#                                                                 before; pulls nothing. So does tests/deploy/image
# docker means anything that reads this: docker, podman, buildah.

# "source", or "local": see above.
ARG ORIGIN=source

# The oldest Rust that is supported: rust-version in Cargo.toml.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.91-slim-bookworm AS toolchain
# amd64 or arm64, set by --platform; where it is not set, the builder's own.
ARG TARGETARCH
WORKDIR /source
# A C compiler for ring, and to link with. No versions: they are those of the base image's Debian.
# hadolint ignore=DL3008
RUN native=$(dpkg --print-architecture) && target=${TARGETARCH:-$native} && \
    case $target in \
        amd64) machine=x86_64 compiler=gcc-x86-64-linux-gnu ;; \
        arm64) machine=aarch64 compiler=gcc-aarch64-linux-gnu ;; \
        *) echo "there is no image for $target: set TARGETARCH to amd64 or arm64" >&2 && exit 1 ;; \
    esac && \
    if [ "$target" != "$native" ]; then \
        apt-get update && \
        apt-get install -y --no-install-recommends "$compiler" "libc6-dev-$target-cross" && \
        rm -rf /var/lib/apt/lists/* ; \
    fi && \
    triple=$machine-unknown-linux-gnu && \
    rustup target add "$triple" && \
    printf '[build]\ntarget = "%s"\nrustflags = ["-C", "target-feature=+crt-static"]\n[target.%s]\nlinker = "%s"\n' \
        "$triple" "$triple" "$machine-linux-gnu-gcc" >"$CARGO_HOME/config.toml"
COPY . .

FROM toolchain AS source-agent
RUN cargo build --release --locked --no-default-features --bin pre-oom-killer && \
    mkdir /out && cp target/*/release/pre-oom-killer /out/

FROM toolchain AS source-desk
RUN cargo build --release --locked --bin pre-oom-killer && \
    mkdir /out && cp target/*/release/pre-oom-killer /out/

FROM toolchain AS source-hog
RUN cargo build --release --locked -p standin --bin hog && \
    mkdir /out && cp target/*/release/hog /out/

FROM scratch AS local-agent
COPY pre-oom-killer /out/

FROM scratch AS local-hog
COPY hog /out/

FROM scratch AS desk
COPY --from=source-desk /out/pre-oom-killer /

FROM ${ORIGIN}-agent AS built-agent

FROM ${ORIGIN}-hog AS built-hog

FROM scratch AS hog
COPY --from=built-hog /out/hog /hog
USER 65532:65532
ENTRYPOINT ["/hog"]

FROM scratch AS agent
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pre-oom-killer" \
      org.opencontainers.image.description="Evicts opted-in Kubernetes pods before the kernel's OOM killer ends them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/pre-oom-killer/pre-oom-killer" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=built-agent /out/pre-oom-killer /pre-oom-killer
# The C library gives memory back at once, where it otherwise waits for more the more it has given back before: with 1,000 pods,
# 12 MiB instead of 13 to 16 (docs/performance.md).
ENV GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=65536
# A number, so that kubelet can tell that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/pre-oom-killer", "run"]
