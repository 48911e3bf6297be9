# SPDX-License-Identifier: Apache-2.0
# What the first three metrics of kmtls cost with more open flows and more peers, beside the smallest number. Called
# with: terminal_is, output_is, kinds ("flows peers"), names (metrics), and files KIND-METRIC.dat in the directory data.
if (terminal_is eq "png") set terminal pngcairo size 900,360 font "sans,9"
if (terminal_is eq "svg") set terminal svg size 900,360 font "sans,11" background "#ffffff"
set output output_is
set logscale x 10
set format x "10^{%L}"
set grid lc rgb "#dddddd"
set border 3 lc rgb "#666666"
set tics nomirror
set yrange [0:2]
set ylabel "cost, beside that of the fewest"
set key top left
set multiplot layout 1, words(kinds)
do for [kind in kinds] {
	set title (kind eq "flows" ? "open flows" : "peers")
	plot for [i=1:words(names)] sprintf("%s/%s-%s.dat", data, kind, word(names, i)) using 1:2 with linespoints lw 2 title word(names, i) noenhanced
}
unset multiplot
