from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavconformer.cli import terminal


@pytest.fixture
def bad_files(tmp_path) -> dict[str, Path]:
    files = {name: tmp_path / name for name in ("empty.wav", "text.mp3", "folder", "cut.flac", "missing.wav")}
    files["empty.wav"].touch()
    files["text.mp3"].write_text("not a sound")
    files["folder"].mkdir()
    files["cut.flac"].write_bytes(b"fLaC\x00\x00\x00\x22")
    return files


def test_one_file_gives_its_text_alone(run, sample):
    assert run("transcribe", sample) == (0, "SET A TIMER FOR TWENTY THREE SECONDS\n", "")


def test_several_files_give_a_line_each(run, sample_texts):
    code, out, _ = run("transcribe", *sample_texts)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == list(sample_texts)


def test_json_has_words_with_times(run, sample):
    code, out, _ = run("transcribe", sample, "--format", "json")
    content = json.loads(out)
    assert code == 0
    assert content["file"] == str(sample)
    assert content["text"] == " ".join(word["text"] for word in content["words"])


@pytest.mark.parametrize(
    ("name", "begins"), [("srt", "1\n00:00:0"), ("vtt", "WEBVTT\n"), ("ctm", "timer 1 0."), ("textgrid", "File type")]
)
def test_other_formats_are_printed_too(run, sample, name, begins):
    code, out, err = run("transcribe", sample, "--format", name)
    assert (code, err) == (0, "")
    assert out.startswith(begins)
    assert out.endswith("\n")


def test_a_page_lies_beside_its_recording(run, sample, tmp_path):
    recording = tmp_path / sample.name
    recording.write_bytes(sample.read_bytes())
    assert run("transcribe", recording, "--format", "html", "--output", tmp_path, "--no-embed") == (0, "", "")
    assert 'src="timer.flac"' in (tmp_path / "timer.html").read_text()


def test_several_recordings_are_no_one_subtitle(run, sample, tmp_path):
    code, out, err = run("transcribe", sample, tmp_path / "other.wav", "--format", "srt")
    assert (code, out) == (2, "")
    assert "several recordings don't make one srt" in " ".join(err.split())


def test_resuming_leaves_out_what_is_done(run, sample, sample_texts, tmp_path, monkeypatch):
    code, _, err = run("transcribe", sample, "--resume")
    assert code == 2
    assert "--resume" in err
    (tmp_path / "timer.txt").write_text("done before\n")
    code, out, err = run("transcribe", *sample_texts, "--output", tmp_path, "--resume")
    assert (code, out, err) == (0, "", "1 of 6 are done already.\n")
    assert {path.name for path in tmp_path.iterdir()} == {f"{Path(path).stem}.txt" for path in sample_texts}
    assert (tmp_path / "timer.txt").read_text() == "done before\n"
    monkeypatch.setattr("wavconformer.tasks.transcribe.load_model", None)  # all is done: nothing is loaded
    assert run("transcribe", *sample_texts, "--output", tmp_path, "--resume")[0] == 0


def test_a_long_recording_is_printed_as_it_is_heard(run, sample_texts, tmp_path, monkeypatch):
    import wave

    import numpy as np
    from rich.console import Console

    from wavconformer import load_audio

    pause = np.zeros(16_000, np.float32)
    audio = np.concatenate([part for path in sample_texts for part in (load_audio(path), pause)])
    for name, end in (("long.wav", len(audio)), ("cut.wav", len(audio) // 2)):
        with wave.open(str(tmp_path / name), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes((audio * 32_767).astype("<i2").tobytes())
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: 44 + 2 * end])
    options = ("--window-seconds", 4, "--context-seconds", 0.5, "--pause-seconds", 0.6, "--vad", "energy")
    code, out, err = run("transcribe", tmp_path / "long.wav", *options)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    content = json.loads(run("transcribe", tmp_path / "long.wav", *options, "--format", "json")[1])
    assert content["text"] + "\n" == out
    assert len(content["segments"]) == len(sample_texts)
    code, half, err = run("transcribe", tmp_path / "cut.wav", *options)
    assert code == 0
    assert "cut off or damaged" in err
    assert half.split()[:3] == out.split()[:3]
    assert len(half) < len(out)
    monkeypatch.setattr(terminal, "err", Console(file=sys.stdout, soft_wrap=True))  # as a terminal shows it
    lines = run("transcribe", tmp_path / "cut.wav", *options)[1].splitlines()
    assert lines[0] + "\n" == half
    assert len(lines) == 2 and "cut off or damaged" in lines[1]


def test_a_recording_without_words_is_an_empty_line(run, tmp_path):
    import wave

    with wave.open(str(tmp_path / "silence.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(2 * 16_000 * 40))
    said = f"'{tmp_path / 'silence.wav'}': no words in 40.0 s of audio.\n"
    assert run("transcribe", tmp_path / "silence.wav") == (0, "\n", said)
    code, out, err = run("transcribe", tmp_path / "silence.wav", "--format", "json")
    assert (code, json.loads(out)["words"], err) == (0, [], said)


def test_the_bar_says_where_a_long_recording_is(monkeypatch):
    import io

    from rich.console import Console

    screen = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=screen, force_terminal=True, width=100))
    with terminal.progress_bar(["a/[long].wav", "b.wav"], "transcribing") as progress:
        progress.within(0, 125.0)
        progress._bar.refresh()
        progress.advance()
    shown = screen.getvalue()
    assert "[long].wav at 2:05" in shown
    assert "/2" in shown


def test_output_folder_gets_a_file_each(run, sample_texts, tmp_path):
    code, out, _ = run("transcribe", *sample_texts, "--output", tmp_path / "new" / "texts", "--threads", 1)
    assert (code, out) == (0, "")
    written = {path.name for path in (tmp_path / "new" / "texts").iterdir()}
    assert written == {Path(path).stem + ".txt" for path in sample_texts}
    assert (tmp_path / "new/texts/timer.txt").read_text() == "SET A TIMER FOR TWENTY THREE SECONDS\n"


def test_two_files_for_one_output_are_refused_before_any_work(run, sample, tmp_path):
    twin = tmp_path / sample.name
    twin.write_bytes(sample.read_bytes())
    code, out, err = run("transcribe", sample, twin, "--output", tmp_path / "texts")
    assert code == 2
    assert out == ""
    assert "would both be written" in " ".join(err.split())
    assert not (tmp_path / "texts").exists()


def test_a_folder_that_is_named_as_a_file_is_refused(run, sample, tmp_path):
    code, out, err = run("transcribe", sample, "--format", "srt", "--output", tmp_path / "timer.SRT")
    assert (code, out) == (2, "")
    assert "named as a file" in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "timer.SRT").exists()


