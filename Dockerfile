# A server on the CPU, as an ordinary user; it runs with a read-only root (compose.yaml).
#   docker build -t wavconformer .
#   docker run --rm -p 127.0.0.1:8000:8000 wavconformer --host 0.0.0.0 --no-api-key
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
WORKDIR /build
RUN python -m venv /opt/wavconformer
ENV PATH=/opt/wavconformer/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
# The wheel for the CPU, without CUDA's libraries.
RUN pip install -c constraints.txt torch --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install -c constraints.txt '.[serve,vad,align]'

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent --no-create-home wavconformer \
    && install -d -o wavconformer -g wavconformer /data
COPY --from=build /opt/wavconformer /opt/wavconformer
ENV PATH=/opt/wavconformer/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HF_HOME=/data/models HOME=/tmp
USER wavconformer
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["wavconformer", "serve", "--folder", "/data/jobs"]
CMD ["--host", "127.0.0.1"]
