# The worker as an image: docker build --target cpu . (the default), or --target cuda on a machine with NVIDIA's
# container toolkit. Both run as a numeric user with a read-only root file system; nothing is written but to storage.
#
# A base image is pinned by tag; for one that cannot change, give its digest: --build-arg CPU_IMAGE=debian@sha256:…
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG CPU_IMAGE=debian:bookworm-slim
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=unknown
# nodynamic: the WebP encoder must not look for a system library.
RUN CGO_ENABLED=1 go build -tags=nodynamic -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /out/worker ./cmd/worker

# ONNX Runtime, by the script that the Makefile uses: pinned by version and hash.
FROM ${PYTHON_IMAGE} AS onnxruntime
WORKDIR /src
COPY scripts scripts

FROM onnxruntime AS onnxruntime-cpu
RUN mkdir /out && cp "$(dirname "$(scripts/onnxruntime.sh cpu)")"/* /out/

FROM onnxruntime AS onnxruntime-cuda
RUN mkdir /out && cp "$(dirname "$(scripts/onnxruntime.sh cuda13)")"/* /out/

FROM ${CUDA_IMAGE} AS cuda
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=onnxruntime-cuda /out /usr/local/lib/imgus
COPY --from=build /out/worker /usr/local/bin/worker
# The driver's own libraries come from the container toolkit; utility brings NVML.
ENV IMGUS_ENGINE_LIBRARY=/usr/local/lib/imgus/libonnxruntime.so \
    IMGUS_MODELS_DIRECTORY=/models \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["/usr/local/bin/worker"]
CMD ["run"]

FROM ${CPU_IMAGE} AS cpu
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=onnxruntime-cpu /out /usr/local/lib/imgus
COPY --from=build /out/worker /usr/local/bin/worker
ENV IMGUS_ENGINE_LIBRARY=/usr/local/lib/imgus/libonnxruntime.so \
    IMGUS_MODELS_DIRECTORY=/models
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["/usr/local/bin/worker"]
CMD ["run"]