def test_bad_files_are_named_and_the_others_go_on(run, sample, bad_files):
    code, out, err = run("transcribe", *bad_files.values(), sample)
    assert code == 1
    assert out == f"{sample}\tSET A TIMER FOR TWENTY THREE SECONDS\n"
    for path in bad_files.values():
        assert str(path) in err
    assert "5 of 6 recordings could not be transcribed" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["empty.wav", "text.mp3", "folder", "cut.flac", "missing.wav"])
def test_a_bad_file_alone_is_one_line(run, bad_files, name):
    code, out, err = run("transcribe", bad_files[name])
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert str(bad_files[name]) in err


def test_an_address_is_not_fetched(run):
    code, _, err = run("transcribe", "https://example.org/talk.mp3")
    assert code == 1
    assert "https://example.org/talk.mp3" in err
    assert "not fetched" in err


def test_a_bad_model_is_one_line(run, sample, tmp_path):
    for place in (tmp_path, tmp_path / "nowhere", sample):
        for command in (("transcribe", sample, "--model", place), ("info", place)):
            code, out, err = run(*command)
            assert (code, out) == (1, "")
            assert str(place) in err
            assert "Traceback" not in err


def test_another_kind_of_model_is_refused(run, sample, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    code, _, err = run("info", tmp_path)
    assert code == 1
    assert "whisper" in err


@pytest.mark.parametrize(
    "arguments",
    [["transcribe"], ["transcribe", "x.wav", "--format", "pdf"], ["nonsense"], ["check", "tiny-en", "--text", "A"]],
)
def test_wrong_usage_exits_with_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage" in err


def test_debug_shows_the_traceback(run, bad_files):
    with pytest.raises(Exception, match=r"empty\.wav"):
        run("--debug", "transcribe", bad_files["empty.wav"])


def test_interruption_exits_with_130(run, sample, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wavconformer.tasks.transcribe.load_model", interrupt)
    code, _, err = run("transcribe", sample)
    assert code == 130
    assert "Traceback" not in err


def test_version(run):
    from wavconformer import __version__

    assert run("--version")[:2] == (0, f"wavconformer {__version__}\n")


def test_demo_reads_all_samples(run, sample_texts):
    code, out, _ = run("demo")
    assert code == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown == {Path(path).name: text for path, text in sample_texts.items()}


@pytest.fixture(scope="module")
def parameters(transcriber) -> str:
    """How many the shipped checkpoint has, as it is printed."""
    return f"{sum(parameter.numel() for parameter in transcriber.model.parameters()):,}"


def test_info_tells_the_figures(run, transcriber, parameters):
    code, out, _ = run("info", "tiny-en")
    assert code == 0
    config = transcriber.model.config
    rate, field = f"{config.frame_rate():.4g} a second", f"each sees {config.receptive_field / 16:g} ms"
    for figure in ("Wav2Vec2ConformerForCTC", parameters, "8 blocks × 192", "rotary", rate, field, "32 tokens"):
        assert figure in out


def test_info_on_int8_weights_counts_them_once(run, tmp_path, parameters):
    from wavconformer import Wav2Vec2ConformerForCTC

    Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", quantization="int8").save_pretrained(tmp_path)
    _, out, _ = run("info", tmp_path)
    assert parameters in out
    assert "(F32, I8)" in out


def test_check_passes_on_the_shipped_model(run, sample):
    code, out, _ = run("check", "tiny-en", "--audio", sample, "--text", "set a timer for twenty three seconds")
    assert code == 0
    found = {line.split()[1]: line.split()[0] for line in out.splitlines()}
    assert found == dict.fromkeys(
        ["configuration", "weights", "finite", "frame", "padding", "transformers", "vocabulary", "language", "text"],
        "ok",
    )
    assert "alpha 0.7, beta 1.5" in out


def test_check_says_what_failed(run, sample, tmp_path):
    from wavconformer import Wav2Vec2ConformerForCTC

    code, out, _ = run("check", "tiny-en", "--audio", sample, "--text", "something else")
    assert code == 1
    assert "FAILED text" in out
    model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
    state = model.state_dict()
    del state["wav2vec2_conformer.encoder.layers.3.ffn1.output_dense.bias"]
    model.save_pretrained(tmp_path, state_dict=state)
    code, out, _ = run("check", tmp_path)
    assert code == 1
    assert "encoder.layers.3.ffn1.output_dense.bias" in out


def test_help_needs_no_torch():
    script = "import sys; sys.argv = ['wavconformer', '--help']\nfrom wavconformer import cli\n"
    script += "try: cli.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert result.returncode == 0, result.stderr
    assert "transcribe" in result.stdout


def test_the_module_is_the_command(sample):
    result = subprocess.run(
        [sys.executable, "-m", "wavconformer", "transcribe", str(sample)], capture_output=True, text=True, check=True
    )
    assert result.stdout == "SET A TIMER FOR TWENTY THREE SECONDS\n"
    assert result.stderr == ""


def test_info_reads_old_and_broken_weights(run, tmp_path, parameters):
    import torch

    from wavconformer import Wav2Vec2ConformerForCTC

    model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert parameters in run("info", tmp_path)[1]
    for content in (
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"\x07\0\0\0\0\0\0\0" + b'{"a":1}',
    ):
        (tmp_path / "model.safetensors").write_bytes(content)
        code, out, err = run("info", tmp_path)
        assert (code, out) == (1, "")
        assert "model.safetensors is not a whole safetensors file" in err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", '{"pad_token": 3}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}'),
        ("vocab.json", '{"<pad>": 0, "A": 1000000000000}'),
        ("config.json", '{"architectures": 3}'),
        ("config.json", '{"conv_bias": "false"}'),
        ("config.json", '{"hidden_size": 4000000000, "vocab_size": 32}'),
        ("processor_config.json", "[]"),
    ],
)
def test_a_broken_file_of_a_model_is_one_line(run, sample, tmp_path, name, content):
    import shutil

    from wavconformer.files import ASSETS

    shutil.copytree(ASSETS / "tiny-en", tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    code, out, err = run("transcribe", sample, "--model", tmp_path / "model")
    assert "Traceback" not in err
    assert code == 1
    assert out == ""


def test_check_names_the_class_by_the_weights_if_nothing_else_does(run, tmp_path):
    from wavconformer import Wav2Vec2ConformerForXVector

    with pytest.warns(UserWarning, match="random values"):
        Wav2Vec2ConformerForXVector.from_pretrained("tiny-en").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, out, _ = run("check", tmp_path)
    assert code == 0
    assert "complete, for Wav2Vec2ConformerForXVector" in out


def test_check_survives_a_broken_processor_or_language_model(run, tmp_path, monkeypatch):
    import shutil

    from wavconformer.files import ASSETS
    from wavconformer.lm.kenlm import MAGIC

    shutil.copytree(ASSETS / "tiny-en", tmp_path / "model")
    vocabulary = (tmp_path / "model" / "vocab.json").read_text()
    (tmp_path / "model" / "vocab.json").write_text('{"<pad>": 0, "A": 45}')
    code, out, _ = run("check", tmp_path / "model")
    assert code == 1
    assert "FAILED vocabulary" in out
    assert "ok     padding" in out
    (tmp_path / "model" / "vocab.json").write_text(vocabulary)
    (tmp_path / "model" / "language_model" / "lm.arpa.gz").write_text("no ARPA")
    code, out, _ = run("check", tmp_path / "model")
    assert code == 1
    assert "FAILED language model" in out
    (tmp_path / "model" / "language_model" / "lm.arpa.gz").unlink()
    (tmp_path / "model" / "language_model" / "lm.bin").write_bytes(MAGIC)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    code, out, _ = run("check", tmp_path / "model")
    assert code == 0
    assert "-      language model" in out
    assert "pip install 'wavconformer[lm]'" in out
