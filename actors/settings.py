"""Every setting, in one model. Environment prefix ``CALLBOARD_``; read once, where the runtime is composed."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .callbacks.attempts import RETRY_DELAYS_SECONDS
from .jobs.turn import DEFAULT_AGING_SECONDS

Seconds = Annotated[float, Gt(0)]
Ratio = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Ge(1)]
Bytes = Annotated[int, Ge(1)]


class Settings(BaseSettings):
    """Callboard's settings. ``Settings()`` reads the environment; keyword arguments win over it.

    Raises:
        pydantic.ValidationError: a value is out of bounds; the message names the field.
    """

    model_config = SettingsConfigDict(env_prefix="CALLBOARD_", frozen=True, extra="forbid", env_parse_none_str="none")

    # Where the database is
    database_url: SecretStr | None = Field(None, description="PostgreSQL URL; may lead through a pooler.")
    direct_database_url: SecretStr | None = Field(
        None,
        description="URL of sessions of their own, past any pooler, for LISTEN and the leader. Default: database_url.",
    )
    database_schema: str = Field("callboard", pattern=r"^[a-z_][a-z0-9_]{0,50}$", description="Schema of the tables.")

    # Connections
    pg_pool_size: Count = Field(25, description="Connections that the pool keeps.")
    pg_max_overflow: Annotated[int, Ge(0)] = Field(10, description="Connections beyond the pool's size, for bursts.")
    pg_pool_timeout: Seconds = Field(30, description="Seconds to wait for a connection of the pool.")
    pg_pool_recycle: Seconds = Field(1800, description="Seconds after which a pooled connection is replaced.")
    statement_timeout_seconds: Seconds = Field(30, description="Longest run of one statement of our own.")

    # Work
    queues: dict[str, Count] = Field(
        default_factory=lambda: {"default": 100}, description="Queues to work on, and how many jobs of each at a time."
    )
    node_name: str | None = Field(None, description="Name of this process in history and listings; default host:pid.")
    event_loop_threadpool_max_workers: Count = Field(43, description="Threads for jobs with executor='thread'.")
    job_processes: Count | None = Field(
        None, description="Child processes for jobs with executor='process'; None: one for each available core."
    )
    job_process_max_jobs: Count = Field(1000, description="A child process that has run so many jobs is replaced.")
    job_process_max_memory_bytes: Bytes = Field(
        2**30, description="One whose resident memory is above this after a job is replaced."
    )
    job_process_start_timeout_seconds: Seconds = Field(
        60, description="One must start, and import a job's module, within this time."
    )
    use_uvloop: bool = Field(False, description="Let the command line run on uvloop (extra `uvloop`).")
    poll_interval_seconds: Seconds = Field(1.0, description="How often to look for jobs when no wake-up comes.")
    priority_aging_seconds: Annotated[float, Gt(0), Le(86_400)] = Field(
        DEFAULT_AGING_SECONDS,
        description="What a step of priority is worth: a job overtakes what came so much earlier for each.",
    )
    claim_batch_size: Count = Field(800, description="Most jobs that one claim takes.")
    write_batch_size: Count = Field(1000, description="Most transitions that one commit writes.")

    # Life and death
    lease_seconds: Seconds = Field(30, description="How long a claimed job stays ours without a sign of life.")
    rescue_interval_seconds: Seconds = Field(5, description="How often to look for the jobs of dead workers.")
    hang_limit_seconds: Seconds = Field(15, description="An event loop silent for so long no longer renews leases.")
    drain_timeout_seconds: Annotated[float, Ge(0)] = Field(25, description="How long a stop waits for running jobs.")
    cancel_grace_seconds: Annotated[float, Ge(0)] = Field(
        0.5, description="How long a cancelled or timed-out function may clean up before it is abandoned."
    )
    unknown_kind_grace_seconds: Seconds = Field(3600, description="How long a job of an unknown kind is put back.")

    # Several worker processes (`callboard worker --processes`)
    processes: Count = Field(1, description="Worker processes of `callboard worker`; more than 1 have a parent.")
    process_start_timeout_seconds: Seconds = Field(60, description="How long a worker process may take to be ready.")
    process_memory_limit_bytes: Bytes | None = Field(
        None, description="Resident memory beyond which a worker process is replaced; None is no limit."
    )
    process_spare: bool = Field(
        True, description="Whether a prepared process waits to take the place of a worker process that dies."
    )
    max_process_restarts: Annotated[int, Ge(0)] = Field(
        10, description="More crashes of worker processes than this within the period end the parent."
    )
    process_restart_period_seconds: Count = Field(60, description="The period, in whole seconds.")

    # Retries
    retry_initial_seconds: Seconds = Field(1, description="Bound of the first retry's delay, drawn from 0 up; doubles.")
    retry_max_seconds: Seconds = Field(600, description="Longest delay between attempts.")

    # Bounds
    payload_limit_bytes: Bytes = Field(4 * 2**20, description="Largest serialized arguments of one job.")
    result_limit_bytes: Bytes = Field(16 * 2**20, description="Largest serialized result of one job.")
    ask_timeout_seconds: Seconds = Field(30, description="How long a blocking ask waits where the caller says nothing.")

    # How long what has ended is kept
    retention_completed_seconds: Seconds | None = Field(
        7 * 86_400, description="How long completed jobs are kept after their end; none is for ever."
    )
    retention_failed_seconds: Seconds | None = Field(
        30 * 86_400, description="How long failed and cancelled jobs are kept after their end; none is for ever."
    )
    retention_history_seconds: Seconds | None = Field(
        90 * 86_400, description="How long transitions are kept; they are dropped by weeks. None is for ever."
    )
    retention_batches_seconds: Seconds | None = Field(
        30 * 86_400, description="How long LLM batches are kept after their end, with their results; none is for ever."
    )
    retention_interval_seconds: Seconds = Field(3600, description="How often to look for what need not be kept.")

    # Callbacks
    callback_secret: SecretStr | None = Field(
        None, description="Signs callbacks: whsec_...; several, separated by spaces, while one replaces another."
    )
    callback_trusted_hosts: tuple[str, ...] = Field(
        (), description="Hosts that callbacks may reach by http and at private addresses: for development."
    )
    callback_timeout_seconds: Seconds = Field(20, description="Longest attempt to call back.")
    callback_retry_delays_seconds: tuple[Seconds, ...] = Field(
        RETRY_DELAYS_SECONDS, description="Pauses between attempts to call back; one more attempt than pauses."
    )

    # Seen from outside
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics, /livez and /readyz.")
    metrics_port: Annotated[int, Ge(0), Le(65535)] | None = Field(
        None, description="Their port; 0 takes a free one; None serves nothing. The worker's default is 9464."
    )

    admin_socket_directory: Path | None = Field(
        None,
        description="Folder for the socket that `callboard actor` uses; `none` has no socket. The default of worker "
        "and dev is one of the user's own.",
    )

    # LLM batches and leadership (the seed system's names and defaults)
    enable_batch_job_polling: bool = Field(False, description="Whether the leader polls LLM batches.")
    poll_running_llm_batches_interval_seconds: Seconds = Field(300, description="How often it polls them.")
    leader_trust_window_seconds: Seconds = Field(
        6, description="How long a leader trusts its last proof that it leads; deposed after 1.5 times as long."
    )
    poll_lock_retry_interval_seconds: Seconds = Field(
        480, description="When a node that could not take part in elections (a pooler in between) tries again."
    )
    batch_job_polling_lookback_weeks: Count = Field(2, description="Age beyond which a batch is not polled.")
    batch_job_polling_batch_size: Count | None = Field(None, description="Most batches of one poll; None is all.")
    llm_batch_window_seconds: Seconds = Field(
        60, description="How long requests of jobs wait at most for others, to be sent as one batch."
    )
    llm_batch_resubmissions: Annotated[int, Ge(0), Le(10)] = Field(
        1, description="How often a job's request is sent again that expired, or failed by the provider's own fault."
    )
    llm_request_timeout_seconds: Seconds = Field(60.0, description="Timeout of one request to a provider.")
    streaming_queue_max_size: Count = Field(1, description="Bound of a streaming queue.")
    request_size_limit_bytes: Bytes = Field(256 * 2**20, description="Largest request.")

    max_abandoned_calls: Count = Field(
        100, description="Threads and tasks that outlive their ended attempts; more of them end the process."
    )
    max_actor_mailbox: Count = Field(
        10_000, description="Messages that wait for one part of the runtime; more of them restart it."
    )

    # Thresholds of alerts and back-pressure
    max_background_tasks: Count = Field(100, description="More active background tasks are suspicious.")
    max_connection_usage_ratio: Ratio = Field(0.8, description="Pool connections in use.")
    max_cpu_usage_ratio: Ratio = Field(0.9, description="CPU used of what the process may use.")
    max_memory_usage_ratio: Ratio = Field(0.85, description="Memory used of what the process may use.")
    max_queue_length: Count = Field(1000, description="Runnable jobs waiting in one queue.")

    @field_validator("admin_socket_directory", mode="before")
    @classmethod
    def _none_or_folder(cls, value: object) -> object:
        return None if value == "none" else value

    @field_validator("callback_secret")
    @classmethod
    def _signing_secrets(cls, secret: SecretStr | None) -> SecretStr | None:
        for one in (secret.get_secret_value() if secret else "").split():
            check_secret(one)
        return secret

    @field_validator("queues")
    @classmethod
    def _named_queues(cls, queues: dict[str, int]) -> dict[str, int]:
        for name in queues:
            check_queue_name(name)
        return queues

    def node(self) -> str:
        """Return this process's name: ``node_name``, or ``host:pid``, and 8 random hex digits to tell starts apart."""
        return f"{self.node_name or f'{socket.gethostname()}:{os.getpid()}'}:{os.urandom(4).hex()}"


def check_secret(secret: str) -> None:
    """Accept a secret that callbacks can be signed with.

    Raises:
        ValueError: it is none; the message does not show it.
    """
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not secret.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError("expected whsec_ and the base64 of 24 to 64 random bytes")


def check_queue_name(name: str) -> str:
    """Return ``name`` if a queue may have it.

    Raises:
        ValueError: it is empty, longer than 100 characters, or has characters that do not print.
    """
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise ValueError(f"queue name {name!r}: expected 1 to 100 printable characters")
    return name
