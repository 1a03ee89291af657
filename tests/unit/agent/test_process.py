"""Which of a process' memory goes on large pages."""

from fabricmgr.agent.process import LARGE, full_areas


def smaps(heading: str, size_kb: int, used_kb: int) -> str:
    """One area as proc(5) shows it."""
    return f"{heading}\nSize:           {size_kb} kB\nKernelPageSize:        4 kB\nRss:            {used_kb} kB\nVmFlags: rd wr mr mw\n"


def test_large_pages_lie_whole_within_an_area() -> None:
    shown = smaps("7f0000100000-7f0000900000 rw-p 00000000 00:00 0 ", 8192, 8000)

    (area,) = full_areas(shown)

    assert list(area) == [0x7F0000200000, 0x7F0000400000, 0x7F0000600000]
    assert area[-1] + LARGE <= 0x7F0000900000


def test_the_heap_counts() -> None:
    shown = smaps("01000000-01400000 rw-p 00000000 00:00 0                                  [heap]", 4096, 4096)

    assert [list(area) for area in full_areas(shown)] == [[0x1000000, 0x1200000]]


def test_a_half_empty_area_stays_as_it_is() -> None:
    assert not list(full_areas(smaps("7f0000000000-7f0000800000 rw-p 00000000 00:00 0 ", 8192, 4096)))


def test_files_stacks_and_what_cannot_be_written_stay_as_they_are() -> None:
    shown = "".join(
        smaps(heading, 8192, 8192)
        for heading in (
            "7f0000000000-7f0000800000 rw-p 00000000 fe:00 247702                     /usr/bin/python3.11",
            "7f0001000000-7f0001800000 r-xp 00000000 fe:00 247702                     /usr/bin/python3.11",
            "7f0002000000-7f0002800000 r--p 00000000 00:00 0 ",
            "7f0003000000-7f0003800000 rw-s 00000000 00:00 0 ",
            "7ffd00000000-7ffd00800000 rw-p 00000000 00:00 0                          [stack]",
        )
    )

    assert not list(full_areas(shown))


def test_an_area_too_small_for_one_gives_none() -> None:
    shown = smaps("7f0000100000-7f0000300000 rw-p 00000000 00:00 0 ", 2048, 2048)

    assert not list(full_areas(shown))
