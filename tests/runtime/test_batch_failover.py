"""Two nodes, and a leader that is killed with a batch in its hands: the other one goes on where it was."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from callboard import JobRef, Reason, Runtime
from tests.support.faulty_provider import FaultyProvider, Hold
from tests.support.network import Network, Proxy

from .batch_nodes import (
    PATIENCE_SECONDS,
    batch_process,
    ended,
    eventually,
    kill,
    leader,
    moments,
    process,
    require_every_result,
    rows,
)
from .llm_jobs import REGISTRY, draft, settings

pytestmark = [pytest.mark.processes, pytest.mark.chaos]

ITEMS = 1_200
NAMES = {"one", "two"}
PARKED = "SELECT count(*) FROM callboard.jobs WHERE waiting_on = 'llm_batch'"


@contextmanager
def two_nodes(server: FaultyProvider, module: str, *words: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(process(server, module, *words, name=name)) for name in sorted(NAMES)}


@pytest.mark.parametrize(("provider", "results"), [("anthropic", "anthropic_results"), ("openai", "openai_content")])
def test_promise_8_a_leader_killed_after_a_chunk_of_results_is_followed_by_one_that_reads_the_rest(
    database_url: str, provider: str, results: str
) -> None:
    hold = Hold(after_lines=ITEMS - 100)
    with FaultyProvider() as server:
        server.script(results, hold)
        with two_nodes(server, "tests.runtime.batch_process", database_url, "work") as nodes:
            with batch_process(database_url, server, "submit", provider, str(ITEMS)) as submitter:
                assert submitter.wait(PATIENCE_SECONDS) == 0
            assert hold.reached.wait(PATIENCE_SECONDS)
            eventually(lambda: len(moments(database_url)) == 1_000)
            before, first = moments(database_url), leader(database_url)
            kill(nodes[first])
            eventually(lambda: ended(database_url))
            assert {leader(database_url)} == NAMES - {first}
            hold.release()
        assert len(server.batches.all()) == 1
    assert before.items() <= moments(database_url).items()
    require_every_result(database_url, ITEMS)


@pytest.mark.parametrize(("before", "in_order"), [(True, False), (False, False), (False, True)])
async def test_promise_8_a_leader_that_ends_while_it_submits_what_jobs_ask_costs_no_second_batch(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, in_order: bool
) -> None:
    """B13 and B14, for what jobs ask: no second batch, and each job goes on once."""
    hold = Hold(before=before)
    journal = tmp_path / "journal"
    with FaultyProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        server.script("anthropic_create", hold)
        async with Runtime(settings(database_url, 600), registry=REGISTRY) as asker:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not leader(database_url):  # which gathers now, and not again for ten minutes
                    await asker.pulse.wait(0.1)
                refs = await asker.spawn_many(draft, [(journal, f"prompt {n}") for n in range(5)])
                while rows(database_url, PARKED) != [(5,)]:
                    await asker.pulse.wait(0.1)
        assert rows(database_url, "SELECT FROM callboard.batches") == []
        with two_nodes(server, "tests.runtime.llm_jobs", database_url, "0.2") as nodes:
            assert hold.reached.wait(PATIENCE_SECONDS)
            first = leader(database_url)
            if in_order:  # it hands over, and what it is about is cut off
                nodes[first].stdin.close()
                assert nodes[first].wait(PATIENCE_SECONDS) == 0
            else:
                kill(nodes[first])
            hold.refuse() if before else hold.release()
            for hosted in server.batches.all():  # it ends there, and only then shows whose it is
                server.batches.look(hosted.id)
            # The grace of whoever submits ends now, instead of in half a minute.
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("UPDATE callboard.batches SET next_poll_at = now()")
            async with Runtime(settings(database_url, 600), work=False, registry=REGISTRY) as client:
                await require_replies(client, refs)
            assert {leader(database_url)} == NAMES - {first}
        assert len(server.batches.all()) == 1
        assert server.count("anthropic_create") == 1 + before
    lines = journal.read_text().splitlines()
    assert sorted(lines) == sorted(f"{when} prompt {n}" for when in ("before", "after") for n in range(5))


async def require_replies(client: Runtime, refs: list[JobRef[str]]) -> None:
    """Accept jobs of which each had its own reply, and was resumed by it once."""
    for number, ref in enumerate(refs):
        mine = await client.get(ref.id, draft)
        assert f"2 words: prompt {number}" in await mine.result(PATIENCE_SECONDS)
        reasons = [row.reason for row in await mine.history()]
        assert reasons == [Reason.SPAWNED, Reason.CLAIMED, Reason.PARKED, Reason.CLAIMED, Reason.SUCCEEDED]


@pytest.fixture
def soon_deposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depose leaders that are silent for 3 s, and not for 9."""
    monkeypatch.setenv("CALLBOARD_LEADER_TRUST_WINDOW_SECONDS", "2")


