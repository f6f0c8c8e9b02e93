package main

import (
	"encoding/csv"
	"fmt"
	"image/color"
	"os"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// drawRevocation draws what internal/e2e measured: the share of deletions that
// are refused after so many milliseconds.
func drawRevocation(from, to string) error {
	measured, err := readRevocation(from)
	if err != nil {
		return err
	}
	p := newPlot("How soon the tokens of a deleted pod are refused")
	p.X.Label.Text = "time since the DELETE request was sent"
	p.Y.Label.Text = "refused, % of deletions"
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.ConstantTicks{
		{Value: 1, Label: "1 ms"}, {Value: 10, Label: "10 ms"}, {Value: 100, Label: "100 ms"},
		{Value: 1000, Label: "1 s"}, {Value: 10_000, Label: "10 s"},
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 20_000, 0, 102
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 7.5*vg.Centimeter, -2.5*vg.Centimeter
	p.Legend.Padding = vg.Points(4)
	p.Add(plotter.NewGrid())
	blue, green := color.RGBA{R: 0x20, G: 0x60, B: 0xb0, A: 0xff}, color.RGBA{R: 0x30, G: 0x90, B: 0x40, A: 0xff}
	red := color.RGBA{R: 0xd0, G: 0x60, B: 0x30, A: 0xff}
	for _, kind := range []struct {
		key, name string
		ink       color.RGBA
	}{
		{"watch", "the watch", blue},
		{"TokenReview, first", "TokenReview, a token that it has not seen", green},
		{"TokenReview, again", "TokenReview, a token that it has reviewed", red},
	} {
		if len(measured[kind.key]) == 0 {
			return fmt.Errorf("%s: no rows of %q", from, kind.key)
		}
		if err := add(p, kind.name, cumulative(measured[kind.key]), kind.ink); err != nil {
			return err
		}
	}
	return save(p, to)
}

// cumulative is the share of values up to each, as steps.
func cumulative(values []float64) plotter.XYs {
	slices.Sort(values)
	points := plotter.XYs{{X: 1, Y: 0}}
	share := 100 / float64(len(values))
	for i, value := range values {
		at, before, after := max(value, 1), share*float64(i), share*float64(i+1)
		points = append(points, plotter.XY{X: at, Y: before}, plotter.XY{X: at, Y: after})
	}
	return append(points, plotter.XY{X: 20_000, Y: 100})
}

func readRevocation(path string) (map[string][]float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, err
	}
	measured := make(map[string][]float64)
	for _, row := range rows[1:] {
		value, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		measured[row[0]] = append(measured[row[0]], value)
	}
	return measured, nil
}
