"""What is measured of a machine once."""

from sftdemo.core.files import cache_folder
from sftdemo.core.machine import MEASURED, measured_once


def test_it_is_measured_once(own_cache):
    assert measured_once("a", lambda: 1.23456) == 1.23456
    assert measured_once("b", lambda: 7.0) == 7.0
    assert measured_once("a", lambda: 9.0) == 1.235


def test_a_file_that_cannot_be_read_is_made_anew(own_cache):
    path = cache_folder() / MEASURED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[1", encoding="utf-8")
    assert measured_once("a", lambda: 2.0) == 2.0
    assert measured_once("a", lambda: 3.0) == 2.0
