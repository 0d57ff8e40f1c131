"""The constants of NVML that this program uses, and NVML's error, under the names of the `pynvml` module.

Two tables say which of our throttle reasons NVML's bits and fields stand for.
"""

# ruff: noqa: N815 - the names are NVML's

from runner.spec.throttle import ThrottleReason


class SimulatedNvmlError(Exception):
    """NVML's error, with its code in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"simulated NVML error {value}")
        self.value = value


class NvmlConstants:
    """NVML's constants. `SimulatedNvml` adds the functions."""

    NVMLError = SimulatedNvmlError
    NVML_ERROR_UNINITIALIZED = 1
    NVML_ERROR_INVALID_ARGUMENT = 2
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_TOTAL_POWER_SAMPLES = 0
    NVML_PERF_POLICY_POWER = 0
    NVML_PERF_POLICY_THERMAL = 1
    NVML_PERF_POLICY_SYNC_BOOST = 2
    NVML_PERF_POLICY_COUNT = 12
    NVML_VALUE_TYPE_UNSIGNED_INT = 1
    NVML_VALUE_TYPE_UNSIGNED_LONG_LONG = 3
    NVML_FI_DEV_POWER_AVERAGE = 185
    NVML_FI_DEV_POWER_INSTANT = 186
    NVML_POWER_SCOPE_GPU = 0
    NVML_POWER_SCOPE_MODULE = 1
    NVML_POWER_SCOPE_MEMORY = 2
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_SM_UTIL = 2
    NVML_GPM_METRIC_ANY_TENSOR_UTIL = 5
    NVML_GPM_METRIC_DRAM_BW_UTIL = 10
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP = 74
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST = 76
    NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN = 269
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN = 270
    NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN = 271
    nvmlClocksEventReasonGpuIdle = 0x1
    nvmlClocksEventReasonApplicationsClocksSetting = 0x2
    nvmlClocksEventReasonSwPowerCap = 0x4
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSyncBoost = 0x10
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80
    nvmlClocksEventReasonDisplayClockSetting = 0x100


BIT_OF_REASON = {
    ThrottleReason.IDLE: NvmlConstants.nvmlClocksEventReasonGpuIdle,
    ThrottleReason.APPLICATION_CLOCKS: NvmlConstants.nvmlClocksEventReasonApplicationsClocksSetting,
    ThrottleReason.POWER_CAP: NvmlConstants.nvmlClocksEventReasonSwPowerCap,
    ThrottleReason.HARDWARE_SLOWDOWN: NvmlConstants.nvmlClocksEventReasonHwSlowdown,
    ThrottleReason.SYNC_BOOST: NvmlConstants.nvmlClocksEventReasonSyncBoost,
    ThrottleReason.SOFTWARE_THERMAL: NvmlConstants.nvmlClocksEventReasonSwThermalSlowdown,
    ThrottleReason.HARDWARE_THERMAL: NvmlConstants.nvmlClocksEventReasonHwThermalSlowdown,
    ThrottleReason.POWER_BRAKE: NvmlConstants.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    ThrottleReason.DISPLAY_CLOCK: NvmlConstants.nvmlClocksEventReasonDisplayClockSetting,
}
REASON_OF_FIELD = {
    NvmlConstants.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP: ThrottleReason.POWER_CAP,
    NvmlConstants.NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST: ThrottleReason.SYNC_BOOST,
    NvmlConstants.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN: ThrottleReason.SOFTWARE_THERMAL,
    NvmlConstants.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN: ThrottleReason.HARDWARE_THERMAL,
    NvmlConstants.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN: ThrottleReason.POWER_BRAKE,
}