@pytest.mark.usefixtures("soon_deposed")
def test_promise_8_a_leader_stopped_in_the_middle_of_the_results_stores_nothing_when_it_wakes(
    database_url: str,
) -> None:
    hold = Hold(after_lines=ITEMS - 100)
    with FaultyProvider() as server:
        server.script("anthropic_results", hold)
        with two_nodes(server, "tests.runtime.batch_process", database_url, "work") as nodes:
            submit(database_url, server)
            assert hold.reached.wait(PATIENCE_SECONDS)
            eventually(lambda: len(moments(database_url)) == 1_000)
            first = leader(database_url)
            nodes[first].send_signal(signal.SIGSTOP)
            eventually(lambda: ended(database_url))
            [second] = NAMES - {first}
            assert leader(database_url) == second
            collected = moments(database_url)
            hold.release()  # the rest of the results waits for it
            nodes[first].send_signal(signal.SIGCONT)
            kill(nodes[second])
            eventually(lambda: leader(database_url) == first)  # it is awake, and leads in another term
        assert len(server.batches.all()) == 1
    assert moments(database_url) == collected
    require_every_result(database_url, ITEMS)


@pytest.mark.usefixtures("soon_deposed")
@pytest.mark.parametrize("how", [Network.BLACKHOLE, Network.DEAF])
async def test_promise_8_a_leader_cut_off_in_the_middle_of_the_results_is_followed_by_one_that_reads_the_rest(
    database_url: str, how: Network
) -> None:
    hold = Hold(after_lines=ITEMS - 100)
    module = "tests.runtime.batch_process"

    async def true(condition: Callable[[], object]) -> None:
        await asyncio.to_thread(eventually, condition)

    with FaultyProvider() as server, ExitStack() as stack:
        server.script("anthropic_results", hold)
        async with Proxy(database_url) as proxy:
            stack.enter_context(process(server, module, proxy.url, "work", name="one"))
            await true(lambda: leader(database_url) == "one")
            second = stack.enter_context(process(server, module, database_url, "work", name="two"))
            await asyncio.to_thread(submit, database_url, server)
            assert await asyncio.to_thread(hold.reached.wait, PATIENCE_SECONDS)
            await true(lambda: len(moments(database_url)) == 1_000)
            proxy.cut(how)
            hold.release()  # it has the rest of the results now, and cannot store it
            await true(lambda: ended(database_url))
            assert leader(database_url) == "two"
            collected = moments(database_url)
            proxy.heal()
            kill(second)
            await true(lambda: leader(database_url) == "one")
        assert len(server.batches.all()) == 1
    assert moments(database_url) == collected
    require_every_result(database_url, ITEMS)


def submit(url: str, server: FaultyProvider) -> None:
    with batch_process(url, server, "submit", "anthropic", str(ITEMS)) as submitter:
        assert submitter.wait(PATIENCE_SECONDS) == 0
