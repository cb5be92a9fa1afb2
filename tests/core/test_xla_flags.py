"""The flag probe drops what would abort, and keeps the rest in order."""

from jaxsci.core.xla_flags import probe

KNOWN = ("--xla_cpu_multi_thread_eigen=true", "--xla_gpu_enable_latency_hiding_scheduler=true")
MADE_UP = "--xla_gpu_enable_perpetual_motion=true"


def test_known_flags_pass_together():
    assert probe(KNOWN) == (KNOWN, ())


def test_an_unknown_flag_is_dropped_and_the_others_stay():
    assert probe((KNOWN[0], MADE_UP, KNOWN[1])) == (KNOWN, (MADE_UP,))
