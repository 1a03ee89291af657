"""Orders and reports survive their way through a pipe."""

import pytest
from msgspec import DecodeError

from fabricmgr.app import messages
from fabricmgr.app.messages import Configure, Database, Failed, Order, Prepared, Report, Serving, Wait, Waiting

ORDERS = [Configure("web 1", 7, ["--listen=[::1]:0"], 3, 4), Wait("the database\nto come"), Database("postgresql://a@/b")]
REPORTS = [Waiting("a lock"), Prepared("/p"), Serving("uvloop"), Failed("why", 3)]


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_one_line_and_reads_back(order: Order) -> None:
    line = messages.line(order)

    assert line.count(b"\n") == 1
    assert messages.order(line) == order


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_one_line_and_reads_back(report: Report) -> None:
    assert messages.report(messages.line(report)) == report


@pytest.mark.parametrize("text", [b"", b"hello", b"{}", b'{"report":"other"}', b'{"report":"serving","more":1}'])
def test_what_a_library_prints_is_no_report(text: bytes) -> None:
    with pytest.raises(DecodeError):
        messages.report(text)
