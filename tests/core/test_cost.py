import pytest
from pydantic import ValidationError

from tasks.core.cost import Prices, cost_table, stage_cost, storage_cost, total_cost
from tasks.core.schema import StageTiming

PRICES = Prices(cpu_second=0.001, gpu_second=0.01, gb_month=0.02, request=5.0)
WORK = StageTiming(wall_s=99, cpu_s=10, gpu_s=3, queue_s=99, bytes_in=2**40, bytes_out=2**30, runs=4)


def test_stage_cost_is_cpu_and_gpu_and_requests_and_one_month_of_what_it_wrote() -> None:
    assert stage_cost(WORK, PRICES) == pytest.approx(10 * 0.001 + 3 * 0.01 + 2 * 4 / 1000 * 5.0 + 0.02)


def test_waiting_and_reading_cost_nothing() -> None:
    assert stage_cost(StageTiming(wall_s=50, queue_s=50, bytes_in=2**40), PRICES) == 0


def test_storage_is_priced_by_month() -> None:
    assert storage_cost(3 * 2**29, PRICES, months=2) == pytest.approx(0.06)


def test_table_has_every_stage_in_order_and_their_sum() -> None:
    stages = {"transcript": WORK, "audio": StageTiming(cpu_s=1), "probe": StageTiming()}
    table = cost_table(stages, PRICES)
    assert list(table) == [*stages, "total"]
    assert table["audio"] == pytest.approx(0.001)
    assert table["probe"] == 0
    assert table["total"] == total_cost(stages, PRICES) == pytest.approx(sum(table[stage] for stage in stages))


def test_no_stages_cost_nothing() -> None:
    assert cost_table({}, PRICES) == {"total": 0}


def test_default_prices_are_those_of_the_list() -> None:
    hour = StageTiming(cpu_s=3600)
    assert stage_cost(hour, Prices()) == pytest.approx(0.04937)
    assert stage_cost(StageTiming(gpu_s=3600), Prices()) == pytest.approx(1.006)


@pytest.mark.parametrize("name", list(Prices.model_fields))
def test_prices_are_bounded_and_described(name: str) -> None:
    assert Prices.model_fields[name].description
    with pytest.raises(ValidationError):
        Prices(**{name: -0.01})
    with pytest.raises(ValidationError):
        Prices(**{name: 1e6})
