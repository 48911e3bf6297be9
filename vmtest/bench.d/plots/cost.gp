# SPDX-License-Identifier: Apache-2.0
# Bars of what each arm costs, a panel for each metric. Called by vmtest/bench with: terminal_is ("png" or
# "svg"), output_is, panels (files: "arm" value index), titles (of the panels, separated by '|'), columns.
if (terminal_is eq "png") set terminal pngcairo size 360*columns, 300*ceil(words(panels)/(1.0*columns)) font "sans,9"
if (terminal_is eq "svg") set terminal svg size 360*columns, 300*ceil(words(panels)/(1.0*columns)) font "sans,11" background "#ffffff"
set output output_is
set style fill solid 0.85 noborder
set boxwidth 0.7
set grid ytics lc rgb "#dddddd"
set border 3 lc rgb "#666666"
set xtics rotate by -35 nomirror
set ytics nomirror
set yrange [0:*]
set format y "%.1s%c"
unset key
field(n) = system(sprintf("printf '%%s' '%s' | cut -d'|' -f%d", titles, n))
set multiplot layout ceil(words(panels)/(1.0*columns)), columns
do for [i=1:words(panels)] {
	set title field(i)
	plot word(panels, i) using 3:(column(2) < 0 ? 0 : column(2)):4:xtic(1) with boxes lc rgb variable
}
unset multiplot
