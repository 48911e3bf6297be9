# SPDX-License-Identifier: Apache-2.0
# How many of the single operations took at most so long. Called with: terminal_is, output_is, data (a directory), metrics,
# names (of the arms); files METRIC-ARM.cdf: microseconds, part.
if (terminal_is eq "png") set terminal pngcairo size 450*words(metrics),360 font "sans,9"
if (terminal_is eq "svg") set terminal svg size 450*words(metrics),360 font "sans,11" background "#ffffff"
set output output_is
set logscale x 10
set grid lc rgb "#dddddd"
set border 3 lc rgb "#666666"
set tics nomirror
set xlabel "microseconds"
set yrange [0:1]
set key bottom right
set multiplot layout 1, words(metrics)
do for [metric in metrics] {
	set title metric noenhanced
	plot for [arm in names] sprintf("%s/%s-%s.cdf", data, metric, arm) using 1:2 with lines lw 2 title arm noenhanced
}
unset multiplot
