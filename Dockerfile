# The sidecar's image. Base images are build arguments, so that a local image can stand in where no registry is reachable:
#   docker build -t ferrule --build-arg BUILD_BASE=local/debian --build-arg BASE=local/debian .
# BASE must not have an older C library than BUILD_BASE: the socket engine is compiled there.
ARG BUILD_BASE=debian:trixie-slim
ARG BASE=debian:trixie-slim

FROM ${BUILD_BASE} AS build
# Any Node from 20 on can bootstrap; a base that brings npm and g++ needs no package.
RUN command -v npm >/dev/null && command -v g++ >/dev/null || \
  (apt-get update && apt-get install -y --no-install-recommends nodejs npm g++ ca-certificates)
WORKDIR /src
COPY package.json package-lock.json .npmrc .taprc tsconfig.json tsconfig.build.json ./
COPY scripts scripts
RUN npm ci --include=optional --include=dev
COPY . .
RUN npm run build && npm prune --omit=dev --include=optional
# npm keeps the compiler as a library's optional peer and leaves empty folders; of the runtime package only the binary
# runs; no part of the proxy uses the benchmarks.
RUN rm -rf node_modules/typescript node_modules/@typescript node_modules/.bin node_modules/.ferrule-tap-build \
  node_modules/node-linux-*/include node_modules/node-linux-*/share dist/bench && \
  find node_modules -type d -empty -delete

FROM ${BASE}
# iptables is for `ferrule init`, which runs from this image as root with NET_ADMIN.
RUN command -v iptables >/dev/null || \
  (apt-get update && apt-get install -y --no-install-recommends iptables && \
  rm -rf /var/lib/apt/lists/* /var/cache/apt/*)
# 2102 is the uid whose traffic the iptables rules let through; see `ferrule init --proxy-uid`.
RUN groupadd --gid 2102 ferrule && useradd --uid 2102 --gid 2102 --no-create-home --shell /usr/sbin/nologin ferrule
WORKDIR /opt/ferrule
COPY --from=build /src/package.json /src/LICENSE ./
COPY --from=build /src/bin bin
COPY --from=build /src/build/ferrule.node build/ferrule.node
COPY --from=build /src/dist dist
COPY --from=build /src/node_modules node_modules
RUN ln -s /opt/ferrule/bin/ferrule /usr/local/bin/ferrule
USER 2102:2102
# Outbound, inbound, admin.
EXPOSE 4140 4143 4191
ENTRYPOINT ["/opt/ferrule/bin/ferrule"]
CMD ["proxy"]
