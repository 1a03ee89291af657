"""The plugin's frame and answer, as bytes."""

import pytest

from fabricmgr.agent.frame import (
    LARGEST_FRAME,
    LARGEST_VARIABLE,
    Answer,
    Frame,
    encode_answer,
    encode_frame,
    frame_length,
    parse_answer,
    parse_frame,
)
from fabricmgr.domain.errors import CniFrameRefused

FRAME = Frame("fabricmgr-cni", "ADD", "c1", "/run/netns/a", "eth0", "K=V", "/opt/cni/bin", "1", stdin=b'{"a":\0\xff}')


def test_a_frame_is_what_the_wire_says() -> None:
    body = b'1\0fabricmgr-cni\0ADD\0c1\0/run/netns/a\0eth0\0K=V\0/opt/cni/bin\x001\0{"a":\0\xff}'

    assert encode_frame(FRAME) == len(body).to_bytes(4, "little") + body
    assert parse_frame(body) == FRAME


def test_bytes_that_are_no_text_survive() -> None:
    frame = Frame("p", "ADD", netns="/tmp/\udcff")

    assert encode_frame(frame).endswith(b"/tmp/\xff\0\0\0\0\0")
    assert parse_frame(encode_frame(frame)[4:]) == frame


@pytest.mark.parametrize("body", [b"", b"1", b"1\0", b"2\0p\0ADD\0\0\0\0\0\0\0", b"1\0p\0ADD\0\0\0\0\0\0", b"\0" * 9])
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    with pytest.raises(CniFrameRefused):
        parse_frame(body)


def test_a_variable_has_its_limit() -> None:
    fits, larger = (Frame("p", "ADD", args="x" * size) for size in (LARGEST_VARIABLE, LARGEST_VARIABLE + 1))

    assert parse_frame(encode_frame(fits)[4:]) == fits
    with pytest.raises(CniFrameRefused):
        parse_frame(encode_frame(larger)[4:])


def test_a_length_has_its_limit() -> None:
    assert frame_length(LARGEST_FRAME.to_bytes(4, "little")) == LARGEST_FRAME
    with pytest.raises(CniFrameRefused):
        frame_length((LARGEST_FRAME + 1).to_bytes(4, "little"))


def test_an_answer_is_what_the_wire_says() -> None:
    assert encode_answer(Answer(1, b"{}")) == b"\3\0\0\0\1{}"
    assert parse_answer(b"\3\0\0\0\1{}") == Answer(1, b"{}")


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0", b"\0\0\0\0", b"\3\0\0\0\1{", b"\3\0\0\0\1{}x", b"\1\0\0\0\2"])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(CniFrameRefused):
        parse_answer(data)
