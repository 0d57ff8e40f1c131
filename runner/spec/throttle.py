"""Why a GPU's clock is what it is, as flags of our own.

`hardware/nvml` translates NVML's event reasons into them. Next: the column `event_reasons` of the power table.
"""

import enum


class ThrottleReason(enum.IntFlag):
    """What sets or lowers a GPU's clock. One reading may hold several reasons.

    The values are those of the column `event_reasons`, so they never change. They equal NVML's bits.
    """

    NONE = 0x0
    """Nothing lowers the clock."""
    IDLE = 0x1
    """The GPU has nothing to do."""
    APPLICATION_CLOCKS = 0x2
    """Application clocks are set. This is no fault."""
    POWER_CAP = 0x4
    """The driver keeps the GPU within its power limit."""
    HARDWARE_SLOWDOWN = 0x8
    """The hardware lowers the clock, because of heat or a power brake."""
    SYNC_BOOST = 0x10
    """The GPU follows the clock of other GPUs in its group."""
    SOFTWARE_THERMAL = 0x20
    """The driver keeps the GPU below its highest operating temperature."""
    HARDWARE_THERMAL = 0x40
    """The hardware lowers the clock because of heat."""
    POWER_BRAKE = 0x80
    """The hardware lowers the clock because the system's power supply asks for it."""
    DISPLAY_CLOCK = 0x100
    """The clock of a display is the limit. This is no fault."""
