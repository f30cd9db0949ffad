"""Which precision trains on which device: a table, with the properties of devices that are not here."""

import pytest
import torch

from tests.processes import python
from vlsm_helpers import settings
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.settings import precision
from vlsm_helpers.settings.precision import training_precision


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for variable in (precision.VARIABLE, "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def gpus(monkeypatch):
    """Puts GPUs of these compute capabilities into the machine; the first is the current one."""

    def put(*capabilities):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda card: capabilities[card])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a card")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # what it says on a T4, too

    return put


@pytest.fixture
def cpu(monkeypatch):
    """Gives the CPU these instructions and no others."""
    return lambda *names: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((3, 7), "no"),  # K80
        ((6, 0), "no"),  # P100
        ((6, 1), "no"),  # GTX 1080
        ((7, 0), "fp16"),  # V100
        ((7, 5), "fp16"),  # T4
        ((8, 0), "bf16"),  # A100
        ((8, 9), "bf16"),  # L4
        ((9, 0), "bf16"),  # H100
        ((12, 0), "bf16"),  # RTX 5090
    ],
)
def test_a_gpu_trains_in_what_its_tensor_cores_multiply(gpus, capability, name):
    gpus(capability)
    decision = training_precision("cuda")
    assert decision.name == name
    assert "{}.{}".format(*capability) in decision.reason
    assert not decision.emulated


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("instructions", [(), ("avx512_bf16",)])
def test_other_devices_train_in_float32_and_say_the_same_on_each_machine(cpu, device, instructions):
    cpu(*instructions)
    decision = training_precision(device)
    assert decision.name == "no"
    assert str(decision) == f"float32 (the default on {'a CPU' if device == 'cpu' else 'MPS'})"


@pytest.mark.parametrize("asked", ["no", "bf16", "fp16", "BF16"])
@pytest.mark.parametrize("capability", [(6, 1), (7, 5), (9, 0)])
def test_the_environment_overrules_on_a_gpu(gpus, monkeypatch, capability, asked):
    gpus(capability)
    monkeypatch.setenv(precision.VARIABLE, asked)
    decision = training_precision("cuda")
    assert decision.name == asked.lower()
    assert precision.VARIABLE in decision.reason
    assert decision.emulated == (asked.lower() == "bf16" and capability < (8, 0))


@pytest.mark.parametrize(
    ("instructions", "emulated"),
    [
        (("avx2",), True),
        (("avx2", "avx512_f", "avx512_bw", "avx512_vl", "avx512_dq"), True),  # what oneDNN takes for bfloat16
        (("avx512_f", "avx512_bf16"), False),  # Zen 4
        (("avx512_f", "amx_tile", "amx_bf16"), False),  # Sapphire Rapids
        (("neon",), True),
        (("neon", "bf16"), False),  # Graviton 3
    ],
)
def test_bfloat16_on_a_cpu_names_its_cost_where_it_is_emulated(cpu, monkeypatch, instructions, emulated):
    cpu(*instructions)
    monkeypatch.setenv(precision.VARIABLE, "bf16")
    decision = training_precision("cpu")
    assert decision.name == "bf16"
    assert decision.emulated == emulated
    assert ("times as long" in decision.reason) == emulated


@pytest.mark.parametrize(
    ("device", "asked"),
    [
        ("cpu", "fp16"),
        ("mps", "fp16"),
        *((device, told) for device in ("cpu", "mps", "cuda") for told in ("fp8", "half", "1")),
    ],
)
def test_what_a_device_cannot_train_in_is_refused(gpus, monkeypatch, device, asked):
    gpus((9, 0))
    monkeypatch.setenv(precision.VARIABLE, asked)
    with pytest.raises(SettingsError) as failure:
        training_precision(device)
    assert asked in failure.value.what
    assert "bf16" in failure.value.hint
    monkeypatch.setattr(settings, "device", lambda: device)
    with pytest.raises(SettingsError):
        settings.start("tiny")


def test_a_single_process_looks_at_its_own_card_several_at_the_weakest(gpus, monkeypatch):
    gpus((8, 0), (7, 5))
    assert training_precision("cuda").name == "bf16"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert training_precision("cuda").name == "fp16"


def test_start_names_the_precision_of_a_gpu_and_on_a_cpu_only_what_was_asked_for(gpus, cpu, monkeypatch, capsys):
    def device_line():
        settings.start("tiny")
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("device"))

    monkeypatch.setattr(settings, "device", lambda: "cpu")
    assert device_line() == f"device     cpu ({settings.hardware()})"
    cpu()
    monkeypatch.setenv(precision.VARIABLE, "bf16")
    assert "times as long" in device_line()
    monkeypatch.delenv(precision.VARIABLE)
    gpus((7, 5))
    monkeypatch.setattr(settings, "device", lambda: "cuda")
    assert device_line().endswith("float16 with loss scaling (compute capability 7.5; bfloat16 needs 8.0)")


def test_the_cpu_of_this_machine_answers_without_a_message():
    code = "from vlsm_helpers.settings.precision import training_precision as decide; print(decide('cpu'))"
    assert python(code, PYTHONWARNINGS="error", **{precision.VARIABLE: "bf16"}).startswith("bfloat16")
