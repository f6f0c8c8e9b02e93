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
	p := newPlot("How long a deleted pod's token is still accepted")
	p.X.Label.Text = "milliseconds after the DELETE request was sent"
	p.Y.Label.Text = "refused, % of deletions"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 20_000, 0, 102
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs = true, true, 9*vg.Centimeter
	p.Legend.YOffs = -3 * vg.Centimeter
	p.Add(plotter.NewGrid())
	for _, kind := range []struct {
		key, name string
		ink       color.RGBA
	}{
		{"watch", "the watch", color.RGBA{R: 0x20, G: 0x60, B: 0xb0, A: 0xff}},
		{"TokenReview, first", "TokenReview of a token that it has not seen", color.RGBA{R: 0x30, G: 0x90, B: 0x40, A: 0xff}},
		{"TokenReview, again", "TokenReview of a token that it has reviewed", color.RGBA{R: 0xd0, G: 0x60, B: 0x30, A: 0xff}},
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
	for i, value := range values {
		at, before, after := max(value, 1), 100*float64(i), 100*float64(i+1)
		points = append(points, plotter.XY{X: at, Y: before / float64(len(values))}, plotter.XY{X: at, Y: after / float64(len(values))})
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
