# docker build -t wind-kedro .
# docker run --rm -v wind-data:/home/wind/project/data -v wind-keys:/home/wind/keys wind-kedro                the whole default run
# docker run --rm -v wind-data:/home/wind/project/data -v wind-keys:/home/wind/keys wind-kedro --env prod …   any options of kedro run
# Data outlives the container in one volume, and the keys that sign its promotions in another: without them the next container
# refuses the models of the last. The tracking database does where the configuration names a tracking server.
FROM python:3.11-slim AS environment

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# The lock's own uv, then the runtime dependencies alone: the lock constrains them (and checks their hashes), but does not add the tools.
RUN python -m venv /opt/uv \
    && sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.txt \
    && /opt/uv/bin/pip install --require-hashes --no-deps -r uv.txt \
    && python -m venv --without-pip /opt/wind \
    && /opt/uv/bin/uv pip install --python /opt/wind/bin/python --constraint requirements.lock -r pyproject.toml
# The code comes last, so that a changed line of it does not install the dependencies again.
COPY . .
RUN /opt/uv/bin/uv pip install --python /opt/wind/bin/python --build-constraint requirements.lock --no-deps .


FROM python:3.11-slim

# GitPython, which MLflow asks for the commit, must not fail where there is no git.
ENV PATH=/opt/wind/bin:$PATH PYTHONUNBUFFERED=1 DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true GIT_PYTHON_REFRESH=quiet \
    WIND_KEDRO_KEYS=/home/wind/keys
# The project's folder is the user's: runs write data and the tracking database into it.
RUN useradd --create-home --uid 1000 wind && install -d -o wind -g wind /home/wind/project /home/wind/project/data \
    && install -d -o wind -g wind -m 0700 /home/wind/keys
COPY --from=environment /opt/wind /opt/wind
USER wind
WORKDIR /home/wind/project
COPY --chown=wind:wind . .
VOLUME /home/wind/project/data /home/wind/keys
ENTRYPOINT ["kedro", "run"]
