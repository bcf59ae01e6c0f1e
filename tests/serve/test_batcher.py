"""The one model behind all requests."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np
import psutil
import pytest
import torch
from tests.serve.servers import wait_for

import wavconformer
from wavconformer.checkpoint.onnx_graph import OnnxModel
from wavconformer.data.frames import output_frames
from wavconformer.errors import AudioError, ConfigError
from wavconformer.serve import worker
from wavconformer.serve.batcher import Batcher, RequestTranscriber, _burden, _Item
from wavconformer.serve.work import Reason, Stopped, Work
from wavconformer.serve.worker import CAN_FORK, WorkerLost

RATE = 16_000
FORK = multiprocessing.get_context("fork" if CAN_FORK else None)


@pytest.fixture
def batches():
    return []


@pytest.fixture
def batcher(transcriber, batches):
    batcher = Batcher(transcriber, window_seconds=0.3, on_batch=lambda *batch: batches.append(batch))
    yield batcher
    batcher.close()


@pytest.mark.parametrize(("workers", "sizes"), [(1, [5]), (2, [2, 3])])
def test_who_is_expected_goes_along_and_has_what_it_has_alone(transcriber, batches, random, workers, sizes):
    batcher = Batcher(transcriber, window_seconds=60, workers=workers, on_batch=lambda *batch: batches.append(batch))
    lengths = (16_000, 15_500, 40_000, 39_000, 16_400)
    waveforms = [random.normal(0, 0.1, length).astype(np.float32) for length in lengths]
    alone = [transcriber.log_probs_of([waveform], "it")[0] for waveform in waveforms]
    works = [Work() for _ in lengths]
    with ThreadPoolExecutor(5) as pool, ExitStack() as stack:
        for work in works:
            stack.enter_context(batcher.expecting(work))
        made = list(pool.map(lambda waveform, work: batcher.scores([waveform], "it", None, work)[0], waveforms, works))
    for scores, expected, length in zip(made, alone, lengths, strict=True):
        frames = output_frames(length, transcriber.model.config)
        np.testing.assert_allclose(scores[:frames], expected[:frames], atol=1e-4)
    batcher.close()
    assert sorted(size for size, _, _ in batches) == sizes
    assert sum(seconds for _, seconds, _ in batches) == pytest.approx(sum(lengths) / RATE)


def test_where_nobody_is_expected_nobody_waits(transcriber, batches, random):
    batcher = Batcher(transcriber, window_seconds=3600, workers=1, on_batch=lambda *batch: batches.append(batch))
    waveform = random.normal(0, 0.1, RATE).astype(np.float32)
    for _ in range(2):  # who was answered is here again: nobody else is to come
        batcher.scores([waveform], "it", None, Work(seconds=60))
    with ThreadPoolExecutor(1) as pool:
        with batcher.expecting(Work()):
            waiting = pool.submit(batcher.scores, [waveform], "it", None, Work(seconds=60))
            wait_for(lambda: len(batcher))
        waiting.result()  # who was expected has left
    batcher.close()
    assert [size for size, _, _ in batches] == [1, 1, 1]


def test_nobody_waits_for_long(batcher, random):
    with batcher.expecting(Work()):
        batcher.scores([random.normal(0, 0.1, RATE).astype(np.float32)], "it", None, Work(seconds=60))


@pytest.mark.parametrize(("burden", "sizes"), [(0.0, [1, 1]), (1.0, [2])])
def test_where_padding_is_computed_lengths_go_together_where_one_batch_more_would_cost_more(
    transcriber, batches, random, burden, sizes
):
    batcher = Batcher(transcriber, window_seconds=0.3, workers=1, on_batch=lambda *batch: batches.append(batch))
    batcher._packs, batcher._burden = False, burden
    waveforms = [random.normal(0, 0.1, length).astype(np.float32) for length in (2 * RATE, RATE)]
    batcher.scores(waveforms, "it", None, Work())
    batcher.close()
    assert [size for size, _, _ in batches] == sizes


def test_where_a_batch_is_more_than_a_share_the_oldest_goes_first(transcriber, random):
    with closing(Batcher(transcriber, window_seconds=0.3, workers=2)) as batcher:
        batcher._packs, batcher._burden = False, 2.0
    lengths = (RATE, 2 * RATE, 2 * RATE)
    items = [_Item(random.normal(0, 0.1, length).astype(np.float32), "it", None, Work()) for length in lengths]
    batcher._items = items
    assert batcher._company(items[0]) == items


def test_what_a_batch_costs_by_itself_is_tried_out(transcriber):
    def clock(*costs):
        times = [time for cost in costs for time in (0.0, cost)]
        return lambda: times.pop(0)

    # A quarter of a second costs 0.2, and five more of them 0.25: 0.8 s of audio by itself, less the quarter's own.
    assert _burden(transcriber, clock(0.3, 0.2, 0.2, 0.45, 0.5, 0.45)) == pytest.approx(0.75)
    assert _burden(transcriber, clock(*[0.2] * 6)) == 0.0
    assert _burden(transcriber, clock(*[9.0] * 3, *[9.1] * 3)) == 2.0


def test_who_was_answered_may_ask_again_and_go_with_those_that_wait(transcriber, batches, random, monkeypatch):
    compute = transcriber.log_probs_of
    monkeypatch.setattr(transcriber, "log_probs_of", lambda *given: time.sleep(0.6) or compute(*given))
    batcher = Batcher(transcriber, window_seconds=0.3, workers=1, on_batch=lambda *batch: batches.append(batch))
    waveform = random.normal(0, 0.1, RATE).astype(np.float32)

    def ask(times):
        for _ in range(times):
            batcher.scores([waveform], "it", None, Work())

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, 2)
        wait_for(lambda: batcher._running)
        pool.submit(ask, 1).result()  # its own time to wait is over before the first is computed
        first.result()
    batcher.close()
    assert [size for size, _, _ in batches] == [1, 2]


@pytest.mark.parametrize("seconds", [(8, 8), (7, 10)])  # together; one after the other, as they don't go together
def test_a_full_batch_waits_no_longer(transcriber, random, seconds):
    batcher = Batcher(transcriber, window_seconds=3600, workers=1)
    waveforms = [random.normal(0, 0.1, length * RATE).astype(np.float32) for length in seconds]
    with closing(batcher), batcher.expecting(Work()), batcher.expecting(Work()):
        assert len(batcher.scores(waveforms, "it", None, Work(seconds=60))) == 2


def test_the_one_at_fault_has_the_error(batcher, random):
    good = random.normal(0, 0.1, RATE).astype(np.float32)
    bad = np.full(RATE, np.nan, np.float32)
    with ThreadPoolExecutor(2) as pool:
        fine = pool.submit(batcher.scores, [good], "good", None, Work())
        broken = pool.submit(batcher.scores, [bad], "bad", None, Work())
        assert len(fine.result()) == 1
        with pytest.raises(AudioError, match="bad"):
            broken.result()


def test_an_error_of_the_model_reaches_who_asked(transcriber, monkeypatch, random):
    compute = transcriber.log_probs_of

    def fail(waveforms, names):
        if names == "bad":
            raise RuntimeError("the model is broken")
        return compute(waveforms, names)

    monkeypatch.setattr(transcriber, "log_probs_of", fail)
    waveform = random.normal(0, 0.1, RATE).astype(np.float32)
    with closing(Batcher(transcriber, window_seconds=0.0)) as batcher:
        with pytest.raises(RuntimeError, match="is broken") as caught:
            batcher.scores([waveform], "bad", None, Work())
        assert "in fail" in str(caught.value.__cause__)  # where in the process
        assert batcher.scores([waveform], "it", None, Work())


def test_who_stops_waits_no_longer(transcriber, batches, monkeypatch, random):
    waveform = random.normal(0, 0.1, RATE).astype(np.float32)
    going, go = FORK.Event(), FORK.Event()
    compute = transcriber.log_probs_of

    def slow(waveforms, names):
        if names == "slow":
            going.set()
            go.wait()
        return compute(waveforms, names)

    monkeypatch.setattr(transcriber, "log_probs_of", slow)
    batcher = Batcher(transcriber, window_seconds=0.3, workers=1, on_batch=lambda *batch: batches.append(batch))
    with closing(batcher), ThreadPoolExecutor(2) as pool:
        work = Work()
        work.stop(Reason.GONE)
        with pytest.raises(Stopped):
            batcher.scores([waveform], "it", None, work)
        first = pool.submit(batcher.scores, [waveform], "slow", None, Work())
        going.wait()
        work = Work()
        second = pool.submit(batcher.scores, [waveform[:-100]], "it", None, work)
        wait_for(lambda: len(batcher))
        work.stop(Reason.CANCELLED)
        with pytest.raises(Stopped, match="cancelled"):
            second.result()
        go.set()
        assert len(first.result()) == 1
    assert [size for size, _, _ in batches] == [1]


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_a_process_that_is_killed_is_replaced(transcriber, monkeypatch, random):
    """As the system does it for want of memory: whoever can be answered is."""
    compute, me = transcriber.log_probs_of, os.getpid()

    def killed(waveforms, names):
        if "heavy" in names:
            assert os.getpid() != me
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(waveforms, names)

    monkeypatch.setattr(transcriber, "log_probs_of", killed)
    lost = []
    waveform = random.normal(0, 0.1, RATE).astype(np.float32)
    batcher = Batcher(transcriber, window_seconds=60, workers=1, on_loss=lambda: lost.append(True))
    works = Work(), Work()
    with closing(batcher), ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        for work in works:
            stack.enter_context(batcher.expecting(work))
        heavy = pool.submit(batcher.scores, [waveform], "heavy", None, works[0])
        light = pool.submit(batcher.scores, [waveform], "light", None, works[1])
        with pytest.raises(WorkerLost, match="signal 9"):
            heavy.result()
        np.testing.assert_allclose(light.result()[0], compute([waveform], "it")[0], atol=1e-4)
        assert len(lost) == 2  # by the two together, and by the one at fault


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_who_comes_after_a_process_has_ended_doesn_t_notice(transcriber, caplog):
    lost = []
    with closing(Batcher(transcriber, window_seconds=0.0, workers=1, on_loss=lambda: lost.append(True))) as batcher:
        (it,) = batcher._workers
        before = it.pid
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: psutil.Process(before).status() == "zombie")
        assert len(batcher.scores([np.ones(RATE, np.float32)], "it", None, Work())) == 1
        assert it.pid != before
    assert len(lost) == 1
    assert "a process of the model has ended (signal 9)" in caplog.text


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_a_process_holds_no_connection_of_a_client_and_ends_with_its_batcher(transcriber):
    ours, theirs = socket.socketpair()
    with ours, closing(Batcher(transcriber, window_seconds=0.0, workers=1)) as batcher:
        (it,) = batcher._workers
        batcher.scores([np.ones(RATE, np.float32)], "it", None, Work())
        process = psutil.Process(it.pid)
        theirs.close()
        assert ours.recv(1) == b""  # nobody holds the other end
    assert it.pid is None
    assert not process.is_running()
    assert it.end() == "before"


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_who_was_alone_with_a_process_that_is_killed_is_heard_again(transcriber, monkeypatch, tmp_path):
    compute, been = transcriber.log_probs_of, tmp_path / "been"

    def killed_once(waveforms, names):
        if names == "it" and not been.exists():
            been.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(waveforms, names)

    monkeypatch.setattr(transcriber, "log_probs_of", killed_once)
    with closing(Batcher(transcriber, window_seconds=0.0, workers=1)) as batcher:
        assert len(batcher.scores([np.ones(RATE, np.float32)], "it", None, Work())) == 1
    assert been.exists()


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_a_process_that_hangs_holds_nobody_up_at_the_end(transcriber, caplog):
    lost = []
    batcher = Batcher(transcriber, window_seconds=0.0, workers=1, on_loss=lambda: lost.append(True))
    hanging = psutil.Process(batcher._workers[0].pid)
    hanging.suspend()
    work = Work()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(batcher.scores, [np.ones(RATE, np.float32)], "it", None, work)
        wait_for(lambda: batcher._running)
        work.stop(Reason.STOPPING)
        with pytest.raises(Stopped):
            asked.result()
    end = threading.Thread(target=batcher.close, daemon=True)
    end.start()
    wait_for(lambda: not end.is_alive())
    assert not hanging.is_running()
    assert (lost, caplog.text) == ([], "")  # it was ended, and by itself it didn't


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_a_process_that_hangs_is_replaced(transcriber, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_PATIENCE", 0.1)
        batcher = Batcher(transcriber, window_seconds=0.0, workers=1)
    with closing(batcher):
        psutil.Process(batcher._workers[0].pid).suspend()
        assert len(batcher.scores([np.ones(RATE, np.float32)], "it", None, Work(seconds=60))) == 1
    assert "a process of the model has ended (no answer)" in caplog.text


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_where_no_process_can_be_started_it_is_told_and_tried_again(transcriber, monkeypatch):
    def refuse():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    lost = []
    waveform = np.ones(RATE, np.float32)
    with closing(Batcher(transcriber, window_seconds=0.0, workers=1, on_loss=lambda: lost.append(True))) as batcher:
        os.kill(before := batcher._workers[0].pid, signal.SIGKILL)
        wait_for(lambda: psutil.Process(before).status() == "zombie")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fork", refuse)
            with pytest.raises(OSError, match=r"No process can be started.*temporarily unavailable.*ulimit"):
                Batcher(transcriber, window_seconds=0.0)
            for _ in range(2):
                with pytest.raises(OSError, match="No process can be started"):
                    batcher.scores([waveform], "it", None, Work())
        assert len(batcher.scores([waveform], "it", None, Work())) == 1
    assert len(lost) == 1


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_who_started_the_server_may_ignore_the_end_of_processes(transcriber, caplog):
    handled = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with closing(Batcher(transcriber, window_seconds=0.0, workers=1)) as batcher:
            os.kill(before := batcher._workers[0].pid, signal.SIGKILL)
            wait_for(lambda: not psutil.pid_exists(before))
            assert len(batcher.scores([np.ones(RATE, np.float32)], "it", None, Work())) == 1
    finally:
        signal.signal(signal.SIGCHLD, handled)
    assert "(unknown)" in caplog.text


@pytest.mark.skipif(not CAN_FORK, reason="the model runs in threads here")
def test_a_process_holds_nothing_beyond_the_limit_of_descriptors_either(transcriber):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours, theirs = socket.socketpair()
    with ours:
        far = os.dup2(theirs.fileno(), limits[0] - 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0] // 2, limits[1]))
        try:
            with closing(Batcher(transcriber, window_seconds=0.0, workers=1)) as batcher:
                batcher.scores([np.ones(RATE, np.float32)], "it", None, Work())
                theirs.close()
                os.close(far)
                assert ours.recv(1, socket.MSG_DONTWAIT) == b""
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_time_of_work_is_over():
    work = Work(0.0)
    wait_for(work.over)
    with pytest.raises(Stopped) as caught:
        work.check()
    assert caught.value.reason is Reason.TIME


def test_languages_take_turns(tmp_path, transcriber, sample):
    """Each request hears its language's adapter and reads its language's vocabulary."""
    torch.manual_seed(0)
    config = wavconformer.Wav2Vec2ConformerConfig.preset("tiny", vocab_size=32, adapter_attn_dim=4)
    model = wavconformer.Wav2Vec2ConformerForCTC(config)
    model.save_pretrained(tmp_path)
    model.save_adapter(tmp_path, "eng")
    model.lm_head.bias.data[7] += 9
    model.save_adapter(tmp_path, "fra")
    transcriber.processor.save_pretrained(tmp_path)
    flat = transcriber.processor.tokenizer.get_vocab()
    nested = {"eng": flat, "fra": {token if len(token) > 1 else token.lower(): index for token, index in flat.items()}}
    (tmp_path / "vocab.json").write_text(json.dumps(nested))
    alone = {
        language: wavconformer.load_model(tmp_path, device="cpu", target_lang=language)(sample).text
        for language in ("eng", "fra")
    }
    assert alone["fra"] == alone["fra"].lower() != alone["eng"].lower()
    loaded = wavconformer.load_model(tmp_path, device="cpu", target_lang="eng")
    batcher = Batcher(loaded, window_seconds=0.0, languages=("fra",), workers=2)
    try:
        assert batcher.languages == ("eng", "fra")
        asked = ["eng", "fra", None, "fra", "eng"]
        with ThreadPoolExecutor(5) as pool:
            made = list(pool.map(lambda language: RequestTranscriber(batcher, language, Work())(sample).text, asked))
        assert made == [alone[language or "eng"] for language in asked]
    finally:
        batcher.close()


class Graph(OnnxModel):
    """A graph, as far as a batcher can tell."""

    def __init__(self, model):
        self.config, self._model = model.config, model

    def __call__(self, input_values, attention_mask):
        with torch.inference_mode():
            return self._model(torch.from_numpy(input_values), torch.from_numpy(attention_mask)).logits.numpy()


def test_languages_that_aren_t_there(transcriber):
    with pytest.raises(ValueError, match="no language adapters"):
        Batcher(transcriber, window_seconds=0, languages=("fra",))
    graph = wavconformer.Transcriber(Graph(transcriber.model), transcriber.processor)
    with pytest.raises(ConfigError, match="is a graph"):
        Batcher(graph, window_seconds=0, languages=("fra",))
    batcher = Batcher(graph, window_seconds=0)
    try:
        assert batcher.languages == ()
        assert len(batcher.scores([np.ones(RATE, np.float32)], "it", None, Work())) == 1
    finally:
        batcher.close()
