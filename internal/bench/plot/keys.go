package main

import (
	"encoding/csv"
	"fmt"
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// drawKeys draws what TestSimulation counted.
func drawKeys(from, to string) error {
	mean, peak, err := read(from)
	if err != nil {
		return err
	}
	p := newPlot("Requests a second at the API server, of 10,000 verifiers")
	p.X.Label.Text = "hours"
	p.Y.Label.Text = "requests/s"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Min, p.X.Max = 0, 54
	p.X.Tick.Marker = plot.ConstantTicks(hours())
	p.Legend.Top, p.Legend.XOffs = true, -8*vg.Centimeter
	p.Add(plotter.NewGrid())
	if err := add(p, "peak of five minutes", peak, color.RGBA{R: 0xd0, G: 0x60, B: 0x30, A: 0xff}); err != nil {
		return err
	}
	if err := add(p, "their mean", mean, color.RGBA{R: 0x20, G: 0x60, B: 0xb0, A: 0xff}); err != nil {
		return err
	}
	events, err := plotter.NewLabels(plotter.XYLabels{
		XYs:    plotter.XYs{{X: 1, Y: 3000}, {X: 45, Y: 90}, {X: 47.8, Y: 150}, {X: 47, Y: 15000}},
		Labels: []string{"start", "outage", "rotation", "random kids"},
	})
	if err != nil {
		return err
	}
	p.Add(events)
	return save(p, to)
}

func hours() []plot.Tick {
	var ticks []plot.Tick
	for h := 0; h <= 54; h += 6 {
		ticks = append(ticks, plot.Tick{Value: float64(h), Label: strconv.Itoa(h)})
	}
	return ticks
}

func add(p *plot.Plot, name string, points plotter.XYs, ink color.Color) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color = ink
	p.Add(line)
	p.Legend.Add(name+"   ", line) // room for a wider font
	return nil
}

// read returns the two columns over hours. A logarithm has no 0: nothing is
// drawn below 0.1.
func read(path string) (mean, peak plotter.XYs, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows[1:] {
		var values [3]float64
		for i := range values {
			if values[i], err = strconv.ParseFloat(row[i], 64); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		mean = append(mean, plotter.XY{X: values[0] / 60, Y: max(values[1], 0.1)})
		peak = append(peak, plotter.XY{X: values[0] / 60, Y: max(values[2], 0.1)})
	}
	return mean, peak, nil
}
