# SPDX-License-Identifier: Apache-2.0
"""What vmtest/bench measures, and how: arms/ is what is measured, one file each; bed the two pods; loads and
applications what is done with them; guest the run itself; plan what belongs to one."""
